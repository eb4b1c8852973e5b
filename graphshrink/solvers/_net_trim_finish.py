"""From weights and multipliers to a `Solution` that says how good it is."""

from dataclasses import dataclass
from typing import Final

import numpy as np

from graphshrink.ir.types import Array
from graphshrink.solvers._net_trim_bound import Multipliers, lower_bound
from graphshrink.solvers._net_trim_problem import AT_LEAST, AT_MOST, EQUAL, Problem, Solution, breach_of

_NO_SOLVER: Final = "none"


@dataclass(frozen=True, slots=True)
class Found:
    """What a solver hands in."""

    weights: Array
    bias: Array | None
    multipliers: Multipliers
    iterations: int
    solver: str
    bound: float = 0.0  # one that is known already


def finished(problem: Problem, found: Found, tolerance: float) -> Solution:
    """Measure weights, and judge them."""
    breach = breach_of(problem, found.weights, found.bias)
    objective = float(np.abs(found.weights).sum())
    bound = max(lower_bound(problem, found.multipliers), found.bound)
    gap = (objective - bound) / objective if objective > 0 else 0.0
    reasons = {
        f"inequalities are broken by {breach.violation:.2g} of the targets' scale": not breach.keeps_inequalities(),
        f"the residual is {breach.residual:.4g}, epsilon {problem.epsilon:.4g}": not breach.keeps_ball(problem),
        f"the weights may be {gap:.2%} above the optimum": gap > tolerance,
        f"the constraints contradict each other, or need an l1 norm of at least {bound:.3g}": gap < -tolerance,
    }
    missed = [reason for reason, holds in reasons.items() if holds]
    return Solution(
        weights=found.weights,
        bias=found.bias,
        objective=objective,
        epsilon=problem.epsilon,
        violation=breach.violation,
        residual=breach.residual,
        gap=gap,
        bound=bound,
        iterations=found.iterations,
        converged=not missed,
        reason=f"after {found.iterations} iterations " + "; ".join(missed) if missed else None,
        solver=found.solver,
        warnings=warnings_of(problem),
    )


def nothing(problem: Problem) -> Solution:
    """Zeros for all weights, with the best bias that the inequalities allow; converged where no more is needed."""
    inputs, neurons = problem.shape[1:]
    bias = _best_bias(problem) if problem.bias else None
    weights = np.zeros((inputs, neurons))
    breach = breach_of(problem, weights, bias)
    enough = breach.keeps_inequalities() and breach.keeps_ball(problem)
    return Solution(
        weights=weights,
        bias=bias,
        objective=0.0,
        epsilon=problem.epsilon,
        violation=breach.violation,
        residual=breach.residual,
        gap=0.0,
        bound=0.0,
        iterations=0,
        converged=enough,
        reason=None if enough else "zeros do not keep the constraints",
        solver=_NO_SOLVER,
        warnings=warnings_of(problem),
    )


def warnings_of(problem: Problem) -> tuple[str, ...]:
    """What makes a problem a doubtful one."""
    samples, inputs, _ = problem.shape
    if samples >= inputs:
        return ()
    return (f"{samples:,} samples for {inputs:,} inputs: other inputs may give other outputs",)


def _best_bias(problem: Problem) -> Array:
    """For each neuron the constant nearest to its EQUAL targets that breaks no inequality."""
    neurons = problem.shape[2]
    sums, counts = np.zeros((2, neurons))
    least, most = np.full(neurons, -np.inf), np.full(neurons, np.inf)
    for rows in problem.blocks():
        target, kind = problem.target[rows], problem.kind[rows]
        sums += np.sum(target, axis=0, where=kind == EQUAL, dtype=np.float64)
        counts += np.count_nonzero(kind == EQUAL, axis=0)
        most = np.minimum(most, np.min(target, axis=0, where=kind == AT_MOST, initial=np.inf))
        least = np.maximum(least, np.max(target, axis=0, where=kind == AT_LEAST, initial=-np.inf))
    best: Array = np.minimum(np.maximum(sums / np.maximum(counts, 1), least), most)
    return best
