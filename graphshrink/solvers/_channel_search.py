"""Branch and bound on linear programs with tangents of the budget; `channel_allocation` says why that is exact."""

import heapq
from typing import Final

import numpy as np

from graphshrink.ir.types import Array
from graphshrink.solvers._channel_program import Program

_NODES: Final = 1000  # of the search tree, at most
_WORK: Final = 10_000  # nodes times levels, at most
_ROOT_ROUNDS: Final = 25  # linear programs at the root, at most; each adds a tangent
_ROUNDS: Final = 3  # at any other node
_TANGENTS: Final = 80  # the last so many count
_NEAR: Final = 1.005  # of the best cost: such choices are polished
_WHOLE: Final = 1e-6  # from 1: a choice has been made


class Search:
    """Branch and bound.

    Attributes:
        best: the cheapest choice within the budget so far.
        upper: what it costs.
    """

    def __init__(self, program: Program, start: Array, gap: float) -> None:
        self._program, self._gap = program, gap
        self._rows: list[Array] = []
        self._limits: list[float] = []
        self._tried: set[bytes] = set()
        self._level: Array = np.arange(len(program.group)) - program.starts[program.group]
        self.best, self.upper = start, float(program.cost[start].sum())

    def run(self) -> float:
        """A bound on the cost of any choice within the budget."""
        program = self._program
        self._add(program.tangent(np.zeros(len(program.starts))))
        self._add(program.tangent(np.log(program.share[self.best])))
        x, bound, reduced = self._solve(program.cost <= self.upper, _ROOT_ROUNDS)
        # What costs more than is between the bounds is in no better choice.
        room = bound + reduced < self._enough
        waiting: list[tuple[float, int, Array, Array]] = [(bound, 0, room, x)]
        nodes = min(_NODES, 1 + _WORK // int(room.sum())) if room.any() else 0
        for count in range(1, nodes + 1):
            if not waiting or waiting[0][0] >= self._enough:
                break
            _, _, room, x = heapq.heappop(waiting)
            for turn, part in enumerate(self._branches(room, x)):
                inner, lower, _ = self._solve(part, _ROUNDS)
                if lower < self._enough:
                    heapq.heappush(waiting, (lower, 2 * count + turn, part, inner))
        return max(waiting[0][0] if waiting else self._enough, bound)

    @property
    def _enough(self) -> float:
        """Whatever does not cost less than this is not looked for."""
        return self.upper * (1 - self._gap)

    def _branches(self, room: Array, x: Array) -> list[Array]:
        """The levels of one group divided in two: around the mean where x is undecided, else at x."""
        program = self._program
        most = np.maximum.reduceat(x, program.starts)
        group = int(np.argmin(most))
        mine = program.group == group
        if most[group] < 1 - _WHOLE:
            left = mine & (self._level <= float(x[mine] @ self._level[mine]))
        else:  # over the budget by less than HiGHS sees
            group = int(np.argmax(np.add.reduceat(room.astype(np.intp), program.starts)))
            mine = program.group == group
            left = mine & (x > 0.5)
        parts = (room & (left | ~mine), room & ~left)
        return [part for part in parts if np.logical_or.reduceat(part, program.starts).all() and (part != room).any()]

    def _solve(self, room: Array, rounds: int) -> tuple[Array, float, Array]:
        """The relaxed program on some levels: x (n,), a bound, and reduced costs (n,); tangents join on the way."""
        program = self._program
        logs = np.log(program.share)
        while True:
            x, bound, reduced = self._linear(room)
            rounds -= 1
            if bound >= self._enough:
                return x, bound, reduced
            self._try(x)
            row, limit = program.tangent(np.add.reduceat(x * logs, program.starts))
            if rounds == 0 or float(row @ x) <= limit + self._gap * abs(program.limit) / 10:
                return x, bound, reduced
            self._add((row, limit))

    def _try(self, x: Array) -> None:
        """See whether a solution of the relaxed program leads to a better choice."""
        program = self._program
        pairs = zip(program.starts, program.ends, strict=True)
        found = np.array([start + int(np.argmax(x[start:end])) for start, end in pairs], np.intp)
        if program.resource(found) > program.limit:
            self._add(program.tangent(np.log(program.share[found])))
        found = program.repaired(found)
        if found.tobytes() in self._tried or float(program.cost[found].sum()) > _NEAR * self.upper:
            return
        self._tried.add(found.tobytes())
        found = program.polished(found)
        cost = float(program.cost[found].sum())
        if cost < self.upper:
            self.best, self.upper = found, cost

    def _add(self, tangent: tuple[Array, float]) -> None:
        row, limit = tangent
        scale = 1.0 / max(float(np.abs(row).max(initial=0.0)), float(np.finfo(np.float64).tiny))
        self._rows = [*self._rows[1 - _TANGENTS :], row * scale]
        self._limits = [*self._limits[1 - _TANGENTS :], limit * scale]

    def _linear(self, room: Array) -> tuple[Array, float, Array]:
        from scipy.optimize import linprog  # takes a while, which only those who solve should pay

        program = self._program
        at = np.flatnonzero(room)
        x, reduced = np.zeros(len(room)), np.full(len(room), np.inf)
        result = linprog(
            program.cost[at] / self.upper,
            A_ub=np.array(self._rows)[:, at],
            b_ub=np.array(self._limits),
            A_eq=(program.group[at] == np.arange(len(program.starts))[:, None]).astype(np.float64),
            b_eq=np.ones(len(program.starts)),
            method="highs-ds",
        )
        if result.fun is None:  # there is none
            return x, np.inf, reduced
        x[at], reduced[at] = result.x, np.maximum(result.lower.marginals, 0.0) * self.upper
        return x, float(result.fun) * self.upper, reduced
