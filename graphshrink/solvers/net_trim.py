"""Net-Trim: the sparsest weights (in the l1 norm) with which a layer keeps its outputs on sample inputs.

`Problem` states the program. A solution says by itself how good it is: a bound on the optimum that is certified by
feasible multipliers, the worst breach of its constraints, and whether that is what was asked for. All of it depends on
the problem alone (but for the last bits, on the number of threads that the matrix products use).

`solve` and `solve_density` are plain functions of values that pickle, so layers can be handed to any executor.
"""

from typing import Final, Literal

from graphshrink.errors import InternalError
from graphshrink.ir.types import Array
from graphshrink.solvers._net_trim_cvxpy import by_cvxpy
from graphshrink.solvers._net_trim_finish import nothing
from graphshrink.solvers._net_trim_iterate import by_admm
from graphshrink.solvers._net_trim_path import by_density
from graphshrink.solvers._net_trim_problem import AT_LEAST, AT_MOST, BREACH, EQUAL, TOLERANCE, Problem, Solution
from graphshrink.solvers._net_trim_reduced import reduced

__all__ = ["AT_LEAST", "AT_MOST", "BREACH", "EQUAL", "Problem", "Solution", "Solver", "solve", "solve_density"]

Solver = Literal["auto", "cvxpy", "admm"]

ITERATIONS: Final = 2000
SMALL: Final = 20_000
"""Entries of all neurons' Gram matrices, up to which a layer is left to cvxpy."""
MEDIUM: Final = 10 * SMALL
"""Up to which cvxpy takes over when ADMM does not converge."""


def solve(
    problem: Problem,
    solver: Solver = "auto",
    start: Solution | Array | None = None,
    tolerance: float = TOLERANCE,
    iterations: int = ITERATIONS,
) -> Solution:
    """Solve one layer.

    Args:
        problem: what to solve.
        solver: "cvxpy" for small layers, "admm" for any; "auto" chooses by size, and tries cvxpy where a layer that is
            not much larger did not converge.
        start: weights to begin with, (N, M); most useful where they are near the answer.
        tolerance: on the relative gap between the weights' l1 norm and what is certified to be the least one.
        iterations: at most as many of ADMM.
    """
    weights = start.weights if isinstance(start, Solution) else start
    if weights is not None and weights.shape != problem.shape[1:]:
        raise InternalError(f"net-trim: weights {weights.shape} to start with, needs {problem.shape[1:]}")
    if problem.target.size == 0 or problem.shape[1] == 0:
        raise InternalError(f"net-trim: nothing to solve in a problem of shape {problem.shape}")
    trivial = nothing(problem)
    if trivial.converged:
        return trivial
    fewer = reduced(problem)
    if fewer is not None:
        return fewer.back(_solved(fewer.problem, solver, weights, tolerance, iterations))
    return _solved(problem, solver, weights, tolerance, iterations)


def _solved(problem: Problem, solver: Solver, weights: Array | None, tolerance: float, iterations: int) -> Solution:
    if solver == "cvxpy" or (solver == "auto" and _fits(problem, SMALL)):
        return by_cvxpy(problem, tolerance)
    found = by_admm(problem, weights, tolerance, iterations)
    if found.converged or solver == "admm" or not _fits(problem, MEDIUM):
        return found
    other = by_cvxpy(problem, tolerance)
    return other if other.converged else found


def _fits(problem: Problem, limit: int) -> bool:
    samples, inputs, neurons = problem.shape
    return neurons * inputs * inputs <= limit and samples * (inputs + neurons) <= 100 * limit


def solve_density(
    problem: Problem, density: float, tolerance: float = TOLERANCE, iterations: int = ITERATIONS
) -> Solution:
    """Find the epsilon with which about `density` (0 to 1) of the weights are not zero, and solve for it.

    The problem's own epsilon does not matter; `Solution.epsilon` says what was found. Where the smallest epsilon that
    is tried needs fewer weights, its solution is the answer.
    """
    if not 0.0 <= density <= 1.0:
        raise InternalError(f"net-trim: density is {density}, needs 0 to 1")
    fewer = reduced(problem)
    if fewer is not None:
        return fewer.back(by_density(fewer.problem, density, tolerance, iterations))
    return by_density(problem, density, tolerance, iterations)
