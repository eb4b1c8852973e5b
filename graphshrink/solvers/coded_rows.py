"""Rows of weights that take entries of codebooks, and what that costs: a quadratic form of the errors, and codes.

    cost  =  sum over rows of  weight * (s - s*)^T gram (s - s*)   [ + penalty of every code ]

s are the entries that a row takes, s* is what it would take if it were free, of which only `linear` = gram s* is known.
For a layer of a network, gram is X^T X of its inputs, a row are the weights of one output, and the cost is the squared
error of its outputs.
"""

from dataclasses import dataclass, replace
from typing import Final, Self

import numpy as np
from numpy.typing import NDArray

from graphshrink.ir.types import Array

Codes = NDArray[np.int16]

ZERO: Final = -1
"""The code of weights that are zero and stay so."""


@dataclass(frozen=True, slots=True)
class Rows:
    """What is to be coded: G groups of R rows of N weights.

    Attributes:
        gram: (G, N, N) float64, symmetric and positive definite.
        linear: (G, R, N), gram s*.
        weight: (G, R), above 0.
        kept: (G, R, N), whether a weight may be other than zero.
    """

    gram: Array
    linear: Array
    weight: Array
    kept: NDArray[np.bool_]

    def cost(self, values: Array) -> float:
        """Of the errors of values (G, R, N), up to a constant: sum of weight * (s^T gram s - 2 s^T linear)."""
        each = np.einsum("grn,grn->gr", values, values @ self.gram - 2.0 * self.linear)
        return float(np.sum(self.weight * each))


@dataclass(frozen=True, slots=True)
class Books:
    """Codebooks, and which row uses which.

    Attributes:
        entries: (B, K); those that a book does not have cost infinitely much.
        penalty: (B, K), of using an entry once.
        of: (G, R), the book of each row.
    """

    entries: Array
    penalty: Array
    of: NDArray[np.intp]

    def values(self, codes: Codes) -> Array:
        """(G, R, N) the entries for codes, zero for those that stay zero."""
        taken = self.entries[self.of[..., None], np.maximum(codes, 0)]
        return np.where(codes == ZERO, 0.0, taken)

    def spent(self, codes: Codes) -> float:
        """The sum of penalties."""
        taken = self.penalty[self.of[..., None], np.maximum(codes, 0)]
        return float(np.sum(taken[codes != ZERO]))

    def choose(self, of: NDArray[np.intp], values: Array, curvature: Array) -> NDArray[np.intp]:
        """The entry of least curvature * (value - entry)^2 + penalty; all three (...,)."""
        costs = (values[..., None] - self.entries[of]) ** 2 * curvature[..., None] + self.penalty[of]
        chosen: NDArray[np.intp] = costs.argmin(axis=-1)
        return chosen

    def with_entries(self, entries: Array) -> Self:
        """The same with other entries."""
        return replace(self, entries=entries)


def nearest(rows: Rows, values: Array, books: Books) -> Codes:
    """(G, R, N) the code of least penalty and distance to values, an error counting by the gram's diagonal."""
    codes = np.full(values.shape, ZERO, np.int16)
    diagonal = np.diagonal(rows.gram, axis1=1, axis2=2)
    for column in range(values.shape[2]):
        curvature = rows.weight * diagonal[:, column, None]
        chosen = books.choose(books.of, values[..., column], curvature)
        codes[..., column] = np.where(rows.kept[..., column], chosen, ZERO)
    return codes


def least_squares(rows: Rows) -> Array:
    """(G, R, N) s*, with the zeros that stay: the values of least cost without codebooks."""
    if rows.kept.all():
        solved: Array = np.swapaxes(np.linalg.solve(rows.gram, np.swapaxes(rows.linear, 1, 2)), 1, 2)
        return solved
    values = np.zeros(rows.linear.shape)
    for group, gram in enumerate(rows.gram):
        for row, kept in enumerate(rows.kept[group]):
            where = np.flatnonzero(kept)
            values[group, row, where] = np.linalg.solve(gram[np.ix_(where, where)], rows.linear[group, row, where])
    return values
