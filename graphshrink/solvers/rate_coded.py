"""Rows of weights as whole multiples of a step, chosen by error and code length together.

Entropy-constrained scalar quantisation (Chou, Lookabaugh and Gray 1989) inside error compensation: an entry costs its
error under the layer's quadratic form plus `slope` times the length of its code. At high rates a step as wide as d
makes an error of d^2 / 12 a weight, which falls by 2 ln 2 times itself for every further bit; so the slope follows from
the step, and one number, the step, goes through the whole curve of error against bytes. Zero is always an entry, and
short codes make it the most frequent one: pruning and quantising are one decision.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from graphshrink.ir.types import Array
from graphshrink.solvers.codebook_refit import descended, refitted
from graphshrink.solvers.coded_rows import Books, Codes, Rows, nearest
from graphshrink.solvers.compensated import compensated, inverse_factor

_NATURAL: Final = 2 * math.log(2) / 12  # of step^2 and the mean curvature: the slope of error against bits
_MOST: Final = 127  # multiples of the step on either side of zero
_REFIT: Final = 64  # entries up to which a fit is worth its time
_ROUNDS: Final = 2
_SEARCH: Final = 8  # steps that are tried
_NEAR: Final = 0.01  # of the error that is allowed


@dataclass(frozen=True, slots=True)
class Problem:
    """Rows to be coded, with what does not depend on the step.

    Attributes:
        rows: the quadratic form.
        start: (G, R, N), the values of least cost.
        curvature: of an error that is made up for, on average.
    """

    rows: Rows
    start: Array
    curvature: float

    @classmethod
    def of(cls, rows: Rows, start: Array) -> "Problem":
        """Measure the curvature."""
        pivots = np.stack([np.diagonal(inverse_factor(gram)) for gram in rows.gram])
        return cls(rows, start, float(rows.weight.mean(axis=1) @ (1.0 / pivots**2).mean(axis=1) / len(pivots)))

    @property
    def widest(self) -> float:
        """A step at which next to nothing is left."""
        return 4.0 * float(np.abs(self.start).max(initial=0.0))

    def excess(self, values: Array) -> float:
        """The cost of values beyond the least."""
        by = values - self.start
        each = np.einsum("grn,grn->gr", by, by @ self.rows.gram)
        return float(np.sum(self.rows.weight * each))

    def coded(self, step: float, worth: float = 1.0) -> Array:
        """(G, R, N) float64 values, each a float32: at most 255 different ones, zero among them.

        Args:
            step: between neighbouring values, above 0; values beyond 127 of them are cut off.
            worth: what a bit counts, 1 being its worth at high rates.
        """
        rows = self.rows
        most = int(min(_MOST, max(1, np.rint(np.abs(self.start).max(initial=0.0) / step))))
        entries = _rounded(step * np.arange(-most, most + 1))[None]
        slope = worth * _NATURAL * step**2 * self.curvature
        books = Books(entries, np.zeros(entries.shape), np.zeros(rows.weight.shape, np.intp))
        books = _priced(books, nearest(rows, self.start, books), slope)
        codes = compensated(rows, self.start, books)
        return self._improved(books, codes, slope)

    def _improved(self, books: Books, codes: Codes, slope: float) -> Array:
        """Entries, code lengths and codes in turns; the zero stays one."""
        count = books.entries.shape[1]
        for _ in range(_ROUNDS):
            if count <= _REFIT:
                free = np.eye(count)[:, books.entries[0] != 0]
                books = books.with_entries(_rounded(refitted(self.rows, books, codes, [free])))
            books = _priced(books, codes, slope)
            codes = descended(self.rows, books, codes)
        return books.values(codes)


def step_within(problem: Problem, allowed: float, guess: float, error_of: Callable[[Array], float]) -> Array | None:
    """Values of as wide a step as an error allows, within a hundredth of it; None where no step that is tried does.

    Args:
        problem: what is coded.
        allowed: largest error, above 0.
        guess: a step to begin with, above 0.
        error_of: the error of values (G, R, N); about proportional to the step.
    """
    step, best = guess, None
    low, high = 0.0, math.inf  # the widest step that was allowed, the narrowest that was not
    for _ in range(_SEARCH):
        values = problem.coded(step)
        error = error_of(values)
        if error <= allowed:
            if step > low:
                low, best = step, values
            if error >= (1 - _NEAR) * allowed or step >= problem.widest:
                break
        else:
            high = min(high, step)
        wanted = step * min(8.0, max(0.125, (1 - _NEAR / 2) * allowed / max(error, 1e-300)))
        if not low < wanted < high:
            wanted = math.sqrt(low * high) if low > 0 else high / 2
        step = min(wanted, problem.widest)
        if not low < step < high:
            break
    return best


def _rounded(entries: Array) -> Array:
    return entries.astype(np.float32).astype(np.float64)


def _priced(books: Books, codes: NDArray[np.int16], slope: float) -> Books:
    """The books with the price of each entry by how often it is taken; those that are not can be, for a bit more."""
    count = np.bincount(codes[codes >= 0], minlength=books.entries.shape[1]) + 0.5
    bits = np.log2(count.sum() / count)
    return Books(books.entries, slope * bits[None], books.of)
