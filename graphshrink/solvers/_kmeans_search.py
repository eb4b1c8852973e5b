"""Find the best cuts of sorted points into k clusters.

1. `_divide`: exact dynamic programming on at most `BINS_PER_CLUSTER * k` bins by monotone divide and conquer (Wang and Song 2011,
   "Ckmeans.1d.dp"; Gronlund et al. 2017, arXiv:1701.07204), all rows and all sub-problems of one depth at once.
2. `_slide`: the same recursion over a window of positions around every cut, all cuts at once, narrowing down to single points.
   It also knows that centroids get rounded to the input's element type.
3. `settle`: Lloyd steps (Lloyd 1982) with the rounded centroids until nothing moves.

Prefix sums lose their digits when clusters are far apart and narrow. Then the row is cut into islands first: a cluster that spans a
gap g costs at least g**2 / 2, so a gap with g**2 / 2 above the cost of any known solution is a cut of the best one.
"""

from dataclasses import dataclass, replace

import numpy as np

from graphshrink.ir.types import Array
from graphshrink.solvers._kmeans_points import Points, Prefix, count_at_most, even_cuts, prefix_of

BINS_PER_CLUSTER = 16
LEAST_BINS = 256
_REACH = 8  # candidates on each side of a cut in `_slide`
_SLIDES = 12
_STEPS = 200
_TRUSTED = 1e-5  # largest relative rounding error of the cost that is let through


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
    own = np.minimum(np.arange(k), points.value.shape[1] - 1)
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
    """Powers of two to divide by before squaring, one for each largest magnitude; 0 wherever squares are safe anyway."""
    exponent = np.frexp(peaks)[1]
    return np.where(np.abs(exponent) < 300, 0, exponent)


def solve(points: Points, k: int, dtype: np.dtype[np.generic]) -> Solution:
    """Cluster every row of points, each of which has more than k, into k clusters with centroids of element type `dtype`."""
    heads = np.zeros(points.value.shape, dtype=np.bool_)
    heads[:, 0] = True
    best, doubtful = _attempt(points, heads, k, dtype)
    rows = np.flatnonzero(doubtful)
    for _ in range(k - 1):
        if rows.size == 0:
            break
        part = points.subset(rows)
        by_gaps = settle(part, _widest_gaps(part, k), dtype)
        _keep_better(best, rows, by_gaps)
        finer = heads[rows]
        finer[:, 1:] |= np.diff(part.value, axis=1) > np.sqrt(2.0 * best.cost[rows])[:, np.newaxis] * (1.0 + 1e-9)
        islands = np.count_nonzero(finer, axis=1)
        grown = islands > np.count_nonzero(heads[rows], axis=1)
        grown &= islands <= k  # more can only come from a cost that underflowed
        rows = rows[grown]
        if rows.size == 0:
            break
        heads[rows] = finer[grown]
        found, doubtful = _attempt(points.subset(rows), heads[rows], k, dtype)
        _keep_better(best, rows, found)
        rows = rows[doubtful]
    return best


def _attempt(points: Points, heads: Array, k: int, dtype: np.dtype[np.generic]) -> tuple[Solution, Array]:
    """One solution of every row, and whether its prefix sums were too coarse to be trusted."""
    prefix = prefix_of(points, heads)
    solution = settle(points, _cuts(points, prefix, heads, k, dtype), dtype)
    noise = np.finfo(np.float64).eps * np.sqrt(points.size) * prefix.square[:, -1]
    return solution, noise > _TRUSTED * solution.cost


def _keep_better(best: Solution, rows: Array, found: Solution) -> None:
    better = found.cost < best.cost[rows]
    best.centroids[rows[better]] = found.centroids[better]
    best.cost[rows[better]] = found.cost[better]


def _widest_gaps(points: Points, k: int) -> Array:
    rows, n = points.value.shape
    gaps = np.diff(points.value, axis=1)
    inner = np.sort(np.argpartition(gaps, n - k, axis=1)[:, n - k :], axis=1) + 1
    return np.concatenate((np.zeros((rows, 1), dtype=np.intp), inner, np.full((rows, 1), n)), axis=1)


def _cuts(points: Points, prefix: Prefix, heads: Array, k: int, dtype: np.dtype[np.generic]) -> Array:
    rows, n = points.value.shape
    if k == 1:
        return np.repeat(np.array([[0, n]]), rows, axis=0)
    positions = even_cuts(points, heads, max(BINS_PER_CLUSTER * k, LEAST_BINS))
    bins = _divide(prefix, positions, k)
    last = positions.shape[1] - 1
    cuts = np.take_along_axis(positions, bins, axis=1)
    above = np.take_along_axis(positions, np.minimum(bins + 2, last), axis=1) - cuts
    below = cuts - np.take_along_axis(positions, np.maximum(bins - 2, 0), axis=1)
    return _slide(prefix, cuts, np.maximum(above, below)[:, 1:-1], dtype)


def _divide(prefix: Prefix, positions: Array, k: int) -> Array:
    """Exact best k clusters of the bins between `positions`; the result is (rows, k + 1) indices into them."""
    rows, width = positions.shape
    count, total, square, start = (
        np.take_along_axis(sums, positions, axis=1)
        for sums in (prefix.count, prefix.total, prefix.square, prefix.start)
    )
    index = np.arange(width)
    # A bin's left neighbour may start an island that is itself a position: the island's start, as an index of positions.
    begins = np.zeros((rows, width), dtype=np.intp)
    begins[:, 1:] = np.maximum.accumulate(np.where(start[:, 1:] == positions[:, :-1], index[:-1], 0), axis=1)
    cost = square - total * total / np.maximum(count, 1.0)
    cost[begins > 0] = np.inf
    splits = [begins]
    for _ in range(k - 1):
        least, split = _layer(cost - square, count, total, begins, splits[-1])
        cost = least + square
        splits.append(split)
    cuts = np.zeros((rows, k + 1), dtype=np.intp)
    cuts[:, k] = width - 1
    for cluster in range(k - 1, 0, -1):
        cuts[:, cluster] = splits[cluster][np.arange(rows), cuts[:, cluster + 1]]
    return cuts


def _layer(left_cost: Array, count: Array, total: Array, begins: Array, earlier: Array) -> tuple[Array, Array]:
    """One more cluster: for every right end the least cost, and the left end of the last cluster.

    The best left end never moves left as the right end moves right (so the halfway point bounds both halves), nor when a cluster is
    added (so the layer before bounds it from below).
    """
    rows, width = count.shape
    span = 1 << (width - 1).bit_length()
    split = np.full((rows, span + 1), width - 1)
    split[:, 0] = 0
    least = np.empty((rows, width))
    least[:, 0] = left_cost[:, 0]
    half = span // 2
    while half > 0:
        right = np.arange(half, width, 2 * half)
        low = np.maximum(np.maximum(split[:, right - half], earlier[:, right]), begins[:, right])
        high = np.minimum(split[:, right + half], right)
        np.minimum(low, high, out=low)
        least[:, right], split[:, right] = _best_left(left_cost, count, total, right, low, high)
        half //= 2
    return least, split[:, :width]


def _best_left(
    left_cost: Array, count: Array, total: Array, right: Array, low: Array, high: Array
) -> tuple[Array, Array]:
    """For every right end the best left end between `low` and `high`, over ragged ranges laid out one after the other."""
    rows, width = count.shape
    base = (np.arange(rows) * width)[:, np.newaxis]
    length = (high - low + 1).reshape(-1)
    first = np.cumsum(length) - length
    left = np.repeat((low + base).reshape(-1) - first, length)
    left += np.arange(left.size)
    value = np.repeat(total[:, right].reshape(-1), length)
    value -= total.reshape(-1)[left]
    value *= value
    members = np.repeat(count[:, right].reshape(-1), length)
    members -= count.reshape(-1)[left]
    value /= np.maximum(members, 1.0, out=members)
    np.subtract(left_cost.reshape(-1)[left], value, out=value)
    least = np.minimum.reduceat(value, first)
    hits = np.flatnonzero(value <= np.repeat(least, length))
    best = left[hits[np.searchsorted(hits, first)]].reshape(low.shape) - base
    return least.reshape(low.shape), best


def _slide(prefix: Prefix, cuts: Array, reach: Array, dtype: np.dtype[np.generic]) -> Array:
    """Best cuts within a window around every cut, again and again with narrower windows down to single points.

    Args:
        prefix: prefix sums over n points.
        cuts: (rows, k + 1) positions, from 0 to n.
        reach: (rows, k - 1) how far to look on either side of each inner cut.
        dtype: element type of the centroids.
    """
    rows, n = prefix.count.shape[0], prefix.count.shape[1] - 1
    offsets = np.arange(-_REACH, _REACH + 1)
    reach = np.maximum(reach, _REACH)
    ends = np.zeros((rows, 1, offsets.size), dtype=np.intp)
    for _ in range(_SLIDES):
        inner = cuts[:, 1:-1, np.newaxis] + offsets * reach[:, :, np.newaxis] // _REACH
        candidates = np.concatenate((ends, np.clip(inner, 0, n), ends + n), axis=1)
        chosen = _best_path(_window_costs(prefix, candidates, dtype))
        moved = np.take_along_axis(candidates, chosen[:, :, np.newaxis], axis=2)[:, :, 0]
        settled = np.array_equal(moved, cuts) and bool(np.all(reach == _REACH))
        cuts = moved
        if settled:
            break
        at_edge = np.abs(chosen[:, 1:-1] - _REACH) == _REACH
        reach = np.where(at_edge, reach, np.maximum(reach * 2 // _REACH, _REACH))
    return cuts


def _window_costs(prefix: Prefix, candidates: Array, dtype: np.dtype[np.generic]) -> Array:
    """Cost of the cluster from every candidate to every one of the next cut: (rows, k, candidates, candidates)."""
    rows = np.arange(prefix.count.shape[0])[:, np.newaxis, np.newaxis]
    left, right = candidates[:, :-1, :, np.newaxis], candidates[:, 1:, np.newaxis, :]

    def between(sums: Array) -> Array:
        at: Array = sums[rows, candidates]
        return np.asarray(at[:, 1:, np.newaxis, :] - at[:, :-1, :, np.newaxis])

    count, total, cost = between(prefix.count), between(prefix.total), between(prefix.square)
    np.maximum(count, 1.0, out=count)
    mean = total / count
    cost -= mean * total
    if dtype != np.dtype(np.float64):
        mean += prefix.centre[rows, candidates[:, 1:]][:, :, np.newaxis, :]
        # Outside an island's own clusters the mean is meaningless, and may not fit the element type; such clusters are banned below.
        with np.errstate(over="ignore", invalid="ignore"):
            mean -= mean.astype(dtype).astype(np.float64)
            cost += mean * mean * count
    banned = prefix.start[rows, candidates[:, 1:]][:, :, np.newaxis, :] > left
    banned |= left > right
    cost[banned] = np.inf
    return cost


def _best_path(costs: Array) -> Array:
    """Cheapest chain through `costs` (rows, k, candidates, candidates), as (rows, k + 1) candidate numbers."""
    rows, k, width = costs.shape[:3]
    path = np.full((rows, k + 1), width // 2)
    so_far = costs[:, 0, width // 2, :]
    came_from: list[Array] = []
    for cluster in range(1, k):
        through = so_far[:, :, np.newaxis] + costs[:, cluster]
        came = np.argmin(through, axis=1)
        so_far = np.take_along_axis(through, came[:, np.newaxis, :], axis=1)[:, 0]
        came_from.append(came)
    for cluster in range(k - 1, 0, -1):
        path[:, cluster] = came_from[cluster - 1][np.arange(rows), path[:, cluster + 1]]
    return path


def settle(points: Points, cuts: Array, dtype: np.dtype[np.generic]) -> Solution:
    """Lloyd steps from `cuts` until they stay: rounded mean of every cluster, then every point to the nearest of them."""
    for _ in range(_STEPS):
        centroids = _means(points, cuts, dtype)
        moved = cuts.copy()
        moved[:, 1:-1] = count_at_most(points.value, midpoints(centroids))
        if np.array_equal(moved, cuts):
            break
        cuts = moved
    else:
        centroids = _means(points, cuts, dtype)
        cuts[:, 1:-1] = count_at_most(points.value, midpoints(centroids))
    distance = points.value - _spread(centroids, cuts)
    return Solution(centroids, (points.weight * distance * distance + points.scatter).sum(axis=1))


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
    first = (left + (np.arange(rows) * n)[:, np.newaxis])[filled]
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
    return np.take_along_axis(mean, np.minimum(np.arange(mean.shape[1]), number - 1), axis=1)


def midpoints(centroids: Array) -> Array:
    """Where the nearest centroid changes, (rows, k - 1): a value belongs to the lower one up to and including the midpoint.

    Infinite between equal centroids, so that only the first of them is used.
    """
    low, high = centroids[:, :-1], centroids[:, 1:]
    with np.errstate(over="ignore"):
        both = low + high
    middle = np.where(np.isfinite(both), 0.5 * both, 0.5 * low + 0.5 * high)
    middle = np.where(middle >= high, low, middle)  # neighbours, between which there is nothing
    return np.where(low == high, np.inf, middle)
