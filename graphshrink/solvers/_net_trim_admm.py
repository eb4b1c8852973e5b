"""Net-Trim by the alternating direction method of multipliers, over all neurons of a layer at once.

Outputs Z = X V + b and weights W = V are split off, each with its own scaled multiplier, and steps are over-relaxed:

    V <- (X^T X + tau I)^-1 (X^T (Z - U) + tau (W - U'))     one inverse, until tau changes
    Z <- projection onto the ball and the half-lines of   alpha (X V) + (1 - alpha) Z + U
    W <- soft threshold of                                alpha V + (1 - alpha) W + U',   by 1 / (rho tau)

Of each pair only the point before the projection is kept, here less the target: Z and U follow from it. So a layer
takes one (P, M) array beside its data, and rows are worked on in blocks.

rho follows the ratio of the residuals. At first primal ones are held much smaller: how far W is from the optimum
depends on them, while the dual ones only widen the certified gap.

Source: Boyd et al. 2011, "Distributed Optimization and Statistical Learning via ADMM", sections 3.4 and 6.4.
"""

from dataclasses import dataclass
from typing import Final

import numpy as np
from scipy.linalg import cho_factor, cho_solve

from graphshrink.ir.types import Array
from graphshrink.solvers._net_trim_problem import AT_LEAST, EQUAL, Problem, output_of, square_of

_RELAXATION: Final = 1.85
_TAU: Final = 0.1  # of the mean of X^T X's diagonal
_RIDGE: Final = 1e-3  # of the same, for the first guess of the weights' size
_CHECK: Final = 10  # iterations between two looks at the residuals
_LEAN: Final = (12.0, 3.0)  # the dual residual that balances a primal one of 1: at first, and later
_FIRST: Final = 150  # iterations
_BAND: Final = 1.6  # rho stays while it is right up to this factor
_MOST_CHANGE: Final = 5.0
_FARTHEST: Final = 1e6  # from the first rho: with constraints that contradict each other it would go on for ever
_TIMES_EPSILON: Final = 3.0  # what residuals of outputs are measured by, where that is less than the outputs ...
_LEAST: Final = 1e-3  # ... but not less than this part of them


@dataclass(frozen=True, slots=True)
class Residuals:
    """What is left to do, each relative to the terms it is a difference of."""

    primal: float
    dual: float


class Admm:
    """The state of a run; further calls of `run` go on where the last one ended, if need be with another epsilon."""

    def __init__(self, problem: Problem, start: Array | None = None) -> None:
        self.iterations = 0
        self._problem = problem
        samples, inputs, neurons = problem.shape
        self._any_at_least = bool(np.any(problem.kind == AT_LEAST))
        self.gram, self._moment = moments(problem)
        mean = float(np.diag(self.gram)[:inputs].mean()) or 1.0
        if start is not None:  # inputs that are always zero need no weights
            start = np.where(np.diag(self.gram)[:inputs, np.newaxis] > 0, start, 0.0)
        guess = start if start is not None else _solved(self.gram, _RIDGE * mean, inputs, self._moment)[:inputs]
        self._tau = _TAU * mean
        self._rho = 1 / (self._tau * (float(np.abs(guess).mean()) or 1.0))
        self._first_rho = self._rho
        self._inverse = _solved(self.gram, self._tau, inputs, np.eye(len(self.gram)))
        self._bias = np.zeros(neurons)
        self._before = np.zeros((inputs, neurons)) if start is None else start.copy()
        self._beyond = np.empty((samples, neurons), problem.inputs.dtype)  # less the target
        for rows in problem.blocks():
            known = 0 if start is None else output_of(problem, rows, start.astype(problem.inputs.dtype), None)
            self._beyond[rows] = known - problem.target[rows]
        self._ratio = self._ball(problem.epsilon)

    @property
    def weights(self) -> Array:
        """The sparse weights."""
        return np.sign(self._before) * np.maximum(np.abs(self._before) - 1 / (self._rho * self._tau), 0.0)

    @property
    def bias(self) -> Array | None:
        """The bias, None where the problem has none."""
        return self._bias if self._problem.bias else None

    def multipliers(self, rows: slice) -> Array:
        """Of the constraints on some rows, in the sense of `_net_trim_bound`."""
        beyond = self._beyond[rows]
        return self._rho * (beyond - self._projected(beyond, self._problem.kind[rows]))

    def run(self, epsilon: float, most: int, goal: Residuals) -> Residuals:
        """Iterate until both residuals are at their goals, or `most` times."""
        self._ratio = self._ball(epsilon)
        found = Residuals(np.inf, np.inf)
        for step in range(1, most + 1):
            if step % _CHECK != 0 and step < most:
                self._step(epsilon)
                continue
            found = self._watched_step(epsilon)
            if found.primal <= goal.primal and found.dual <= goal.dual:
                break
            self._adapt(found, epsilon)
        return found

    def _watched_step(self, epsilon: float) -> Residuals:
        """A step that also measures the point it started from."""
        inputs, weights = self._problem.shape[1], self.weights
        slope = np.zeros_like(self._moment)  # X^T L, which has to cancel the multipliers of the weights
        for rows in self._problem.blocks():
            slope += _transposed(self._problem, rows, self.multipliers(rows))
        of_weights = self._rho * self._tau * (self._before - weights)
        slope[:inputs] += of_weights
        dual = _relative(slope, of_weights)
        split, total, dense = self._step(epsilon)
        split /= max(min(total, _TIMES_EPSILON * epsilon), _LEAST * total) or 1.0
        return Residuals(max(split, _relative(dense - weights, weights, dense)), dual)

    def _step(self, epsilon: float) -> tuple[float, float, Array]:
        """One iteration; gives the residual of X V = Z, the norm of X V, and V."""
        problem, inputs = self._problem, self._problem.shape[1]
        weights = self.weights
        right = self._moment.copy()
        right[:inputs] += self._tau * (2 * weights - self._before)
        for rows in problem.blocks():
            beyond = self._beyond[rows]
            right += _transposed(problem, rows, 2 * self._projected(beyond, problem.kind[rows]) - beyond)
        solved = self._inverse @ right
        dense = solved[:inputs]
        if problem.bias:
            self._bias = solved[inputs]
        split, total = self._move(dense)
        self._before += _RELAXATION * (dense - weights)
        self._ratio = self._ball(epsilon)
        self.iterations += 1
        return split, total, dense

    def _move(self, dense: Array) -> tuple[float, float]:
        """The relaxed step of the outputs; gives the residual of X V = Z, and the norm of X V."""
        problem, square, total = self._problem, 0.0, 0.0
        dtype = self._beyond.dtype
        fitting, bias = dense.astype(dtype), self._bias.astype(dtype)
        for rows in problem.blocks():
            beyond = self._beyond[rows]
            output = output_of(problem, rows, fitting, bias)
            total += square_of(output)
            output -= problem.target[rows]
            output -= self._projected(beyond, problem.kind[rows])
            square += square_of(output)
            output *= _RELAXATION
            beyond += output
        return float(np.sqrt(square)), float(np.sqrt(total))

    def _projected(self, beyond: Array, kind: Array) -> Array:
        """The projection onto what the constraints allow, less the target."""
        inside = np.where(kind == EQUAL, beyond * beyond.dtype.type(self._ratio), np.minimum(beyond, 0))
        return np.where(kind == AT_LEAST, np.maximum(beyond, 0), inside) if self._any_at_least else inside

    def _ball(self, epsilon: float) -> float:
        """By what the EQUAL entries have to be multiplied to lie in the ball."""
        problem = self._problem
        square = sum(square_of(self._beyond[rows] * (problem.kind[rows] == EQUAL)) for rows in problem.blocks())
        return min(1.0, epsilon / float(np.sqrt(square))) if square > 0 else 1.0

    def _adapt(self, found: Residuals, epsilon: float) -> None:
        """Change rho, and the scaled multipliers with it."""
        change = float(np.sqrt(_LEAN[self.iterations > _FIRST] * found.primal / max(found.dual, 1e-12)))
        change = min(max(change, 1 / _MOST_CHANGE), _MOST_CHANGE)
        so_far = self._rho / self._first_rho
        change = min(max(change, 1 / (_FARTHEST * so_far)), _FARTHEST / so_far)
        if 1 / _BAND < change < _BAND:
            return
        weights = self.weights
        self._before = weights + (self._before - weights) / change
        for rows in self._problem.blocks():
            beyond = self._beyond[rows]
            projected = self._projected(beyond, self._problem.kind[rows])
            beyond[:] = projected + (beyond - projected) / beyond.dtype.type(change)
        self._rho *= change
        self._ratio = self._ball(epsilon)


def moments(problem: Problem) -> tuple[Array, Array]:
    """X^T X and X^T T in float64, with a last row (and column) for the bias where there is one."""
    width = problem.shape[1] + problem.bias
    gram, moment = np.zeros((width, width)), np.zeros((width, problem.shape[2]))
    for rows in problem.blocks():
        # Products of float32 would leave a matrix that is not definite where inputs say the same.
        part = _with_ones(problem.inputs[rows].astype(np.float64), problem.bias)
        gram += part.T @ part
        moment += part.T @ problem.target[rows].astype(np.float64)
    return gram, moment


def _with_ones(inputs: Array, bias: bool) -> Array:
    return np.hstack([inputs, np.ones((len(inputs), 1), inputs.dtype)]) if bias else inputs


def _transposed(problem: Problem, rows: slice, values: Array) -> Array:
    """X^T times some rows of values, with the bias's row."""
    part = problem.inputs[rows]
    found = part.T @ values.astype(part.dtype, copy=False)
    return np.vstack([found, values.sum(axis=0, dtype=np.float64)]) if problem.bias else found


def _solved(gram: Array, ridge: float, inputs: int, right: Array) -> Array:
    """(X^T X + ridge I)^-1 times something; the bias gets no ridge but what keeps the factor safe."""
    regular = gram.copy()
    diagonal = np.arange(len(gram))
    regular[diagonal, diagonal] += np.where(diagonal < inputs, ridge, 1e-9 * ridge)
    return cho_solve(cho_factor(regular, lower=True, overwrite_a=True), right)


def _relative(difference: Array, *terms: Array) -> float:
    size = max(float(np.linalg.norm(term)) for term in terms)
    return float(np.linalg.norm(difference)) / size if size > 0 else float(np.linalg.norm(difference))
