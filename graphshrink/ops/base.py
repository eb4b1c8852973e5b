"""What graphshrink knows of one operator type."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TypeAlias

from graphshrink.ir.operator import Operator

Shape: TypeAlias = tuple[int, ...]
Shapes: TypeAlias = Sequence[Shape | None]


@dataclass(frozen=True, slots=True)
class Rule:
    """The meaning of one operator type, as far as compression needs it.

    Attributes:
        output_axis: for (operator, input index, rank of that input): the axis of the weight that numbers output
            channels; None where that input holds no weight of this operator.
        macs: multiply-accumulates of one run for (operator, input shapes, output shapes); an unknown shape is None,
            and so is the result where one is needed. There are at least three shapes of each kind, None where an input
            or output is left out.
    """

    output_axis: Callable[[Operator, int, int], int | None]
    macs: Callable[[Operator, Shapes, Shapes], int | None]
