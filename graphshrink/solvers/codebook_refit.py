"""What is left to gain once weights have codes: entries fitted in closed form, and codes that are changed one by one.

Both never raise the cost. With codes fixed the cost is quadratic in the entries: with P the matrix that says which
weight takes which entry, (sum of weight P^T gram P) entries = sum of weight P^T linear.
"""

from typing import Final

import numpy as np
from numpy.typing import NDArray

from graphshrink.ir.types import Array
from graphshrink.solvers.coded_rows import ZERO, Books, Codes, Rows

_NUMBERS: Final = 1 << 22  # of products that are in memory
_RIDGE: Final = 1e-10  # of the mean diagonal: entries that no weight takes stay as they are


def refitted(rows: Rows, books: Books, codes: Codes, bases: list[Array]) -> Array:
    """(B, K) the entries of least cost.

    Args:
        rows: what is coded.
        books: as they are.
        codes: (G, R, N).
        bases: for each book (K, P), of whose columns entries are to be sums: the unit matrix where all are free,
            without the columns of those that stay; or one column of whole numbers for a grid. A row of zeros keeps
            its entry.
    """
    entries = books.entries.copy()
    for book, basis in enumerate(bases):
        matrix, right = _normal(rows, books, codes, book)
        held = ~basis.any(axis=1)
        now = entries[book]
        right = right - matrix[:, held] @ now[held]
        inner = basis.T @ matrix @ basis
        if not inner.size or not np.trace(inner) > 0:
            continue
        inner += _RIDGE * np.trace(inner) / len(inner) * np.eye(len(inner))
        start = np.asarray(np.linalg.lstsq(basis, np.where(held, 0.0, now), rcond=None)[0], np.float64)
        moved = np.asarray(np.linalg.solve(inner, basis.T @ (right - matrix @ (basis @ start))), np.float64)
        entries[book] = np.where(held, now, basis @ (start + moved))
    return entries


def _normal(rows: Rows, books: Books, codes: Codes, book: int) -> tuple[Array, Array]:
    """(K, K) and (K,), both sides of the equations for one book."""
    count = books.entries.shape[1]
    matrix, right = np.zeros((count, count)), np.zeros(count)
    numbers = np.arange(count, dtype=np.intp)
    width = codes.shape[2]
    for group, gram in enumerate(rows.gram):
        using = np.flatnonzero(books.of[group] == book)
        step = max(1, _NUMBERS // (width * count))
        for start in range(0, len(using), step):
            part = using[start : start + step]
            taken: NDArray[np.bool_] = codes[group, part][..., None] == numbers  # (rows, N, K)
            one = np.asarray(np.moveaxis(taken, 1, 0).reshape(width, -1), np.float64)
            weighted = one.reshape(width, len(part), count) * rows.weight[group, part][:, None]
            met = (gram @ one).reshape(width * len(part), count)
            matrix += weighted.reshape(width * len(part), count).T @ met
            right += np.einsum("nrk,rn->k", weighted, rows.linear[group, part])
    return matrix, right


def descended(rows: Rows, books: Books, codes: Codes) -> Codes:
    """Codes after one sweep of coordinate descent: every weight in turn takes the entry that costs least."""
    codes = codes.copy()
    values = books.values(codes)
    gradient = values @ rows.gram - rows.linear
    diagonal = np.diagonal(rows.gram, axis1=1, axis2=2)
    for column in range(codes.shape[2]):
        curve = diagonal[:, column, None]
        wanted = values[..., column] - gradient[..., column] / curve
        chosen = books.choose(books.of, wanted, rows.weight * curve)
        moves = rows.kept[..., column] & (chosen != codes[..., column])
        group, row = np.nonzero(moves)
        if not len(group):
            continue
        new = chosen[group, row]
        by = books.entries[books.of[group, row], new] - values[group, row, column]
        codes[group, row, column] = new
        values[group, row, column] += by
        gradient[group, row] += by[:, None] * rows.gram[group, column]
    return codes


def used_bits(books: Books, codes: Codes) -> Array:
    """(B, K) ideal code lengths by how often each entry is taken; infinite for those that are not."""
    count = books.entries.shape[1]
    of = np.broadcast_to(books.of[..., None], codes.shape)
    real = codes != ZERO
    held = np.bincount((of * count + codes)[real], minlength=books.entries.size).reshape(books.entries.shape)
    total = held.sum(axis=1, keepdims=True)
    with np.errstate(divide="ignore"):
        bits: Array = np.log2(np.maximum(total, 1)) - np.log2(held.astype(np.float64))
    return bits
