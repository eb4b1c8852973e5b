"""Codes one after the other, each error being made up for by the weights that are still free.

Optimal Brain Quantisation (Frantar, Singh and Alistarh 2022, arXiv:2208.11580) in the form of GPTQ (Frantar, Ashkboos,
Hoefler and Alistarh 2023, arXiv:2210.17323), with codebooks in place of grids. Columns come in the order of a falling
diagonal of the gram. With U^T U = gram^-1, U upper triangular, a weight that is set to an entry costs

    (w - entry)^2 / U_jj^2   (plus the penalty of its code),   after   w_k -= (w_j - entry) / U_jj * U_jk   for k > j

and these costs add up to that of all errors together. Where weights stay zero, each row has a factor of its own, of the
columns that it keeps, so that nothing is made up for by a zero.
"""

from collections.abc import Iterator
from typing import Final

import numpy as np
from numpy.typing import NDArray

from graphshrink.ir.types import Array
from graphshrink.solvers.coded_rows import ZERO, Books, Codes, Rows

_BLOCK: Final = 128  # columns whose updates of the others are collected
_MATRICES: Final = 1 << 22  # numbers of the factors that are in memory
_MOST_WORK: Final = 1 << 40  # of factors of single rows: above it rows share one, and zeros count as coded


def compensated(rows: Rows, start: Array, books: Books) -> Codes:
    """(G, R, N) codes.

    Args:
        rows: what is coded; kept weights alone.
        start: (G, R, N), the values of least cost.
        books: what there is to choose from.
    """
    codes = np.full(start.shape, ZERO, np.int16)
    order = np.argsort(-np.diagonal(rows.gram, axis1=1, axis2=2), axis=1, kind="stable")
    if rows.kept.all() or float(np.sum(rows.kept.sum(axis=2, dtype=np.float64) ** 3)) > _MOST_WORK:
        for group, columns in enumerate(order):
            factor = inverse_factor(rows.gram[group][np.ix_(columns, columns)])
            part = _Part(factor[None], start[[group]][..., columns], rows.kept[[group]][..., columns])
            codes[group][:, columns] = part.coded(rows.weight[[group]], books, books.of[[group]])[0]
        return codes
    for group, chosen, columns, real in _alike(rows.kept, order):
        gram = rows.gram[group][columns[:, :, None], columns[:, None, :]]
        both = real[:, :, None] & real[:, None, :]
        factor = inverse_factor(np.where(both, gram, np.eye(columns.shape[1])))
        part = _Part(factor, start[group, chosen[:, None], columns][:, None], real[:, None])
        found = part.coded(rows.weight[group, chosen, None], books, books.of[group, chosen, None])[:, 0]
        row, place = np.nonzero(real)
        codes[group, chosen[row], columns[row, place]] = found[row, place]
    return codes


def inverse_factor(gram: Array) -> Array:
    """(..., N, N) upper triangular U with U^T U = gram^-1."""
    return np.swapaxes(np.linalg.cholesky(np.linalg.inv(gram)), -1, -2)


def _alike(
    kept: NDArray[np.bool_], order: NDArray[np.intp]
) -> Iterator[tuple[int, NDArray[np.intp], NDArray[np.intp], NDArray[np.bool_]]]:
    """Rows of a group that keep about as many columns: group, rows, their columns in order, which are real."""
    for group, columns in enumerate(order):
        ordered = kept[group][:, columns]
        counts = ordered.sum(axis=1)
        waiting = np.argsort(counts, kind="stable")
        waiting = waiting[counts[waiting] > 0]
        while len(waiting):
            most = max(1, int(_MATRICES // int(counts[waiting[0]]) ** 2))
            chosen = waiting[:most]
            chosen = chosen[counts[chosen] <= 1.2 * counts[chosen[0]] + 8]
            waiting = waiting[len(chosen) :]
            width = int(counts[chosen[-1]])
            first = np.argsort(~ordered[chosen], axis=1, kind="stable")[:, :width]
            yield group, chosen, columns[first], np.take_along_axis(ordered[chosen], first, axis=1)


class _Part:
    """Rows that share factors: (G, N, N) factors, (G, R, N) values, and which of them are coded."""

    def __init__(self, factor: Array, values: Array, real: NDArray[np.bool_]) -> None:
        self._factor = factor
        self._values = values.copy()
        self._real = real

    def coded(self, weight: Array, books: Books, of: NDArray[np.intp]) -> Codes:
        codes = np.full(self._values.shape, ZERO, np.int16)
        width = self._values.shape[2]
        for left in range(0, width, _BLOCK):
            right = min(left + _BLOCK, width)
            errors = np.zeros((*self._values.shape[:2], right - left))
            for column in range(left, right):
                pivot = self._factor[:, column, column, None]
                now, real = self._values[..., column], self._real[..., column]
                chosen = books.choose(of, now, weight / pivot**2)
                codes[..., column] = np.where(real, chosen, ZERO)
                taken = np.where(real, np.take_along_axis(books.entries[of], chosen[..., None], -1)[..., 0], 0.0)
                error = (now - taken) / pivot
                errors[..., column - left] = error
                rest = self._factor[:, None, column, column + 1 : right]
                self._values[..., column + 1 : right] -= error[..., None] * rest
            self._values[..., right:] -= errors @ self._factor[:, left:right, right:]
        return codes
