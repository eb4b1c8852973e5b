"""Exact best cuts of a row of bins, by dynamic programming with monotone divide and conquer.

All rows, and all sub-problems of one depth, are solved at once. Sources: Wang and Song 2011, "Ckmeans.1d.dp: Optimal
k-means Clustering in One Dimension by Dynamic Programming"; Gronlund et al. 2017, "Fast Exact k-Means, k-Medians and
Bregman Divergence Clustering in 1D", arXiv:1701.07204.
"""

from dataclasses import dataclass

import numpy as np

from graphshrink.ir.types import Array
from graphshrink.solvers._kmeans_points import Prefix, indices, rounding_cost


def divide(prefix: Prefix, positions: Array, k: int, dtype: np.dtype[np.generic] | None) -> Array:
    """Exact best k clusters of the bins between `positions`; the result is (rows, k + 1) indices into them.

    With a `dtype` the cost includes rounding the centroids to it. Then the bounds that divide and conquer relies on
    need not hold, and the result is only good.
    """
    rows, width = positions.shape
    count, total, centre, square, start = (
        np.take_along_axis(sums, positions, axis=1)
        for sums in (prefix.count, prefix.total, prefix.centre, prefix.square, prefix.start)
    )
    at = _Sums(count, total, centre, dtype)
    # An island starts at one of the positions; this is its index.
    begins = np.zeros((rows, width), dtype=np.intp)
    begins[:, 1:] = np.maximum.accumulate(np.where(start[:, 1:] == positions[:, :-1], indices(0, width - 1), 0), axis=1)
    cost = square - at.total * at.total / np.maximum(at.count, 1.0)
    if dtype is not None:
        cost += rounding_cost(at.total / np.maximum(at.count, 1.0) + at.centre, at.count, dtype)
    cost[begins > 0] = np.inf
    splits = [begins]
    for _ in range(k - 1):
        least, split = _layer(cost - square, at, begins, splits[-1])
        cost = least + square
        splits.append(split)
    cuts = np.zeros((rows, k + 1), dtype=np.intp)
    cuts[:, k] = width - 1
    for cluster in range(k - 1, 0, -1):
        cuts[:, cluster] = splits[cluster][indices(0, rows), cuts[:, cluster + 1]]
    return cuts


@dataclass(frozen=True, slots=True)
class _Sums:
    """Prefix sums at the positions that dynamic programming chooses from."""

    count: Array
    total: Array
    centre: Array
    dtype: np.dtype[np.generic] | None


def _layer(left_cost: Array, at: _Sums, begins: Array, earlier: Array) -> tuple[Array, Array]:
    """One more cluster: for every right end the least cost, and the left end of the last cluster.

    The best left end never moves left as the right end moves right (so the halfway point bounds both halves), nor when
    a cluster is added (so the layer before bounds it from below).
    """
    rows, width = begins.shape
    span = 1 << (width - 1).bit_length()
    split = np.full((rows, span + 1), width - 1)
    split[:, 0] = 0
    least = np.empty((rows, width))
    least[:, 0] = left_cost[:, 0]
    half = span // 2
    while half > 0:
        right = indices(half, width, 2 * half)
        low = np.maximum(np.maximum(split[:, right - half], earlier[:, right]), begins[:, right])
        high = np.minimum(split[:, right + half], right)
        np.minimum(low, high, out=low)
        least[:, right], split[:, right] = _best_left(left_cost, at, right, low, high)
        half //= 2
    return least, split[:, :width]


def _best_left(left_cost: Array, at: _Sums, right: Array, low: Array, high: Array) -> tuple[Array, Array]:
    """For every right end the best left end from `low` to `high`, over ragged ranges laid out one after the other."""
    rows, width = left_cost.shape
    base = indices(0, rows)[:, np.newaxis] * width
    length = (high - low + 1).reshape(-1)
    first = np.cumsum(length) - length
    left = np.repeat((low + base).reshape(-1) - first, length)
    left += indices(0, left.size)
    total = np.repeat(at.total[:, right].reshape(-1), length)
    total -= at.total.reshape(-1)[left]
    count = np.repeat(at.count[:, right].reshape(-1), length)
    count -= at.count.reshape(-1)[left]
    np.maximum(count, 1.0, out=count)
    value = left_cost.reshape(-1)[left]
    if at.dtype is not None:
        centre = np.repeat(at.centre[:, right].reshape(-1), length)
        value += rounding_cost(total / count + centre, count, at.dtype)
    total *= total
    total /= count
    value -= total
    least = np.minimum.reduceat(value, first)
    hits = np.flatnonzero(value <= np.repeat(least, length))
    best = left[hits[np.searchsorted(hits, first)]].reshape(low.shape) - base
    return least.reshape(low.shape), best
