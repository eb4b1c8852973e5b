"""A problem without inequalities, with at most as many rows as inputs, however many samples there are.

    ||X W + b - T||²  =  ||R W - S||² + rest²      R = D V^T,  S = D^-1 V^T Xc^T Tc,  Xc^T Xc = V D² V^T

Xc and Tc are inputs and targets without their means where there is a bias, which is then what is best for any weights.
`rest` is what no weights reach.
"""

from dataclasses import dataclass, replace
from typing import Final

import numpy as np

from graphshrink.ir.types import Array
from graphshrink.solvers._net_trim_problem import EQUAL, Problem, Solution, square_of

_RANK: Final = 1e-12  # of the largest eigenvalue: what is below it is rounding
_WORTH: Final = 0.8  # of the rows: with more left than that, there is nothing to gain


@dataclass(frozen=True, slots=True)
class Reduced:
    """A problem with few rows, and the way back.

    Attributes:
        whole: the problem as it was.
        problem: the same without its bias and without what no weights reach.
        means: (N,) of inputs and (M,) of targets.
        rest: Frobenius norm of what no weights reach.
    """

    whole: Problem
    problem: Problem
    means: tuple[Array, Array]
    rest: float

    def back(self, solution: Solution) -> Solution:
        """The solution of the problem as it was."""
        inputs, targets = self.means
        bias = targets - inputs @ solution.weights if self.whole.bias else None
        residual, epsilon = (float(np.hypot(part, self.rest)) for part in (solution.residual, solution.epsilon))
        return replace(solution, bias=bias, residual=residual, epsilon=epsilon)


def reduced(problem: Problem) -> Reduced | None:
    """A problem with fewer rows; None where it has inequalities, or has few rows already."""
    samples, inputs, neurons = problem.shape
    if inputs > _WORTH * samples or problem.kind.any():
        return None
    gram, cross, energy = np.zeros((inputs, inputs)), np.zeros((inputs, neurons)), 0.0
    means = (_mean(problem, problem.inputs), _mean(problem, problem.target))
    for rows in problem.blocks():
        x, t = problem.inputs[rows] - means[0], problem.target[rows] - means[1]
        gram += x.T @ x
        cross += x.T @ t
        energy += square_of(t)
    squares, vectors = np.linalg.eigh(gram)
    there = squares > _RANK * max(float(squares[-1]), 0.0)
    if not there.any():
        return None
    roots = np.sqrt(squares[there])
    left = vectors[:, there].T * roots[:, None]
    target = (vectors[:, there].T @ cross) / roots[:, None]
    rest = float(np.sqrt(max(energy - square_of(target), 0.0)))
    epsilon = float(np.sqrt(max(problem.epsilon**2 - rest**2, 0.0)))
    small = Problem(left, target, np.full(target.shape, EQUAL, np.uint8), epsilon)
    return Reduced(problem, small, means, rest)


def _mean(problem: Problem, values: Array) -> Array:
    width: int = values.shape[1]
    if not problem.bias:
        return np.zeros(width)
    mean: Array = np.einsum("pn->n", values, dtype=np.float64) / len(values)
    return mean
