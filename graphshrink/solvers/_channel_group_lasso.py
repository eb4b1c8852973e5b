"""Group LASSO channel selection: weights are fitted anew while the norms of whole channels are held down.

    min over W   1/2 ||Y - X W||^2 + lam sum_c ||W_c||_F          (Yuan & Lin 2006; He et al. 2017, arXiv:1707.06168)

by block coordinate descent on the Gram matrix: with the gradient G_c and the largest eigenvalue L_c of H_cc,

    V = W_c - G_c / L_c        W_c = max(0, 1 - lam / (L_c ||V||)) V

(Qin, Scheinberg & Goldfarb 2013) over a falling geometric series of lam, each from the solution before. Layers that
share the channels are solved as one, W_c being what all of them have of a channel; so that none counts for more because
its numbers are larger, weights are measured in units of the root mean square of the layer's outputs over that of its
inputs, and errors in units of its energy.
"""

from dataclasses import dataclass
from typing import Final, NamedTuple

import numpy as np
from scipy.linalg import cho_solve, eigh, solve_triangular

from graphshrink.ir.types import Array
from graphshrink.solvers._channel_problem import NOBODY, ChannelGroup, Part, factor, rows_of

LAMBDAS: Final = 40
"""Values of lam."""
_LEAST: Final = 1e-3  # of the largest lam, under which all of W is zero
_OUTPUTS: Final = 64  # principal directions of the outputs that are fitted
_SWEEPS: Final = 60
_TOLERANCE: Final = 1e-4  # of the largest channel's norm: the largest change in a sweep
_SLACK: Final = 1e-6  # of lam: a channel joins if its gradient is larger by so much


class _Block(NamedTuple):
    """A channel: its inputs in each layer that has any, and its largest eigenvalue."""

    places: list[tuple[int, Array]]
    largest: float


@dataclass(frozen=True, slots=True)
class GroupLasso:
    """The program, with every layer in its own units.

    Attributes:
        hessians: (n, n) of each layer, inputs that are nobody's eliminated.
        crosses: (n, M).
        blocks: of every channel.
    """

    hessians: list[Array]
    crosses: list[Array]
    blocks: list[_Block]

    @classmethod
    def of(cls, group: ChannelGroup, outputs: int = _OUTPUTS) -> "GroupLasso":
        """Of a group; of every consumer's best outputs only so many principal directions count."""
        owners: list[Array] = []
        hessians: list[Array] = []
        crosses: list[Array] = []
        for part in (part for part in group.parts if part.scale > 0):
            hessian, cross = _free_of_others(part)
            mean = float(np.einsum("ii->i", hessian).mean()) or 1.0
            hessians.append(hessian / mean)
            crosses.append(_compressed(hessian, cross, outputs) * np.sqrt(part.scale / mean))
            owners.append(part.owner[part.owner != NOBODY])
        places: dict[int, list[tuple[int, Array]]] = {channel: [] for channel in range(group.channels)}
        for layer, owner in enumerate(owners):
            for channels, rows in rows_of(owner):
                for channel, at in zip(channels, rows, strict=True):
                    places[int(channel)].append((layer, at))
        return cls(hessians, crosses, [_Block(found, _largest(hessians, found)) for found in places.values()])

    def start(self) -> list[Array]:
        """Zeros, one array a layer."""
        return [np.zeros(cross.shape) for cross in self.crosses]

    def gradients(self, weights: list[Array]) -> list[Array]:
        """Crosses less Hessians times weights: the negative gradient of the squared error."""
        return [c - h @ w for h, c, w in zip(self.hessians, self.crosses, weights, strict=True)]

    def norms(self, arrays: list[Array]) -> Array:
        """(C,), over all of a channel's inputs."""
        squares = [np.einsum("nm,nm->n", array, array) for array in arrays]
        sums = [sum(float(squares[layer][rows].sum()) for layer, rows in block.places) for block in self.blocks]
        norms: Array = np.sqrt(np.array(sums))
        return norms

    def solve(self, lam: float, weights: list[Array], tolerance: float = _TOLERANCE, sweeps: int = _SWEEPS) -> None:
        """The best weights for lam, in place, from others.

        Args:
            lam: the factor of the norms.
            weights: (n, M) of each layer.
            tolerance: of the largest channel's norm; sweeps end when no channel changes by more.
            sweeps: at most so many each time that channels have joined.
        """
        gradients = self.gradients(weights)
        active = self.norms(weights) > 0
        while True:
            joins = ~active & (self.norms(gradients) > lam * (1 + _SLACK))
            active |= joins
            for _ in range(sweeps):
                change = max((self._update(int(c), lam, weights, gradients) for c in np.flatnonzero(active)), default=0)
                if change <= tolerance * float(self.norms(weights).max(initial=0.0)):
                    break
            if not joins.any():
                return

    def _update(self, channel: int, lam: float, weights: list[Array], gradients: list[Array]) -> float:
        """One channel, in place; by how much it changed."""
        block = self.blocks[channel]
        moved = [weights[layer][rows] + gradients[layer][rows] / block.largest for layer, rows in block.places]
        norm = float(np.sqrt(sum(float(np.vdot(part, part)) for part in moved)))
        if norm == 0:
            return 0.0
        kept = max(0.0, 1.0 - lam / (block.largest * norm))
        change = 0.0
        for (layer, rows), part in zip(block.places, moved, strict=True):
            step = kept * part - weights[layer][rows]
            size = float(np.vdot(step, step))
            if size > 0:
                gradients[layer] -= self.hessians[layer][:, rows] @ step
                weights[layer][rows] += step
                change += size
        return float(np.sqrt(change))


def group_lasso(group: ChannelGroup) -> Array:
    """(C,) channels in the order in which they go: those first that are zero for the smallest lam.

    Of channels that come in between the same two values of lam the one of larger norm stays longer; of those that never
    do, the one of larger gradient.

    Takes about N^2 M multiplications a consumer and sweep, with M at most 64, and some hundred sweeps.
    """
    program = GroupLasso.of(group)
    weights = program.start()
    strengths = program.norms(program.gradients(weights))
    largest = float(strengths.max(initial=0.0))
    ranks = np.zeros(group.channels)
    norms = np.zeros(group.channels)
    if largest > 0:
        for turn, share in enumerate(np.geomspace(1.0, _LEAST, LAMBDAS)[1:]):
            program.solve(largest * float(share), weights)
            now = program.norms(weights)
            new = (ranks == 0) & (now > 0)
            ranks[new], norms[new] = LAMBDAS - turn, now[new]
            if ranks.all():
                break
        strengths = program.norms(program.gradients(weights))
    return np.lexsort((np.where(ranks > 0, norms, strengths), ranks))


def _free_of_others(part: Part) -> tuple[Array, Array]:
    """Hessian and cross of a channel group's own inputs, the best weights of all others being a function of theirs."""
    ours = part.owner != NOBODY
    hessian, cross = part.hessian[np.ix_(ours, ours)], part.cross[ours]
    if ours.all():
        return hessian, cross
    between = part.hessian[np.ix_(~ours, ours)]
    lower = factor(part.hessian[np.ix_(~ours, ~ours)])
    hessian = hessian - between.T @ cho_solve((lower, True), between)
    return (hessian + hessian.T) / 2, cross - between.T @ cho_solve((lower, True), part.cross[~ours])


def _compressed(hessian: Array, cross: Array, outputs: int) -> Array:
    """(N, fewer): products of the inputs with the principal directions of the best outputs."""
    count = cross.shape[1]
    if count <= outputs:
        return cross
    best = solve_triangular(factor(hessian), cross, lower=True, check_finite=False)
    _, directions = eigh(best.T @ best, subset_by_index=(count - outputs, count - 1))
    return cross @ directions


def _largest(hessians: list[Array], places: list[tuple[int, Array]]) -> float:
    eigenvalues = [float(np.linalg.eigvalsh(hessians[layer][np.ix_(rows, rows)])[-1]) for layer, rows in places]
    return max(max(eigenvalues, default=0.0), float(np.finfo(np.float64).tiny))
