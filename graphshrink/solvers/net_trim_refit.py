"""What is left of a layer's weights, fitted once more.

The l1 norm that finds which weights to keep also makes those smaller than they need be. With the zeros fixed, the rest
is a least-squares problem: residuals over the EQUAL entries, and breaches of the others, which count where they are.
It is convex and piecewise quadratic; conjugate gradients, with a step of its own for each neuron, need two products
with the inputs each.
"""

from dataclasses import dataclass
from typing import Final

import numpy as np

from graphshrink.ir.types import Array
from graphshrink.solvers.net_trim import AT_LEAST, AT_MOST, Problem

_ROUNDS: Final = 40
_HALVINGS: Final = 4  # of a step that leads too far
_ENOUGH: Final = 1e-4  # of the first gradient


@dataclass(frozen=True, slots=True)
class Refitted:
    """Weights (N, M) with the zeros they had, a bias (M,) or None, and the root of what was minimised."""

    weights: Array
    bias: Array | None
    residual: float


def refit(problem: Problem, weights: Array, bias: Array | None, rounds: int = _ROUNDS) -> Refitted:
    """Fit the weights that are not zero, and the bias, to the targets.

    Args:
        problem: as it was solved; its epsilon does not matter.
        weights: (N, M), whose zeros stay.
        bias: (M,), or None where there is none.
        rounds: at most.
    """
    state = _State(problem, weights, bias)
    for _ in range(rounds):
        if not state.step():
            break
    return Refitted(state.weights, state.bias if bias is not None else None, state.loss**0.5)


class _State:
    """Conjugate gradients on all neurons side by side; the best weights of each neuron so far are kept."""

    def __init__(self, problem: Problem, weights: Array, bias: Array | None) -> None:
        x = problem.inputs
        self._problem = problem
        self._kept = weights != 0
        self._has_bias = bias is not None
        energy = np.einsum("ij,ij->j", x, x, dtype=np.float64)
        # Diagonal preconditioning: inputs of very different sizes are common behind a normalisation.
        self._scale = 1.0 / np.maximum(energy, np.finfo(np.float64).tiny + 1e-9 * energy.max(initial=0.0))[:, None]
        self.weights = weights.astype(np.float64)
        self.bias = np.zeros(weights.shape[1]) if bias is None else bias.astype(np.float64)
        self._residual: Array = self._product(self.weights, self.bias) - problem.target
        self._losses, self._gradient, self._bias_gradient = self._look(self._residual)
        self._direction, self._bias_direction = self._steepest()
        self._energy = self._inner()
        self._first = self._energy.sum()

    @property
    def loss(self) -> float:
        """Squared residuals and breaches of all neurons."""
        return float(self._losses.sum())

    def step(self) -> bool:
        """One round; says whether another one is worth while."""
        moved = self._product(self._direction, self._bias_direction)
        active = self._active(self._residual)
        slope = np.sum(self._gradient * self._direction, axis=0) + self._bias_gradient * self._bias_direction
        curvature = np.einsum("ij,ij->j", moved * active, moved, dtype=np.float64)
        length = np.where(curvature > 0, -slope / np.maximum(curvature, np.finfo(np.float64).tiny), 0.0)
        length = self._shortened(length, moved)
        self.weights = self.weights + length * self._direction
        self.bias = self.bias + length * self._bias_direction
        self._residual = self._residual + (length * moved).astype(moved.dtype)
        before, old = self._energy, (self._gradient, self._bias_gradient)
        self._losses, self._gradient, self._bias_gradient = self._look(self._residual)
        self._energy = self._inner()
        change = np.maximum(self._energy - self._inner(*old), 0.0)
        factor = np.where((before > 0) & (length > 0), change / np.maximum(before, np.finfo(np.float64).tiny), 0.0)
        steepest, bias_steepest = self._steepest()
        self._direction = steepest + factor * self._direction
        self._bias_direction = bias_steepest + factor * self._bias_direction
        return bool(self._energy.sum() > _ENOUGH**2 * self._first)

    def _shortened(self, length: Array, moved: Array) -> Array:
        """Halve the steps of those neurons that would get worse: the pieces of the quadratic change on the way."""
        for _ in range(_HALVINGS):
            worse = self._is_worse(length, moved)
            if not worse.any():
                return length
            length = np.where(worse, length / 2, length)
        return np.where(self._is_worse(length, moved), 0.0, length)

    def _is_worse(self, length: Array, moved: Array) -> Array:
        worse: Array = self._losses_of(self._residual + (length * moved).astype(moved.dtype)) > self._losses
        return worse

    def _product(self, weights: Array, bias: Array) -> Array:
        x = self._problem.inputs
        made: Array = x @ weights.astype(x.dtype) + bias.astype(x.dtype)
        return made

    def _active(self, residual: Array) -> Array:
        """Entries that count: EQUAL ones, and inequalities that are broken."""
        kind = self._problem.kind
        active: Array = ~((kind == AT_MOST) & (residual < 0)) & ~((kind == AT_LEAST) & (residual > 0))
        return active

    def _losses_of(self, residual: Array) -> Array:
        counted = np.where(self._active(residual), residual, 0)
        losses: Array = np.einsum("ij,ij->j", counted, counted, dtype=np.float64)
        return losses

    def _look(self, residual: Array) -> tuple[Array, Array, Array]:
        counted = np.where(self._active(residual), residual, 0)
        gradient = (self._problem.inputs.T @ counted).astype(np.float64) * self._kept
        bias = counted.sum(axis=0, dtype=np.float64) * self._has_bias
        return np.einsum("ij,ij->j", counted, counted, dtype=np.float64), gradient, bias

    def _steepest(self) -> tuple[Array, Array]:
        return -self._scale * self._gradient, -self._bias_gradient / len(self._problem.inputs)

    def _inner(self, gradient: Array | None = None, bias_gradient: Array | None = None) -> Array:
        """The gradient's product with another one, or with itself, after preconditioning; for each neuron."""
        other = self._gradient if gradient is None else gradient
        bias = self._bias_gradient if bias_gradient is None else bias_gradient
        inner: Array = np.sum(self._scale * self._gradient * other, axis=0)
        return inner + self._bias_gradient * bias / len(self._problem.inputs)
