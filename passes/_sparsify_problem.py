"""What sparsify makes of a layer: a least-squares problem, or a table whose rows are looked up."""

from dataclasses import dataclass
from typing import Final, NamedTuple, Protocol

import numpy as np

from graphshrink.calibration.sequential import Sequential
from graphshrink.ir.types import Array
from graphshrink.ops.lookup import Lookup
from graphshrink.passes._layer_moments import LayerMoments, layer_moments, moved_bias
from graphshrink.passes._layer_plan import Plan
from graphshrink.passes._sparsify_ranking import ByScore, Ranking, Wish, ranking
from graphshrink.solvers.quadratic import Quadratic

_DEAD: Final = 1e-12  # of the energy of an input: less of it is rounding
_LEAST: Final = 1e-9  # damping, so that a Gram matrix of any rank has an inverse
_SCARCE: Final = 0.1  # damping, at least, where there are fewer rows than inputs


class Answer(NamedTuple):
    """A layer's new weights.

    Attributes:
        stored: the array to put in the place of the weight's.
        bias: the array to put in the place of the bias's, or None where that stays.
        residual: of its outputs, relative to them.
        remark: what is to be said of the samples; mostly nothing.
    """

    stored: Array
    bias: Array | None
    residual: float
    remark: str = ""

    @property
    def is_finite(self) -> bool:
        """Whether its numbers can be stored."""
        return bool(np.isfinite(self.stored).all() and (self.bias is None or np.isfinite(self.bias).all()))


class Problem(Protocol):
    """A layer that weights can be taken from."""

    @property
    def energy(self) -> float:
        """Sum of squares of its outputs, which errors are relative to."""
        ...

    def ranking(self, wish: Wish) -> Ranking:
        """The order in which weights go."""
        ...

    def answer(self, weights: Array) -> Answer:
        """What becomes of the layer with weights (groups, N, M)."""
        ...


def problem(plan: Plan, sequential: Sequential, seed: int, damping: float, importance: Array | None = None) -> Problem:
    """Go through the samples once.

    Args:
        plan: the layer.
        sequential: the model as it is now, beside itself as it was.
        seed: of the choice of places.
        damping: see `damped`.
        importance: (groups, M), what errors of outputs are multiplied with; None where they count alike.

    Raises:
        UnfitError, NotFiniteError, CalibrationError, JudgeError: as for `layer_moments`.
    """
    form = plan.affine.form
    if isinstance(form, Lookup):
        return _Table(plan, _counts(form, plan.affine.input, sequential))
    moments = layer_moments(plan, sequential, seed)
    factors = np.ones(moments.energy.shape) if importance is None else np.broadcast_to(importance, moments.energy.shape)
    return Product(plan, moments, damped(moments, damping).times(factors), factors)


@dataclass(frozen=True, slots=True)
class Product:
    """Inputs times weights.

    Attributes:
        plan, moments: of the layer.
        quadratic: its error, of weights that are multiplied with `importance`.
        importance: (groups, M), what errors of outputs are multiplied with.
    """

    plan: Plan
    moments: LayerMoments
    quadratic: Quadratic
    importance: Array

    @property
    def energy(self) -> float:
        """See `Problem`."""
        return float(np.sum(self.moments.energy * self.importance**2))

    def ranking(self, wish: Wish) -> Ranking:
        """See `Problem`."""
        return ranking(self.quadratic, self.moments.weights * self.importance[:, None, :], wish)

    def answer(self, weights: Array) -> Answer:
        """See `Problem`; the bias, where the layer has one of its own, is fitted to the weights."""
        weights = weights / self.importance[:, None, :]
        moved = best_move(self.moments, weights) if self.moments.has_bias else None
        with np.errstate(over="ignore"):  # what overflows is looked for afterwards
            stored = self.moments.stored(self.plan, weights)
            bias = _biases(self.plan, moved)
        error = float(self.moments.error(weights, moved).sum())
        rows, inputs = self.moments.rows, weights.shape[1]
        remark = f"; only {rows:,} rows for {inputs:,} inputs" if rows < inputs else ""
        return Answer(stored, bias, _relative(error, float(self.moments.energy.sum())), remark)


def _biases(plan: Plan, moved: Array | None) -> Array | None:
    """The array of a layer's own bias, of its type; None where it stays."""
    if moved is None or plan.bias is None:
        return None
    biases: Array = moved_bias(plan, moved).astype(plan.bias.weight.tensor.array.dtype)
    return biases


def best_move(moments: LayerMoments, weights: Array) -> Array:
    """(groups, M): by how much the bias had best move, for weights (groups, N, M)."""
    made = np.einsum("gn,gnm->gm", moments.gram[:, :-1, -1], weights)
    moved: Array = (moments.cross[:, -1] - made) / moments.rows
    return moved


def damped(moments: LayerMoments, damping: float) -> Quadratic:
    """A layer's error with its bias at its best, and  damping * mean energy of inputs * ||U - U0||^2  added to it.

    That is what noise on all inputs would add, if the layer were to do as before in spite of it. Weights of inputs that
    never change, or are never there, are worth nothing. Moments are shrunk as far as samples differ; not with a damping
    of 0, which asks for plain least squares.
    """
    moments = moments.shrunk if damping else moments
    gram, cross, energy = moments.gram[:, :-1, :-1], moments.cross[:, :-1], moments.energy
    whole = np.diagonal(gram, axis1=1, axis2=2)
    if moments.has_bias:
        sums, last = moments.gram[:, :-1, -1], moments.cross[:, -1]
        gram = gram - sums[:, :, None] * sums[:, None, :] / moments.rows
        cross = cross - sums[:, :, None] * last[:, None, :] / moments.rows
        energy = energy - last**2 / moments.rows
    diagonal = np.diagonal(gram, axis1=1, axis2=2)
    alive = diagonal > _DEAD * whole
    least = max(damping, _LEAST if moments.rows >= gram.shape[1] else _SCARCE)
    ridge = least * diagonal.mean(axis=1, keepdims=True)
    ridge = np.where(ridge > 0, ridge, 1.0)
    old = moments.weights * alive[:, :, None]
    hessian = gram * (alive[:, :, None] & alive[:, None, :])
    at = np.arange(gram.shape[1], dtype=np.intp)
    hessian[:, at, at] += ridge
    cross = cross * alive[:, :, None] + ridge[:, :, None] * old
    return Quadratic(hessian, cross, energy + ridge * np.einsum("gnm,gnm->gm", old, old))


@dataclass(frozen=True, slots=True)
class _Table:
    """A table: its inputs are unit vectors, so no weight can make up for another.

    Attributes:
        plan: the layer.
        counts: (rows,), how often each is looked up.
    """

    plan: Plan
    counts: Array

    @property
    def _matrix(self) -> Array:
        return self.plan.affine.matrix(self.plan.weight.array.astype(np.float64))

    @property
    def energy(self) -> float:
        """See `Problem`."""
        return self._sum(self._matrix)

    def ranking(self, wish: Wish) -> Ranking:
        """See `Problem`."""
        table = self._matrix
        squares = table**2
        prices = wish.piece.sums(squares * self.counts[None, :, None])
        scores = wish.piece.sums(squares) if wish.saliency == "magnitude" else prices
        return ByScore(wish, table, scores, prices, None)

    def answer(self, weights: Array) -> Answer:
        """See `Problem`."""
        stored = self.plan.affine.stored(weights).astype(self.plan.weight.tensor.array.dtype)
        return Answer(stored, None, _relative(self._sum(weights - self._matrix), self.energy))

    def _sum(self, table: Array) -> float:
        return float(np.einsum("n,gnm->", self.counts, table**2))


def _counts(form: Lookup, value: str, sequential: Sequential) -> Array:
    """How often each row of a table is looked up; all of them once more than the samples do, which know little."""
    counts = np.ones(form.weights[0])
    for both in sequential.batches((), (value,)):
        indices = both.current[value]
        rows = form.rows(indices, np.zeros((indices.size, 1), np.intp)).reshape(-1).astype(np.intp)
        counts += np.bincount(rows, minlength=len(counts))[: len(counts)]
    return counts


def _relative(error: float, energy: float) -> float:
    return (error / energy) ** 0.5 if energy > 0 else 0.0
