"""The exact solution, once it is nearly known which weights are not zero and which inequalities hold with equality.

For given signs of the weights S and given equalities A, the optimality conditions of one neuron are linear in
theta = 1 / (the ball's multiplier), which all neurons share:

    X_S^T (X_S w - t) + A^T nu = -theta sign(w),   A w = v        so  w = w0 + theta w1,   nu = nu0 + theta nu1

Its residual falls into two orthogonal parts, r0 + theta X_S w1, so the theta with which all residuals together have the
norm epsilon is a square root. What then contradicts the guess corrects it: weights of the wrong sign and equalities
that pull are dropped, broken inequalities and inputs that correlate with the multipliers by more than 1 join. Few
rounds do, since they are Newton's method on the optimality conditions; and where they fail, nothing is lost.
"""

from dataclasses import dataclass
from typing import Final

import numpy as np
from scipy.linalg import cho_factor, cho_solve

from graphshrink.ir.types import Array
from graphshrink.solvers._net_trim_bound import Multipliers
from graphshrink.solvers._net_trim_problem import AT_MOST, EQUAL, Problem, output_of
from graphshrink.solvers._net_trim_repair import broken_rows

_RIDGE: Final = 1e-10
_JOINS: Final = 1e-4  # above 1: the correlation with which an input joins
_WORTH: Final = 2.5  # iterations of ADMM ...
_CHEAP: Final = 3e8  # ... or multiplications


@dataclass(slots=True)
class _Neuron:
    """A guess for one neuron, and its solution for any theta.

    Attributes:
        signs: (N,) -1, 0 or 1.
        held: rows whose inequalities are equalities.
        chosen: the weights that are not zero; a last index N is the bias.
        weights: (2, chosen): those of theta 0, and their change with theta.
        pulls: (2, held): nu, likewise.
        squares: of the two parts of the residual.
        pull: the multipliers of the held inequalities, at the theta of all.
    """

    signs: Array
    held: Array
    chosen: Array
    weights: Array
    pulls: Array
    squares: tuple[float, float]
    pull: Array


class Exact:
    """Guesses for all neurons, solved; `correct` makes better ones of them."""

    def __init__(self, problem: Problem, signs: Array, held: list[Array]) -> None:
        self._problem = problem
        self._neurons = [_solved(problem, column, signs[:, column], rows) for column, rows in enumerate(held)]

    def solution(self) -> tuple[Array, Array | None, Multipliers] | None:
        """Weights, bias and multipliers; None where such weights cannot come near enough to the targets."""
        problem = self._problem
        inputs, neurons = problem.shape[1:]
        fixed, moving = np.sum([neuron.squares for neuron in self._neurons], axis=0)
        left = problem.epsilon**2 - float(fixed)
        if left <= 0 or moving <= 0:
            return None
        theta = float(np.sqrt(left / moving))
        whole = np.zeros((inputs + 1, neurons))
        for column, neuron in enumerate(self._neurons):
            whole[neuron.chosen, column] = neuron.weights[0] + theta * neuron.weights[1]
            neuron.pull = neuron.pulls[0] / theta + neuron.pulls[1]
        weights, bias = whole[:inputs], whole[inputs] if problem.bias else None
        fitting = weights.astype(problem.inputs.dtype)

        def multipliers(rows: slice) -> Array:
            residual = output_of(problem, rows, fitting, bias) - problem.target[rows]
            found = np.where(problem.kind[rows] == EQUAL, residual / theta, 0.0)
            for column, neuron in enumerate(self._neurons):
                first, last = np.searchsorted(neuron.held, (rows.start, rows.stop))
                held, pull = neuron.held[first:last], neuron.pull[first:last]
                upward = problem.kind[held, column] == AT_MOST
                found[held - rows.start, column] = np.where(upward, np.maximum(pull, 0.0), np.minimum(pull, 0.0))
            return found

        return weights, bias, multipliers

    def correct(self, weights: Array, bias: Array | None, multipliers: Multipliers) -> bool:
        """Correct the guesses by what their solution contradicts; whether there was anything to correct."""
        slope = np.zeros(weights.shape)
        for rows in self._problem.blocks():
            part = self._problem.inputs[rows]
            slope += part.T @ multipliers(rows).astype(part.dtype)
        broken = broken_rows(self._problem, weights, bias, np.arange(self._problem.shape[2]))
        corrected = False
        for column, neuron in enumerate(self._neurons):
            signs = _corrected_signs(neuron.signs, weights[:, column], slope[:, column])
            upward = self._problem.kind[neuron.held, column] == AT_MOST
            kept = neuron.held[np.where(upward, neuron.pull > 0, neuron.pull < 0)]
            held = np.union1d(kept, broken.get(column, kept[:0]))
            if not (np.array_equal(signs, neuron.signs) and np.array_equal(held, neuron.held)):
                corrected = True
                self._neurons[column] = _solved(self._problem, column, signs, held)
        return corrected


def worth_while(problem: Problem, signs: Array, held: list[Array]) -> bool:
    """Whether the guess can be right, and solving it costs less than some iterations of ADMM."""
    samples, inputs, neurons = problem.shape
    support = np.count_nonzero(signs, axis=0).astype(np.float64)
    cost = samples * float(np.sum(support * support))
    cheap = cost <= max(_WORTH * 4.0 * samples * inputs * neurons, _CHEAP)
    return cheap and sum(map(len, held)) <= support.sum() + neurons


def _corrected_signs(signs: Array, weights: Array, slope: Array) -> Array:
    """Weights that turned over leave; inputs that correlate too much join."""
    kept = np.where(signs * weights > 0, signs, 0.0)
    return np.where((signs == 0) & (np.abs(slope) > 1 + _JOINS), -np.sign(slope), kept)


def held_rows(problem: Problem, multipliers: Multipliers) -> list[Array]:
    """For each neuron the inequalities that have a multiplier."""
    found: list[list[Array]] = [[np.zeros(0, np.intp)] for _ in range(problem.shape[2])]
    for rows in problem.blocks():
        active = (multipliers(rows) != 0) & (problem.kind[rows] != EQUAL)
        for column in np.flatnonzero(active.any(axis=0)):
            found[column].append(np.flatnonzero(active[:, column]) + rows.start)
    return [np.concatenate(parts) for parts in found]


def _solved(problem: Problem, column: int, signs: Array, held: Array) -> _Neuron:
    chosen = np.flatnonzero(signs)
    equal = np.flatnonzero(problem.kind[:, column] == EQUAL)
    design = _design(problem, equal, chosen)
    target = problem.target[equal, column].astype(np.float64)
    active = _design(problem, held, chosen)
    pull = np.append(signs[chosen], 0.0) if problem.bias else signs[chosen]
    gram = design.T @ design
    ridge = _RIDGE * (float(np.trace(gram)) / max(len(gram), 1) or 1.0)
    factor = cho_factor(gram + ridge * np.eye(len(gram)), lower=True)
    right = np.stack([design.T @ target, -pull])
    free = cho_solve(factor, right.T).T
    reach = cho_solve(factor, active.T)
    missing = free @ active.T - np.stack([problem.target[held, column], np.zeros(len(held))])
    schur = active @ reach
    weight = _RIDGE * (float(np.trace(schur)) / max(len(schur), 1) or 1.0)
    pulls = cho_solve(cho_factor(schur + weight * np.eye(len(schur)), lower=True), missing.T).T
    weights = free - pulls @ reach.T
    rest, move = design @ weights[0] - target, design @ weights[1]
    indices = np.append(chosen, len(signs)) if problem.bias else chosen
    return _Neuron(signs, held, indices, weights, pulls, (float(rest @ rest), float(move @ move)), pulls[0])


def _design(problem: Problem, rows: Array, chosen: Array) -> Array:
    found = problem.inputs[np.ix_(rows, chosen)].astype(np.float64)
    return np.hstack([found, np.ones((len(rows), 1))]) if problem.bias else found
