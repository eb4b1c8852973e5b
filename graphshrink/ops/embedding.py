"""Gather as the look-up of an embedding: every index along the axis is a channel."""

from graphshrink.ir.operator import Operator
from graphshrink.ops.base import Rule


def _axis(operator: Operator, index: int, rank: int) -> int | None:
    if index != 0 or rank < 2:
        return None
    axis = operator.integer("axis", 0)
    return axis + rank if axis < 0 else axis


GATHER = Rule(_axis, lambda operator, inputs, outputs: 0)
