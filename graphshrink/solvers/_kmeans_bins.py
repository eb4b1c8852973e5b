"""Sum up a row too large to sort as weighted points, reading it in chunks.

1. Edges from a sorted random sample, dense where a quantiser needs them.
2. One pass: exact count, mean and scatter of every bin.
3. A first solution tells which bins matter at full resolution: those cut by a midpoint, and those whose values lie far
   apart for their share of the distortion (tails and outliers that the sample missed). A second pass replaces them by
   their single values. That is repeated only where the distortion falls so much (once an outlier is set apart) that
   more bins are too wide for it.
"""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from graphshrink.errors import InternalError
from graphshrink.ir.types import Array
from graphshrink.solvers._kmeans_points import Points, even_cuts, midpoints, points_of
from graphshrink.solvers._kmeans_search import centroids_of, exponents

_SAMPLE = 1 << 20
_CHUNK = 1 << 20
_BINS = 1 << 16
_SINGLE_VALUES = 1 << 19
_ROUNDS = 4
_TOO_WIDE = 1e-4  # count * width**2 of a bin, relative to the distortion of a cluster


@dataclass(frozen=True, slots=True)
class _Bins:
    """Exact sums of the values in every bin that has some; each is (bins,), ascending."""

    count: Array
    mean: Array
    scatter: Array
    low: Array
    high: Array
    runs: Array  # an upper bound for the number of distinct values
    edges: Array  # (all bins - 1,) in the values' own scale and type: a bin starts at its edge
    number: Array  # of the bin among all bins

    def points(self) -> Points:
        return Points(
            self.mean[np.newaxis], self.count[np.newaxis], self.scatter[np.newaxis], np.array([self.count.size])
        )


def readable(values: Array) -> Array:
    """The values in an element type that NumPy is fast at, with 0.0 for -0.0."""
    fast = values.astype(np.float64 if values.dtype == np.dtype(np.float64) else np.float32)
    return np.asarray(np.add(fast, 0.0, out=fast))


def checked(ordered: Array) -> Array:
    """The sorted rows, after a look at both ends for values that are not finite."""
    if not np.all(np.isfinite(ordered[..., [0, -1]])):
        raise InternalError("k-means: values that are not finite; leave such tensors out")
    return ordered


def centroids_of_large(values: Array, k: int, dtype: np.dtype[np.generic]) -> Array:
    """Centroids (1, k) in float64 of `values` (n,): the values themselves where at most k are distinct."""
    few = _few_distinct(values, k)
    if few is not None:
        return centroids_of(points_of(few[np.newaxis]), k, dtype)
    peak = max(abs(float(np.max(values))), abs(float(np.min(values))))
    exponent = int(exponents(np.array(peak)))
    bins = _sum_up(values, _edges(values, exponent), exponent)
    points = bins.points()
    centroids = centroids_of(points, k, dtype)
    single = np.zeros(bins.count.size, dtype=np.bool_)
    for _ in range(_ROUNDS):
        too_wide, cut = _coarse(bins, points, centroids)
        if single.any() and not np.any(too_wide & ~single):
            break
        single = _affordable(bins, single | too_wide | cut)
        points = _with_singles(values, bins, single, exponent)
        centroids = centroids_of(points, k, dtype)
    return np.asarray(np.ldexp(centroids, exponent))


def _coarse(bins: _Bins, points: Points, centroids: Array) -> tuple[Array, Array]:
    """Which bins are too wide for the distortion of this solution, and which are cut by one of its midpoints."""
    limits = midpoints(centroids)[0]
    nearest = centroids[0, np.searchsorted(limits, points.value[0])]
    distortion = float((points.weight[0] * (points.value[0] - nearest) ** 2 + points.scatter[0]).sum())
    too_wide = bins.count * (bins.high - bins.low) ** 2 > _TOO_WIDE * distortion / centroids.shape[1]
    if points.value.shape[1] <= centroids.shape[1]:  # values that the sample missed hide in bins of their neighbours
        too_wide |= bins.high > bins.low
    cut = np.searchsorted(limits, bins.low) != np.searchsorted(limits, bins.high)
    return too_wide, cut


def _affordable(bins: _Bins, wanted: Array) -> Array:
    """The widest of the wanted bins, as many as there is room for."""
    spread = bins.count * (bins.high - bins.low) ** 2
    order = np.argsort(np.where(wanted, -spread, np.inf), kind="stable")
    kept = wanted.copy()
    kept[order[np.cumsum(bins.runs[order]) > _SINGLE_VALUES]] = False
    return kept


def _few_distinct(values: Array, k: int) -> Array | None:
    """The distinct values if they are at most k."""
    known = readable(values[:0])
    for start in range(0, values.size, _CHUNK):
        known = np.union1d(known, readable(values[start : start + _CHUNK]))
        if known.size > k:
            return None
    return checked(known)


def _sorted_chunks(values: Array, exponent: int) -> Iterator[Array]:
    for start in range(0, values.size, _CHUNK):
        yield checked(np.sort(_scaled(readable(values[start : start + _CHUNK]), exponent)))


def _scaled(values: Array, exponent: int) -> Array:
    return values if exponent == 0 else np.asarray(np.ldexp(values, -exponent))


def _edges(values: Array, exponent: int) -> Array:
    """Ascending values at which the second and later bins start."""
    chosen = np.random.Generator(np.random.PCG64(0)).integers(0, values.size, _SAMPLE)
    sample = np.sort(_scaled(readable(values[np.sort(chosen)]), exponent))
    points = points_of(sample[np.newaxis])
    heads = np.zeros(points.value.shape, dtype=np.bool_)
    heads[:, 0] = True
    cuts = even_cuts(points, heads, _BINS)[0]
    inner = cuts[(cuts > 0) & (cuts < points.value.shape[1])]
    return np.asarray(points.value[0, inner].astype(sample.dtype))


def _bounds(ordered: Array, edges: Array) -> Array:
    return np.concatenate(([0], np.searchsorted(ordered, edges), [ordered.size]))


def _sum_up(values: Array, edges: Array, exponent: int) -> _Bins:
    number = edges.size + 1
    # Sums are of differences to the bin's edge, which are small wherever the bin is.
    reference = np.concatenate((edges[:1], edges)).astype(np.float64) if edges.size else np.zeros(1)
    count, total, square, runs = (np.zeros(number) for _ in range(4))
    low, high = np.full(number, np.inf), np.full(number, -np.inf)
    for ordered in _sorted_chunks(values, exponent):
        bounds = _bounds(ordered, edges)
        length = np.diff(bounds)
        filled = np.flatnonzero(length)
        first, length = bounds[filled], length[filled]
        offset = ordered - np.repeat(reference[filled], length)
        count[filled] += length
        total[filled] += np.add.reduceat(offset, first)
        offset *= offset
        square[filled] += np.add.reduceat(offset, first)
        runs[filled] += np.add.reduceat(np.diff(ordered, prepend=-np.inf) > 0.0, first, dtype=np.intp)
        low[filled] = np.minimum(low[filled], ordered[first])
        high[filled] = np.maximum(high[filled], ordered[first + length - 1])
    kept = np.flatnonzero(count)
    count, total, square, low, high = count[kept], total[kept], square[kept], low[kept], high[kept]
    mean = np.clip(reference[kept] + total / count, low, high)
    scatter = np.where(low == high, 0.0, np.maximum(square - total * total / count, 0.0))
    return _Bins(count, mean, scatter, low, high, runs[kept], edges, kept)


def _with_singles(values: Array, bins: _Bins, chosen: Array, exponent: int) -> Points:
    """The bins as points, the chosen ones replaced by their distinct values."""
    if not np.any(chosen):
        return bins.points()
    wanted = np.zeros(bins.edges.size + 1, dtype=np.bool_)
    wanted[bins.number[chosen]] = True
    parts: list[tuple[Array, Array]] = []
    for ordered in _sorted_chunks(values, exponent):
        inside = np.repeat(wanted, np.diff(_bounds(ordered, bins.edges)))
        parts.append(np.unique(ordered[inside], return_counts=True))
    single, back = np.unique(np.concatenate([part[0] for part in parts]), return_inverse=True)
    number = np.bincount(back, weights=np.concatenate([part[1] for part in parts]))
    value = np.concatenate((bins.mean[~chosen], single))
    order = np.argsort(value, kind="stable")
    weight = np.concatenate((bins.count[~chosen], number))[order]
    scatter = np.concatenate((bins.scatter[~chosen], np.zeros(single.size)))[order]
    return Points(value[np.newaxis, order], weight[np.newaxis], scatter[np.newaxis], np.array([value.size]))
