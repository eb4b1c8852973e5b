"""The graph: operators and values over a networkx multigraph.

    value ──input index──▶ operator ──output index──▶ value

An operator is known by a number that never changes, a value by its name within its scope; node names in the file
identify nothing, since they repeat and are missing. Graphs nested in an operator (the bodies of If, Loop, Scan) are
Graphs of their own. An outer value that a body uses is an ordinary use: an edge from the value to the operator that
holds the body, with key CAPTURE, and a value without a source inside the body.

Reading happens here, changing only in `graphshrink.ir.edit`.
"""

from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from types import MappingProxyType
from typing import Any, Final, NamedTuple

import networkx as nx

from graphshrink.ir.operator import Attribute, Operator, Record
from graphshrink.ir.tensor import SparseTensor, Tensor
from graphshrink.ir.types import Dimension, Metadata, TensorType, Type, ValueInfo

CAPTURE: Final = -1
"""In place of an input index: the value is used inside a graph that the operator holds."""


@dataclass(frozen=True, slots=True, eq=False)
class Value:
    """A value of one scope; `constant` is set for initializers."""

    name: str
    constant: Tensor | SparseTensor | None = None


class Use(NamedTuple):
    """One use of a value: the operator and which of its inputs, or CAPTURE."""

    operator: int
    input: int


@dataclass(frozen=True, slots=True)
class Annotation:
    """Quantisation parameters that the file attaches to a value."""

    tensor_name: str | None
    parameters: Metadata


@dataclass(slots=True)
class Function:
    """A model-local function; calls are operators whose domain, type and overload are its own."""

    name: str
    domain: str | None
    overload: str | None
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    attributes: tuple[str, ...]
    defaults: tuple[Attribute, ...]
    body: "Graph"
    doc: str | None = None
    metadata: Metadata = ()

    @property
    def key(self) -> tuple[str, str, str]:
        """What calls refer to."""
        return ("" if self.domain in (None, "ai.onnx") else self.domain, self.name, self.overload or "")


@dataclass(slots=True)
class Training:
    """Training information; nothing compresses it, it is carried along."""

    initialization: "Graph | None"
    algorithm: "Graph | None"
    initialization_binding: Metadata
    update_binding: Metadata


@dataclass(slots=True)
class Header:
    """What a model says beside its graph."""

    ir_version: int | None = None
    producer_name: str | None = None
    producer_version: str | None = None
    domain: str | None = None
    model_version: int | None = None
    doc: str | None = None
    metadata: Metadata = ()
    functions: list[Function] = field(default_factory=lambda: list[Function]())
    training: list[Training] = field(default_factory=lambda: list[Training]())
    configuration: tuple[Record, ...] = ()


class Graph:
    """One scope of a model: the main graph (which has a `header`), a nested body, or the body of a function.

    Attributes:
        name, doc, metadata: as in the file.
        header: what the model says beside its graph; None for nested graphs and function bodies.
        owner: the graph and operator that hold this one; None for the main graph and for function bodies.
        opsets: (domain, version) pairs; of a main graph or a function body, empty in nested graphs.
    """

    def __init__(
        self, name: str | None = None, *, doc: str | None = None, metadata: Metadata = (), header: Header | None = None
    ) -> None:
        self.name = name
        self.doc = doc
        self.metadata = metadata
        self.header = header
        self.owner: tuple[Graph, int] | None = None
        self.opsets: tuple[tuple[str | None, int | None], ...] = ()
        self.annotations: tuple[Annotation, ...] = ()
        # Value names (str) and operator numbers (int) are the nodes; payloads hang on them as attribute "payload".
        self._net: nx.MultiDiGraph[Any] = nx.MultiDiGraph()
        self._order: list[int] = []
        self._next_operator = 0
        self._inputs: tuple[ValueInfo, ...] = ()
        self._input_names: frozenset[str] = frozenset()
        self._outputs: tuple[ValueInfo, ...] = ()
        self._value_info: dict[str, ValueInfo] = {}
        self._constants: dict[str, None] = {}  # names of initializers, in file order
        # What values (by name) and operators (by number) were called before they were renamed; of no one else.
        self._origin: dict[str | int, str] = {}

    # ---- operators

    @property
    def order(self) -> tuple[int, ...]:
        """Operator numbers in file order."""
        return tuple(self._order)

    def operators(self) -> Iterator[tuple[int, Operator]]:
        """Operators with their numbers, in file order."""
        for number in self._order:
            yield number, self._net.nodes[number]["payload"]

    def operator(self, number: int) -> Operator:
        """The operator with this number; KeyError if there is none."""
        found: Operator = self._net.nodes[number]["payload"]
        return found

    def original_operator_name(self, number: int) -> str | None:
        """The name that an operator had in the file, which it may have lost since."""
        return self._origin.get(number, self.operator(number).name)

    def __len__(self) -> int:
        return len(self._order)

    # ---- values

    def __contains__(self, name: str) -> bool:
        return name in self._net

    def values(self) -> Iterator[Value]:
        """All values of this scope, captured ones included."""
        for key, held in self._net.nodes.items():
            if isinstance(key, str):
                yield held["payload"]

    def value(self, name: str) -> Value:
        """The value of this name in this scope; KeyError if there is none."""
        found: Value = self._net.nodes[name]["payload"]
        return found

    def original_name(self, name: str) -> str:
        """What a value was called in the file; reports and patterns speak of that name."""
        return self._origin.get(name, name)

    def producer(self, name: str) -> int | None:
        """The operator whose output the value is."""
        return next(iter(self._net.pred[name]), None)

    def uses(self, name: str) -> list[Use]:
        """Every use of the value in this scope by an operator, in the order in which they were added."""
        return [Use(operator, key) for _, operator, key in self._net.out_edges(name, keys=True)]

    def used_by(self, number: int) -> list[str]:
        """The values that an operator uses, those that its bodies capture included."""
        return list(self._net.pred[number])

    @property
    def inputs(self) -> tuple[ValueInfo, ...]:
        """Declared inputs, initializers with an input of the same name included."""
        return self._inputs

    @property
    def outputs(self) -> tuple[ValueInfo, ...]:
        """Declared outputs."""
        return self._outputs

    @property
    def value_info(self) -> Mapping[str, ValueInfo]:
        """Declarations of inner values."""
        return MappingProxyType(self._value_info)

    def initializers(self) -> Iterator[Value]:
        """Initializers, dense and sparse, in file order."""
        for name in self._constants:
            yield self.value(name)

    def constant(self, name: str) -> Tensor | None:
        """The dense tensor behind a value of this scope: an initializer, or the output of a Constant operator."""
        if name not in self._net:
            return None
        constant = self.value(name).constant
        if isinstance(constant, Tensor):
            return constant
        number = self.producer(name)
        return None if number is None else constant_of(self.operator(number))

    def captured(self) -> list[str]:
        """Names that are used here and defined outside."""
        return [value.name for value in self.values() if self.captures(value.name)]

    def captures(self, name: str) -> bool:
        """Whether the value is used here and defined outside."""
        return (
            name in self._net
            and not self._net.pred[name]
            and name not in self._input_names
            and name not in self._constants
        )

    def type_of(self, name: str) -> Type | None:
        """The declared type of a value, or what its constant tells."""
        for info in (*self._inputs, *self._outputs):
            if info.name == name and info.type is not None:
                return info.type
        if name in self._value_info:
            return self._value_info[name].type
        tensor = self.constant(name)
        return None if tensor is None else TensorType(tensor.elem_type, tuple(map(Dimension, tensor.dims)))

    # ---- the model around it

    @property
    def net(self) -> "nx.MultiDiGraph[Any]":
        """The networkx graph itself, as a view that cannot be changed, for algorithms over it."""
        return self._net.copy(as_view=True)

    @property
    def opset(self) -> int:
        """Version of the standard operators here; 1 where the file says none."""
        return next((version or 1 for domain, version in self.root.opsets if domain in (None, "", "ai.onnx")), 1)

    @property
    def root(self) -> "Graph":
        """The main graph, or the function body, that this graph lies in."""
        graph = self
        while graph.owner is not None:
            graph = graph.owner[0]
        return graph

    def nested(self) -> "Iterator[tuple[str, Graph]]":
        """This graph and all graphs inside it, each with a path such as `/3:If/then_branch` (no functions)."""
        stack: list[tuple[str, Graph]] = [("", self)]
        while stack:
            path, graph = stack.pop()
            yield path, graph
            inner = [
                (f"{path}/{number}:{operator.op_type}/{label}", body)
                for number, operator in graph.operators()
                if operator.attributes
                for label, body in operator.subgraphs()
            ]
            stack.extend(reversed(inner))

    def scopes(self) -> "Iterator[tuple[str, Graph]]":
        """`nested`, then the bodies of the model's functions with what is nested in those; no two paths are equal."""
        yield from self.nested()
        if self.header is None:
            return
        names = Counter(function.name for function in self.header.functions)
        for function in self.header.functions:
            name = function.name if names[function.name] == 1 else ":".join(function.key)
            for path, graph in function.body.nested():
                yield f"{name}(){path}", graph

    def copy(self) -> "Graph":
        """A snapshot: structure of its own, payloads and arrays shared (they are immutable)."""
        new = Graph(self.name, doc=self.doc, metadata=self.metadata)
        new.annotations, new.opsets = self.annotations, self.opsets
        new._net = self._net.copy()
        new._order = list(self._order)
        new._next_operator = self._next_operator
        new._inputs, new._input_names, new._outputs = self._inputs, self._input_names, self._outputs
        new._value_info = dict(self._value_info)
        new._constants = dict(self._constants)
        new._origin = dict(self._origin)
        for number, operator in self.operators():
            if operator.attributes and any(True for _ in operator.subgraphs()):
                own = operator.with_bodies(Graph.copy)
                new._net.nodes[number]["payload"] = own
                for _, body in own.subgraphs():
                    body.owner = (new, number)
        if self.header is not None:
            functions = [replace(f, body=f.body.copy()) for f in self.header.functions]
            new.header = replace(self.header, functions=functions, training=list(map(_copied, self.header.training)))
        return new


def constant_of(operator: Operator) -> Tensor | None:
    """The tensor that a Constant operator holds in its `value`."""
    if not operator.is_a("Constant") or "value" not in operator.attributes:
        return None
    value = operator.attributes["value"].value
    return value if isinstance(value, Tensor) else None


def _copied(training: Training) -> Training:
    first, then = training.initialization, training.algorithm
    return replace(
        training,
        initialization=None if first is None else first.copy(),
        algorithm=None if then is None else then.copy(),
    )
