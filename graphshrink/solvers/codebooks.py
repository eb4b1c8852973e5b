"""Few values for many weights of unequal importance: one-dimensional codebooks, and which entry each weight takes.

    distortion  =  sum over weights of  importance * (weight - entry)^2   [ + slope * bits of the entry's code ]

1. `weighted_kmeans`: the least distortion with so many entries (`kmeans` with points that weigh more or less).
2. `entropy_coded`: distortion and code length together (Chou, Lookabaugh and Gray 1989, "Entropy-Constrained Vector
   Quantization"). Cells are intervals where all weights are equally important, and the code length of a cell, the
   logarithm of its share, depends on nothing but its weights; so dynamic programming finds the best cells of all, over
   single values or, where there are many, over bins. Unequal importance is taken in by alternating between cells and
   entries, which never raises the sum.
3. `uniform`: whole multiples of a step, as many below zero as above it.
"""

import math
from dataclasses import dataclass
from typing import Final

import numpy as np

from graphshrink.ir.types import Array
from graphshrink.solvers._kmeans_points import Points, even_cuts
from graphshrink.solvers._kmeans_search import centroids_of

_LEAST_WEIGHT: Final = 1e-6  # of the mean importance: weights that do not matter are still to be stored
_SEEN: Final = 1 << 16  # weights that are enough to place a few entries
_CELL_POINTS: Final = 512  # for dynamic programming over all pairs
_GRID_POINTS: Final = 4096
_ROUNDS: Final = 50  # of alternating
_ENOUGH: Final = 1e-6  # of the sum gained in a round
_BLOCK: Final = 1 << 20  # weights times entries that are compared at once
_STEPS: Final = np.geomspace(0.1, 1.0, 91)  # of the step at which nothing is cut off
_FINE: Final = np.linspace(0.985, 1.015, 31)


@dataclass(frozen=True, slots=True)
class Codebook:
    """Entries, and what each costs.

    Attributes:
        entries: (K,) float64, ascending and distinct.
        bits: (K,) length of each entry's code; all 0 where length does not count.
    """

    entries: Array
    bits: Array


@dataclass(frozen=True, slots=True)
class Summed:
    """Weights in ascending order, neighbours summed up; each array is (points,).

    Attributes:
        value: their mean, by importance.
        weight: sum of their importances.
        scatter: sum of importance times squared distance to `value`.
        count: how many there are.
    """

    value: Array
    weight: Array
    scatter: Array
    count: Array


def weighted_kmeans(values: Array, weights: Array, k: int, dtype: np.dtype[np.generic]) -> Codebook:
    """The k entries of least distortion, within 0.1 %; see `graphshrink.solvers.kmeans`.

    Args:
        values: (n,) float64, n > 0.
        weights: (n,), importance, 0 or more.
        k: 1 to 256; fewer entries are used where there are fewer values.
        dtype: that entries are rounded to.
    """
    points = summed(values, weights)
    size = np.array([points.value.size])
    # The search takes it that a point weighs at least 1.
    weight = points.weight / points.weight.min()
    row = Points(points.value[None], weight[None], points.scatter[None] / points.weight.min(), size)
    entries = np.unique(centroids_of(row, k, dtype)[0])
    return Codebook(entries, np.zeros(len(entries)))


def entropy_coded(values: Array, weights: Array, k: int, slope: float, dtype: np.dtype[np.generic]) -> Codebook:
    """The entries, at most k, of the least sum of distortion and slope times code length in bits.

    The optimum where all weights are equally important and at most 512 values differ; near it otherwise. Of very many
    weights it looks at evenly spaced ones in the order of their values.

    Args:
        values: (n,) float64, n > 0.
        weights: (n,), importance, 0 or more; their mean counts as 1.
        k: 1 or more.
        slope: distortion that a bit of code is worth, above 0.
        dtype: that entries are rounded to.
    """
    if values.size > _SEEN:
        chosen = np.argsort(values, kind="stable")[:: -(-values.size // _SEEN)]
        values, weights = values[chosen], weights[chosen]
    points = summed(values, weights, _CELL_POINTS)
    cuts = _best_cells(points, k, slope)
    labels = np.repeat(np.arange(len(cuts) - 1), np.diff(cuts))
    book = _of_cells(points, labels, len(cuts) - 1, dtype)
    exact, best = Summed(values, importance(weights), np.zeros(values.size), np.ones(values.size)), math.inf
    for _ in range(_ROUNDS):
        labels, cost = cheapest(values, exact.weight, book, slope)
        if cost >= best * (1 - _ENOUGH):
            break
        best = cost
        book = _of_cells(exact, labels, len(book.entries), dtype)
    return book


def uniform(values: Array, weights: Array, k: int, dtype: np.dtype[np.generic]) -> Codebook:
    """Whole multiples of a step, from -m to m: entries that are `step * whole number`, rounded once to `dtype`.

    Args:
        values: (n,) float64, n > 0.
        weights: (n,), importance, 0 or more.
        k: 3 or more; m is (k - 1) // 2.
        dtype: that entries are rounded to.
    """
    points, most = summed(values, weights, _GRID_POINTS), (k - 1) // 2
    widest = float(np.abs(points.value).max()) / most
    if widest == 0.0:
        return Codebook(np.zeros(1), np.zeros(1))
    step = _best_step(points, widest * _STEPS, most)
    step = _best_step(points, step * _FINE, most)
    whole: Array = np.arange(-most, most + 1).astype(dtype)
    made: Array = whole * np.asarray(step).astype(dtype)
    entries = np.unique(made.astype(np.float64))
    return Codebook(entries, np.zeros(len(entries)))


def cheapest(values: Array, weights: Array, book: Codebook, slope: float = 0.0) -> tuple[Array, float]:
    """The entry (n,) intp of least cost for each weight, the lower of two as good, and the sum of the costs."""
    labels, total = np.zeros(values.size, np.intp), 0.0
    step = max(1, _BLOCK // len(book.entries))
    for start in range(0, values.size, step):
        part = slice(start, start + step)
        cost = (values[part, None] - book.entries) ** 2 * weights[part, None] + slope * book.bits
        labels[part] = cost.argmin(axis=1)
        total += float(np.take_along_axis(cost, labels[part, None], axis=1).sum())
    return labels, total


def importance(weights: Array) -> Array:
    """Importances of which none is zero, the mean being 1; all 1 where nothing matters."""
    mean = float(weights.mean())
    return np.maximum(weights / mean, _LEAST_WEIGHT) if mean > 0 else np.ones(weights.shape)


def summed(values: Array, weights: Array, most: int | None = None) -> Summed:
    """Sort weights, and sum up equal ones, and also neighbours where more than `most` differ."""
    order = np.argsort(values, kind="stable")
    ordered, weight = values[order], importance(weights)[order]
    heads = np.flatnonzero(np.concatenate(([True], ordered[1:] != ordered[:-1])))
    count = np.diff(heads, append=ordered.size).astype(np.float64)
    value, weight = ordered[heads], np.add.reduceat(weight, heads)
    points = Summed(value, weight, np.zeros(len(value)), count)
    return points if most is None or len(value) <= most else _binned(points, most)


def _binned(points: Summed, most: int) -> Summed:
    row = Points(points.value[None], points.weight[None], points.scatter[None], np.array([len(points.value)]))
    first = np.zeros((1, len(points.value)), np.bool_)
    first[0, 0] = True
    heads = np.unique(even_cuts(row, first, most)[0])
    heads = heads[heads < len(points.value)]
    weight, count = np.add.reduceat(points.weight, heads), np.add.reduceat(points.count, heads)
    value = np.add.reduceat(points.weight * points.value, heads) / weight
    spread = np.repeat(value, np.diff(heads, append=len(points.value)))
    scatter = np.add.reduceat(points.weight * (points.value - spread) ** 2, heads)
    return Summed(value, weight, scatter, count)


# ---- cells


def _best_cells(points: Summed, k: int, slope: float) -> Array:
    """(cells + 1,) cuts between points: of any number of cells if the best have at most k, else of k."""
    cost = _cost_of_cells(points, slope)
    free = _cuts_of_any_number(cost)
    return free if len(free) - 1 <= k else _cuts_of_at_most(cost, k)


def _cost_of_cells(points: Summed, slope: float) -> Array:
    """(points + 1, points + 1), of the cell of points [i, j); infinite below the diagonal, and 0 on it."""
    centred = points.value - np.average(points.value, weights=points.weight)
    weight, total, square, count = (
        np.concatenate(([0.0], np.cumsum(terms)))
        for terms in (
            points.weight,
            points.weight * centred,
            points.weight * centred**2 + points.scatter,
            points.count,
        )
    )
    w, t, s, n = (
        np.maximum(x[None, :] - x[:, None], low)
        for x, low in zip((weight, total, square, count), (_LEAST_WEIGHT**2, -np.inf, 0.0, 0.5), strict=True)
    )
    cost: Array = np.maximum(s - t**2 / w, 0.0) + slope * n * np.log2(count[-1] / n)
    cost[np.tril_indices(len(cost), -1)] = np.inf
    np.fill_diagonal(cost, 0.0)
    return cost


def _cuts_of_any_number(cost: Array) -> Array:
    best, before = np.zeros(len(cost)), np.zeros(len(cost), np.intp)
    for end in range(1, len(cost)):
        sums = best[:end] + cost[:end, end]
        before[end] = sums.argmin()
        best[end] = sums[before[end]]
    cuts = [len(cost) - 1]
    while cuts[-1]:
        cuts.append(int(before[cuts[-1]]))
    return np.array(cuts[::-1])


def _cuts_of_at_most(cost: Array, k: int) -> Array:
    best, before = cost[0], list[Array]()
    for _ in range(k - 1):
        sums = best[:, None] + cost
        before.append(sums.argmin(axis=0))
        best = np.take_along_axis(sums, before[-1][None], axis=0)[0]
    cuts = [len(cost) - 1]
    for chosen in reversed(before):
        cuts.append(int(chosen[cuts[-1]]))
    return np.unique([0, *cuts])  # what is listed twice is the end of an empty cell


def _of_cells(points: Summed, labels: Array, cells: int, dtype: np.dtype[np.generic]) -> Codebook:
    """The mean of every cell that has members, and the length of its ideal code."""
    weight, total, count = (
        np.bincount(labels, terms, cells) for terms in (points.weight, points.weight * points.value, points.count)
    )
    used = count > 0
    entries = (total[used] / weight[used]).astype(dtype).astype(np.float64)
    entries, same = np.unique(entries, return_inverse=True)
    held = np.bincount(same, count[used])
    return Codebook(entries, np.log2(held.sum() / held))


# ---- grids


def _best_step(points: Summed, steps: Array, most: int) -> float:
    """The step of least distortion."""
    errors: list[float] = []
    for step in steps:
        levels = np.clip(np.rint(points.value / step), -most, most) * step
        errors.append(float(np.sum(points.weight * (points.value - levels) ** 2)))
    return float(steps[int(np.argmin(errors))])
