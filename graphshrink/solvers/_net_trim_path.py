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
_EACH: Final = 100  # iterations of a trial, at most
_COUNTING: Final = Residuals(primal=1e-3, dual=2e-2)
_NEAR: Final = 0.02  # relative difference to the wanted number that is near enough
_CORRECTIONS: Final = 6
_STEP: Final = 1.0  # of the logarithm of epsilon, until the wanted number is enclosed


@dataclass(slots=True)
class _Search:
    """What is known of the number of weights at each epsilon: logarithms of both, at the two nearest epsilons.

    Attributes:
        low: the largest epsilon that gives too many weights, and how many.
        high: the smallest epsilon that gives too few.
        trials: how many there were.
    """

    wanted: float
    low: tuple[float, float] | None = None
    high: tuple[float, float] | None = None
    trials: int = 0

    def ends(self, epsilon: float, count: int, least: float) -> bool:
        """Note a trial; whether it is near enough, or there is nothing below."""
        self.trials += 1
        at = (math.log(epsilon), math.log(max(count, 0.5)))
        if at[1] > math.log(self.wanted):
            self.low = at
        else:
            self.high = at
        return abs(count - self.wanted) <= _NEAR * self.wanted or (epsilon <= least and count < self.wanted)

    def next(self, least: float, most: float) -> float:
        """The epsilon to try, between what is known and within limits."""
        if self.low is None or self.high is None:
            known = self.low if self.high is None else self.high
            if known is None:
                return most * _FIRST
            away = min(max(known[1] - math.log(self.wanted), -_STEP), _STEP)
            return min(max(math.exp(known[0] + away), least), most)
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
        if search.ends(epsilon, int(np.count_nonzero(admm.weights)), least):
            break
        epsilon = search.next(least, most)
    search = _Search(wanted)  # anew: what was counted half way is a little wrong
    while True:
        found = advanced(admm, replace(problem, epsilon=epsilon), tolerance, iterations)
        if search.ends(epsilon, int(np.count_nonzero(found.weights)), least) or search.trials > _CORRECTIONS:
            return found
        epsilon = search.next(least, most)
