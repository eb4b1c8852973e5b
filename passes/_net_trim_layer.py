"""One layer of Net-Trim: from rows to a convex program, and from its solution to weights.

z = scale * (x @ W) + constant + skips        what the activation gets
U = scale * W, and the constant as a free bias, are solved for; then W = U / scale
"""

from dataclasses import dataclass, replace
from functools import partial
from typing import Final

import numpy as np

from graphshrink.ir.types import Array
from graphshrink.ops.lookup import Lookup
from graphshrink.passes._net_trim_plan import Plan
from graphshrink.passes._net_trim_rows import Both
from graphshrink.passing.workers import Workers
from graphshrink.solvers.net_trim import AT_LEAST, AT_MOST, EQUAL, Problem, Solution, Solver, solve, solve_density
from graphshrink.solvers.net_trim_refit import refit
from graphshrink.solvers.net_trim_table import fewest, of_density

_TOLERANCE: Final = 1e-2  # on the certified gap of the l1 norm: closer, hardly a weight is another one

_ALL_NEEDED: Final = "all of its weights are needed"


@dataclass(frozen=True, slots=True)
class Sought:
    """What is asked of a layer.

    Attributes:
        epsilon: bound on the residual, relative to the targets; not used with a density.
        density: share of weights to keep, or None.
        gamma: by how much the squared error that the layers before have made may grow.
        kappa: by which the bound on the last layer is multiplied.
        solver: as for `solve`.
        refit: whether what is left is fitted once more.
    """

    epsilon: float
    density: float | None
    gamma: float
    kappa: float
    solver: Solver
    refit: bool


@dataclass(frozen=True, slots=True)
class Solved:
    """A layer's new weights.

    Attributes:
        stored: the array to put in the place of the weight's.
        bias: the array to put in the place of the bias's, or None where that stays.
        residual: of the outputs that matter, relative to them.
        gap: the largest certified gap of a group.
        unused: inputs and outputs of which nothing is left.
    """

    stored: Array
    bias: Array | None
    residual: float
    gap: float
    unused: tuple[int, int]


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
    parts = [_Part.of(plan, rows, old, scale, constant, group, has_bias) for group in range(groups)]
    found: list[Solution] = []
    for solution in workers.compute(partial(_Part.solved, sought=sought, is_last=plan.is_last), parts):
        if isinstance(solution, str):
            return f"its program was not solved: {solution}"
        found.append(solution)
    norms = np.array([[part.norm, part.error(solution)] for part, solution in zip(parts, found, strict=True)])
    matrix = np.stack([_divided(solution.weights, s) for solution, s in zip(found, scale, strict=True)])
    stored = plan.affine.stored(matrix)
    if np.count_nonzero(stored) >= np.count_nonzero(plan.weight.array):
        return _ALL_NEEDED
    bias = _bias(plan, found, constant) if has_bias else None
    whole, error = np.linalg.norm(norms, axis=0)
    unused = (int(np.sum(~matrix.any(axis=2))), int(np.sum(~matrix.any(axis=1))))
    return Solved(stored, bias, float(error / whole) if whole > 0 else 0.0, max(s.gap for s in found), unused)


@dataclass(frozen=True, slots=True)
class _Part:
    """The program of one group of channels.

    Attributes:
        problem: without its epsilon.
        start: the weights as they are, times the scale.
        norm: of the outputs that matter.
        inherited: what the layers before have made of those already, with the weights as they are.
    """

    problem: Problem
    start: Array
    norm: float
    inherited: float

    @classmethod
    def of(
        cls, plan: Plan, rows: Both, old: Array, scale: Array, constant: Array, group: int, has_bias: bool
    ) -> "_Part":
        """Put the program together."""
        weights = old[group] * scale[group]
        then, now = rows
        wanted = _z(then.inputs[group], weights, constant[group], then.skips, group)
        present = _z(now.inputs[group], weights, constant[group], now.skips, group)
        flat = plan.following.saturation
        kind = np.full(wanted.shape, EQUAL, np.uint8)
        kind[wanted <= flat.low] = AT_MOST
        kind[wanted >= flat.high] = AT_LEAST
        equal = kind == EQUAL
        # Where the layers before have pushed an output over its threshold, the weights as they are shall stay feasible.
        target = np.where(kind == AT_MOST, np.maximum(present, flat.low), wanted)
        target = np.where(kind == AT_LEAST, np.minimum(present, flat.high), target)
        skips = 0.0 if now.skips is None else now.skips[group]
        base = skips if has_bias else skips + constant[group]
        problem = Problem(now.inputs[group], (target - base).astype(wanted.dtype), kind, np.inf, has_bias)
        norm, inherited = np.linalg.norm(wanted * equal), np.linalg.norm((present - wanted) * equal)
        return cls(problem, weights, float(norm), float(inherited))

    def solved(self, sought: Sought, is_last: bool) -> Solution | str:
        """By density, or by the bound on the residual; or why not."""
        try:
            solution = self._sparsest(sought, is_last)
        except np.linalg.LinAlgError as e:
            return str(e)
        solution = self._refitted(solution, sought.density) if sought.refit else solution
        return solution if solution.converged else f"{solution.reason}"

    def _sparsest(self, sought: Sought, is_last: bool) -> Solution:
        if sought.density is not None:
            return solve_density(self.problem, sought.density, _TOLERANCE)
        epsilon = max(sought.epsilon * self.norm, sought.gamma**0.5 * self.inherited)
        problem = replace(self.problem, epsilon=epsilon * (sought.kappa if is_last else 1.0))
        return solve(problem, sought.solver, self.start, _TOLERANCE)

    def _refitted(self, solution: Solution, density: float | None) -> Solution:
        """The weights that are left, fitted once more.

        What was not certified to be the sparsest is good enough where it keeps to the bound then, breaches of the
        inequalities included; or where the share of weights is all that was asked for.
        """
        weights = solution.weights if density is None else self._largest(solution.weights, density)
        better = refit(self.problem, weights, solution.bias)
        enough = solution.converged or density is not None or better.residual <= solution.epsilon
        return replace(solution, weights=better.weights, bias=better.bias, converged=enough)

    def _largest(self, weights: Array, density: float) -> Array:
        """At most so many weights: those that move the outputs most."""
        spare = np.count_nonzero(weights) - round(density * weights.size)
        if spare <= 0:
            return weights
        energy = np.einsum("ij,ij->j", self.problem.inputs, self.problem.inputs, dtype=np.float64)
        moves = np.abs(weights) * np.sqrt(energy)[:, None]
        threshold = np.partition(moves[weights != 0], spare - 1)[spare - 1]
        return np.where(moves > threshold, weights, 0.0)

    def error(self, solution: Solution) -> float:
        """Frobenius norm of the residual of the outputs that matter."""
        inputs = self.problem.inputs
        made = inputs @ solution.weights.astype(inputs.dtype)
        made = made if solution.bias is None else made + solution.bias.astype(inputs.dtype)
        return float(np.linalg.norm((made - self.problem.target) * (self.problem.kind == EQUAL)))


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


def _z(inputs: Array, weights: Array, constant: Array, skips: Array | None, group: int) -> Array:
    made = inputs @ weights.astype(inputs.dtype) + constant.astype(inputs.dtype)
    whole: Array = made if skips is None else (made + skips[group]).astype(inputs.dtype)
    return whole


def _divided(weights: Array, scale: Array) -> Array:
    """W of U; an output that is multiplied by nothing needs no weights."""
    divided: Array = np.divide(weights, scale, out=np.zeros_like(weights), where=scale != 0)
    return divided


def _bias(plan: Plan, found: list[Solution], constant: Array) -> Array:
    """The constant that makes the sum of all shifts what was solved for."""
    assert plan.bias is not None
    solved_for = np.stack([old if s.bias is None else s.bias for s, old in zip(found, constant, strict=True)])
    moved = plan.affine.form.vector(solved_for - constant) / plan.bias.factor
    tensor = plan.bias.weight.tensor
    return (tensor.array.reshape(-1).astype(np.float64) + moved).reshape(tensor.dims)
