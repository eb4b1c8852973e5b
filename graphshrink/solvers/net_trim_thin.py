"""What a refit gains is spent: weights that move the outputs least are dropped while a bound on the residual holds.

The l1 norm finds more weights than the bound needs, since it also makes those it keeps smaller; fitted once more, they
are better than they have to be. A few at a time go, and the others are fitted to what is missing then.
"""

from typing import Final

import numpy as np

from graphshrink.ir.types import Array
from graphshrink.solvers.net_trim import Problem
from graphshrink.solvers.net_trim_refit import Refitted, refit

_SHARE: Final = 0.1  # of the weights that are left, dropped at a time; half of it where that is too much ...
_LEAST: Final = 0.02  # ... down to this
_ROUNDS: Final = 15  # of a refit in between


def thin(problem: Problem, fitted: Refitted, limit: float) -> Refitted:
    """Drop weights as long as the residual stays within a limit.

    Args:
        problem: as it was solved.
        fitted: weights with zeros, which stay.
        limit: on what a refit minimises, the residual with breaches of the inequalities.
    """
    share = _SHARE
    strength = np.sqrt(np.einsum("ij,ij->j", problem.inputs, problem.inputs, dtype=np.float64))[:, None]
    while share >= _LEAST and fitted.weights.any():
        tried = refit(problem, _without(fitted.weights, strength, share), fitted.bias, _ROUNDS)
        if tried.residual <= limit:
            fitted = tried
        else:
            share /= 2
    return fitted


def _without(weights: Array, strength: Array, share: float) -> Array:
    """The weights less a share of them, at least one: those that move the outputs least."""
    moves = (np.abs(weights) * strength).reshape(-1)
    there = np.flatnonzero(weights)
    weakest = there[np.argsort(moves[there], kind="stable")[: max(1, int(share * there.size))]]
    left = weights.copy().reshape(-1)
    left[weakest] = 0.0
    return left.reshape(weights.shape)
