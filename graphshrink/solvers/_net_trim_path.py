"""The epsilon that gives a wanted share of weights that are not zero.

The number of weights falls, by and large, as epsilon grows, and smoothly on logarithmic scales. So epsilon is
searched for there: by interpolation between two that enclose the wanted number, on one run of ADMM that goes on from
each epsilon to the next, only as far as counting needs.
"""

import math
from dataclasses import dataclass, replace
from typing import Final

import numpy as np

from graphshrink.solvers._net_trim_admm import Admm, Residuals
from graphshrink.solvers._net_trim_finish import nothing
from graphshrink.solvers._net_trim_iterate import advanced
from graphshrink.solvers._net_trim_problem import Problem, Solution

_RANGE: Final = (1e-3, 1.0)  # of the residual of zero weights
_FIRST: Final = 0.1
_TRIALS: Final = 12
_EACH: Final = 60  # iterations of a trial, at most
_COUNTING: Final = Residuals(primal=2e-3, dual=2e-2)
_NEAR: Final = 0.02  # relative difference to the wanted number that is near enough
_CORRECTIONS: Final = 3


@dataclass(slots=True)
class _Search:
    """What is known of the number of weights at each epsilon: logarithms of both, at the two nearest epsilons.

    Attributes:
        low: the largest epsilon that gives too many weights, and how many.
        high: the smallest epsilon that gives too few.
    """

    wanted: float
    low: tuple[float, float] | None = None
    high: tuple[float, float] | None = None

    def learn(self, epsilon: float, count: float) -> None:
        """Note a trial."""
        at = (math.log(epsilon), math.log(max(count, 0.5)))
        if at[1] > math.log(self.wanted):
            self.low = at
        else:
            self.high = at

    def next(self, least: float, most: float) -> float:
        """The epsilon to try, between what is known and within limits."""
        if self.low is None or self.high is None:
            factor, known = (1 / 3, self.high) if self.low is None else (3.0, self.low)
            guess = math.exp(known[0]) * factor if known is not None else most * _FIRST
            return min(max(guess, least), most)
        slope = (self.high[0] - self.low[0]) / (self.high[1] - self.low[1])
        guess = self.low[0] + slope * (math.log(self.wanted) - self.low[1])
        margin = 0.1 * (self.high[0] - self.low[0])
        return math.exp(min(max(guess, self.low[0] + margin), self.high[0] - margin))


def by_density(problem: Problem, density: float, tolerance: float, iterations: int) -> Solution:
    """Solve a problem whose epsilon is free, so that about `density` of its weights are not zero."""
    inputs, neurons = problem.shape[1:]
    wanted = density * inputs * neurons
    most = nothing(replace(problem, epsilon=math.inf)).residual
    if wanted < 1 or most == 0:
        return nothing(replace(problem, epsilon=most))
    least = _RANGE[0] * most
    search = _Search(wanted)
    epsilon = search.next(least, most)
    admm = Admm(replace(problem, epsilon=epsilon))
    for _ in range(_TRIALS):
        admm.run(epsilon, _EACH, _COUNTING)
        count = int(np.count_nonzero(admm.weights))
        search.learn(epsilon, count)
        if abs(count - wanted) <= _NEAR * wanted or (epsilon == least and count < wanted):
            break
        epsilon = search.next(least, most)
    return _corrected(admm, replace(problem, epsilon=epsilon), search, (tolerance, iterations, least, most))


def _corrected(admm: Admm, problem: Problem, search: _Search, limits: tuple[float, int, float, float]) -> Solution:
    """Solve to the end; the last digits move the number of weights a little."""
    tolerance, iterations, least, most = limits
    found = advanced(admm, problem, tolerance, iterations)
    for _ in range(_CORRECTIONS):
        count = np.count_nonzero(found.weights)
        if abs(count - search.wanted) <= _NEAR * search.wanted or (found.epsilon == least and count < search.wanted):
            break
        away = (count / search.wanted) ** 0.5
        epsilon = min(max(found.epsilon * away, least), most)
        found = advanced(admm, replace(problem, epsilon=epsilon), tolerance, iterations)
    return found
