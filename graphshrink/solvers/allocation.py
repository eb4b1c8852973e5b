"""How much each layer gives up, so that all together lose what is asked for at the least cost.

Each layer says what any removal costs it. Where every next removal costs at least as much as the one before, taking the
cheapest of all layers, one after the other, is optimal (Fox 1966, marginal analysis); a curve that bends the other way
is replaced by its lower convex hull.
"""

from collections.abc import Sequence
from typing import Final, NamedTuple

import numpy as np

from graphshrink.ir.types import Array

_POINTS: Final = 4096  # of a curve that is made of single removals


class Curve(NamedTuple):
    """What removals cost a layer.

    Attributes:
        removed: (K,) how many, rising from 0.
        cost: (K,) of all of them together, from 0.
    """

    removed: Array
    cost: Array

    @classmethod
    def of(cls, costs: Array, size: int = 1) -> "Curve":
        """The curve of single removals in the order given, of `size` weights each."""
        total = np.concatenate([[0.0], np.cumsum(costs)])
        at = np.unique(np.linspace(0, len(costs), min(len(costs), _POINTS) + 1).astype(np.intp))
        return cls((at * size).astype(np.float64), total[at])

    @property
    def convex(self) -> "Curve":
        """Its lower convex hull, which never falls."""
        hull: list[int] = []
        cost = np.maximum.accumulate(self.cost)
        for i in range(len(cost)):
            while len(hull) > 1 and self._bends(cost, hull[-2], hull[-1], i):
                hull.pop()
            hull.append(i)
        return Curve(self.removed[hull], cost[hull])

    def _bends(self, cost: Array, a: int, b: int, c: int) -> bool:
        """Whether b lies on or above the line from a to c."""
        run = self.removed
        return bool((cost[b] - cost[a]) * (run[c] - run[a]) >= (cost[c] - cost[a]) * (run[b] - run[a]))

    def within(self, budget: float) -> float:
        """How much can be removed for a cost."""
        cost = np.maximum.accumulate(self.cost)
        if cost[-1] <= budget:
            return float(self.removed[-1])
        last = int(np.searchsorted(cost, budget, side="right")) - 1
        share = (budget - cost[last]) / (cost[last + 1] - cost[last])
        return float(self.removed[last] + share * (self.removed[last + 1] - self.removed[last]))


def allocate(curves: Sequence[Curve], total: float, most: Sequence[float]) -> list[float]:
    """How much each layer is to remove.

    Args:
        curves: of every layer.
        total: what is to be removed of all together.
        most: what each may remove.
    """
    pieces: list[Array] = []
    for layer, (curve, limit) in enumerate(zip(curves, most, strict=True)):
        removed, cost = curve.convex
        steps = np.diff(np.minimum(removed, limit))
        slopes = np.diff(cost) / np.maximum(np.diff(removed), np.finfo(np.float64).tiny)
        pieces.append(np.stack([slopes, steps, np.full(len(steps), layer)]))
    slopes, steps, layers = np.concatenate(pieces, axis=1)
    order = np.argsort(slopes, kind="stable")
    taken = np.diff(np.minimum(np.cumsum(steps[order]), total), prepend=0.0)
    gone = np.bincount(layers[order].astype(np.intp), taken, len(curves))
    return [float(number) for number in gone]
