"""Levels of all groups in a row, what a choice of them uses, and choices within a budget that are hard to improve."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final, NamedTuple

import numpy as np

from graphshrink.errors import InternalError
from graphshrink.ir.types import Array

_EXACT: Final = 1e-12  # of the budget: rounding


@dataclass(frozen=True, slots=True)
class Group:
    """Coupled channels.

    Attributes:
        levels: (L,) numbers of channels that may be kept, falling, above 0; the first is all.
        cost: (L,) predicted relative squared errors, at least 0.
    """

    levels: Array
    cost: Array

    def __post_init__(self) -> None:
        falling = len(self.levels) > 0 and bool((np.diff(self.levels) < 0).all() and self.levels[-1] > 0)
        if not falling or self.cost.shape != self.levels.shape or not bool((self.cost >= 0).all()):
            raise InternalError(f"channel allocation: levels {self.levels} at costs {self.cost}")


@dataclass(frozen=True, slots=True)
class Layer:
    """What uses resources: coefficient * share kept of group `ins` * share kept of group `outs`.

    Attributes:
        coefficient: what it uses when all channels are there, at least 0.
        ins: number of a group; None is a factor of 1.
        outs: likewise; may be the same.
    """

    coefficient: float
    ins: int | None
    outs: int | None


class Allocation(NamedTuple):
    """What each group is to keep.

    Attributes:
        chosen: for each group, which of its levels.
        kept: for each group, how many channels.
        cost: of all groups together.
        resource: of all layers together.
        feasible: whether that is within the budget; if not, every group is at its lowest level.
        bound: no allocation within the budget costs less than about this.
    """

    chosen: tuple[int, ...]
    kept: tuple[int, ...]
    cost: float
    resource: float
    feasible: bool
    bound: float


class Program:
    """All levels of all groups in a row; a choice is the place of one level for each group.

    Attributes:
        cost, share, linear: (n,), what a level costs, keeps, and uses by itself.
        group: (n,), whose it is.
        starts, ends: (G,), of each group's levels.
        products: (G, G), symmetric: twice what two groups use together is s^T products s.
        fixed: what is used in any case.
        limit: the budget, with room for rounding.
    """

    def __init__(self, groups: Sequence[Group], layers: Sequence[Layer], budget: float) -> None:
        counts = np.array([len(group.levels) for group in groups], np.intp)
        self.ends: Array = np.cumsum(counts)
        self.starts: Array = self.ends - counts
        self.group: Array = np.repeat(np.arange(len(groups), dtype=np.intp), counts)
        self.cost: Array = np.concatenate([np.zeros(0), *(group.cost for group in groups)])
        self.kept: Array = np.concatenate([np.zeros(0, np.intp), *(group.levels for group in groups)])
        self.share: Array = self.kept / self.kept[self.starts][self.group]
        self.products: Array = np.zeros((len(groups), len(groups)))
        self.fixed = 0.0
        plain, squared = np.zeros(len(groups)), np.zeros(len(groups))
        for layer in layers:
            if not 0 <= layer.coefficient < np.inf:
                raise InternalError(f"channel allocation: a layer uses {layer.coefficient}")
            ends = [end for end in (layer.ins, layer.outs) if end is not None]
            match ends:
                case []:
                    self.fixed += layer.coefficient
                case [end]:
                    plain[end] += layer.coefficient
                case [end, other] if end == other:
                    squared[end] += layer.coefficient
                case _:
                    self.products[ends, ends[::-1]] += layer.coefficient
        self.linear: Array = plain[self.group] * self.share + squared[self.group] * self.share**2
        self.limit = budget + _EXACT * (abs(budget) + sum(layer.coefficient for layer in layers))

    def resource(self, chosen: Array) -> float:
        share = self.share[chosen]
        return self.fixed + float(self.linear[chosen].sum()) + float(share @ self.products @ share) / 2

    def repaired(self, chosen: Array) -> Array:
        """A choice within the budget: levels are lowered where it costs least, then raised where there is room."""
        chosen = chosen.copy()
        while (resource := self.resource(chosen)) > self.limit:
            less, more = -self._changes(chosen), self.cost - self.cost[chosen][self.group]
            fits = less > 0
            price = np.full(len(less), np.inf)
            # No more is worth saving than what is over.
            price[fits] = np.maximum(more[fits], 0.0) / np.minimum(less[fits], resource - self.limit)
            self._choose(chosen, int(np.argmin(price)))
        while True:
            change, gain = self._changes(chosen), self.cost[chosen][self.group] - self.cost
            gain[self.resource(chosen) + change > self.limit] = 0.0
            best = int(np.argmax(gain / np.maximum(change, self.limit * _EXACT)))
            if gain[best] <= 0:
                return chosen
            previous = chosen.copy()
            self._choose(chosen, best)
            if self.resource(chosen) > self.limit:
                return previous

    def polished(self, chosen: Array) -> Array:
        """A choice within the budget that no change of at most two groups makes cheaper."""
        chosen = chosen.copy()
        improves = True
        while improves:
            improves = False
            for group in range(len(chosen)):
                while self._exchange(chosen, group):
                    improves = True
        return chosen

    def _exchange(self, chosen: Array, group: int) -> bool:
        """The best change of a group's level and of one other's, in place."""
        mine = slice(self.starts[group], self.ends[group])
        now = chosen[self.group]
        cost, used, share = self.cost - self.cost[now], self._changes(chosen), self.share - self.share[now]
        together = used[mine, None] + used + share[mine, None] * (self.products[group][self.group] * share)
        saved = cost[mine, None] + cost
        saved[together > self.limit - self.resource(chosen)] = np.inf
        saved[:, mine] = np.inf
        saved[:, chosen[group]] = np.where(used[mine] <= self.limit - self.resource(chosen), cost[mine], np.inf)
        one, other = np.unravel_index(int(np.argmin(saved)), saved.shape)
        if not saved[one, other] < -_EXACT * float(self.cost[chosen].sum()):
            return False
        previous = chosen.copy()
        chosen[self.group[other]] = other
        chosen[group] = self.starts[group] + one
        if self.resource(chosen) <= self.limit:
            return True
        chosen[:] = previous  # by rounding
        return False

    def allocation(self, chosen: Array, bound: float) -> Allocation:
        resource = self.resource(chosen)
        levels = tuple((chosen - self.starts).tolist())
        kept = tuple(int(count) for count in self.kept[chosen])
        return Allocation(levels, kept, float(self.cost[chosen].sum()), resource, bool(resource <= self.limit), bound)

    def tangent(self, logs: Array) -> tuple[Array, float]:
        """What all uses, near logarithms (G,) of shares: coefficients (n,), and a bound on their sum over a choice."""
        share = np.exp(logs)
        pairs = share[:, None] * self.products * share
        slopes = pairs.sum(axis=1)
        row: Array = self.linear + slopes[self.group] * np.log(self.share)
        return row, self.limit - self.fixed - float(pairs.sum()) / 2 + float(slopes @ logs)

    def _changes(self, chosen: Array) -> Array:
        """(n,) what more is used if a group goes to a level."""
        slopes = self.products @ self.share[chosen]
        now = chosen[self.group]
        changes: Array = self.linear - self.linear[now] + slopes[self.group] * (self.share - self.share[now])
        return changes

    def _choose(self, chosen: Array, place: int) -> None:
        chosen[self.group[place]] = place
