"""One operator as the analysis of channels sees it: numbered indices of its inputs and outputs, and what ties them.

Every index of every axis of every value has a number. Two indices are joined where one cannot be removed without the
other; an index that has to stay is held, with the reason. Removing a set of joined indices means: every value is
without them, as if it had been zero there.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final, NamedTuple, TypeAlias

import numpy as np

from graphshrink.escaping import safe
from graphshrink.ir.graph import Graph
from graphshrink.ir.operator import Operator
from graphshrink.ir.types import Array

Shape: TypeAlias = tuple[int, ...]

_LONGEST_NAME: Final = 60


class Numbering:
    """Numbers for the indices along all axes of some values.

    Args:
        shapes: of the values, by name.

    Attributes:
        shapes: as given.
        count: of numbers.
    """

    def __init__(self, shapes: Mapping[str, Shape]) -> None:
        self.shapes = shapes
        self.blocks: list[tuple[str, int]] = []
        self._first: dict[str, tuple[int, ...]] = {}
        starts: list[int] = []
        self.count = 0
        for name, shape in shapes.items():
            first: list[int] = []
            for axis, size in enumerate(shape):
                self.blocks.append((name, axis))
                starts.append(self.count)
                first.append(self.count)
                self.count += size
            self._first[name] = tuple(first)
        self.starts = np.array(starts, np.int64)

    def of(self, name: str, axis: int) -> Array:
        """(size,) the numbers along one axis of a value."""
        first = self._first[name][axis]
        return np.arange(first, first + self.shapes[name][axis])

    def block_of(self, numbers: Array) -> Array:
        """Which of `blocks` numbers lie in; an empty axis has none."""
        found: Array = np.searchsorted(self.starts, numbers, side="right") - 1
        return found


class Held(NamedTuple):
    """Indices that have to stay, and why."""

    numbers: Array
    reason: str


@dataclass(slots=True)
class Links:
    """What ties indices together.

    Attributes:
        left, right: pairs of equally long arrays of numbers, joined one by one.
        held: indices that have to stay.
        choices: places where there are several ways, of which one is to be taken.
    """

    left: list[Array] = field(default_factory=lambda: list[Array]())
    right: list[Array] = field(default_factory=lambda: list[Array]())
    held: list[Held] = field(default_factory=lambda: list[Held]())
    choices: "list[tuple[Links, ...]]" = field(default_factory=lambda: list[tuple[Links, ...]]())

    def join(self, a: Array, b: Array) -> None:
        """Indices that go together, one by one; what is larger than the other says so by broadcasting."""
        a, b = np.broadcast_arrays(a, b)
        self.left.append(a.reshape(-1))
        self.right.append(b.reshape(-1))

    def hold(self, numbers: Array, reason: str) -> None:
        """Indices that have to stay."""
        self.held.append(Held(numbers.reshape(-1), reason))

    def choose(self, ways: "Sequence[Links]") -> None:
        """One of several ways is to be taken."""
        if len(ways) == 1:
            self.add(ways[0])
        else:
            self.choices.append(tuple(ways))

    def add(self, more: "Links") -> None:
        """Take in what others say."""
        self.left += more.left
        self.right += more.right
        self.held += more.held
        self.choices += more.choices

    @property
    def numbers(self) -> Array:
        """All indices that are spoken of, without those of choices."""
        parts = [*self.left, *self.right, *(held.numbers for held in self.held)]
        return np.concatenate(parts) if parts else np.zeros(0, np.int64)


@dataclass(frozen=True, slots=True)
class Site:
    """One operator.

    Attributes:
        graph: that holds it.
        number: of it.
        operator: it.
        numbering: of all indices.
        known: values that do not depend on the graph's inputs, by name, as far as they are small.
        inputs, outputs: their shapes; None for what is left out, or no tensor.
    """

    graph: Graph
    number: int
    operator: Operator
    numbering: Numbering
    known: Mapping[str, Array]
    inputs: Sequence[Shape | None]
    outputs: Sequence[Shape | None]

    @property
    def title(self) -> str:
        """What reports call it."""
        name = self.graph.original_operator_name(self.number) or next(iter(self.operator.outputs), "")
        return f"{self.operator.op_type} '{safe(name, _LONGEST_NAME)}'"

    def has_input(self, index: int) -> bool:
        """Whether there is such an input, of known shape."""
        return index < len(self.inputs) and self.inputs[index] is not None

    def has_output(self, index: int) -> bool:
        """Whether there is such an output, of known shape."""
        return index < len(self.outputs) and self.outputs[index] is not None

    def input(self, index: int, axis: int) -> Array:
        """The numbers along an axis of an input; axes count from the end where they are negative."""
        return self._of(self.operator.inputs[index], self.input_shape(index), axis)

    def output(self, index: int, axis: int) -> Array:
        """The numbers along an axis of an output."""
        return self._of(self.operator.outputs[index], self.output_shape(index), axis)

    def _of(self, name: str, shape: Shape, axis: int) -> Array:
        if not -len(shape) <= axis < len(shape):
            raise IndexError(f"{self.title}: axis {axis} of {shape}")
        return self.numbering.of(name, axis % len(shape))

    def input_shape(self, index: int) -> Shape:
        """Of an input that is there."""
        shape = self.inputs[index]
        assert shape is not None
        return shape

    def output_shape(self, index: int) -> Shape:
        """Of an output that is there."""
        shape = self.outputs[index]
        assert shape is not None
        return shape

    def constant(self, index: int) -> Array | None:
        """The value of an input, where it does not depend on the graph's inputs and is small."""
        if index >= len(self.operator.inputs) or not self.operator.inputs[index]:
            return None
        return self.known.get(self.operator.inputs[index])

    def integers(self, attribute: str, index: int) -> tuple[int, ...] | None:
        """Numbers that older operators have as an attribute and newer ones as an input; None if they are not known."""
        return self.operator.integers_or(attribute, self.constant(index))

    def hold_all(self, links: Links, reason: str) -> None:
        """Nothing of the operator's inputs and outputs can be removed."""
        self.hold_inputs(links, range(len(self.inputs)), reason)
        for index, shape in enumerate(self.outputs):
            for axis in range(len(shape or ())):
                links.hold(self.output(index, axis), reason)

    def hold_inputs(self, links: Links, indices: Sequence[int], reason: str) -> None:
        """Nothing of some inputs can be removed."""
        for index in indices:
            for axis in range(len(self.inputs[index] or ()) if index < len(self.inputs) else 0):
                links.hold(self.input(index, axis), reason)


Couple: TypeAlias = Callable[[Site, Links], None]
"""Says what an operator ties together. IndexError and ValueError mean that it is not what it should be: it is held."""
