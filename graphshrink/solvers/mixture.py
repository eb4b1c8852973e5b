"""Soft weight-sharing: a mixture of normal distributions for weights, one of which stays at zero.

Ullrich, Meeds and Welling 2017, "Soft Weight-Sharing for Neural Network Compression", arXiv:1702.04008. There weights
are trained together with the mixture; here the weights are given, and the mixture is fitted to them by expectation
maximisation (Dempster, Laird and Rubin 1977). As there, a Gamma prior keeps components narrow (it is conjugate to the
precision, so it counts as further members of a given variance); without it one wide component would describe weights
well, and replace them badly. Afterwards components that have become the same are merged, the one
nearest to zero becomes zero, and every weight takes the mean of the component to which it most probably belongs.
"""

from dataclasses import dataclass
from typing import Final

import numpy as np

from graphshrink.ir.types import Array
from graphshrink.solvers.codebooks import summed

_POINTS: Final = 2048
_ROUNDS: Final = 300
_ENOUGH: Final = 1e-7  # of the likelihood gained in a round, in nats a weight
_SAME: Final = 1e-10  # Kullback-Leibler divergence, as in the paper's code
_NEAR: Final = 1e-3  # of the weights' standard deviation: means that are as good as one
_WIDTH: Final = 1.0  # of the same over the number of components: the deviation that the prior asks for
_FIRST_ZERO: Final = 0.5  # share of the component at zero to start from


@dataclass(frozen=True, slots=True)
class Mixture:
    """Components in the order of their means, which are distinct; each array is (components,).

    Attributes:
        means: among them 0.
        deviations: standard deviations.
        shares: of the weights; they add up to 1.
    """

    means: Array
    deviations: Array
    shares: Array

    def labels(self, values: Array) -> Array:
        """(n,) the component that most probably made each value."""
        found = np.zeros(values.size, np.intp)
        step = max(1, (1 << 20) // len(self.means))
        for start in range(0, values.size, step):
            found[start : start + step] = _log_density(self, values[start : start + step]).argmax(axis=1)
        return found


def mixture_of(values: Array, weights: Array, components: int) -> Mixture:
    """Fit a mixture.

    Args:
        values: (n,) float64, n > 0.
        weights: (n,), how much each counts, 0 or more.
        components: at most; 2 or more, one of them at zero.
    """
    points = summed(values, weights, _POINTS)
    spread = float(np.sqrt(np.average(points.value**2, weights=points.weight)))
    if spread == 0.0:
        return Mixture(np.zeros(1), np.ones(1), np.ones(1))
    made, likelihood = _first(points.value, components), -np.inf
    for _ in range(_ROUNDS):
        density = _log_density(made, points.value)
        peak = density.max(axis=1, keepdims=True)
        each = np.exp(density - peak)
        total = each.sum(axis=1, keepdims=True)
        now = float(np.average(peak[:, 0] + np.log(total[:, 0]), weights=points.weight))
        if now - likelihood < _ENOUGH:
            break
        likelihood = now
        made = _maximised(
            points.value, points.scatter, points.weight, each / total, made, (_WIDTH * spread / components) ** 2
        )
    return _merged(made, _NEAR * spread)


def _first(values: Array, components: int) -> Mixture:
    """Means evenly over the range, and zero."""
    widest: Array = values[[int(np.abs(values).argmax())]]
    others = widest if components == 2 else np.linspace(float(values[0]), float(values[-1]), components - 1)
    means = np.concatenate(([0.0], others))
    width = max(float(np.ptp(values)), float(np.abs(values).max())) / components
    shares = np.full(components, (1.0 - _FIRST_ZERO) / (components - 1))
    shares[0] = _FIRST_ZERO
    return Mixture(means, np.full(components, width), shares)


def _log_density(made: Mixture, values: Array) -> Array:
    """(n, components), up to a constant."""
    with np.errstate(divide="ignore"):
        offset = np.log(made.shares) - np.log(made.deviations)
    distance: Array = (values[:, None] - made.means) / made.deviations
    return offset - 0.5 * distance**2


def _maximised(values: Array, scatter: Array, weights: Array, belongs: Array, before: Mixture, prior: float) -> Mixture:
    """Means, deviations and shares for given memberships; the first mean stays at zero.

    The prior's variance weighs as much as all weights together: 2 (a - 1) in the parameters of the Gamma distribution.
    """
    held = belongs * weights[:, None]
    total = held.sum(axis=0)
    safe = np.maximum(total, np.finfo(np.float64).tiny)
    means = np.where(total > 0, held.T @ values / safe, before.means)
    means[0] = 0.0
    squares = np.sum(held * (values[:, None] - means) ** 2, axis=0) + belongs.T @ scatter
    count = total.sum()
    return Mixture(means, np.sqrt((squares + count * prior) / (total + count)), total / count)


def _merged(made: Mixture, near: float) -> Mixture:
    """Merge components that are the same or have nearly the same mean; the one at zero keeps it."""
    kept = made.shares > 0
    kept[0] = True
    order = np.argsort(made.means[kept], kind="stable")
    parts = [
        Mixture(*(x[kept][order][[i]] for x in (made.means, made.deviations, made.shares))) for i in range(len(order))
    ]
    joined = parts[:1]
    for part in parts[1:]:
        if _divergence(joined[-1], part) < _SAME or abs(joined[-1].means[0] - part.means[0]) < near:
            joined[-1] = _together(joined[-1], part)
        else:
            joined.append(part)
    means = np.concatenate([part.means for part in joined])
    means[np.abs(means).argmin()] = 0.0
    return Mixture(means, *(np.concatenate([getattr(p, name) for p in joined]) for name in ("deviations", "shares")))


def _divergence(one: Mixture, other: Mixture) -> float:
    """KL(one || other) of two normal distributions."""
    ratio = float(one.deviations[0] / other.deviations[0])
    distance = float(one.means[0] - other.means[0]) / float(other.deviations[0])
    return 0.5 * (ratio**2 + distance**2 - 1.0) - float(np.log(ratio))


def _together(one: Mixture, other: Mixture) -> Mixture:
    """Means and precisions by share, as in the paper's code."""
    share = one.shares + other.shares
    part = np.where(share > 0, one.shares / np.maximum(share, np.finfo(np.float64).tiny), 0.5)
    mean = part * one.means + (1 - part) * other.means
    precision = part / one.deviations**2 + (1 - part) / other.deviations**2
    at_zero = one.means[0] == 0.0 or other.means[0] == 0.0
    return Mixture(np.zeros(1) if at_zero else mean, 1.0 / np.sqrt(precision), share)
