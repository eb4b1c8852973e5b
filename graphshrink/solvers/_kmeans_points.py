"""Sorted weighted points and their prefix sums: what the one-dimensional k-means solver works on.

A batch holds `rows` independent problems. Every row is an ascending list of points, each a group of equal values or a
bin of neighbouring ones; shorter rows are padded at the end with copies of their last point that weigh nothing.
"""

from dataclasses import dataclass

import numpy as np

from graphshrink.ir.types import Array


@dataclass(frozen=True, slots=True)
class Points:
    """Sorted weighted points of a batch of rows.

    Attributes:
        value: (rows, points) float64, ascending; the mean of the values in the point.
        weight: (rows, points) float64; how many values the point stands for, 0 for padding.
        scatter: (rows, points) float64; squared distances of those values to their mean.
        size: (rows,) number of points that are no padding.
    """

    value: Array
    weight: Array
    scatter: Array
    size: Array

    def subset(self, rows: Array) -> "Points":
        """The same points for the chosen rows only."""
        return Points(self.value[rows], self.weight[rows], self.scatter[rows], self.size[rows])


@dataclass(frozen=True, slots=True)
class Prefix:
    """Prefix sums over points; entry i covers the points before i. Each is (rows, points + 1).

    A cluster of points [left, right) costs `square - total**2 / count` of its differences.

    Attributes:
        count: weights.
        total: weighted values, relative to the centre of their island.
        square: weighted squares, relative to that centre, plus the scatter.
        start: first point of the island that point i - 1 is in; no cluster reaches below it.
        centre: centre of that island.
    """

    count: Array
    total: Array
    square: Array
    start: Array
    centre: Array

    def subset(self, rows: slice) -> "Prefix":
        """The same sums for the chosen rows only."""
        return Prefix(self.count[rows], self.total[rows], self.square[rows], self.start[rows], self.centre[rows])


def indices(start: int, stop: int, step: int = 1) -> Array:
    """`np.arange`, whose result every type checker knows."""
    return np.asarray(np.arange(start, stop, step, dtype=np.intp))


def points_of(ordered: Array) -> Points:
    """Merge equal neighbours.

    Given `[[0, 0, 3, 4]]`, the result has values `[[0, 3, 4]]` and weights `[[2, 1, 1]]`.
    """
    rows, n = ordered.shape
    first = np.ones((rows, n), dtype=np.bool_)
    np.not_equal(ordered[:, 1:], ordered[:, :-1], out=first[:, 1:])
    size = np.count_nonzero(first, axis=1)
    if rows == 0 or int(size.min()) == n:
        return Points(ordered.astype(np.float64), np.ones((rows, n)), np.zeros((rows, n)), size)
    heads = np.flatnonzero(first)
    row = np.repeat(indices(0, rows), size)
    column = indices(0, heads.size) - np.repeat(np.cumsum(size) - size, size)
    width = int(size.max())
    value = np.repeat(ordered[:, -1:].astype(np.float64), width, axis=1)
    value[row, column] = ordered.reshape(-1)[heads]
    weight = np.zeros((rows, width))
    weight[row, column] = np.diff(heads, append=rows * n)
    return Points(value, weight, np.zeros((rows, width)), size)


def prefix_of(points: Points, heads: Array) -> Prefix:
    """Prefix sums with every island centred on its own mean, so that `square - total**2 / count` keeps its digits.

    Args:
        points: the points.
        heads: (rows, points) bool, true at the first point of each island; the first column is true.
    """
    rows, n = points.value.shape
    flat = np.flatnonzero(heads)
    length = np.diff(flat, append=rows * n)
    reference = points.value.reshape(-1)[flat]
    offset = points.value.reshape(-1) - np.repeat(reference, length)
    weight = points.weight.reshape(-1)
    mean = np.add.reduceat(weight * offset, flat) / np.add.reduceat(weight, flat)
    centre = np.repeat(reference + mean, length).reshape(rows, n)
    offset = points.value - centre
    weighted = points.weight * offset
    start = np.repeat(flat % n, length).reshape(rows, n)
    return Prefix(
        count=_running(points.weight),
        total=_running(weighted),
        square=_running(weighted * offset + points.scatter),
        start=np.concatenate((np.zeros((rows, 1), dtype=start.dtype), start), axis=1),
        centre=np.concatenate((centre[:, :1], centre), axis=1),
    )


def _running(terms: Array) -> Array:
    sums = np.zeros((terms.shape[0], terms.shape[1] + 1))
    np.cumsum(terms, axis=1, out=sums[:, 1:])
    return sums


def even_cuts(points: Points, heads: Array, bins: int) -> Array:
    """Positions that split every row into about `bins` bins, fine where an optimal quantiser is fine.

    The best density of centroids is the cube root of the density of the values (Panter and Dite 1951), so bins take
    equal shares of the sum of `weight**(1/3) * gap**(2/3)`. A gap counts for one share at most: an outlier gets its
    own bin, however far away, and takes nothing from the others. A row of at most `bins` points is cut everywhere.

    Returns:
        (rows, about bins + 1) ascending positions from 0 to the number of points; those left over repeat the last.
    """
    rows, n = points.value.shape
    if n <= bins:
        return np.repeat(indices(0, n + 1)[np.newaxis], rows, axis=0)
    gap = np.cbrt(np.diff(points.value, axis=1))
    gap *= gap
    gap *= np.cbrt(0.5 * (points.weight[:, 1:] + points.weight[:, :-1]))
    gap[heads[:, 1:]] = 0.0
    shares = np.maximum(bins - np.count_nonzero(heads[:, 1:], axis=1), 1)
    share = (gap.sum(axis=1) / shares)[:, np.newaxis]
    for _ in range(8):  # the surplus of long gaps goes back to the rest; it settles geometrically
        share = np.minimum(gap, share).sum(axis=1, keepdims=True) / shares[:, np.newaxis]
    filled = np.cumsum(np.minimum(gap, share), axis=1)
    unit = np.maximum(filled[:, -1:] / shares[:, np.newaxis], np.finfo(np.float64).tiny)
    step = np.diff(np.floor(filled / unit), axis=1, prepend=0.0) > 0.0
    step |= gap >= share
    step |= heads[:, 1:]
    few = points.size <= bins
    step[few] = indices(1, n) < points.size[few, np.newaxis]
    row, column = np.nonzero(step)
    number = np.count_nonzero(step, axis=1)
    cuts = np.full((rows, int(number.max()) + 2), n)
    cuts[:, 0] = 0
    cuts[row, indices(0, row.size) - np.repeat(np.cumsum(number) - number, number) + 1] = column + 1
    return cuts


def count_at_most(ordered: Array, limits: Array) -> Array:
    """Row by row `searchsorted(ordered, limits, side="right")`: how many entries are at most each limit."""
    rows, n = ordered.shape
    flat = ordered.reshape(-1)
    base = (indices(0, rows) * n)[:, np.newaxis]
    found = np.zeros(limits.shape, dtype=np.intp)
    for bit in reversed(range(n.bit_length())):
        wider = found + (1 << bit)
        fits = wider <= n
        fits &= flat[base + np.minimum(wider, n) - 1] <= limits
        np.copyto(found, wider, where=fits)
    return found


def rounding_cost(mean: Array, count: Array, dtype: np.dtype[np.generic]) -> Array:
    """What it costs that the centroid is not the mean, but the nearest to it of element type `dtype`."""
    # The mean of a cluster across islands is meaningless, and may not fit the type; such clusters are banned anyway.
    with np.errstate(over="ignore", invalid="ignore"):
        error = mean - mean.astype(dtype).astype(np.float64)
        return np.asarray(error * error * count)


def midpoints(centroids: Array) -> Array:
    """Where the nearest centroid changes, (rows, k - 1): a value at or below a midpoint belongs to the lower.

    Infinite between equal centroids, so that only the first of them is used.
    """
    low, high = centroids[:, :-1], centroids[:, 1:]
    with np.errstate(over="ignore"):
        both = low + high
    middle = np.where(np.isfinite(both), 0.5 * both, 0.5 * low + 0.5 * high)
    middle = np.where(middle >= high, low, middle)  # neighbours, between which there is nothing
    return np.where(low == high, np.inf, middle)
