"""Best cuts among a few candidates for each cut, with every pair of neighbouring candidates tried.

Unlike divide and conquer this needs no property of the cost, so the cost can be the true one: with centroids rounded
to the input's element type, which is coarse for 16-bit types.
"""

import numpy as np

from graphshrink.ir.types import Array
from graphshrink.solvers._kmeans_points import Prefix, indices, rounding_cost

_REACH = 8  # candidates on each side of a cut in `slide`
_SLIDES = 12
_PAIRS = 1 << 20  # pairs of candidates tried at once


def try_all(prefix: Prefix, k: int, dtype: np.dtype[np.generic]) -> Array:
    """Exact best cuts (rows, k + 1) of rows of n points, with the true cost, in O(k n**2)."""
    rows, n = prefix.count.shape[0], prefix.count.shape[1] - 1
    everywhere = indices(0, n + 1)[np.newaxis, np.newaxis]
    height = max(1, _PAIRS // (n * n))
    parts: list[Array] = []
    for top in range(0, rows, height):
        part = prefix.subset(slice(top, top + height))
        members = part.count.shape[0]
        costs = _costs(part, np.broadcast_to(everywhere, (members, 2, n + 1)), dtype)
        parts.append(_best_path(np.broadcast_to(costs, (members, k, n + 1, n + 1)), 0, n))
    return np.concatenate(parts)


def slide(prefix: Prefix, cuts: Array, reach: Array, dtype: np.dtype[np.generic]) -> Array:
    """Best cuts within a window around every cut, again and again with narrower windows down to single points.

    Args:
        prefix: prefix sums over n points.
        cuts: (rows, k + 1) positions, from 0 to n.
        reach: (rows, k - 1) how far to look on either side of each inner cut.
        dtype: element type of the centroids.
    """
    rows, n = prefix.count.shape[0], prefix.count.shape[1] - 1
    offsets = indices(-_REACH, _REACH + 1)
    reach = np.maximum(reach, _REACH)
    ends = np.zeros((rows, 1, offsets.size), dtype=np.intp)
    for _ in range(_SLIDES):
        inner = cuts[:, 1:-1, np.newaxis] + offsets * reach[:, :, np.newaxis] // _REACH
        candidates = np.concatenate((ends, np.clip(inner, 0, n), ends + n), axis=1)
        chosen = _best_path(_costs(prefix, candidates, dtype), _REACH, _REACH)
        moved = np.take_along_axis(candidates, chosen[:, :, np.newaxis], axis=2)[:, :, 0]
        settled = np.array_equal(moved, cuts) and bool(np.all(reach == _REACH))
        cuts = moved
        if settled:
            break
        at_edge = np.abs(chosen[:, 1:-1] - _REACH) == _REACH
        reach = np.where(at_edge, reach, np.maximum(reach * 2 // _REACH, _REACH))
    return cuts


def _costs(prefix: Prefix, candidates: Array, dtype: np.dtype[np.generic]) -> Array:
    """Cost of the cluster from every candidate to every one of the next cut: (rows, k, candidates, candidates)."""
    rows = indices(0, prefix.count.shape[0])[:, np.newaxis, np.newaxis]
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
        cost += rounding_cost(mean, count, dtype)
    banned = prefix.start[rows, candidates[:, 1:]][:, :, np.newaxis, :] > left
    banned |= left > right
    cost[banned] = np.inf
    return cost


def _best_path(costs: Array, first: int, last: int) -> Array:
    """Cheapest chain through `costs` (rows, k, candidates, candidates), as (rows, k + 1) numbers of candidates.

    `first` and `last` are the candidates that it starts and ends with.
    """
    rows, k = costs.shape[:2]
    path = np.full((rows, k + 1), last)
    path[:, 0] = first
    so_far = costs[:, 0, first, :]
    came_from: list[Array] = []
    for cluster in range(1, k):
        through = so_far[:, :, np.newaxis] + costs[:, cluster]
        came = np.argmin(through, axis=1)
        so_far = np.take_along_axis(through, came[:, np.newaxis, :], axis=1)[:, 0]
        came_from.append(came)
    for cluster in range(k - 1, 0, -1):
        path[:, cluster] = came_from[cluster - 1][indices(0, rows), path[:, cluster + 1]]
    return path
