"""A certified lower bound on Net-Trim's optimum, from any multipliers.

With a multiplier L for each entry of `X W + b - T`, the Lagrangian is at least

    d(L) = -<L, T> - epsilon * ||L over EQUAL||_F

for all W, as long as |X^T L| <= 1, every column of L sums up to 0 where there is a bias, and L is >= 0 where AT_MOST
and <= 0 where AT_LEAST. Multipliers that miss this by a little are first made to fit: sums by a shift over the
column's EQUAL entries, sizes by a factor for each column.
"""

from collections.abc import Callable

import numpy as np

from graphshrink.ir.types import Array
from graphshrink.solvers._net_trim_problem import EQUAL, Problem

Multipliers = Callable[[slice], Array]
"""The multipliers of some rows, with the right signs."""


def lower_bound(problem: Problem, multipliers: Multipliers) -> float:
    """The l1 norm that no weights within the constraints can go below."""
    inputs, neurons = problem.shape[1:]
    slope = np.zeros((inputs, neurons))  # X^T L
    reach = np.zeros((inputs, neurons))  # X^T 1 over EQUAL
    sums, on_equal, counts, with_target, of_target, squares = np.zeros((6, neurons))
    for rows in problem.blocks():
        values = multipliers(rows)
        target, part = problem.target[rows], problem.inputs[rows]
        equal = problem.kind[rows] == EQUAL
        slope += part.T @ values.astype(part.dtype)
        with_target += np.einsum("ij,ij->j", values, target, dtype=np.float64)
        squares += np.einsum("ij,ij,ij->j", values, values, equal, dtype=np.float64)
        counts += equal.sum(axis=0)
        if problem.bias:
            reach += part.T @ equal.astype(part.dtype)
            sums += values.sum(axis=0, dtype=np.float64)
            on_equal += np.einsum("ij,ij->j", values, equal, dtype=np.float64)
            of_target += np.einsum("ij,ij->j", target, equal, dtype=np.float64)
    if problem.bias:
        shift = sums / np.maximum(counts, 1)
        slope -= shift * reach
        with_target -= shift * of_target
        squares = squares - 2 * shift * on_equal + shift * shift * counts
    usable = (counts > 0) | (not problem.bias)
    factor = np.where(usable, 1 / np.maximum(np.abs(slope).max(axis=0, initial=0.0), 1.0), 0.0)
    norm = np.sqrt(np.sum(factor * factor * np.maximum(squares, 0.0)))
    ball = problem.epsilon * float(norm) if norm > 0 else 0.0
    return max(0.0, -float(factor @ with_target) - ball)
