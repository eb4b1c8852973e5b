"""Net-Trim's convex program for one layer, its answer, and what is measured of any weights.

    minimise ||W||_1   over W (N, M), and a bias b (M,) that costs nothing
    so that  ||X W + b - T||_F <= epsilon   over the entries that are EQUAL
             X W + b <= T                   where AT_MOST
             X W + b >= T                   where AT_LEAST

One ball holds the residuals of all neurons, so they share one multiplier; all else falls apart into columns.

Source: Aghasi et al. 2016, "Net-Trim: Convex Pruning of Deep Neural Networks with Performance Guarantee",
arXiv:1611.05162.
"""

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Final

import numpy as np

from graphshrink.errors import CalibrationError, InternalError
from graphshrink.ir.types import Array

EQUAL: Final = 0
AT_MOST: Final = 1
AT_LEAST: Final = 2

BREACH: Final = 1e-4
"""By how much constraints may be broken: inequalities relative to the targets' scale, the residual to epsilon."""
TOLERANCE: Final = 1e-3
"""On the gap, where nothing else is asked for."""
_ROUNDING: Final = 1e-6  # of the targets' norm: what float32 leaves of a residual of zero
_BLOCK: Final = 1 << 20  # entries of a block of rows: few enough to stay near the processor


@dataclass(frozen=True, slots=True)
class Problem:
    """One layer's program.

    Attributes:
        inputs: (P, N) float32 or float64, one row a sample.
        target: (P, M), the values to reach, or the bounds to keep.
        kind: (P, M) uint8: EQUAL, AT_MOST or AT_LEAST for each entry of the target.
        epsilon: bound on the Frobenius norm of the residual over the EQUAL entries; infinity bounds nothing.
        bias: whether there is a free bias, as of a column of ones in the inputs.
    """

    inputs: Array
    target: Array
    kind: Array
    epsilon: float
    bias: bool = False

    def __post_init__(self) -> None:
        if self.inputs.ndim != 2 or self.target.ndim != 2 or len(self.inputs) != len(self.target):
            raise InternalError(f"net-trim: inputs {self.inputs.shape} and targets {self.target.shape} do not fit")
        if self.kind.shape != self.target.shape or self.kind.dtype != np.uint8 or self.kind.max(initial=0) > AT_LEAST:
            raise InternalError("net-trim: kind needs uint8 in 0, 1 or 2 for every target")
        if not self.epsilon >= 0.0:
            raise InternalError(f"net-trim: epsilon is {self.epsilon}, needs 0 or more")
        for name, values in (("inputs", self.inputs), ("targets", self.target)):
            if not _finite(values):
                raise CalibrationError(f"net-trim: the layer's {name} hold NaN or infinity")

    @property
    def shape(self) -> tuple[int, int, int]:
        """P, N and M: samples, inputs and neurons."""
        return (*self.inputs.shape, self.target.shape[1])

    def blocks(self) -> Iterator[slice]:
        """Slices of rows, in order, small enough to work on at once."""
        samples, inputs, neurons = self.shape
        height = min(max(_BLOCK // max(inputs, neurons, 1), 256), 4096)
        for start in range(0, samples, height):
            yield slice(start, min(start + height, samples))

    def norm(self) -> float:
        """The Frobenius norm of the EQUAL targets."""
        return float(np.sqrt(sum(square_of(self.target[rows] * (self.kind[rows] == EQUAL)) for rows in self.blocks())))

    def scale(self) -> float:
        """Root mean square of the EQUAL targets, else of all, else 1."""
        equal = int(np.count_nonzero(self.kind == EQUAL))
        of_equal = self.norm() / np.sqrt(max(equal, 1))
        of_all = np.sqrt(sum(square_of(self.target[rows]) for rows in self.blocks()) / max(self.target.size, 1))
        return float(of_equal or of_all or 1.0)


@dataclass(frozen=True, slots=True)
class Solution:
    """Weights for a problem, and how good they are.

    Attributes:
        weights: (N, M) float64 with exact zeros.
        bias: (M,) or None.
        objective: the weights' l1 norm.
        epsilon: the bound on the residual that was solved for.
        violation: the largest breach of an inequality, relative to `Problem.scale`.
        residual: Frobenius norm over the EQUAL entries.
        gap: (objective - bound) / objective, where the bound on the optimum is certified by multipliers that are
            feasible in the dual program. It may be slightly negative, since constraints may be broken by `BREACH`.
        bound: that bound; no weights that keep all constraints have a smaller l1 norm.
        iterations: of ADMM, or rounds of adding constraints.
        converged: whether constraints hold to `BREACH`, and the gap to the tolerance that was asked for.
        reason: why it did not converge, else None.
        warnings: what the caller should know of the problem, such as too few samples.
        solver: "admm", "cvxpy", or "none" where zeros are the answer.
    """

    weights: Array
    bias: Array | None
    objective: float
    epsilon: float
    violation: float
    residual: float
    gap: float
    bound: float
    iterations: int
    converged: bool
    reason: str | None
    solver: str
    warnings: tuple[str, ...] = field(default=())


@dataclass(frozen=True, slots=True)
class Breach:
    """How far weights are from keeping the constraints."""

    residual: float
    violation: float

    def keeps_inequalities(self) -> bool:
        """Whether they hold, nearly enough."""
        return self.violation <= BREACH

    def keeps_ball(self, problem: Problem) -> bool:
        """Whether the residual is small enough."""
        return self.residual <= problem.epsilon * (1 + BREACH) + _ROUNDING * problem.norm()


def excess(residual: Array, kind: Array) -> Array:
    """By how much each inequality is broken; 0 where it holds, and where the entry is EQUAL."""
    found = np.zeros_like(residual)
    np.maximum(residual, 0, out=found, where=kind == AT_MOST)
    np.maximum(-residual, 0, out=found, where=kind == AT_LEAST)
    return found


def output_of(problem: Problem, rows: slice, weights: Array, bias: Array | None) -> Array:
    """What the layer gives for some rows."""
    output = problem.inputs[rows] @ weights
    return output if bias is None else output + bias


def breach_of(problem: Problem, weights: Array, bias: Array | None) -> Breach:
    """Measure the constraints."""
    square, worst = 0.0, 0.0
    fitting = weights.astype(problem.inputs.dtype)
    for rows in problem.blocks():
        residual = output_of(problem, rows, fitting, bias) - problem.target[rows]
        kind = problem.kind[rows]
        square += square_of(residual * (kind == EQUAL))
        worst = max(worst, float(excess(residual, kind).max(initial=0.0)))
    return Breach(float(np.sqrt(square)), worst / problem.scale())


def square_of(values: Array) -> float:
    """The square of the Frobenius norm."""
    return float(np.einsum("ij,ij->", values, values, dtype=np.float64))


def _finite(values: Array) -> bool:
    return all(bool(np.isfinite(values[start : start + 4096]).all()) for start in range(0, len(values), 4096))
