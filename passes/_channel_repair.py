"""After channels are gone: every layer is fitted to what it gave before, for what it is fed now."""

from dataclasses import dataclass

import numpy as np

from graphshrink.calibration.sequential import Sequential
from graphshrink.ir.types import Array
from graphshrink.ops.coupling.surgery import Cut
from graphshrink.passes._layer_moments import Before, LayerMoments, layer_moments, moved_bias
from graphshrink.passes._layer_plan import Plan
from graphshrink.passes._sparsify_problem import best_move, damped


@dataclass(frozen=True, slots=True)
class Repaired:
    """A layer's new arrays, and the errors of its outputs relative to them, before and after."""

    stored: Array
    bias: Array | None
    before: float
    after: float


def repaired(now: Plan, then: Plan, cut: Cut, sequential: Sequential, seed: int, damping: float) -> Repaired | str:
    """Fit a layer, or say why that does no good.

    Args:
        now: the layer, with fewer channels.
        then: the layer as it was.
        cut: what has become of the axes of its weight.
        sequential: the model as it is now, beside itself as it was.
        seed: of the choice of places.
        damping: added to the diagonal of the Gram matrix, relative to its mean.

    Raises:
        UnfitError, NotFiniteError, CalibrationError, JudgeError: as for `layer_moments`.
    """
    moments = layer_moments(now, sequential, seed, before_of(now, then, cut))
    energy = float(moments.energy.sum())
    weights = damped(moments, damping).best
    moved = best_move(moments, weights) if moments.has_bias else None
    old, new = _error(moments, moments.weights, None), _error(moments, weights, moved)
    if energy == 0 or not new < old:
        return "it is as good as it can be"
    with np.errstate(over="ignore"):
        stored = moments.stored(now, weights)
        bias = None
        if moved is not None and now.bias is not None:
            bias = moved_bias(now, moved).astype(now.bias.weight.tensor.array.dtype)
    if not np.isfinite(stored).all() or (bias is not None and not np.isfinite(bias).all()):
        return "its new weights are too large for their type"
    return Repaired(stored, bias, (old / energy) ** 0.5, (new / energy) ** 0.5)


def _error(moments: LayerMoments, weights: Array, moved: Array | None) -> float:
    return float(moments.error(weights, moved).sum())


def before_of(now: Plan, then: Plan, cut: Cut) -> Before:
    """Where among the outputs of the layer as it was its present outputs were."""
    numbers = np.arange(then.weight.tensor.size).reshape(then.weight.tensor.dims)
    was = then.affine.matrix(numbers)
    for axis, kept in cut.axes(then.weight.name).items():
        numbers = np.take(numbers, kept, axis)
    first = now.affine.matrix(numbers)[:, 0, :]  # (groups, M): the number of a weight of each output
    places = np.argsort(was.reshape(-1))[first]
    group, _, output = np.unravel_index(places, was.shape)
    return Before(then, np.asarray(group), np.asarray(output))
