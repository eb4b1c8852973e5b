"""One layer whose weights take shared values, fitted to what it is fed and what it is to give."""

import math
from dataclasses import dataclass
from typing import Final, Literal, TypeAlias

import numpy as np
from numpy.typing import NDArray

from graphshrink.ir.types import Array
from graphshrink.passes._layer_moments import LayerMoments, moved_bias
from graphshrink.passes._layer_plan import Plan
from graphshrink.passes._weight_sharing_books import Made, Wanted, basis, kept_in, made
from graphshrink.passes._weight_sharing_grouping import Grouping
from graphshrink.solvers.codebook_refit import descended, refitted, used_bits
from graphshrink.solvers.coded_rows import ZERO, Books, Codes, Rows, least_squares, nearest
from graphshrink.solvers.compensated import compensated

Assignment: TypeAlias = Literal["nearest", "compensated"]

_LEAST_DAMPING: Final = 1e-3  # of the mean of the diagonal
_LEAST_WEIGHT: Final = 1e-6  # of the largest weight of an output
_ROUNDS: Final = 6  # of entries and codes in turns
_ENOUGH: Final = 2e-3  # of the cost gained in a round
_REFIT: Final = 64  # entries of a codebook up to which a fit is worth its time


@dataclass(frozen=True, slots=True)
class Fitted:
    """What becomes of a layer.

    Attributes:
        stored: its weights, in their shape and type.
        bias: those of its own bias in float64, or None where it stays.
        residual: of its outputs on the samples, relative to them.
        bits: entropy of the codes and of where the zeros are, for all weights together.
    """

    stored: Array
    bias: Array | None
    residual: float
    bits: float


@dataclass(frozen=True, slots=True)
class Task:
    """A layer as rows that are to be coded.

    Attributes:
        plan, moments, grouping: of the layer.
        rows: its quadratic form, in the unit of stored weights, the bias being eliminated where it may move.
        old: (G, R, N) its weights.
        of: (G, R) the codebook of each row.
    """

    plan: Plan
    moments: LayerMoments
    grouping: Grouping
    rows: Rows
    old: Array
    of: NDArray[np.intp]


def task(
    plan: Plan, moments: LayerMoments, grouping: Grouping, damping: float, importance: Array | None = None
) -> Task | str:
    """A layer's rows; or why there are none.

    Args:
        plan: the layer.
        moments: of what it is fed and what it is to give.
        grouping: how its weights are divided among codebooks.
        damping: what is added to the diagonal of the gram, relative to its mean and to inputs over rows: it keeps
            weights close to the old ones as far as the samples leave them open.
        importance: (groups, M), what errors of outputs are multiplied with; None where they count alike.
    """
    array, width = plan.weight.array, moments.gram.shape[1] - 1
    numbers = np.repeat(np.arange(grouping.groups), array.size // grouping.groups)
    ids = rows_of(plan, grouping.array(numbers, array.shape))
    of = ids[..., 0].astype(np.intp)
    if (ids != of[..., None]).any():
        return "weights of an output have several codebooks"
    kept = grouping.array(kept_in(grouping.rows(array)), array.shape)
    gram, cross = _centred(moments.shrunk)
    mean = np.trace(gram, axis1=1, axis2=2) / width
    added = max(_LEAST_DAMPING, damping * width / moments.rows) * np.where(mean > 0, mean, 1.0)
    damped = gram + added[:, None, None] * np.eye(width)
    old = rows_of(plan, array.astype(np.float64))
    linear, weight = _in_stored_unit(moments.scale, np.swapaxes(cross, 1, 2), old, damped)
    if importance is not None:
        weight = weight * importance**2
    linear = linear + np.where(moments.scale == 0, 0.0, added[:, None])[..., None] * old
    rows = Rows(damped, linear, weight, rows_of(plan, kept.astype(np.float64)) > 0)
    return Task(plan, moments, grouping, rows, old, of)


def _in_stored_unit(scale: Array, cross: Array, old: Array, damped: Array) -> tuple[Array, Array]:
    """Linear parts (G, R, N) and weights (G, R) of rows; where an output is multiplied by 0, it shall stay as it is."""
    dead = scale == 0
    inverse = np.divide(1.0, scale, out=np.zeros(scale.shape), where=~dead)
    linear = np.where(dead[..., None], old @ damped, cross * inverse[..., None])
    squares = scale**2
    return linear, np.where(dead, _LEAST_WEIGHT * squares.max(initial=0.0) or 1.0, squares)


def fitted(task: Task, wanted: Wanted, assignment: Assignment, refit: int = _REFIT) -> Fitted:
    """Code a layer; entries and codes are refined in turns for codebooks of up to `refit` entries."""
    rows, dtype = task.rows, task.plan.weight.tensor.array.dtype
    plain = _books(task, task.old, wanted)
    codes = _taken(task, plain, task.old)
    found, best = plain.books, codes
    if assignment == "compensated":
        start = least_squares(rows)
        start = np.where(rows.kept, start, 0.0)
        own = _books(task, start, wanted)
        changed = compensated(rows, start, own.books)
        better, moved = own.books, changed
        if own.books.entries.shape[1] <= refit:
            better, moved = _improved(task, own, changed, wanted, rows.cost(start))
        found, best = min(
            ((plain.books, codes), (better, moved)),
            key=lambda pair: rows.cost(pair[0].values(pair[1])) + pair[0].spent(pair[1]),
        )
    values = found.values(best).astype(dtype).astype(np.float64)
    return finished(task, values)


# ---- codebooks


@dataclass(frozen=True, slots=True)
class _Made:
    books: Books
    made: Made
    bases: list[Array]


def _books(task: Task, values: Array, wanted: Wanted) -> _Made:
    """Codebooks for values (G, R, N), and what a code costs."""
    rows, count = task.rows, task.grouping.groups
    important = rows.weight[..., None] * np.diagonal(rows.gram, axis1=1, axis2=2)[:, None, :]
    of = np.broadcast_to(task.of[..., None], values.shape)
    inside = [(of == book) & rows.kept for book in range(count)]
    zeros = [bool(np.any((of == book) & ~rows.kept)) for book in range(count)]
    found = made(
        [values[where] for where in inside],
        [important[where] for where in inside],
        zeros,
        wanted,
        task.plan.weight.tensor.array.dtype,
    )
    most = max(len(book.entries) for book in found.books)
    entries, penalty = np.zeros((count, most)), np.full((count, most), np.inf)
    for number, book in enumerate(found.books):
        entries[number, : len(book.entries)] = book.entries
        penalty[number, : len(book.entries)] = found.slope * book.bits
    bases = [np.zeros((most, 0))] * count
    for number, book in enumerate(found.books):
        own = basis(wanted, book.entries)
        bases[number] = np.concatenate([own, np.zeros((most - len(own), own.shape[1]))])
    return _Made(Books(entries, penalty, task.of), found, bases)


def _taken(task: Task, own: _Made, values: Array) -> Codes:
    """Codes by what each weight is alone."""
    if not own.made.mixtures:
        return nearest(task.rows, values, own.books)
    codes = np.full(values.shape, ZERO, np.int16)
    of = np.broadcast_to(task.of[..., None], values.shape)
    for number, mixture in enumerate(own.made.mixtures):
        inside = (of == number) & task.rows.kept
        codes[inside] = mixture.labels(values[inside])
    return codes


def _improved(task: Task, own: _Made, codes: Codes, wanted: Wanted, least: float) -> tuple[Books, Codes]:
    """Entries and codes in turns, as long as that gains something; `least` is the cost of free weights."""
    rows, books, dtype = task.rows, own.books, task.plan.weight.tensor.array.dtype
    cost = math.inf
    for _ in range(_ROUNDS):
        refit = refitted(rows, books, codes, own.bases)
        books = books.with_entries(_rounded(refit, own.bases, wanted, dtype))
        if own.made.slope:
            books = Books(books.entries, own.made.slope * used_bits(books, codes), books.of)
        codes = descended(rows, books, codes)
        now = rows.cost(books.values(codes)) - least + books.spent(codes)
        if now > (1 - _ENOUGH) * cost:
            break
        cost = now
    return books, codes


def _rounded(entries: Array, bases: list[Array], wanted: Wanted, dtype: np.dtype[np.generic]) -> Array:
    """Entries as they are stored; those of a grid as a rounded step times whole numbers."""
    if wanted.kind != "grid":
        return entries.astype(dtype).astype(np.float64)
    rounded = entries.copy()
    for number, own in enumerate(bases):
        if own.shape[1]:
            whole = own[:, 0]
            step = entries[number, whole.argmax()] / max(1.0, whole.max())
            made: Array = np.multiply(whole.astype(dtype), np.asarray(step).astype(dtype))
            rounded[number] = made.astype(np.float64)
    return rounded


# ---- the layer


def rows_of(plan: Plan, stored: Array) -> Array:
    """(G, R, N): the weights of each output in a row."""
    return np.ascontiguousarray(np.swapaxes(plan.affine.matrix(stored), 1, 2))


def _centred(moments: LayerMoments) -> tuple[Array, Array]:
    """The gram (G, N, N) and cross (G, N, M); where the bias may move, without what it makes up for."""
    gram, cross = moments.gram[:, :-1, :-1], moments.cross[:, :-1]
    if not moments.has_bias:
        return gram, cross
    total, count = moments.gram[:, :-1, -1], moments.gram[:, -1, -1]
    gram = gram - total[:, :, None] * total[:, None, :] / count[:, None, None]
    return gram, cross - total[:, :, None] * moments.cross[:, None, -1] / count[:, None, None]


def finished(task: Task, values: Array) -> Fitted:
    """The layer with values (G, R, N), in the unit of stored weights."""
    plan, moments = task.plan, task.moments
    array = plan.weight.tensor.array
    weights = np.swapaxes(values, 1, 2)
    scaled = weights * moments.scale[:, None, :]
    by = None
    if moments.has_bias:
        product = np.einsum("gn,gnm->gm", moments.gram[:, -1, :-1], scaled)
        by = (moments.cross[:, -1] - product) / moments.gram[:, -1, -1, None]
    energy = float(moments.energy.sum())
    residual = math.sqrt(float(moments.error(scaled, by).sum()) / energy) if energy > 0 else 0.0
    stored = plan.affine.stored(np.ascontiguousarray(weights)).astype(array.dtype)
    return Fitted(stored, None if by is None else moved_bias(plan, by), residual, entropy(task.grouping.rows(stored)))


def entropy(rows: Array) -> float:
    """Bits of the values of rows (groups, n), each group with a code of its own."""
    total = 0.0
    for row in rows:
        count = np.unique(row, return_counts=True)[1]
        total += float(np.sum(count * np.log2(row.size / count)))
    return total
