"""Both solvers beside the full program on small problems."""

from typing import Any, Final

from benchmarks.measuring import Request, table
from benchmarks.net_trim.full_program import full_program
from benchmarks.net_trim.problems import digits, small
from graphshrink.solvers.net_trim import BREACH, Solution, Solver, solve

_COUNT, _COUNT_SHORT = 50, 6
_IMAGES: Final = 400
_SEED: Final = 20
_BAR: Final = 1e-3
_SOLVERS: Final[tuple[Solver, ...]] = ("admm", "cvxpy")


def agreement(asked: Request) -> list[dict[str, Any]]:
    """Objectives and constraints on random and real layers."""
    rows: list[dict[str, Any]] = []
    images = digits(_IMAGES, asked.short)
    for name, problem in small(_COUNT_SHORT if asked.short else _COUNT, _SEED, images):
        optimum = full_program(problem)
        row: dict[str, Any] = {"problem": name, "shape": problem.shape, "optimum": optimum.value}
        for solver in _SOLVERS:
            row[solver] = _measured(solve(problem, solver), optimum.value, problem.epsilon)
        rows.append(row)
    lines = [
        (solver, len(rows), *(f"{_worst(rows, solver, what):.1e}" for what in ("above", "violation", "over_epsilon")))
        for solver in _SOLVERS
    ]
    print("\nSmall problems beside the full program in cvxpy: the worst of all")
    print(table(("solver", "problems", "objective", "inequalities", "residual"), lines))
    breach = max(_worst(rows, "admm", what) for what in ("violation", "over_epsilon"))
    worst = max(_worst(rows, "admm", "above") / _BAR, breach / BREACH)
    print(f"bar {_BAR:g} on the objective, {BREACH:g} on constraints: {asked.verdict(worst, 1.0 + 1e-9)}")
    return rows


def _measured(found: Solution, optimum: float, epsilon: float) -> dict[str, Any]:
    return {
        "above": abs(found.objective / optimum - 1),
        "violation": found.violation,
        "over_epsilon": max(found.residual / epsilon - 1, 0.0),
        "gap": found.gap,
        "iterations": found.iterations,
        "converged": found.converged,
    }


def _worst(rows: list[dict[str, Any]], solver: str, what: str) -> float:
    return max(float(row[solver][what]) for row in rows)
