"""How many channels each coupled group keeps, so that all layers fit a budget at the least predicted error.

A layer costs a coefficient times the share that is kept of the channels that it takes, times the share of those that it
makes. Which level each group is at is a choice x of zeros and ones, one in each group, so

    min  sum of costs x      s.t.   sum of linear x  +  sum_gh P_gh s_g s_h  <=  budget

With u_g = log s_g, linear in x, products are P_gh exp(u_g + u_h): convex. So any tangent of the resources is a bound on
them, and outer approximation is exact (Duran & Grossmann 1986): an integer program with some tangents for the budget is
solved; where what it finds is over the budget, the tangent there joins, which rules it out. Tangents at the solutions
of the relaxed program come first. Integer programs are left to HiGHS (Huangfu & Hall 2018).
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final, NamedTuple

import numpy as np

from graphshrink.errors import InternalError
from graphshrink.ir.types import Array

_GAP: Final = 1e-4  # of the cost, to which it is the least
_ROUNDS: Final = 60  # integer programs, at most
_RELAXED_ROUNDS: Final = 30
_NODES: Final = 20_000  # of a search tree
_UNIT: Final = 1e4  # what budgets are scaled to: HiGHS lets constraints be broken by 1e-6
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


def allocate_channels(groups: Sequence[Group], layers: Sequence[Layer], budget: float, gap: float = _GAP) -> Allocation:
    """The allocation of least cost within a budget.

    Args:
        groups: of channels.
        layers: all that uses resources.
        budget: for the sum over layers.
        gap: the share of the cost by which a better allocation may be missed. Where the search is cut short (60 integer
            programs of 20,000 nodes each), `Allocation.bound` says how much it can be.
    """
    program = _Program(groups, layers, budget)
    lowest = program.ends - 1
    if program.resource(lowest) > program.limit:
        return program.allocation(lowest, float(program.cost[lowest].sum()))
    best = program.repaired(program.starts)
    upper = float(program.cost[best].sum())
    if upper == 0:
        return program.allocation(best, 0.0)
    search = _Search(program, upper, gap)
    search.relax()
    lower = 0.0
    for _ in range(_ROUNDS):
        found, bound = search.solve()
        lower = max(lower, bound)
        candidate = program.repaired(found)
        cost = float(program.cost[candidate].sum())
        if cost < upper:
            best, upper = candidate, cost
        if program.resource(found) <= program.limit or lower >= upper * (1 - gap):
            break
        search.forbid(found)
    return program.allocation(best, min(lower, upper))


class _Program:
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
        """A choice within the budget near one: levels are lowered where it costs least, then raised where there is room."""
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

    def allocation(self, chosen: Array, bound: float) -> Allocation:
        resource = self.resource(chosen)
        levels = tuple((chosen - self.starts).tolist())
        kept = tuple(int(count) for count in self.kept[chosen])
        return Allocation(levels, kept, float(self.cost[chosen].sum()), resource, resource <= self.limit, bound)

    def tangent(self, logs: Array) -> tuple[Array, float]:
        """Coefficients (n,) and a bound on their sum over a choice, for what all uses at the logarithms (G,) of shares."""
        share = np.exp(logs)
        pairs = share[:, None] * self.products * share
        slopes = pairs.sum(axis=1)
        row = self.linear + slopes[self.group] * np.log(self.share)
        return row, self.limit - self.fixed - float(pairs.sum()) / 2 + float(slopes @ logs)

    def _changes(self, chosen: Array) -> Array:
        """(n,) what more is used if a group goes to a level."""
        slopes = self.products @ self.share[chosen]
        now = chosen[self.group]
        return self.linear - self.linear[now] + slopes[self.group] * (self.share - self.share[now])

    def _choose(self, chosen: Array, place: int) -> None:
        chosen[self.group[place]] = place


class _Search:
    """Integer programs with more and more rows."""

    def __init__(self, program: _Program, upper: float, gap: float) -> None:
        self._program, self._upper, self._gap = program, upper, gap
        self._rows: list[Array] = []
        self._limits: list[float] = []
        self._tried: set[bytes] = set()

    def relax(self) -> None:
        """Add tangents until the program without integrality is all but within the budget."""
        program = self._program
        logs = np.log(program.share)
        point = np.log(np.full(len(program.starts), 1.0))
        for _ in range(_RELAXED_ROUNDS):
            self._add(*program.tangent(point))
            x, _ = self._run(integral=False)
            point = np.add.reduceat(x * logs, program.starts)
            share = np.exp(point)
            used = program.fixed + float(x @ program.linear) + float(share @ program.products @ share) / 2
            if used <= program.limit + self._gap * abs(program.limit):
                return

    def solve(self) -> tuple[Array, float]:
        """A choice (G,), and a bound on the cost of all."""
        x, bound = self._run(integral=True)
        program = self._program
        pairs = zip(program.starts, program.ends, strict=True)
        return np.array([start + int(np.argmax(x[start:end])) for start, end in pairs], np.intp), bound

    def forbid(self, chosen: Array) -> None:
        """Rule out a choice over the budget."""
        if chosen.tobytes() in self._tried:  # it is over by less than HiGHS sees
            row = np.zeros(len(self._program.cost))
            row[chosen] = _UNIT
            self._rows.append(row)
            self._limits.append(_UNIT * (len(chosen) - 1))
            return
        self._tried.add(chosen.tobytes())
        self._add(*self._program.tangent(np.log(self._program.share[chosen])))

    def _add(self, row: Array, limit: float) -> None:
        scale = _UNIT / max(float(np.abs(row).max(initial=0.0)), float(np.finfo(np.float64).tiny))
        self._rows.append(row * scale)
        self._limits.append(limit * scale)

    def _run(self, *, integral: bool) -> tuple[Array, float]:
        from scipy.optimize import (
            Bounds,
            LinearConstraint,
            milp,
        )  # takes a while, which only those who solve should pay

        program = self._program
        one_each = program.group == np.arange(len(program.starts))[:, None]
        # What costs more than all of a choice that is known is in no better one.
        open_ = program.cost <= self._upper
        result = milp(
            np.minimum(program.cost / self._upper, 1.0),
            integrality=np.full(len(program.cost), int(integral)),
            bounds=Bounds(np.zeros(len(open_)), open_.astype(np.float64)),
            constraints=[
                LinearConstraint(one_each.astype(np.float64), np.ones(len(one_each)), np.ones(len(one_each))),
                LinearConstraint(np.array(self._rows), np.full(len(self._rows), -np.inf), np.array(self._limits)),
            ],
            options={"mip_rel_gap": self._gap / 2, "node_limit": _NODES},
        )
        if result.x is None:
            raise InternalError(f"channel allocation: {result.message}")
        bound = result.mip_dual_bound if integral else result.fun
        return np.asarray(result.x, np.float64), float(bound or 0.0) * self._upper
