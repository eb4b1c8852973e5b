"""A layer as a least-squares problem, of which only second moments are kept, however many samples there are.

    minimise over U and d    sum over rows ||(x U + d + s) - (x0 U0 + s0)||²

x, s: what the layer is fed and what is added behind it in the model as it is now; x0, s0: in the model as it was. U is
the matrix of the weights times the scale behind the layer, U0 are those that it has now, and d is by how much the bias
moves. All that a solver needs of the rows is [x 1]^T [x 1] and [x 1]^T (x0 U0 + s0 - s), summed up in float64.
"""

from dataclasses import dataclass, replace
from typing import NamedTuple

import numpy as np

from graphshrink.calibration.rows import values_of
from graphshrink.calibration.sequential import Sequential
from graphshrink.calibration.shrinkage import Shrinkage
from graphshrink.errors import UnfitError
from graphshrink.ir.types import Array
from graphshrink.ops.lookup import Lookup
from graphshrink.passes._layer_plan import Plan
from graphshrink.passes._layer_rows import Both, Rows, collected, wanted


@dataclass(frozen=True, slots=True)
class LayerMoments:
    """Sums over the rows of a layer's problem, by group of channels: N inputs with a column of ones, M outputs.

    Attributes:
        gram: (groups, N + 1, N + 1), of the inputs as they are now; the column of ones is the last.
        cross: (groups, N + 1, M), of these with the targets x0 U0 + s0 - s.
        energy: (groups, M), of the targets.
        weights: (groups, N, M), U0.
        scale: (groups, M), by which stored weights are multiplied.
        has_bias: whether the layer has a bias of its own that may move.
        rows: how many there were.
        shrinkage: 0 to 1, how little the samples say of how inputs go together; see `Shrinkage`.
    """

    gram: Array
    cross: Array
    energy: Array
    weights: Array
    scale: Array
    has_bias: bool
    rows: int
    shrinkage: float = 0.0

    @property
    def shrunk(self) -> "LayerMoments":
        """As if a share of the rows had inputs that come and go independently, and the layer were to do as it did.

        What weights are fitted to: else they rely on how inputs went together in the few samples there are.
        """
        if self.shrinkage == 0:
            return self
        count, sums, last = self.gram[:, -1, -1], self.gram[:, :-1, -1], self.cross[:, -1]
        at = np.arange(sums.shape[1], dtype=np.intp)
        gram, cross, kept = self.gram.copy(), self.cross.copy(), 1 - self.shrinkage
        mean = sums / count[:, None]
        inner = kept * (gram[:, :-1, :-1] - mean[:, :, None] * sums[:, None, :])
        alone = np.maximum(np.diagonal(gram, axis1=1, axis2=2)[:, :-1] - mean * sums, 0.0)
        inner[:, at, at] = alone
        gram[:, :-1, :-1] = inner + mean[:, :, None] * sums[:, None, :]
        apart = kept * (cross[:, :-1] - mean[:, :, None] * last[:, None, :])
        apart += self.shrinkage * alone[:, :, None] * self.weights
        cross[:, :-1] = apart + mean[:, :, None] * last[:, None, :]
        middle = last**2 / count[:, None]
        noise = self.shrinkage * np.einsum("gn,gnm->gm", alone, self.weights**2)
        return replace(self, gram=gram, cross=cross, energy=kept * (self.energy - middle) + noise + middle)

    def error(self, weights: Array, moved: Array | None = None) -> Array:
        """(groups, M) sums of squared residuals with weights (groups, N, M), and the bias moved by (groups, M)."""
        last = np.zeros(self.energy.shape) if moved is None else moved
        whole = np.concatenate([weights, last[:, None, :]], axis=1)
        quadratic = np.einsum("gnm,gnm->gm", whole, self.gram @ whole - 2.0 * self.cross)
        squares: Array = np.maximum(self.energy + quadratic, 0.0)
        return squares

    def stored(self, plan: Plan, weights: Array) -> Array:
        """The array of the layer's weight for weights (groups, N, M); an output times nothing needs no weights."""
        scale = np.broadcast_to(self.scale[:, None, :], weights.shape)
        divided = np.divide(weights, scale, out=np.zeros_like(weights), where=scale != 0)
        stored: Array = plan.affine.stored(divided).astype(plan.weight.tensor.array.dtype)
        return stored


def moved_bias(plan: Plan, by: Array) -> Array:
    """The array, in float64, of a layer's own bias, so that all shifts together are larger by (groups, M)."""
    assert plan.bias is not None
    moved = plan.affine.form.vector(by) / plan.bias.factor
    tensor = plan.bias.weight.tensor
    return (tensor.array.reshape(-1).astype(np.float64) + moved).reshape(tensor.dims)


class Before(NamedTuple):
    """A layer as it was, when it had more channels.

    Attributes:
        plan: of the layer then.
        group, output: (groups, M), where among its outputs then, in groups, each output of now was.
    """

    plan: Plan
    group: Array
    output: Array

    def left(self, targets: Array) -> Array:
        """(groups, P, M): what there still is of the outputs then."""
        return np.moveaxis(targets[self.group, :, self.output], 2, 1)


def layer_moments(plan: Plan, sequential: Sequential, seed: int, before: Before | None = None) -> LayerMoments:
    """Go through all samples once.

    Args:
        plan: the layer; not a table that is looked up, whose inputs are indices.
        sequential: the model as it is now, beside itself as it was.
        seed: of the choice of places.
        before: the layer as it was, where it was not as wide as now.

    Raises:
        UnfitError: outputs overflow, shapes do not go together, or there are no rows.
        NotFiniteError, CalibrationError, JudgeError: as for `Sequential.batches`.
    """
    form = plan.affine.form
    assert not isinstance(form, Lookup)
    old = plan.affine.matrix(plan.weight.array.astype(np.float64))
    groups, width, outputs = old.shape
    scale = np.broadcast_to(form.channels(plan.following.scale), (groups, outputs))
    has_bias = plan.bias is not None and len(form.channels(plan.constant)) == groups
    gram, cross = np.zeros((groups, width + 1, width + 1)), np.zeros((groups, width + 1, outputs))
    made = LayerMoments(gram, cross, np.zeros((groups, outputs)), old * scale[:, None, :], scale, has_bias, 0)
    count, shrinkage = 0, Shrinkage(groups, width, seed)
    was = plan if before is None else before.plan
    then, now = wanted(was, plan, seed)
    for both in sequential.batches(values_of(then), values_of(now)):
        sources = [(one, both.reference) for one in then] + [(one, both.current) for one in now]
        rows = {one.key: one.rows([values[name] for name in one.values]) for one, values in sources}
        found = collected(was, plan, rows)
        count += _add(made, found, before)
        shrinkage.add(found.now.inputs, divisible=sequential.is_stacked)
    if not count:
        raise UnfitError("it gets no rows from the samples")
    if not all(np.isfinite(part).all() for part in (made.gram, made.cross, made.energy)):
        raise UnfitError("its outputs on the samples are too large for their type")
    return replace(made, rows=count, shrinkage=shrinkage.intensity)


def _add(made: LayerMoments, rows: Both, before: Before | None) -> int:
    """Take in the rows of a batch; how many there were."""
    then, now = rows
    groups, width, _ = made.weights.shape
    count = len(now.inputs[0])
    inputs = np.ones((groups, count, width + 1))
    inputs[:, :, :width] = now.inputs
    targets = _targets(made, then, before)
    if now.skips is not None:
        targets = targets - now.skips
    turned = np.swapaxes(inputs, 1, 2)
    np.add(made.gram, turned @ inputs, out=made.gram)
    np.add(made.cross, turned @ targets, out=made.cross)
    np.add(made.energy, np.einsum("gpm,gpm->gm", targets, targets), out=made.energy)
    return count


def _targets(made: LayerMoments, then: Rows, before: Before | None) -> Array:
    """What the layer gave in the model as it was, with what was added behind it."""
    weights = made.weights
    if before is not None:
        old = before.plan
        weights = old.affine.matrix(old.weight.array.astype(np.float64))
        scale = np.broadcast_to(old.affine.form.channels(old.following.scale), weights[:, 0, :].shape)
        weights = weights * scale[:, None, :]
    targets: Array = then.inputs.astype(np.float64) @ weights
    if then.skips is not None:
        targets += then.skips
    return targets if before is None else before.left(targets)
