"""Optimal brain surgeon on channels: whichever costs all consumers together the least goes next.

ZipLM, Kurtic et al. 2023, arXiv:2302.04089, after Frantar & Alistarh 2022, arXiv:2208.11580. A channel whose inputs are
S costs a consumer with weights W, the best ones of the inputs that are left, with their H^-1

    trace W_S^T ([H^-1]_SS)^-1 W_S        then   W     -=  H^-1_:S ([H^-1]_SS)^-1 W_S
                                                 H^-1  -=  H^-1_:S ([H^-1]_SS)^-1 H^-1_S:
"""

from typing import Final

import numpy as np
from scipy.linalg import cho_solve, solve_triangular
from scipy.linalg.lapack import dpotri

from graphshrink.ir.types import Array
from graphshrink.solvers._channel_problem import NOBODY, ChannelGroup, Part, factor, rows_of

STEPS: Final = 64
"""Into which a group is divided, about."""
_LEAST: Final = 4  # a step removes at least one in so many of what it may
_CUT: Final = 8  # inputs that are gone are cut out when they are one in so many
_HEIGHT: Final = 512  # rows that are worked on at once


def obs(group: ChannelGroup, step: int | None = None) -> Array:
    """(C,) channels in the order in which they go.

    With `step` 1 this is the greedy order. Else all channels are priced once a step, and the 2 `step` cheapest of them
    compete: they are removed one after the other, each priced anew with those before it gone, until `step` are gone or
    the cheapest would cost more than one that was left out (but at least a quarter of a step goes). What is neglected
    is that removals change the price of those left out; a pair of copies does not go together.

    Takes about 2 N^3 multiplications a consumer, and room for 2 N^2 numbers in each.

    Args:
        group: what to order. Channels that nobody makes use of go first.
        step: channels that are removed between two pricings; None is 1 in 64, at least 1.
    """
    step = max(1, group.channels // STEPS) if step is None else step
    layers = [_Layer(part) for part in group.parts]
    removed: list[int] = []
    while len(removed) < group.channels:
        costs = np.zeros(group.channels)
        for layer in layers:
            layer.add_costs(costs)
        costs[removed] = np.inf
        chosen = _chosen(layers, costs, min(step, group.channels - len(removed)))
        gone = np.zeros(group.channels + 1, bool)  # the last one is NOBODY
        gone[chosen] = True
        for layer in layers:
            layer.remove(gone)
        removed += chosen
    return np.array(removed, np.intp)


def _chosen(layers: list["_Layer"], costs: Array, step: int) -> list[int]:
    """The channels that go in a step, for the costs (C,) of each alone; those that are gone cost infinity."""
    order = np.argsort(costs, kind="stable")
    rivals = order[: 2 * step] if step > 1 else order[:1]
    rivals = rivals[np.isfinite(costs[rivals])]
    if len(rivals) == 1:
        return [int(rivals[0])]
    limit = costs[order[len(rivals)]] if len(rivals) < len(order) else np.inf
    among = np.zeros(len(costs) + 1, bool)
    among[rivals] = True
    races = [race for layer in layers if (race := layer.race(among)) is not None]
    chosen: list[int] = []
    while len(chosen) < step:
        now = np.zeros(len(costs))
        for race in races:
            race.add_costs(now)
        now[chosen] = np.inf
        cheapest = int(rivals[np.argmin(now[rivals])])
        if _LEAST * len(chosen) >= step and now[cheapest] > limit:
            break
        chosen.append(cheapest)
        for race in races:
            race.remove(cheapest)
    return chosen


class _Layer:
    """One part of a consumer on its way.

    Attributes:
        inverse: (n, n), H^-1 of the inputs that are left; zeros for others that have not been cut out yet.
        weights: (n, M), the best ones.
        owner: (n,); NOBODY's where an input is gone, too.
        there: (n,) of booleans.
        costs: of channels, each (n,) and (n,); None when they have to be worked out.
    """

    def __init__(self, part: Part) -> None:
        lower = factor(part.hessian)
        self._weights: Array = cho_solve((lower, True), part.cross, check_finite=False)
        self._inverse: Array = _inverse(lower)
        self._owner: Array = part.owner.copy()
        self._there: Array = np.ones(len(part.owner), bool)
        self._scale = part.scale
        self._costs: list[tuple[Array, Array]] | None = None

    def add_costs(self, total: Array) -> None:
        if self._costs is None:
            self._costs = []
            for channels, rows in rows_of(self._owner):
                weights = self._weights[rows]
                pairs = weights @ np.swapaxes(weights, 1, 2)
                blocks = self._inverse[rows[:, :, None], rows[:, None, :]]
                self._costs.append((channels, self._scale * _costs(blocks, pairs)))
        for channels, costs in self._costs:
            total[channels] += costs

    def race(self, among: Array) -> "_Race | None":
        """Some channels alone, (C + 1,) of booleans."""
        rows = np.flatnonzero(among[self._owner])
        if len(rows) == 0:
            return None
        weights = self._weights[rows]
        return _Race(self._inverse[np.ix_(rows, rows)], weights @ weights.T, self._owner[rows], self._scale)

    def remove(self, gone: Array) -> None:
        """Remove channels, (C + 1,) of booleans."""
        rows = np.flatnonzero(gone[self._owner])
        if len(rows) == 0:
            return
        lower = factor(self._inverse[np.ix_(rows, rows)])
        columns = solve_triangular(lower, self._inverse[rows], lower=True, check_finite=False)
        self._weights -= columns.T @ solve_triangular(lower, self._weights[rows], lower=True, check_finite=False)
        for first in range(0, len(self._inverse), _HEIGHT):
            part = slice(first, first + _HEIGHT)
            self._inverse[part] -= columns[:, part].T @ columns
        self._weights[rows] = self._inverse[rows] = self._inverse[:, rows] = 0.0
        self._owner[rows], self._there[rows], self._costs = NOBODY, False, None
        if _CUT * np.count_nonzero(~self._there) >= len(self._there):
            self._cut()

    def _cut(self) -> None:
        left = np.flatnonzero(self._there)
        self._inverse = self._inverse[np.ix_(left, left)]
        self._weights, self._owner = self._weights[left], self._owner[left]
        self._there = np.ones(len(left), bool)


class _Race:
    """A few channels of a layer: H^-1 and W W^T of their inputs are all that it takes to remove them one by one."""

    def __init__(self, inverse: Array, pairs: Array, owner: Array, scale: float) -> None:
        self._inverse, self._pairs, self._owner, self._scale = inverse, pairs, owner, scale
        self._rows: list[tuple[Array, Array]] | None = None

    def add_costs(self, total: Array) -> None:
        if self._rows is None:
            self._rows = rows_of(self._owner)
        for channels, rows in self._rows:
            places = rows[:, :, None], rows[:, None, :]
            total[channels] += self._scale * _costs(self._inverse[places], self._pairs[places])

    def remove(self, channel: int) -> None:
        rows = np.flatnonzero(self._owner == channel)
        if len(rows) == 0:
            return
        moved = cho_solve((factor(self._inverse[np.ix_(rows, rows)]), True), self._inverse[rows]).T
        self._inverse = self._inverse - moved @ self._inverse[rows]
        self._pairs = self._pairs - moved @ self._pairs[rows]
        self._pairs = self._pairs - self._pairs[:, rows] @ moved.T
        self._owner = np.where(self._owner == channel, NOBODY, self._owner)
        self._rows = None


def _costs(blocks: Array, pairs: Array) -> Array:
    """(n,) traces of blocks^-1 pairs, both (n, r, r)."""
    if blocks.shape[1] == 1:
        costs = pairs[:, 0, 0] / blocks[:, 0, 0]
    else:
        costs = np.einsum("nii->n", np.linalg.solve(blocks, pairs))
    return np.maximum(costs, 0.0)


def _inverse(lower: Array) -> Array:
    """(N, N), of L L^T."""
    half: Array = dpotri(lower, lower=1)[0]
    inverse: Array = np.tril(half)
    inverse += np.tril(half, -1).T
    return inverse
