"""Net-Trim by cvxpy and Clarabel: the reference, and the solver of small layers.

The program is made small before it is stated. The EQUAL rows of a neuron are replaced by the triangular factor of
their QR decomposition, which gives the same residual norm for all weights; and inequalities are only added as they are
broken, most of them being far from it. They go into a fixed number of rows of a parameter, so that cvxpy compiles once
for many rounds, and again only when the room has to be doubled.
"""

import warnings
from dataclasses import dataclass, replace
from importlib import import_module
from typing import Any, Final

import numpy as np
from scipy.linalg import qr

from graphshrink.ir.types import Array
from graphshrink.solvers._net_trim_bound import Multipliers
from graphshrink.solvers._net_trim_finish import Found, finished, nothing
from graphshrink.solvers._net_trim_problem import AT_LEAST, BREACH, EQUAL, Problem, Solution, excess, output_of

_ROUNDS: Final = 50
_BROKEN: Final = 0.1  # of the breach that is allowed: an inequality joins
_AT_ONCE: Final = 20  # inequalities that join for a neuron in a round
_ZERO: Final = 1e-6  # of the largest weight: an interior point method leaves as much of a zero
_LEAST_BALL: Final = 1e-7  # of the targets' norm: a ball without an interior has no interior point
_SOLVED: Final = ("optimal", "optimal_inaccurate")


@dataclass(frozen=True, slots=True)
class _Program:
    """What was compiled.

    Attributes:
        whole: the cvxpy problem.
        weights: its variable, (N + 1, M) with the bias, else (N, M).
        ball: the constraint on the residual, None where epsilon is infinite.
        sides: the inequalities of each neuron, `left @ weights <= right`.
        left: their parameters, (room, N + 1); a free row is all zeros ...
        right: ... and has 1 here.
    """

    whole: Any
    weights: Any
    ball: Any
    sides: list[Any]
    left: list[Any]
    right: list[Any]


def by_cvxpy(problem: Problem, tolerance: float) -> Solution:
    """Solve a small layer."""
    neurons = problem.shape[2]
    held = [np.zeros(0, np.intp) for _ in range(neurons)]
    factors = [_factors(problem, column) for column in range(neurons)]
    program, room, turn = None, 0, 0
    while True:
        turn += 1
        most = max(len(rows) for rows in held)
        if program is None or most > room:
            room = max(2 * most, _AT_ONCE)
            program = _stated(problem, [factor for _, factor in factors], room)
        _fill(problem, program, held)
        failure = _run(program)
        if failure is not None:
            return _failed(problem, turn, failure)
        weights, bias = _split(problem, np.asarray(program.weights.value, np.float64))
        broken = _broken(problem, weights, bias)
        if turn == _ROUNDS or not any(len(np.setdiff1d(*pair)) for pair in zip(broken, held, strict=True)):
            break
        held = [np.union1d(*pair) for pair in zip(held, broken, strict=True)]
    multipliers = _multipliers(problem, program, held, [basis for basis, _ in factors])
    return finished(problem, Found(_with_zeros(weights), bias, multipliers, turn, "cvxpy"), tolerance)


def _factors(problem: Problem, column: int) -> tuple[Array, Array]:
    """The QR decomposition of a neuron's EQUAL rows, (X, 1, T): R has at most N + 2 rows."""
    rows = np.flatnonzero(problem.kind[:, column] == EQUAL)
    target = problem.target[rows, column : column + 1].astype(np.float64)
    basis, factor = qr(np.hstack([_design(problem, rows), target]), mode="economic")
    return np.asarray(basis), np.asarray(factor)


def _design(problem: Problem, rows: Array) -> Array:
    inputs = problem.inputs[rows].astype(np.float64)
    return np.hstack([inputs, np.ones((len(rows), 1))]) if problem.bias else inputs


def _stated(problem: Problem, factors: list[Array], room: int) -> _Program:
    cvxpy: Any = import_module("cvxpy")  # takes a second, which only those who solve should pay
    _, inputs, neurons = problem.shape
    weights = cvxpy.Variable((inputs + problem.bias, neurons))
    parts = [
        factor[:, :-1] @ weights[:, column] - factor[:, -1] for column, factor in enumerate(factors) if len(factor)
    ]
    epsilon = max(problem.epsilon, _LEAST_BALL * problem.norm())
    bounded = bool(parts) and np.isfinite(epsilon)
    ball = cvxpy.SOC(cvxpy.Constant(epsilon), cvxpy.hstack(parts)) if bounded else None
    left = [cvxpy.Parameter((room, inputs + problem.bias)) for _ in range(neurons)]
    right = [cvxpy.Parameter(room) for _ in range(neurons)]
    sides = [left[column] @ weights[:, column] <= right[column] for column in range(neurons)]
    whole = cvxpy.Problem(
        cvxpy.Minimize(cvxpy.sum(cvxpy.abs(weights[:inputs]))), sides if ball is None else [ball, *sides]
    )
    return _Program(whole, weights, ball, sides, left, right)


def _fill(problem: Problem, program: _Program, held: list[Array]) -> None:
    """Set the parameters to the inequalities that are held."""
    for column, rows in enumerate(held):
        left, right = np.zeros(program.left[column].shape), np.ones(program.right[column].shape)
        signs = _signs(problem, rows, column)
        left[: len(rows)] = signs[:, np.newaxis] * _design(problem, rows)
        right[: len(rows)] = signs * problem.target[rows, column]
        program.left[column].value, program.right[column].value = left, right


def _signs(problem: Problem, rows: Array, column: int) -> Array:
    return np.where(problem.kind[rows, column] == AT_LEAST, -1.0, 1.0)


def _run(program: _Program) -> str | None:
    """Solve; gives what went wrong, or None."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # cvxpy's word on inaccurate solutions: they are measured here anyway
        try:
            program.whole.solve(solver="CLARABEL")
        except import_module("cvxpy").error.SolverError:
            return "the solver failed"
    status = str(program.whole.status)
    return None if status in _SOLVED else status


def _failed(problem: Problem, turn: int, status: str) -> Solution:
    contradiction = "infeasible" in status
    reason = "no weights keep all constraints" if contradiction else f"no solution in cvxpy: {status}"
    return replace(nothing(problem), gap=np.inf, iterations=turn, converged=False, reason=reason, solver="cvxpy")


def _split(problem: Problem, values: Array) -> tuple[Array, Array | None]:
    inputs = problem.shape[1]
    return values[:inputs], values[inputs] if problem.bias else None


def _with_zeros(weights: Array) -> Array:
    return np.where(np.abs(weights) > _ZERO * np.abs(weights).max(initial=0.0), weights, 0.0)


def _broken(problem: Problem, weights: Array, bias: Array | None) -> list[Array]:
    """For each neuron the inequalities that are broken the most."""
    limit = _BROKEN * BREACH * problem.scale()
    residual = output_of(problem, slice(None), weights, bias) - problem.target
    over = excess(residual, problem.kind)
    worst = [np.argsort(-over[:, column], kind="stable")[:_AT_ONCE] for column in range(over.shape[1])]
    return [np.sort(rows[over[rows, column] > limit]) for column, rows in enumerate(worst)]


def _multipliers(problem: Problem, program: _Program, held: list[Array], bases: list[Array]) -> Multipliers:
    values = np.zeros(problem.target.shape)
    in_ball = np.zeros(0) if program.ball is None else -np.ravel(program.ball.dual_value[1])
    first = 0
    for column, (side, rows, basis) in enumerate(zip(program.sides, held, bases, strict=True)):
        part = in_ball[first : first + basis.shape[1]]
        first += basis.shape[1]
        if len(part):
            values[problem.kind[:, column] == EQUAL, column] = basis @ part
        pulls = np.maximum(np.ravel(side.dual_value)[: len(rows)], 0.0)
        values[rows, column] = _signs(problem, rows, column) * pulls
    return lambda rows: values[rows]
