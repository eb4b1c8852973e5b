"""Cluster sorted points.

1. `divide`: exact dynamic programming on about `BINS_PER_CLUSTER * k` bins.
2. `slide`: the same recursion over a window of positions around every cut, all cuts at once, narrowing down to single
   points.
3. `settle`: Lloyd steps (Lloyd 1982) with the rounded centroids until nothing moves.

Two kinds of rows get a second attempt:

- Prefix sums lose their digits when clusters are narrow and far apart. Such a row is cut into islands: a cluster that
  spans a gap g costs at least g**2 / 2, so a gap for which this is above the cost of a known solution is a cut of the
  best one.
- Where rounding the centroids is a visible part of the cost, the search has to know of it.
"""

from dataclasses import dataclass, replace

import numpy as np

from graphshrink.ir.types import Array
from graphshrink.solvers._kmeans_divide import divide
from graphshrink.solvers._kmeans_points import (
    Points,
    Prefix,
    count_at_most,
    even_cuts,
    indices,
    midpoints,
    prefix_of,
    rounding_cost,
)
from graphshrink.solvers._kmeans_windows import slide, try_all

BINS_PER_CLUSTER = 32  # fewer than 32 have been seen to miss the 0.1 % in one row of a thousand
LEAST_BINS = 512
_FEW_POINTS = 256  # up to which trying all pairs is affordable
_STEPS = 200
_TRUSTED = 1e-5  # largest relative rounding error of the cost that is let through
# Relative cost of rounding that needs no second attempt: `divide` finds the best clusters without rounding, and
# rounding never lowers a cost, so no other solution can be better by more than this.
_UNNOTICED = 5e-4


@dataclass(frozen=True, slots=True)
class Solution:
    """Best clusters found.

    Attributes:
        centroids: (rows, k) float64, representable in the input's element type, ascending; unused ones repeat the last.
        cost: (rows,) float64, sum of squared distances to them.
    """

    centroids: Array
    cost: Array


def centroids_of(points: Points, k: int, dtype: np.dtype[np.generic]) -> Array:
    """Centroids (rows, k) in float64: a row's own points where they are at most k."""
    own = np.minimum(indices(0, k), points.value.shape[1] - 1)
    centroids = points.value[:, own]
    many = np.flatnonzero(points.size > k)
    if many.size > 0:
        part = points.subset(many)
        exponent = exponents(np.maximum(np.abs(part.value[:, 0]), np.abs(part.value[:, -1])))[:, np.newaxis]
        if np.any(exponent != 0):
            part = replace(part, value=np.ldexp(part.value, -exponent))
        centroids[many] = np.ldexp(solve(part, k, dtype).centroids, exponent)
    return centroids


def exponents(peaks: Array) -> Array:
    """Powers of two to divide by before squaring, one for each largest magnitude; 0 where squares are safe anyway."""
    exponent = np.frexp(peaks)[1]
    return np.where(np.abs(exponent) < 300, 0, exponent)


def solve(points: Points, k: int, dtype: np.dtype[np.generic]) -> Solution:
    """Cluster every row of points, each of which has more than k, with centroids of element type `dtype`."""
    heads = np.zeros(points.value.shape, dtype=np.bool_)
    heads[:, 0] = True
    if k == 1:
        return settle(points, _widest_gaps(points, k), dtype)
    best, doubtful, coarse = _attempt(points, heads, k, dtype)
    rows = np.flatnonzero(doubtful)
    for _ in range(k):
        if rows.size == 0:
            break
        part = points.subset(rows)
        _keep_better(best, rows, settle(part, _widest_gaps(part, k), dtype))
        finer, grown = _islands(part, heads[rows], best.cost[rows], k)
        rows = rows[grown]
        if rows.size == 0:
            break
        heads[rows] = finer[grown]
        found, doubtful, coarse[rows] = _attempt(points.subset(rows), heads[rows], k, dtype)
        _keep_better(best, rows, found)
        rows = rows[doubtful]
    rows = np.flatnonzero(coarse)
    if rows.size > 0:
        found = _attempt(points.subset(rows), heads[rows], k, dtype, rounded=True)[0]
        _keep_better(best, rows, found)
    return best


def _attempt(
    points: Points, heads: Array, k: int, dtype: np.dtype[np.generic], *, rounded: bool = False
) -> tuple[Solution, Array, Array]:
    """One solution of every row; whether its prefix sums are to be doubted; whether its centroids are coarse."""
    prefix = prefix_of(points, heads)
    if rounded and points.value.shape[1] <= _FEW_POINTS:
        start = cuts = try_all(prefix, k, dtype)
    else:
        positions = even_cuts(points, heads, max(BINS_PER_CLUSTER * k, LEAST_BINS))
        start, reach = _bin_cuts(prefix, positions, k, dtype if rounded else None)
        cuts = slide(prefix, start, reach, dtype)
    solution = settle(points, cuts, dtype)
    noise = np.finfo(np.float64).eps * np.sqrt(points.size) * prefix.square[:, -1]
    return solution, noise > _TRUSTED * solution.cost, _lost(prefix, start, dtype) > _UNNOTICED * solution.cost


def _bin_cuts(prefix: Prefix, positions: Array, k: int, dtype: np.dtype[np.generic] | None) -> tuple[Array, Array]:
    """Best cuts (rows, k + 1) at the edges of bins, and for each inner one how far it is to the edges two bins away."""
    last = positions.shape[1] - 1
    bins = divide(prefix, positions, k, dtype)
    cuts = np.take_along_axis(positions, bins, axis=1)
    above = np.take_along_axis(positions, np.minimum(bins + 2, last), axis=1) - cuts
    below = cuts - np.take_along_axis(positions, np.maximum(bins - 2, 0), axis=1)
    return cuts, np.maximum(above, below)[:, 1:-1]


def _lost(prefix: Prefix, cuts: Array, dtype: np.dtype[np.generic]) -> Array:
    """Every row's cost of rounding the centroids of these clusters."""
    count, total = (np.diff(np.take_along_axis(sums, cuts, axis=1), axis=1) for sums in (prefix.count, prefix.total))
    mean = total / np.maximum(count, 1.0) + np.take_along_axis(prefix.centre, cuts[:, 1:], axis=1)
    return np.asarray(rounding_cost(mean, count, dtype).sum(axis=1))


def _islands(points: Points, heads: Array, cost: Array, k: int) -> tuple[Array, Array]:
    """Heads of the islands that solutions of this cost prove, and in which rows there are more of them than before."""
    finer = heads.copy()
    # 1e-9: the cost is rounded too.
    finer[:, 1:] |= np.diff(points.value, axis=1) > (np.sqrt(2.0 * cost) * (1.0 + 1e-9))[:, np.newaxis]
    number = np.count_nonzero(finer, axis=1)
    # More than k can only come from a cost that underflowed.
    return finer, (number > np.count_nonzero(heads, axis=1)) & (number <= k)


def _keep_better(best: Solution, rows: Array, found: Solution) -> None:
    better = found.cost < best.cost[rows]
    best.centroids[rows[better]] = found.centroids[better]
    best.cost[rows[better]] = found.cost[better]


def _widest_gaps(points: Points, k: int) -> Array:
    rows, n = points.value.shape
    gaps = np.diff(points.value, axis=1, append=points.value[:, -1:])
    inner = np.sort(np.argpartition(gaps, n - k, axis=1)[:, n - k + 1 :], axis=1) + 1
    return np.concatenate((np.zeros((rows, 1), dtype=np.intp), inner, np.full((rows, 1), n)), axis=1)


def settle(points: Points, cuts: Array, dtype: np.dtype[np.generic]) -> Solution:
    """Lloyd steps from `cuts` until they stay: rounded mean of every cluster, then every point to its nearest."""
    for _ in range(_STEPS):
        centroids = _means(points, cuts, dtype)
        moved = cuts.copy()
        moved[:, 1:-1] = _cuts(points, centroids)
        if np.array_equal(moved, cuts):
            break
        cuts = moved
    else:
        centroids = _means(points, cuts, dtype)
        cuts[:, 1:-1] = _cuts(points, centroids)
    distance = points.value - _spread(centroids, cuts)
    return Solution(centroids, (points.weight * distance * distance + points.scatter).sum(axis=1))


def _cuts(points: Points, centroids: Array) -> Array:
    """Where each cluster but the last ends; of centroids that rounding made equal, the first gets all."""
    found = count_at_most(points.value, midpoints(centroids))
    return np.minimum.accumulate(found[:, ::-1], axis=1)[:, ::-1]


def _spread(per_cluster: Array, cuts: Array) -> Array:
    length = np.diff(cuts, axis=1).reshape(-1)
    return np.repeat(per_cluster.reshape(-1), length).reshape(cuts.shape[0], -1)


def _means(points: Points, cuts: Array, dtype: np.dtype[np.generic]) -> Array:
    """Rounded mean of every cluster, ascending; clusters without members go to the end, as copies of the last one."""
    rows, n = points.value.shape
    left, right = cuts[:, :-1], cuts[:, 1:]
    low = np.take_along_axis(points.value, np.minimum(left, n - 1), axis=1)
    high = np.take_along_axis(points.value, np.maximum(right - 1, 0), axis=1)
    filled = right > left
    first = (left + (indices(0, rows) * n)[:, np.newaxis])[filled]
    weight, total = np.zeros(left.shape), np.zeros(left.shape)
    weight[filled] = np.add.reduceat(points.weight.reshape(-1), first)
    # Relative to the lowest member: exact for a single one, and no digits are lost far away from zero.
    offset = points.weight * (points.value - _spread(low, cuts))
    total[filled] = np.add.reduceat(offset.reshape(-1), first)
    mean = np.clip(low + total / np.maximum(weight, 1.0), low, np.maximum(low, high))
    mean = mean.astype(dtype).astype(np.float64)
    used = weight > 0.0
    mean = np.take_along_axis(mean, np.argsort(~used, axis=1, kind="stable"), axis=1)
    number = np.count_nonzero(used, axis=1)[:, np.newaxis]
    return np.take_along_axis(mean, np.minimum(indices(0, mean.shape[1]), number - 1), axis=1)
