"""What an encoding is, and the builder that its decode subgraphs are made with.

A weight is stored as constants and a few standard operators that compute it from them:

    codes ─▶ Cast ─▶ Gather ─▶ Reshape "gs:codebook/gs7" ─▶ weight

The last operator bears the mark, its name, which ends in a fresh name because ONNX Runtime wants node names to differ;
its output is the weight's own name, so that nothing downstream changes. docs/format.md has every layout.
"""

from collections.abc import Callable, Hashable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from itertools import count, product
from types import MappingProxyType
from typing import ClassVar, Final, Protocol, TypeAlias

import numpy as np

from graphshrink.ir import edit
from graphshrink.ir.graph import Function, Graph
from graphshrink.ir.operator import Attribute, AttributeType, Operator, attributes_of
from graphshrink.ir.tensor import Tensor, tensor_of
from graphshrink.ir.types import Array, Metadata

MARK: Final = "gs:"
"""Node names that start so are the last operator of a decode subgraph; the name of the encoding follows."""

_LITERALS_SINCE: Final = 12  # opset: Constant can hold integers

FUNCTIONS: Final = "gs"
"""Domain of the functions that decode subgraphs call."""


class Encoded(Protocol):
    """A tensor in encoded form."""

    encoding: ClassVar[str]

    @property
    def tables(self) -> Hashable:
        """Equal for tensors whose decode subgraphs use the same shared tables."""
        ...

    def decode(self) -> Array:
        """The tensor, bit for bit."""
        ...

    def emit(self, builder: "Builder", output: str) -> None:
        """Add the constants and operators that compute the tensor under the name `output`."""
        ...


class Encoding(Protocol):
    """A way to store tensors exactly."""

    name: ClassVar[str]
    min_opset: ClassVar[int]

    def encode(self, array: Array) -> Encoded | None:
        """The tensor in encoded form, or None where this way does not apply or cannot be smaller than plain."""
        ...


@dataclass(slots=True)
class FreshNames(Iterator[str]):
    """Short names, one after the other: gs0, gs1, ...

    Attributes:
        taken: names that are never given out.
        number: where counting goes on; a copy goes on from the same place.
    """

    taken: frozenset[str] = frozenset()
    number: int = 0

    def __next__(self) -> str:
        while (name := f"gs{self.number}") in self.taken:
            self.number += 1
        self.number += 1
        return name


def fresh_names(graph: Graph) -> FreshNames:
    """Names that nothing in the model bears."""
    taken = {value.name for _, scope in graph.scopes() for value in scope.values()}
    for _, scope in graph.scopes():
        taken.update((operator.name or "").rpartition("/")[2] for _, operator in scope.operators())
    return FreshNames(frozenset(taken))


Body: TypeAlias = Callable[..., tuple[str, ...]]
"""Adds operators to a builder: gets it and the names of inputs, gives the names of what they compute."""


@dataclass(slots=True)
class Builder:
    """Collects the constants and operators of decode subgraphs in one scope.

    Attributes:
        names: where new value names come from.
        opset: version of the standard operators that the scope uses.
        constants_inline: constants become Constant operators, where a scope can hold no initializers of its own.
        functions: the functions that may be called, by name; grows as bodies are called. None where everything is
            to stand in the scope itself.
        literals: small int64 constants are spelled out in Constant operators, which takes fewest bytes.
        tensors, operators: what has been collected.
        shared: names of the tables that several weights can use, and of their constants.
    """

    names: Iterator[str]
    opset: int
    constants_inline: bool = False
    functions: dict[str, Function] | None = None
    literals: bool = False
    tensors: list[Tensor] = field(default_factory=lambda: list[Tensor]())
    operators: list[Operator] = field(default_factory=lambda: list[Operator]())
    shared: set[str] = field(default_factory=lambda: set[str]())
    _known: dict[tuple[object, ...], str] = field(default_factory=lambda: dict[tuple[object, ...], str]())

    def constant(self, array: Array) -> str:
        """A constant of this weight alone."""
        name = next(self.names)
        tensor = tensor_of(array, None if self.constants_inline else name)
        if self.constants_inline:
            held = MappingProxyType({"value": Attribute("value", AttributeType.TENSOR, tensor)})
            self.operators.append(Operator("Constant", (), (name,), held))
        else:
            self.tensors.append(tensor)
        return name

    def shared_constant(self, array: Array) -> str:
        """A constant that equal ones of other weights in the scope share."""
        key = ("constant", array.dtype.str, array.shape, array.tobytes())
        if self.literals and array.dtype == np.int64 and array.ndim == 1:
            return self._once(key, lambda: self.op("Constant", value_ints=tuple(map(int, array))))
        if self.literals and array.dtype == np.int64 and array.ndim == 0:
            return self._once(key, lambda: self.op("Constant", value_int=int(array)))
        return self._once(key, lambda: self.constant(array))

    def scalar(self, value: int, dtype: type[np.int32] | type[np.int64] = np.int64) -> str:
        """A shared constant without axes."""
        return self.shared_constant(np.array(value, dtype))

    def shared_table(self, array: Array, to: int) -> str:
        """A table that several weights can use, stored in one element type and used in another."""
        key = ("cast", to, array.dtype.str, array.shape, array.tobytes())
        constant = self.shared_constant(array)
        table = self._once(key, lambda: self.op("Cast", constant, to=to))
        self.shared.update((constant, table))
        return table

    def shared_op(self, op_type: str, *inputs: str, **attributes: int | tuple[int, ...]) -> str:
        """An operator on what several weights can use, which they can use as well."""
        key = (op_type, inputs, tuple(sorted(attributes.items())))
        name = self._once(key, lambda: self.op(op_type, *inputs, output=None, mark=None, **attributes))
        self.shared.update((*inputs, name))
        return name

    def _once(self, key: tuple[object, ...], make: Callable[[], str]) -> str:
        if key not in self._known:
            self._known[key] = make()
        return self._known[key]

    def op(
        self,
        op_type: str,
        *inputs: str,
        output: str | None = None,
        mark: str | None = None,
        **attributes: int | bytes | tuple[int, ...] | Tensor,
    ) -> str:
        """An operator; returns the name of its output."""
        name = output if output is not None else next(self.names)
        held = attributes_of(**attributes)
        self.operators.append(Operator(op_type, inputs, (name,), held, name=None if mark is None else self._mark(mark)))
        return name

    def call(self, name: str, body: Body, inputs: Sequence[str], outputs: int) -> tuple[str, ...]:
        """What a body computes, by way of a function of the model where that is allowed.

        Args:
            name: of the function; the same name always has the same body.
            body: adds the operators.
            inputs: names of its inputs.
            outputs: how many it has.
        """
        if self.functions is None:
            return body(self, *inputs)
        if name not in self.functions:
            self.functions[name] = self._function(name, body, len(inputs))
        results = tuple(next(self.names) for _ in range(outputs))
        self.operators.append(Operator(name, tuple(inputs), results, domain=FUNCTIONS))
        return results

    def take_back(self, value: str) -> None:
        """Drop the operator added last, if it computes this value alone; nothing may use it."""
        if self.operators[-1].outputs == (value,):
            del self.operators[-1]

    def _function(self, name: str, body: Body, inputs: int) -> Function:
        literals = self.opset >= _LITERALS_SINCE
        inner = Builder(_letters(), self.opset, constants_inline=True, functions=self.functions, literals=literals)
        taken = tuple(next(inner.names) for _ in range(inputs))
        given = body(inner, *taken)
        graph = Graph()
        calls = any(operator.domain == FUNCTIONS for operator in inner.operators)
        graph.opsets = ((None, self.opset), *([(FUNCTIONS, 1)] if calls else []))
        edit.add_operators(graph, inner.operators, 0)
        return Function(name, FUNCTIONS, None, taken, given, (), (), graph)

    def finish(self, output: str, mark: str) -> None:
        """Make the operator added last the marked one, with the weight as its output."""
        self.operators[-1] = replace(self.operators[-1], outputs=(output,), name=self._mark(mark))

    def unmark(self) -> None:
        """Let the operator added last be an ordinary one: what it computes is a part of something else."""
        self.operators[-1] = replace(self.operators[-1], name=None)

    def describe(self, doc: str | None, metadata: Metadata) -> None:
        """Let the operator added last, the marked one, carry what the file says of the weight."""
        self.operators[-1] = replace(self.operators[-1], doc=doc, metadata=metadata)

    def _mark(self, encoding: str) -> str:
        return f"{MARK}{encoding}/{next(self.names)}"

    def reshape(self, value: str, shape: tuple[int, ...], *, output: str | None = None, mark: str | None = None) -> str:
        """Reshape to a fixed shape."""
        return self.op("Reshape", value, self.shared_constant(np.array(shape, np.int64)), output=output, mark=mark)

    def first_columns(self, value: str, count: int) -> str:
        """The first `count` columns of a matrix."""
        if self.opset < 10:
            return self.op("Slice", value, starts=(0,), ends=(count,), axes=(1,))
        one = self.shared_constant(np.array([1], np.int64))
        zero = self.shared_constant(np.array([0], np.int64))
        return self.op("Slice", value, zero, self.shared_constant(np.array([count], np.int64)), one)

    def first(self, value: str, count: int) -> str:
        """The first `count` elements of a vector; from opset 10."""
        return self.op("Slice", value, self.vector(0), self.vector(count))

    def vector(self, value: int) -> str:
        """A shared constant with one element."""
        return self.shared_constant(np.array([value], np.int64))

    def split(self, value: str, parts: int, axis: int) -> tuple[str, ...]:
        """Equal parts along an axis."""
        names = tuple(next(self.names) for _ in range(parts))
        said = {"num_outputs": parts} if self.opset >= 18 else {}
        self.operators.append(Operator("Split", (value,), names, attributes_of(axis=axis, **said)))
        return names

    def sum_last(self, value: str) -> str:
        """Sums along the last axis, which stays with length one."""
        if self.opset < 13:
            return self.op("ReduceSum", value, axes=(-1,))
        return self.op("ReduceSum", value, self.vector(-1))

    def filled(self, shape: str, value: int) -> str:
        """An int32 tensor of one value."""
        return self.op("ConstantOfShape", shape, value=tensor_of(np.array([value], np.int32)))


def _letters() -> Iterator[str]:
    """a, b, ..., z, aa, ab, ...: names inside a function."""
    return ("".join(letters) for length in count(1) for letters in product("abcdefghijklmnopqrstuvwxyz", repeat=length))
