"""Building random models: scopes, names, operators, and constants in every way that a file can hold them."""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Final, Literal

import ml_dtypes
import numpy as np
import onnx
from hypothesis import strategies as st
from onnx import TensorProto, helper, numpy_helper

from graphshrink.ir.types import Array
from tests.random_graphs.contents import FILLS, filled

Draw = Callable[[st.SearchStrategy[Any]], Any]
Shape = tuple[int, ...]

FLOAT: Final = np.dtype(np.float32)
HALF: Final = np.dtype(np.float16)
DOUBLE: Final = np.dtype(np.float64)
BFLOAT: Final = np.dtype(ml_dtypes.bfloat16)

# Names as exporters write them, and such as graphshrink itself gives.
_STEMS: Final = ("w", "layer/w.", "ü", "gs", "gs:codebook/gs")


@dataclass(frozen=True, slots=True)
class Value:
    """A float32 value and the shape that it has when the model runs."""

    name: str
    shape: Shape


@dataclass(frozen=True, slots=True)
class Held:
    """A constant that later layers may use again."""

    name: str
    shape: Shape
    dtype: np.dtype[Any]


@dataclass(slots=True)
class Scope:
    """A graph in the making. What it may use comes first; bodies start with what their owners may use."""

    place: Literal["main", "body", "function"]
    values: list[Value]
    held: list[Held] = field(default_factory=lambda: list[Held]())
    depth: int = 0
    isolated: bool = False  # in a function, which sees nothing of the model
    nodes: list[onnx.NodeProto] = field(default_factory=lambda: list[onnx.NodeProto]())
    initializers: list[onnx.TensorProto] = field(default_factory=lambda: list[onnx.TensorProto]())

    def inner(self, place: Literal["body", "function"], values: list[Value]) -> "Scope":
        """A scope inside this one; a body sees what its owner sees, a function does not."""
        if place == "function":
            return Scope(place, values, [], self.depth + 1, True)
        return Scope(place, [*self.values, *values], list(self.held), self.depth + 1, self.isolated)


@dataclass(slots=True)
class Maker:
    """Draws one model.

    Attributes:
        widths: the few sizes that its layers have, so that shapes meet.
        ids: inputs of indices below `vocabulary`, by name.
        overridable: initializers that are to be inputs as well.
        functions: model-local functions made so far.
        features: what was drawn, for the test that all of it is.
        step: adds one layer of any kind to a scope.
    """

    draw: Draw
    opset: int
    ir_version: int
    finite: bool
    widths: list[int]
    vocabulary: int
    step: Callable[["Maker", Scope], Value]
    ids: dict[str, Shape] = field(default_factory=lambda: dict[str, Shape]())
    overridable: dict[str, onnx.TensorProto] = field(default_factory=lambda: dict[str, onnx.TensorProto]())
    functions: list[onnx.FunctionProto] = field(default_factory=lambda: list[onnx.FunctionProto]())
    features: set[str] = field(default_factory=lambda: set[str]())
    uses_flag: bool = False
    _count: int = 0

    # ---- draws

    def pick(self, *choices: Any) -> Any:
        """One of some things; the first is the simplest."""
        return self.draw(st.sampled_from(choices))

    def integer(self, least: int, most: int) -> int:
        return int(self.draw(st.integers(least, most)))

    def chance(self, one_in: int = 2) -> bool:
        return self.integer(1, one_in) == one_in

    def width(self) -> int:
        return int(self.pick(*self.widths))

    def fresh(self, stem: str) -> str:
        self._count += 1
        return f"{stem}{self._count}"

    def fill(self, shape: Shape, dtype: np.dtype[Any] = FLOAT) -> Array:
        """An array of drawn contents."""
        kinds = [kind for kind in FILLS if kind != "not finite" or not self.finite]
        # Once NaN is in a model, its outputs prove little: rare.
        kind = self.pick(*[kind for kind in kinds for _ in range(1 if kind == "not finite" else 3)])
        self.features.add(kind)
        return filled(kind, shape, dtype, self.integer(0, 999))

    # ---- operators

    def node(self, scope: Scope, op_type: str, inputs: list[str], **attributes: Any) -> str:
        """An operator with one output; returns its name."""
        return self.nodes(scope, op_type, inputs, 1, **attributes)[0]

    def nodes(
        self, scope: Scope, op_type: str, inputs: list[str], outputs: int, *, domain: str = "", **attributes: Any
    ) -> list[str]:
        """An operator with several outputs."""
        while inputs and not inputs[-1]:
            inputs = inputs[:-1]
        names = [self.fresh("v") for _ in range(outputs)]
        node = helper.make_node(op_type, inputs, names, domain=domain, **attributes)
        if self.chance(4):
            node.name = self.fresh("node")
        if self.chance(8):
            node.doc_string = "said of a node"
        scope.nodes.append(node)
        self.features.add(op_type if not domain else "call")
        return names

    def cast(self, scope: Scope, name: str, dtype: np.dtype[Any]) -> str:
        return self.node(scope, "Cast", [name], to=helper.np_dtype_to_tensor_dtype(dtype))

    # ---- constants

    def plain(self, scope: Scope, values: Any, dtype: Any = np.int64) -> str:
        """A constant that is no weight: sizes, axes, bounds."""
        return self._held(scope, np.array(values, dtype), self.fresh("c"), "initializer")

    def constant(self, scope: Scope, array: Array) -> str:
        """A weight in any of the ways to have a constant; it may be used again later."""
        way = self.pick("initializer", "initializer", "node", "overridable")
        name = self._held(scope, array, self.fresh(self.pick(*_STEMS)), way)
        scope.held.append(Held(name, array.shape, array.dtype))
        return name

    def _held(self, scope: Scope, array: Array, name: str, way: str) -> str:
        initializers = scope.place == "main" or (scope.place == "body" and self.ir_version >= 4)
        if way == "node" or not initializers:
            scope.nodes.append(helper.make_node("Constant", [], [name], value=self.tensor(array)))
            self.features.add("Constant")
        else:
            tensor = self.tensor(array, name)
            scope.initializers.append(tensor)
            if scope.place == "main" and (self.ir_version < 4 or way == "overridable"):
                self.overridable[name] = tensor
                self.features.add("listed as input" if self.ir_version < 4 else "overridable")
        return name

    def sparse(self, scope: Scope, array: Array) -> str:
        """A float32 constant of which only what is not zero is stored; ONNX infers no shapes of sparse initializers."""
        where = np.flatnonzero(array.reshape(-1).view(np.uint32)).astype(np.int64)
        values, indices = numpy_helper.from_array(array.reshape(-1)[where]), numpy_helper.from_array(where)
        held = helper.make_sparse_tensor(values, indices, list(array.shape))
        self.features.add("sparse")
        return self.node(scope, "Constant", [], sparse_value=held)

    def tensor(self, array: Array, name: str = "") -> onnx.TensorProto:
        """Raw or typed storage; documented or not."""
        tensor = numpy_helper.from_array(array, name)
        # The typed field of half precision holds varints, of which small ones are shorter than raw: no size to compare.
        if array.dtype in (FLOAT, DOUBLE) and bool(np.isfinite(array).all()) and self.chance(3):
            tensor = helper.make_tensor(name, tensor.data_type, array.shape, array.reshape(-1).tolist())
            self.features.add("typed field")
        if not name:
            tensor.ClearField("name")
        if self.chance(6):
            tensor.doc_string = "said of a tensor"
        return tensor

    # ---- graphs

    def graph(self, scope: Scope, inputs: list[onnx.ValueInfoProto], outputs: list[Value]) -> onnx.GraphProto:
        """The finished graph; outputs with their shapes, or with open ones."""
        infos = [declared(output.name, output.shape) for output in outputs]
        if scope.place == "main" and self.chance():
            infos = [declared(v.name, [f"{v.name}_{axis}" for axis in range(len(v.shape))]) for v in outputs]
        graph = helper.make_graph(scope.nodes, self.fresh("graph"), inputs, infos, scope.initializers)
        if self.chance(4):
            graph.doc_string = "said of a graph"
        return graph


def declared(name: str, shape: Any, elem_type: int = TensorProto.FLOAT) -> onnx.ValueInfoProto:
    return helper.make_tensor_value_info(name, elem_type, list(shape))
