"""One-dimensional k-means, within 0.1 % of the least possible distortion.

Rows that fit are sorted and solved from their own values; larger ones are first summed up in bins (`_kmeans_bins`).
Points are cut by exact dynamic programming on bins and refined down to single values (`_kmeans_search`). Values are
then labelled by counting, for each, the midpoints below it: k - 1 comparisons, but of the kind a processor does many
at once, which beats a binary search up to k = 256.

Sources: Wang and Song 2011, "Ckmeans.1d.dp: Optimal k-means Clustering in One Dimension by Dynamic Programming";
Gronlund et al. 2017, "Fast Exact k-Means, k-Medians and Bregman Divergence Clustering in 1D", arXiv:1701.07204.
"""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from graphshrink.errors import InternalError
from graphshrink.ir.types import Array
from graphshrink.solvers._kmeans_bins import centroids_of_large, checked, readable
from graphshrink.solvers._kmeans_points import midpoints, points_of
from graphshrink.solvers._kmeans_search import centroids_of

_ELEMENT_TYPES = ("float16", "bfloat16", "float32", "float64")
_LARGE_ROW = 1 << 20  # rows with more values are not sorted as a whole
_BATCH_VALUES = 1 << 18
_BATCH_SPLITS = 1 << 22  # values * k: what dynamic programming has to remember
_BATCH_CLUSTERS = 1 << 13
_LABEL_BLOCK = 1 << 16  # values that stay in the cache while they are labelled


@dataclass(frozen=True, slots=True)
class Clusters:
    """Every row's centroids, and which of them each value belongs to.

    Attributes:
        centroids: (groups, k) in the input's element type, ascending. Each is the mean of its members, rounded. Where
            fewer than k are used, the last one is repeated (and no label names the copies); in an empty row they are
            all 0.
        labels: uint8, the shape of the input: index of the nearest centroid in the value's row, the lower of two
           equally near.
        distortion: (groups,) float64, sum of squared distances of the values to their centroids.
    """

    centroids: Array
    labels: Array
    distortion: Array


def cluster_rows(rows: Array, k: int) -> Clusters:
    """Cluster every row by itself.

    1. A row with at most k distinct values is reproduced exactly (0.0 for -0.0), so clustering a result again changes
       nothing.
    2. Otherwise the distortion is within 0.1 % of the least possible with centroids of the input's element type.
    3. The result depends on the input alone: not on threads, not on a random state.

    In a row of more than 2**20 values a centroid may be the mean of slightly other values than its members: bins next
    to its ends count as a whole.

    Args:
        rows: (groups, n), finite, of element type float16, bfloat16, float32 or float64.
        k: number of centroids, 1 to 256.
    """
    if rows.ndim != 2 or not 1 <= k <= 256:
        raise InternalError(f"k-means: rows of shape {rows.shape} and k = {k}: need two axes and k from 1 to 256")
    if rows.dtype.name not in _ELEMENT_TYPES:
        raise InternalError(f"k-means: element type {rows.dtype}: need one of {', '.join(_ELEMENT_TYPES)}")
    groups, n = rows.shape
    result = Clusters(np.zeros((groups, k), rows.dtype), np.zeros(rows.shape, np.uint8), np.zeros((groups,)))
    if rows.size == 0:
        return result
    for batch in _batches(groups, n, k):
        if n > _LARGE_ROW:
            centroids = centroids_of_large(rows[batch][0], k, rows.dtype)
        else:
            points = points_of(checked(np.sort(readable(rows[batch]), axis=1)))
            centroids = centroids_of(points, k, rows.dtype)
        result.centroids[batch] = centroids.astype(rows.dtype)
        result.distortion[batch] = _label(rows[batch], result.centroids[batch], result.labels[batch])
    return result


def cluster(values: Array, k: int) -> Clusters:
    """Cluster all values of an array together; see `cluster_rows`. The labels have the shape of `values`."""
    found = cluster_rows(values.reshape(1, -1), k)
    return Clusters(found.centroids, found.labels.reshape(values.shape), found.distortion)


def _batches(groups: int, n: int, k: int) -> Iterator[slice]:
    size = 1 if n > _LARGE_ROW else max(1, min(_BATCH_VALUES // n, _BATCH_SPLITS // (n * k), _BATCH_CLUSTERS // k))
    for start in range(0, groups, size):
        yield slice(start, min(start + size, groups))


def _label(rows: Array, centroids: Array, labels: Array) -> Array:
    """Write the nearest centroid's index of every value to `labels`, and return every row's distortion."""
    groups, n = rows.shape
    exact = centroids.astype(np.float64)
    limits = _limits(exact, readable(rows[:0]).dtype)
    distortion = np.zeros(groups)
    height = max(1, _LABEL_BLOCK // n)
    for top in range(0, groups, height):
        group = slice(top, top + height)
        for left in range(0, n, _LABEL_BLOCK):
            block = readable(rows[group, left : left + _LABEL_BLOCK])
            found = _count_below(block, limits[group])
            labels[group, left : left + _LABEL_BLOCK] = found
            with np.errstate(over="ignore"):  # float64 values around 1e200 have an infinite distortion
                distance = block - np.take_along_axis(exact[group], found.astype(np.intp), axis=1)
                distortion[group] += (distance * distance).sum(axis=1)
    return distortion


def _limits(centroids: Array, dtype: np.dtype[np.generic]) -> Array:
    """The midpoints, rounded down to the values' element type: no value lies between, so comparing is as good."""
    exact = midpoints(centroids)
    rounded = exact.astype(dtype)
    return np.where(rounded > exact, np.nextafter(rounded, dtype.type(-np.inf)), rounded)


def _count_below(block: Array, limits: Array) -> Array:
    found = np.zeros(block.shape, dtype=np.uint8)
    above = np.empty(block.shape, dtype=np.bool_)
    for column in range(limits.shape[1]):
        np.greater(block, limits[:, column : column + 1], out=above)
        np.add(found, above.view(np.uint8), out=found)
    return found
