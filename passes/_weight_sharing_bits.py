"""How many bits each tensor gets under one bound on the error of the model's outputs."""

from collections.abc import Callable, Sequence
from typing import Final, NamedTuple

import numpy as np

from graphshrink.encodings import most_distinct, stored_bytes
from graphshrink.ir.types import Array
from graphshrink.passes._weight_sharing_fit import entropy
from graphshrink.passes._weight_sharing_grouping import Grouping
from graphshrink.solvers.levels import allocate

MOST_BITS: Final = 8
_NEGLIGIBLE: Final = 1e-5  # of the budget: a squared error that needs no more bits


class Level(NamedTuple):
    """A number of bits: what a tensor takes with it, and the squared relative error that it makes."""

    bits: int
    bytes: float
    error: float


class Tried(NamedTuple):
    """A tensor with some number of bits, and the squared relative error of its outputs."""

    stored: Array
    error: float


def curve(grouping: Grouping, least: int, streams: bool, attempt: Callable[[int], Tried], budget: float) -> list[Level]:
    """The levels of a tensor, from the least number of bits to as many as matter.

    Args:
        grouping: how it is divided among codebooks.
        least: bits.
        streams: whether codes are stored at their entropy.
        attempt: gives it so many bits.
        budget: the sum of errors of all tensors.
    """
    levels: list[Level] = []
    for bits in range(least, MOST_BITS + 1):
        stored, error = attempt(bits)
        levels.append(Level(bits, _bytes(stored, grouping, streams), error))
        if error <= _NEGLIGIBLE * budget:
            break
    return levels


def shared_out(curves: Sequence[tuple[int, list[Level]]], budget: float) -> list[int | None]:
    """The bits of each tensor, or None where it stays as it is, of the least bytes within the budget of errors.

    Args:
        curves: of each tensor its bytes as it is, and its levels.
        budget: the sum of errors.
    """
    # A tensor that is left alone is a level too, without an error; so there always is an answer.
    costs = [np.array([level.bytes for level in levels] + [float(plain)]) for plain, levels in curves]
    loads = [np.array([level.error for level in levels] + [0.0]) for _, levels in curves]
    chosen = allocate(costs, loads, budget) or []
    return [
        levels[level].bits if level < len(levels) else None for level, (_, levels) in zip(chosen, curves, strict=True)
    ]


def _bytes(stored: Array, grouping: Grouping, streams: bool) -> float:
    rows = grouping.rows(stored)
    most = max(len(np.unique(row)) for row in rows)
    if streams:
        return entropy(rows) / 8 + most * len(rows) * stored.itemsize
    few = most_distinct(stored, grouping.axis, grouping.groups, 256)
    return float(stored.nbytes if few is None else stored_bytes(stored.size, len(rows), few, stored.itemsize))
