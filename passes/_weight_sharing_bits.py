"""How many bits each tensor gets under one bound on the error of the model's outputs, or on the bytes of all."""

from collections.abc import Callable, Sequence
from typing import Final, NamedTuple, TypeAlias

import numpy as np

from graphshrink.encodings import most_distinct, stored_bytes
from graphshrink.ir.types import Array
from graphshrink.passes._weight_sharing_fit import entropy
from graphshrink.passes._weight_sharing_grouping import Grouping
from graphshrink.solvers.levels import allocate

MOST_BITS: Final = 8
_NEGLIGIBLE: Final = 0.01  # of a tensor's share of the budget: a squared error that needs no more bits


class Level(NamedTuple):
    """A number of bits: what a tensor takes with it, and the squared relative error that it makes."""

    bits: int
    bytes: float
    error: float


class Tried(NamedTuple):
    """A tensor with some number of bits, and the squared relative error of its outputs."""

    stored: Array
    error: float


def curve(grouping: Grouping, least: int, streams: bool, attempt: Callable[[int], Tried], share: float) -> list[Level]:
    """The levels of a tensor, from the least number of bits to as many as matter.

    Args:
        grouping: how it is divided among codebooks.
        least: bits.
        streams: whether codes are stored at their entropy.
        attempt: gives it so many bits.
        share: of the budget, the sum of errors of all tensors, if all got the same.
    """
    levels: list[Level] = []
    for bits in range(least, MOST_BITS + 1):
        stored, error = attempt(bits)
        levels.append(Level(bits, _bytes(stored, grouping, streams), error))
        if error <= _NEGLIGIBLE * share:
            break
    return levels


class Shared(NamedTuple):
    """What tensors get.

    Attributes:
        bits: of each, or None where it stays as it is.
        missed: what was asked for and could not be done; empty where all of it is.
    """

    bits: list[int | None]
    missed: str = ""


Curves: TypeAlias = Sequence[tuple[int, list[Level]]]
"""Of each tensor its bytes as it is, and its levels."""


def shared_out(curves: Curves, budget: float) -> Shared:
    """The bits of least bytes for which errors are within a budget together."""
    chosen = allocate(_bytes_of(curves), _errors_of(curves), budget) or []
    return Shared(_bits(curves, chosen))


def within(curves: Curves, most: int) -> Shared:
    """The bits of least error for which all tensors are within some bytes together, or as near as can be."""
    sizes = _bytes_of(curves)
    chosen = allocate(_errors_of(curves), sizes, most)
    if chosen is not None:
        return Shared(_bits(curves, chosen))
    smallest = [int(each.argmin()) for each in sizes]
    least = sum(float(each.min()) for each in sizes)
    return Shared(
        _bits(curves, smallest), f"its weights take {least:,.0f} bytes at least, more than the {most:,} of size"
    )


def _bytes_of(curves: Curves) -> list[Array]:
    # A tensor that is left alone is a level too, without an error; so there always is an answer to `shared_out`.
    return [np.array([level.bytes for level in levels] + [float(plain)]) for plain, levels in curves]


def _errors_of(curves: Curves) -> list[Array]:
    return [np.array([level.error for level in levels] + [0.0]) for _, levels in curves]


def _bits(curves: Curves, chosen: Sequence[int]) -> list[int | None]:
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
