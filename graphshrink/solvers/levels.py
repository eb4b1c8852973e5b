"""Choosing a level for each layer, so that together they cost least and stay within one budget.

Dynamic programming over the budget in whole parts, as in SPDY (Frantar and Alistarh 2022, arXiv:2201.13096). Loads are
rounded up, so that the budget holds; with so many parts little of it is lost.
"""

from collections.abc import Sequence
from typing import Final

import numpy as np

from graphshrink.ir.types import Array

_PARTS: Final = 10_000


def allocate(costs: Sequence[Array], loads: Sequence[Array], budget: float) -> list[int] | None:
    """The level of each layer of the least sum of costs whose sum of loads is within the budget; None if there is none.

    Of choices that are as good, the one with the lowest levels in the last layers is taken.

    Args:
        costs: for each layer, of each of its levels, 0 or more.
        loads: the same for what the budget bounds.
        budget: 0 or more.
    """
    parts = [np.ceil(_share(load, budget) * _PARTS - 1e-9).astype(np.intp) for load in loads]
    best = np.zeros(_PARTS + 1)
    chosen: list[Array] = []
    for cost, part in zip(costs, parts, strict=True):
        sums = np.full((len(cost), _PARTS + 1), np.inf)
        for level, taken in enumerate(part):
            if taken <= _PARTS:
                sums[level, taken:] = best[: _PARTS + 1 - taken] + cost[level]
        chosen.append(sums.argmin(axis=0))
        best = sums.min(axis=0)
    left = _PARTS
    if not np.isfinite(best[left]):
        return None
    levels: list[int] = []
    for choice, part in zip(reversed(chosen), reversed(parts), strict=True):
        levels.append(int(choice[left]))
        left -= int(part[levels[-1]])
    return levels[::-1]


def _share(load: Array, budget: float) -> Array:
    """Loads as shares of the budget; those above it count as 2. Of a budget of nothing any load is too much."""
    share: Array = np.where(load > budget, 2.0, 0.0)
    return np.divide(load, budget, out=share, where=(load <= budget) & (budget > 0))
