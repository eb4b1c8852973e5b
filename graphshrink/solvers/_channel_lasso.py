"""LASSO channel selection: every channel's contribution gets a factor, and the l1 norm of all of them is held down.

He et al. 2017, arXiv:1707.06168:

    min over beta   1/2 ||Y - sum_i beta_i X_i W_i||^2 + lam ||beta||_1

needs only Q_ij = <X_i W_i, X_j W_j> and p_i = <Y, X_i W_i>. As lam falls, beta is linear in it between knots where a
channel comes in or drops out; these are followed (Osborne et al. 2000; Efron et al. 2004, arXiv:math/0406456) instead
of solving for many values of lam.
"""

from collections.abc import Iterator
from typing import Final, NamedTuple

import numpy as np

from graphshrink.ir.types import Array
from graphshrink.solvers._channel_problem import ChannelGroup, contributions, factor

_RIDGE: Final = 1e-8  # of the mean of the diagonal: copies of a channel share
_LEAST: Final = 1e-9  # of the largest lam: the path ends there
_KNOTS: Final = 8  # times the number of channels: at most so many
_REFRESH: Final = 64  # knots between which the inverse is only updated
_TINY: Final = 1e-12


class Knot(NamedTuple):
    """The best beta (C,) for some lam."""

    lam: float
    beta: Array


def lasso(group: ChannelGroup) -> Array:
    """(C,) channels in the order in which they go: the later one gets a factor as lam falls, the sooner.

    Those that never do go first, the ones that add the least energy before others.

    Takes about 2 N^2 M multiplications a consumer and up to 4 C^3 for the path.
    """
    products, targets = contributions(group)
    entered: dict[int, None] = {}
    for knot in lasso_path(products, targets):
        entered |= dict.fromkeys(np.flatnonzero(knot.beta).tolist())
        if len(entered) == group.channels:
            break
    by_energy = np.argsort(np.diag(products), kind="stable").tolist()
    never = [channel for channel in by_energy if channel not in entered]
    return np.array(never + list(entered)[::-1], np.intp)


def lasso_path(products: Array, targets: Array) -> Iterator[Knot]:
    """The knots from the largest lam, where all of beta is zero, to nearly 0; between two, beta is linear.

    Args:
        products: (C, C) Q, positive semidefinite.
        targets: (C,) p.
    """
    size = len(targets)
    if size == 0 or not np.any(targets):
        return
    damped = products + _RIDGE * float(np.trace(products)) / size * np.eye(size)
    first = int(np.argmax(np.abs(targets)))
    walk = _Walk(damped, targets, float(abs(targets[first])))
    yield Knot(walk.lam, np.zeros(size))
    least = _LEAST * walk.lam
    walk.enter(first, float(np.sign(targets[first])))
    for _ in range(_KNOTS * size):
        going = walk.move(least)
        yield Knot(walk.lam, walk.beta())
        if not going:
            return


class _Walk:
    """Where the path is: channels that are in, their signs, and the inverse of their part of Q."""

    def __init__(self, products: Array, targets: Array, lam: float) -> None:
        self._products, self._targets, self.lam = products, targets, lam
        self._active: Array = np.zeros(0, np.intp)
        self._signs: Array = np.zeros(0)
        self._inverse: Array = np.zeros((0, 0))
        self._since = 0
        self._last, self._last_sign = -1, 0.0  # who came in or dropped out last, which is still at its bound

    def beta(self) -> Array:
        found = np.zeros(len(self._targets))
        found[self._active] = self._inverse @ (self._targets[self._active] - self.lam * self._signs)
        return found

    def enter(self, channel: int, sign: float) -> None:
        column = self._products[self._active, channel]
        moved = self._inverse @ column
        rest = float(self._products[channel, channel] - column @ moved)
        self._active = np.append(self._active, channel)
        self._signs = np.append(self._signs, sign)
        self._last, self._last_sign = channel, sign
        self._since += 1
        if self._since >= _REFRESH or rest <= _TINY * self._products[channel, channel]:
            self._invert()
            return
        edge = np.append(moved, -1.0)
        inverse = np.zeros((len(edge), len(edge)))
        inverse[:-1, :-1] = self._inverse
        inverse += np.outer(edge, edge / rest)
        self._inverse = inverse

    def move(self, least: float) -> bool:
        """Go to the next knot, and let in or drop whoever makes it; False at the end."""
        constant, slope = self._inverse @ self._targets[self._active], self._inverse @ self._signs
        drop, dropped = self._next_drop(constant, slope)
        come, comer, sign = self._next_comer(constant, slope)
        lam = max(drop, come)
        if lam <= least:
            self.lam = least
            return False
        self.lam = lam
        if come >= drop:
            self.enter(comer, sign)
        else:
            self._drop(dropped)
        return True

    def _next_drop(self, constant: Array, slope: Array) -> tuple[float, int]:
        """Where beta = constant - lam slope next changes its sign, and the place of that channel."""
        falls = self._signs * slope < 0
        falls &= self._active != self._last
        if not falls.any():
            return 0.0, -1
        at = np.full(len(constant), -np.inf)
        at[falls] = np.minimum(constant[falls] / slope[falls], self.lam)
        place = int(np.argmax(at))
        return max(float(at[place]), 0.0), place

    def _next_comer(self, constant: Array, slope: Array) -> tuple[float, int, float]:
        """Where the correlation of a channel that is out next reaches lam: lam, the channel and its sign."""
        ours = self._products[:, self._active]
        correlation, change = self._targets - ours @ constant, ours @ slope
        best = 0.0, -1, 1.0
        for sign in (1.0, -1.0):
            run = 1.0 - sign * change
            out = run > _TINY
            out[self._active] = False
            if sign == self._last_sign:
                out[self._last] = False
            at = np.full(len(run), -np.inf)
            at[out] = np.minimum(sign * correlation[out] / run[out], self.lam)
            channel = int(np.argmax(at))
            if at[channel] > best[0]:
                best = float(at[channel]), channel, sign
        return best

    def _drop(self, place: int) -> None:
        self._last, self._last_sign = int(self._active[place]), float(self._signs[place])
        column, pivot = self._inverse[:, place], self._inverse[place, place]
        reduced = self._inverse - np.outer(column, column / pivot)
        self._inverse = np.delete(np.delete(reduced, place, axis=0), place, axis=1)
        self._active, self._signs = np.delete(self._active, place), np.delete(self._signs, place)
        self._since += 1

    def _invert(self) -> None:
        lower = factor(self._products[np.ix_(self._active, self._active)])
        half = np.linalg.inv(lower)
        self._inverse = half.T @ half
        self._since = 0
