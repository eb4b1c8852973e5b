"""One layer of Net-Trim: its groups of channels solved, and put together again."""

import math
from dataclasses import dataclass, replace
from functools import partial
from typing import Final

import numpy as np

from graphshrink.ir.types import Array
from graphshrink.ops.lookup import Lookup
from graphshrink.passes._layer_moments import moved_bias
from graphshrink.passes._layer_plan import Plan
from graphshrink.passes._layer_rows import Both
from graphshrink.passes._net_trim_part import Found, Part, Sought
from graphshrink.passing.workers import Workers
from graphshrink.solvers.net_trim_table import fewest, of_density

_ALL_NEEDED: Final = "all of its weights are needed"
_TRIED: Final = 16  # groups on which the epsilon of a density is searched for
_HALVINGS: Final = 7  # of its range, on a logarithmic scale
_RANGE: Final = (1e-3, 1.0)


@dataclass(frozen=True, slots=True)
class Solved:
    """A layer's new weights.

    Attributes:
        stored: the array to put in the place of the weight's.
        bias: the array to put in the place of the bias's, or None where that stays.
        residual: of the outputs that matter, relative to them.
        gap: the largest certified gap of a group.
        unused: inputs and outputs of which nothing is left.
        unsolved: groups that stay as they were.
    """

    stored: Array
    bias: Array | None
    residual: float
    gap: float
    unused: tuple[int, int]
    unsolved: int = 0


def solved(plan: Plan, rows: Both, sought: Sought, workers: Workers) -> Solved | str:
    """Solve a layer, its groups side by side; or say why it is left as it is."""
    form, follows = plan.affine.form, plan.following
    if isinstance(form, Lookup):
        return _looked_up(plan, form, rows.now.inputs, sought)
    old = plan.affine.matrix(plan.weight.array.astype(np.float64))
    groups = len(old)
    scale = np.broadcast_to(form.channels(follows.scale), (groups, old.shape[2]))
    constant = np.broadcast_to(form.channels(plan.constant), scale.shape)
    has_bias = plan.bias is not None and len(form.channels(plan.constant)) == groups
    parts = [Part.of(plan, rows, old, scale, constant, group, has_bias) for group in range(groups)]
    found = _of_groups(parts, sought, plan.is_last, workers)
    if isinstance(found, str):
        return f"its program was not solved: {found}"
    norms = np.array([[part.norm, part.error(one)] for part, one in zip(parts, found, strict=True)])
    matrix = np.stack([_divided(one.weights, s) for one, s in zip(found, scale, strict=True)])
    stored = plan.affine.stored(matrix)
    if np.count_nonzero(stored) >= np.count_nonzero(plan.weight.array):
        return _ALL_NEEDED
    bias = moved_bias(plan, _moved(found, constant)) if has_bias else None
    whole, error = np.linalg.norm(norms, axis=0)
    unused = (int(np.sum(~matrix.any(axis=2))), int(np.sum(~matrix.any(axis=1))))
    residual, gap = float(error / whole) if whole > 0 else 0.0, max(one.gap for one in found)
    return Solved(stored, bias, residual, gap, unused, sum(not one.solved for one in found))


def _of_groups(parts: list[Part], sought: Sought, is_last: bool, workers: Workers) -> list[Found] | str:
    """Every group by itself; those that are not solved stay as they are, unless it is all of them."""
    if sought.density is not None and len(parts) > 1:
        sought = _by_epsilon(parts, sought, sought.density, workers)
    answers = workers.compute(partial(Part.solved, sought=sought, is_last=is_last), parts)
    reasons = [answer for answer in answers if isinstance(answer, str)]
    if len(reasons) == len(answers):
        return reasons[0]
    return [part.unchanged if isinstance(one, str) else one for part, one in zip(parts, answers, strict=True)]


def _by_epsilon(parts: list[Part], sought: Sought, density: float, workers: Workers) -> Sought:
    """One epsilon for all groups, by which some of them together get the density: groups differ in what they need."""
    some = parts[:: math.ceil(len(parts) / _TRIED)]
    size = sum(part.start.size for part in some)
    low, high = map(math.log, _RANGE)
    for _ in range(_HALVINGS):
        middle = replace(sought, density=None, epsilon=math.exp((low + high) / 2), gamma=0.0, kappa=1.0)
        kept = sum(workers.compute(partial(Part.left, sought=middle), some))
        low, high = ((low + high) / 2, high) if kept > density * size else (low, (low + high) / 2)
    return replace(sought, density=None, epsilon=math.exp(high), gamma=0.0, kappa=1.0)


def _looked_up(plan: Plan, form: Lookup, indices: Array, sought: Sought) -> Solved | str:
    """A table; rows that the samples do not name count as if each of them were looked up once more."""
    [table] = plan.affine.matrix(plan.weight.array)
    counts = 1.0 + np.bincount(indices.reshape(-1).astype(np.int64), minlength=len(table))[: len(table)]
    new = of_density(table, counts, sought.density) if sought.density else fewest(table, counts, sought.epsilon)
    if np.count_nonzero(new) >= np.count_nonzero(table):
        return _ALL_NEEDED
    errors = np.linalg.norm(table.astype(np.float64) - new, axis=1), np.linalg.norm(table.astype(np.float64), axis=1)
    error, whole = (float(np.sqrt(counts @ square**2)) for square in errors)
    unused = (int(np.sum(~new.any(axis=1))), int(np.sum(~new.any(axis=0))))
    return Solved(plan.affine.stored(new[None]), None, error / whole if whole > 0 else 0.0, 0.0, unused)


def _divided(weights: Array, scale: Array) -> Array:
    """W of U; an output that is multiplied by nothing needs no weights."""
    divided: Array = np.divide(weights, scale, out=np.zeros_like(weights), where=scale != 0)
    return divided


def _moved(found: list[Found], constant: Array) -> Array:
    """(groups, M): by how much the sum of all shifts is larger than it was."""
    solved_for = np.stack([old if s.bias is None else s.bias for s, old in zip(found, constant, strict=True)])
    moved: Array = solved_for - constant
    return moved
