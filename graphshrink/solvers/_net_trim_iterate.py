"""ADMM until its weights, repaired, are certified to be good enough."""

from collections.abc import Iterator
from typing import Final

import numpy as np

from graphshrink.ir.types import Array
from graphshrink.solvers._net_trim_admm import Admm, Residuals
from graphshrink.solvers._net_trim_exact import Exact, held_rows, worth_while
from graphshrink.solvers._net_trim_finish import Found, finished
from graphshrink.solvers._net_trim_problem import BREACH, TOLERANCE, Problem, Solution
from graphshrink.solvers._net_trim_repair import repaired

_FIRST: Final = Residuals(primal=2e-3, dual=2e-2)
"""Where it is worth while to look at the constraints for the first time; then at half of that, and so on."""
_SLACK: Final = 1e-4  # of epsilon, left for the repair
_MOST_SLACK: Final = 8e-4
_LATER: Final = 40  # iterations between two looks, at most
_ROUNDS: Final = 6
_FAILED: Final = 3.0  # times the l1 norm at the start: the guess leads nowhere


def by_admm(problem: Problem, start: Array | None, tolerance: float, iterations: int) -> Solution:
    """Solve a layer of any size."""
    return advanced(Admm(problem, start), problem, tolerance, iterations)


def advanced(admm: Admm, problem: Problem, tolerance: float, iterations: int) -> Solution:
    """Go on from the state of a run until the weights are good enough, at most for some iterations."""
    last = admm.iterations + max(iterations, 1)
    goal, slack = _FIRST, _SLACK
    best: Solution | None = None
    bound = 0.0  # the best one: each is certified by itself
    while True:
        left = last - admm.iterations
        admm.run(problem.epsilon * (1 - slack), left if best is None else min(left, _LATER), goal)
        found = candidate(admm, problem, tolerance, bound)
        bound = max(bound, found.bound)
        best = found if best is None or _order(found) < _order(best) else best
        if best.converged or admm.iterations >= last:
            return best
        slack = min(2 * slack, _MOST_SLACK) if found.residual > problem.epsilon else slack / 2
        goal = Residuals(goal.primal / 2, goal.dual / 2)


def candidate(admm: Admm, problem: Problem, tolerance: float, bound: float) -> Solution:
    """The weights of now, repaired or made exact, whichever is better."""
    weights, bias = repaired(problem, admm.weights, admm.bias, admm.gram)
    found = finished(problem, Found(weights, bias, admm.multipliers, admm.iterations, "admm", bound), tolerance)
    return found if found.converged else min([found, *_exact(admm, problem, tolerance)], key=_order)


def _exact(admm: Admm, problem: Problem, tolerance: float) -> Iterator[Solution]:
    """What the guess of now leads to, round by round, until it is good enough or fails."""
    signs, held = np.sign(admm.weights), held_rows(problem, admm.multipliers)
    if not worth_while(problem, signs, held):
        return
    exact = Exact(problem, signs, held)
    limit = _FAILED * float(np.abs(admm.weights).sum())
    last: Solution | None = None
    for _ in range(_ROUNDS):
        solution = exact.solution()
        if solution is None:
            return
        found = finished(problem, Found(*solution, admm.iterations, "admm"), tolerance)
        yield found
        worse = found.objective > limit or (last is not None and _order(found) > _order(last))
        if found.converged or worse or not exact.correct(*solution):
            return
        last = found


def _order(found: Solution) -> tuple[bool, float]:
    over = found.residual / found.epsilon - 1 if found.epsilon > 0 else found.residual
    return not found.converged, max(found.violation / BREACH, over / BREACH, abs(found.gap) / TOLERANCE)
