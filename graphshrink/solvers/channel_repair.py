"""Least squares through a ReLU: weights for what is left of a layer's inputs, judged by what comes out behind it.

He et al. 2017, arXiv:1707.06168, section 3.3 (in the spirit of Zhang et al. 2016, arXiv:1505.06798):

    min over W, b   ||relu(Y) - relu(X W + b)||^2

is relaxed to  min over W, b, U  ||relu(Y) - relu(U)||^2 + lam ||U - X W - b||^2, and solved in turns for U, entry by
entry and exactly, and for W and b by least squares, with a small lam at first and then a larger one.
"""

from typing import Final, NamedTuple

import numpy as np
from scipy.linalg import cho_solve

from graphshrink.ir.types import Array
from graphshrink.solvers._channel_problem import factor

SCHEDULE: Final = ((0.1, 30), (1.0, 20))
"""Values of lam, and turns with each: those of the paper's code."""
_DAMPING: Final = 1e-8  # of the mean of the diagonal of the Gram matrix


class Refit(NamedTuple):
    """What comes out.

    Attributes:
        weights: (N, M).
        bias: (M,).
        error: ||relu(Y) - relu(X W + b)||^2 over ||relu(Y)||^2, which is no larger than that of plain least squares.
        linear_error: that of plain least squares.
    """

    weights: Array
    bias: Array
    error: float
    linear_error: float


def relu_refit(inputs: Array, targets: Array, schedule: tuple[tuple[float, int], ...] = SCHEDULE) -> Refit:
    """Weights and bias for some samples, the best of all turns.

    Args:
        inputs: (P, N) X, of the channels that are kept.
        targets: (P, M) Y, before the ReLU.
        schedule: values of lam, and how many turns are taken with each.
    """
    fit = _LeastSquares(inputs)
    wanted = np.maximum(targets, 0.0, dtype=np.float64)
    energy = float(np.vdot(wanted, wanted)) or 1.0

    def error(outputs: Array) -> float:
        missed = wanted - np.maximum(outputs, 0.0)
        return float(np.vdot(missed, missed)) / energy

    weights, bias, outputs = fit(np.asarray(targets, np.float64))
    linear = error(outputs)
    best = Refit(weights, bias, linear, linear)
    for lam in (lam for lam, turns in schedule for _ in range(turns)):
        weights, bias, outputs = fit(before_relu(wanted, outputs, lam))
        now = error(outputs)
        if now < best.error:
            best = Refit(weights, bias, now, linear)
    return best


def before_relu(wanted: Array, outputs: Array, lam: float) -> Array:
    """The U of least (wanted - relu(U))^2 + lam (U - outputs)^2, entry by entry; wanted is at least 0, lam above 0."""
    off = np.minimum(outputs, 0.0)
    on = np.maximum((lam * outputs + wanted) / (lam + 1.0), 0.0)
    off_cost = wanted**2 + lam * (off - outputs) ** 2
    on_cost = (wanted - on) ** 2 + lam * (on - outputs) ** 2
    return np.where(off_cost < on_cost, off, on)


class _LeastSquares:
    """Fits to the same inputs again and again: weights (N, M), bias (M,) and outputs (P, M)."""

    def __init__(self, inputs: Array) -> None:
        self._mean: Array = inputs.mean(axis=0, dtype=np.float64)
        self._inputs: Array = inputs - self._mean
        gram = self._inputs.T @ self._inputs
        gram += _DAMPING * float(np.trace(gram)) / max(len(gram), 1) * np.eye(len(gram))
        self._factor = factor(gram)

    def __call__(self, targets: Array) -> tuple[Array, Array, Array]:
        middle: Array = targets.mean(axis=0)
        weights = np.asarray(cho_solve((self._factor, True), self._inputs.T @ (targets - middle), check_finite=False))
        return weights, middle - self._mean @ weights, self._inputs @ weights + middle
