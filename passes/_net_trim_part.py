"""The convex program of one group of a layer's channels.

z = scale * (x @ W) + constant + skips        what the activation gets
U = scale * W, and the constant as a free bias, are solved for
"""

from dataclasses import dataclass, replace
from typing import Final, NamedTuple

import numpy as np

from graphshrink.errors import UnfitError
from graphshrink.ir.types import Array
from graphshrink.passes._layer_plan import Plan
from graphshrink.passes._layer_rows import Both
from graphshrink.solvers.net_trim import AT_LEAST, AT_MOST, EQUAL, Problem, Solution, Solver, solve, solve_density
from graphshrink.solvers.net_trim_refit import refit
from graphshrink.solvers.net_trim_thin import thin

_TOLERANCE: Final = 1e-2  # on the certified gap of the l1 norm: closer, hardly a weight is another one


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
        thin: whether weights are dropped then, as long as the bound on the residual holds.
    """

    epsilon: float
    density: float | None
    gamma: float
    kappa: float
    solver: Solver
    refit: bool
    thin: bool


class Found(NamedTuple):
    """What a group gets: U (N, M), its bias (M,) or None, the certified gap of the l1 norm; whether it was solved."""

    weights: Array
    bias: Array | None
    gap: float
    solved: bool = True


@dataclass(frozen=True, slots=True)
class Part:
    """The program of one group of channels.

    Attributes:
        problem: without its epsilon.
        start: the weights as they are, times the scale.
        constant: what is added to the outputs as it is.
        norm: of the outputs that matter.
        inherited: what the layers before have made of those already, with the weights as they are.
    """

    problem: Problem
    start: Array
    constant: Array
    norm: float
    inherited: float

    @classmethod
    def of(
        cls, plan: Plan, rows: Both, old: Array, scale: Array, constant: Array, group: int, has_bias: bool
    ) -> "Part":
        """Put the program together.

        Raises:
            UnfitError: outputs overflow.
        """
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
        if not (np.isfinite(wanted).all() and np.isfinite(present).all()):
            raise UnfitError("its outputs on the samples are too large for their type")
        problem = Problem(now.inputs[group], (target - base).astype(wanted.dtype), kind, np.inf, has_bias)
        norm, inherited = _norm(wanted * equal), _norm((present - wanted) * equal)
        return cls(problem, weights, constant[group], norm, inherited)

    @property
    def unchanged(self) -> Found:
        """The weights as they are."""
        return Found(self.start, self.constant if self.problem.bias else None, 0.0, solved=False)

    def solved(self, sought: Sought, is_last: bool) -> Found | str:
        """By density, or by the bound on the residual; or why not."""
        try:
            solution = self.sparsest(sought, is_last)
        except (np.linalg.LinAlgError, ValueError) as e:  # SciPy's word for numbers that are not finite
            return str(e)
        if not sought.refit:
            found = Found(solution.weights, solution.bias, solution.gap)
            return found if solution.converged else f"{solution.reason}"
        return self._refitted(solution, sought)

    def left(self, sought: Sought) -> int:
        """How many weights the program needs; all of them where it is not solved."""
        try:
            return int(np.count_nonzero(self.sparsest(sought, False).weights))
        except (np.linalg.LinAlgError, ValueError):
            return self.start.size

    def sparsest(self, sought: Sought, is_last: bool) -> Solution:
        """The solution of the program itself."""
        if sought.density is not None:
            return solve_density(self.problem, sought.density, _TOLERANCE)
        epsilon = max(sought.epsilon * self.norm, sought.gamma**0.5 * self.inherited)
        problem = replace(self.problem, epsilon=epsilon * (sought.kappa if is_last else 1.0))
        return solve(problem, sought.solver, self.start, _TOLERANCE)

    def _refitted(self, solution: Solution, sought: Sought) -> Found | str:
        """The weights that are left, fitted once more.

        What was not certified to be the sparsest is good enough where it keeps to the bound then, breaches of the
        inequalities included; or, where the share of weights is what was asked for, if it is better than no weights.
        """
        density = sought.density
        weights = solution.weights if density is None else self._largest(solution.weights, density)
        bias = solution.bias
        if not solution.converged:
            # Which weights are left may be right, but not their size, of which a fit corrects only what outputs show.
            weights, bias = np.where(weights != 0, self.start, 0.0), self.constant if self.problem.bias else None
        better = refit(self.problem, weights, bias)
        if sought.thin and density is None:
            better = thin(self.problem, better, solution.epsilon)
        if not np.isfinite(better.residual):
            return "its weights are not finite"
        bound = solution.epsilon if density is None else self.norm
        if not (solution.converged or better.residual <= bound):
            return f"{solution.reason}"
        return Found(better.weights, better.bias, solution.gap)

    def _largest(self, weights: Array, density: float) -> Array:
        """At most so many weights: those that move the outputs most."""
        spare = np.count_nonzero(weights) - round(density * weights.size)
        if spare <= 0:
            return weights
        energy = np.einsum("ij,ij->j", self.problem.inputs, self.problem.inputs, dtype=np.float64)
        moves = np.abs(weights) * np.sqrt(energy)[:, None]
        order = np.argsort(np.where(weights != 0, moves, np.inf), axis=None, kind="stable")
        left = weights.copy()
        left.reshape(-1)[order[:spare]] = 0.0
        return left

    def error(self, found: Found) -> float:
        """Frobenius norm of the residual of the outputs that matter."""
        inputs = self.problem.inputs
        made = inputs @ found.weights.astype(inputs.dtype)
        made = made if found.bias is None else made + found.bias.astype(inputs.dtype)
        return _norm((made - self.problem.target) * (self.problem.kind == EQUAL))


def _norm(array: Array) -> float:
    return float(np.linalg.norm(array.astype(np.float64)))


def _z(inputs: Array, weights: Array, constant: Array, skips: Array | None, group: int) -> Array:
    with np.errstate(over="ignore", invalid="ignore"):  # what overflows is looked for afterwards
        made = inputs @ weights.astype(inputs.dtype) + constant.astype(inputs.dtype)
        whole: Array = made if skips is None else (made + skips[group]).astype(inputs.dtype)
    return whole
