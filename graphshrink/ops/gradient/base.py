"""What rules are written with: an operator with all that is known of its values, and a writer of new operators."""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final, TypeAlias

import numpy as np

from graphshrink.ir import edit
from graphshrink.ir.graph import Graph
from graphshrink.ir.naming import all_names
from graphshrink.ir.operator import Operator, attributes_of
from graphshrink.ir.tensor import tensor_of
from graphshrink.ir.types import Array

OLDEST: Final = 13
"""The opset from which operators are as rules write them."""

_AXES_ARE_INPUTS: Final = {"ReduceSum": 13, "ReduceMax": 18}


class Writer:
    """Adds operators to a graph.

    Args:
        graph: of opset `OLDEST` or newer; changed in place.
        prefix: of the names of new values.
    """

    def __init__(self, graph: Graph, prefix: str) -> None:
        self.graph = graph
        self._prefix = prefix
        self._names = all_names(graph)

    def add(self, op_type: str, *inputs: str, **attributes: int | float | bytes | tuple[int, ...]) -> str:
        """One more operator; the name of its output."""
        return self.several(1, op_type, *inputs, **attributes)[0]

    def several(
        self, count: int, op_type: str, *inputs: str, **attributes: int | float | bytes | tuple[int, ...]
    ) -> tuple[str, ...]:
        """One more operator with several outputs; their names."""
        names = tuple(self._name() for _ in range(count))
        edit.add_operator(self.graph, Operator(op_type, inputs, names, attributes_of(**attributes)))
        return names

    def constant(self, array: Array) -> str:
        """A new initializer."""
        name = self._name()
        edit.add_initializer(self.graph, tensor_of(array, name))
        return name

    def number(self, value: float, dtype: np.dtype[Any]) -> str:
        """A scalar."""
        return self.constant(np.array(value, dtype))

    def integers(self, *values: int) -> str:
        """A list of int64."""
        return self.constant(np.array(values, np.int64))

    def like(self, value: str, other: str) -> str:
        """A value in the shape of another of as many elements."""
        return self.add("Reshape", value, self.add("Shape", other))

    def spread(self, value: str, other: str) -> str:
        """A value broadcast to the shape of another."""
        return self.add("Expand", value, self.add("Shape", other))

    def reduced(self, op_type: str, value: str, axes: Sequence[int], *, keepdims: bool = True) -> str:
        """ReduceSum or ReduceMax over some axes, counted as they come."""
        keep = int(keepdims)
        if self.graph.opset >= _AXES_ARE_INPUTS[op_type]:
            return self.add(op_type, value, self.integers(*axes), keepdims=keep)
        return self.add(op_type, value, axes=tuple(axes), keepdims=keep)

    def _name(self) -> str:
        number = len(self._names)
        while (name := f"{self._prefix}_{number}") in self._names:
            number += 1
        self._names.add(name)
        return name


@dataclass(frozen=True, slots=True)
class Node:
    """One operator of a main graph.

    Attributes:
        graph: that holds it.
        operator: it.
        shapes: of values as they were on one sample, by name.
        dtypes: likewise.
        known: values that do not depend on the graph's inputs, by name, as far as they are small.
    """

    graph: Graph
    operator: Operator
    shapes: Mapping[str, tuple[int, ...]]
    dtypes: Mapping[str, np.dtype[Any]]
    known: Mapping[str, Array]

    @property
    def x(self) -> str:
        """Name of the first input."""
        return self.operator.inputs[0]

    @property
    def y(self) -> str:
        """Name of the first output."""
        return self.operator.outputs[0]

    @property
    def dtype(self) -> np.dtype[Any]:
        """Of the first output."""
        return self.dtypes[self.y]

    def shape(self, index: int) -> tuple[int, ...]:
        """Of an input."""
        return self.shapes[self.operator.inputs[index]]

    def moves(self, index: int) -> bool:
        """Whether an input is a floating value that depends on others, so that it has a gradient."""
        if index >= len(self.operator.inputs) or not self.operator.inputs[index]:
            return False
        name = self.operator.inputs[index]
        return self.graph.constant(name) is None and is_floating(self.dtypes.get(name))

    def integers(self, attribute: str, index: int) -> tuple[int, ...] | None:
        """Numbers that older operators have as an attribute and newer ones as an input; None if they are not known."""
        return self.operator.integers_or(attribute, self.constant(index))

    def constant(self, index: int) -> Array | None:
        """An input that does not depend on the graph's inputs and is small."""
        inputs = self.operator.inputs
        return self.known.get(inputs[index]) if index < len(inputs) and inputs[index] else None

    def has(self, index: int) -> bool:
        """Whether there is such an input."""
        return index < len(self.operator.inputs) and bool(self.operator.inputs[index])

    def text(self, attribute: str, default: bytes) -> bytes:
        """A string attribute."""
        found = self.operator.attributes.get(attribute)
        return found.value if found is not None and isinstance(found.value, bytes) else default


Rule: TypeAlias = Callable[[Writer, Node, str], Mapping[int, str]]
"""(writer, operator, name of the gradient of its first output) -> index of an input -> name of what it adds to that
input's gradient. An input that moves and is not among them is one that nothing is known of."""


def is_floating(dtype: np.dtype[Any] | None) -> bool:
    """Whether values of a type have gradients that rules can work out."""
    return dtype is not None and dtype.kind == "f"


def narrowed(writer: Writer, gradient: str, shape: Sequence[int], made: Sequence[int], like: str) -> str:
    """The gradient of an operand that was broadcast: the sum over all places where it stood.

    Args:
        writer: of operators.
        gradient: of the result.
        shape: of the operand.
        made: of the result.
        like: the operand.
    """
    lead = len(made) - len(shape)
    axes = [a for a in range(len(made)) if a < lead or (shape[a - lead] == 1 and made[a] != 1)]
    if not axes:
        return gradient
    total = writer.reduced("ReduceSum", gradient, axes)
    return writer.like(total, like) if lead else total


def count_of(shape: Sequence[int], axes: Sequence[int]) -> int:
    """How many elements there are along some axes."""
    return math.prod(shape[axis] for axis in axes)
