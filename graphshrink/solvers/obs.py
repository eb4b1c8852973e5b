"""Optimal brain surgeon: the order in which each output of a layer had best lose its inputs, and what each costs.

ExactOBS of Frantar & Alistarh 2022 (OBC), arXiv:2208.11580, after Hassibi & Stork 1992. Of output m, with weights w and
the inverse H^-1 of the Hessian of the inputs that are left to it, the piece B that costs least goes next:

    cost  =  w_B^T ([H^-1]_BB)^-1 w_B        w  -=  H^-1_:B ([H^-1]_BB)^-1 w_B
                                             H^-1  -=  H^-1_:B ([H^-1]_BB)^-1 H^-1_B:

so that w remains the best of all weights with these zeros, if it was so at first. One trace gives every density.

H^-1 is the same for all outputs of a group at first, and none gets its own before some pieces have gone: what is taken
off it is kept as columns V with H^-1 - V V^T, of which only the rows that are asked for are worked out. After some
steps they are taken off in one product, and what is gone is cut out. Outputs are worked on many at a time.
"""

from typing import Final, NamedTuple

import numpy as np

from graphshrink.ir.types import Array
from graphshrink.solvers.quadratic import Piece, Quadratic

_MEMORY: Final = 1 << 24  # numbers in the matrices of the outputs that are worked on at once
_LEAST_STEPS, _PART = 16, 12  # between two products: at least so many, or so many parts of the inputs
_TINY: Final = np.finfo(np.float64).tiny


class Trace(NamedTuple):
    """What is removed from every strip of outputs, in order.

    Attributes:
        order: (groups, strips, steps), numbers of pieces along the inputs.
        costs: (groups, strips, steps), by how much the squared error rose.
        pieces: of what size they are.
    """

    order: Array
    costs: Array
    piece: Piece

    @property
    def rising(self) -> Array:
        """The costs, each at least as high as those before it: what has to go before a piece counts with it."""
        rising: Array = np.maximum.accumulate(self.costs, axis=2)
        return rising

    def removed(self, count: int, inputs: int) -> Array:
        """(groups, pieces along inputs, strips) of booleans: the `count` pieces of a layer that cost least."""
        groups, strips, steps = self.order.shape
        cheapest = np.argsort(self.rising.reshape(-1), kind="stable")[:count]  # of equal ones, earlier steps first
        gone = np.zeros((groups, strips, inputs // self.piece.inputs), bool)
        group, strip, step = np.unravel_index(cheapest, (groups, strips, steps))
        gone[group, strip, self.order[group, strip, step]] = True
        return np.swapaxes(gone, 1, 2)


def work(groups: int, inputs: int, outputs: int, piece: Piece) -> float:
    """About how many multiplications a trace takes."""
    return groups * (outputs / piece.outputs) * inputs**3 / 3


def removal_trace(problem: Quadratic, piece: Piece, among: tuple[int, int] | None = None) -> Trace:
    """The trace of every strip of outputs, from the best weights on.

    Args:
        problem: a layer's.
        piece: what is removed as a whole; divides inputs and outputs.
        among: (n, m), that n of every m neighbouring inputs are to stay; the trace ends there. Else all go.
    """
    groups, inputs, outputs = problem.cross.shape
    alive = np.any(problem.best != 0, axis=(0, 2))
    if piece.inputs == 1 and among is None and 0 < np.count_nonzero(alive) < inputs:
        return _of_the_living(problem, piece, alive)
    strips = outputs // piece.outputs
    start = np.swapaxes(problem.best, 1, 2).reshape(groups * strips, piece.outputs, inputs)
    owners = np.repeat(np.arange(groups, dtype=np.intp), strips)
    inverse = problem.inverse
    many = max(1, _MEMORY // inputs**2)
    parts = [
        _trace(inverse, owners[i : i + many], start[i : i + many], piece.inputs, among)
        for i in range(0, len(owners), many)
    ]
    order, costs = (np.concatenate(arrays).reshape(groups, strips, -1) for arrays in zip(*parts, strict=True))
    return Trace(order, costs, piece)


def _of_the_living(problem: Quadratic, piece: Piece, alive: Array) -> Trace:
    """The same where inputs are worth nothing to any output: those go first, and the rest is a smaller problem."""
    hessian = problem.hessian[:, alive][:, :, alive]
    order, costs, _ = removal_trace(Quadratic(hessian, problem.cross[:, alive], problem.energy), piece)
    dead = np.flatnonzero(~alive).astype(np.int32)
    first = np.broadcast_to(dead, (*order.shape[:2], len(dead)))
    order = np.concatenate([first, np.flatnonzero(alive).astype(np.int32)[order]], axis=2)
    return Trace(order, np.concatenate([np.zeros(first.shape), costs], axis=2), piece)


def _trace(
    inverse: Array, owners: Array, start: Array, width: int, among: tuple[int, int] | None
) -> tuple[Array, Array]:
    strips, _, inputs = start.shape
    pieces = inputs // width
    stay, group = (0, pieces) if among is None else among
    state = _Strips(inverse, owners, start, width, group, group - stay)
    steps = pieces - pieces // group * stay
    order, costs = np.empty((strips, steps), np.int32), np.empty((strips, steps))
    for step in range(steps):
        order[:, step], costs[:, step] = state.step()
    return order, costs


class _Strips:
    """Some strips of outputs on their way.

    Attributes, for n inputs in pieces of a width:
        matrices: (?, n, n), of which H^-1 is what is left when V V^T is taken off.
        owners: (strips,), which of the matrices is whose.
        weights: (strips, outputs, n).
        blocks: (strips, pieces, width, width), the diagonal blocks of H^-1.
        names: (strips, pieces), which pieces these were at first.
        there: (strips, pieces), whether they are still there.
        columns: (strips, room, n), V^T, of which `filled` rows count.
        allowed: (strips, groups of pieces), how many may still go.
    """

    def __init__(self, inverse: Array, owners: Array, start: Array, width: int, group: int, allowed: int) -> None:
        strips, _, inputs = start.shape
        pieces = inputs // width
        diagonal = np.arange(pieces, dtype=np.intp)
        split = inverse.reshape(len(inverse), pieces, width, pieces, width)
        self._group = group
        self._matrices: Array = inverse
        self._owners: Array = owners
        self._weights: Array = start.copy()
        self._blocks: Array = np.moveaxis(split[:, diagonal, :, diagonal], 0, 1)[owners]
        self._names: Array = np.broadcast_to(diagonal, (strips, pieces))
        self._there: Array = np.ones((strips, pieces), bool)
        self._allowed = np.full((strips, pieces // group), allowed)
        self._every = np.arange(strips, dtype=np.intp)
        self._make_room()

    def step(self) -> tuple[Array, Array]:
        """Remove a piece from every strip: which ones, and what they cost."""
        if self._filled == self._columns.shape[1]:
            self._cut()
        costs = self._costs()
        chosen = costs.argmin(axis=1)
        names, cost = self._names[self._every, chosen], costs[self._every, chosen]
        self._remove(chosen)
        self._there[self._every, chosen] = False
        self._allowed[self._every, names // self._group] -= 1
        return names, cost

    def _costs(self) -> Array:
        strips, outputs, _ = self._weights.shape
        width = self._blocks.shape[2]
        if width == 1:
            costs = np.einsum("son,son->sn", self._weights, self._weights) / self._blocks[:, :, 0, 0]
        else:
            weights = np.moveaxis(self._weights.reshape(strips, outputs, -1, width), 1, 3)
            costs = np.einsum("spwo,spwo->sp", weights, np.linalg.solve(self._blocks, weights))
        may = self._there & (np.take_along_axis(self._allowed, self._names // self._group, axis=1) > 0)
        allowed: Array = np.where(may, costs, np.inf)
        return allowed

    def _remove(self, chosen: Array) -> None:
        width = self._blocks.shape[2]
        places = chosen[:, None] * width + np.arange(width, dtype=np.intp)
        rows = self._matrices[self._owners[:, None], places]
        if self._filled:
            taken = self._columns[:, : self._filled]
            rows = rows - np.take_along_axis(taken, places[:, None, :], axis=2).swapaxes(1, 2) @ taken
        weights = np.take_along_axis(self._weights, places[:, None, :], axis=2)
        if width == 1:
            root = np.sqrt(self._blocks[self._every, chosen])
            columns, moved = rows / root, weights / root
        else:
            lower = np.linalg.cholesky(self._blocks[self._every, chosen])
            columns, moved = np.linalg.solve(lower, rows), np.linalg.solve(lower, weights.swapaxes(1, 2)).swapaxes(1, 2)
        self._columns[:, self._filled : self._filled + width] = columns
        self._filled += width
        self._weights -= moved @ columns
        np.put_along_axis(self._weights, places[:, None, :], 0.0, axis=2)
        self._take_off_blocks(columns, chosen)

    def _take_off_blocks(self, columns: Array, chosen: Array) -> None:
        strips, width, _ = columns.shape
        if width == 1:
            blocks = self._blocks[:, :, 0, 0]
            blocks -= columns[:, 0] ** 2
            np.maximum(blocks, _TINY, out=blocks)
            blocks[self._every, chosen] = 1.0
            return
        split = np.moveaxis(columns.reshape(strips, width, -1, width), 1, 3)  # (strips, pieces, width, those removed)
        self._blocks -= split @ split.swapaxes(2, 3)
        self._blocks[self._every, chosen] = np.eye(width)

    def _cut(self) -> None:
        """Take V V^T off, and leave out what is gone; each strip has its own matrix from then on."""
        strips, width = len(self._names), self._blocks.shape[2]
        left = np.flatnonzero(self._there.reshape(-1)).reshape(strips, -1) % self._there.shape[1]
        places = (left[:, :, None] * width + np.arange(width, dtype=np.intp)).reshape(strips, -1)
        matrices = np.empty((strips, places.shape[1], places.shape[1]))
        for strip, at in enumerate(places):
            taken = self._columns[strip][:, at]
            matrices[strip] = self._matrices[self._owners[strip]][np.ix_(at, at)]
            matrices[strip] -= taken.T @ taken
        self._matrices, self._owners = matrices, self._every
        self._weights = np.take_along_axis(self._weights, places[:, None, :], axis=2)
        self._blocks = self._blocks[self._every[:, None], left]
        self._names = np.take_along_axis(self._names, left, axis=1)
        self._there = np.ones(left.shape, bool)
        self._make_room()

    def _make_room(self) -> None:
        strips, _, inputs = self._weights.shape
        width = self._blocks.shape[2]
        steps = max(_LEAST_STEPS, inputs // _PART // width)
        self._columns, self._filled = np.empty((strips, steps * width, inputs)), 0
