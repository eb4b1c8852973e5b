"""A layer's squared error as a quadratic in its weights, what weights on a support make the least of it, and pieces.

    error of output m  =  energy_m + w_m^T (hessian w_m - 2 cross_m)

for each group of channels: N inputs, M outputs, one Hessian (times one half) for all outputs of the group.
"""

from dataclasses import dataclass
from typing import Final, NamedTuple

import numpy as np

from graphshrink.ir.types import Array

_CHUNK: Final = 1 << 23  # numbers of the systems that are solved at once


class Piece(NamedTuple):
    """What is removed as a whole: so many neighbouring inputs of so many neighbouring outputs."""

    inputs: int = 1
    outputs: int = 1

    @property
    def size(self) -> int:
        """Weights in it."""
        return self.inputs * self.outputs

    def sums(self, scores: Array) -> Array:
        """(groups, N / inputs, M / outputs) sums of scores (groups, N, M) over pieces."""
        groups, inputs, outputs = scores.shape
        split = scores.reshape(groups, inputs // self.inputs, self.inputs, outputs // self.outputs, self.outputs)
        summed: Array = split.sum(axis=(2, 4))
        return summed

    def spread(self, pieces: Array) -> Array:
        """(groups, N, M) of (groups, N / inputs, M / outputs): what is said of a piece, for each of its weights."""
        return np.repeat(np.repeat(pieces, self.inputs, axis=1), self.outputs, axis=2)


@dataclass(frozen=True, slots=True)
class Quadratic:
    """See above.

    Attributes:
        hessian: (groups, N, N) float64, positive definite.
        cross: (groups, N, M).
        energy: (groups, M).
    """

    hessian: Array
    cross: Array
    energy: Array

    @property
    def inverse(self) -> Array:
        """(groups, N, N), of the Hessian."""
        inverse: Array = np.linalg.inv(self.hessian)
        return (inverse + np.swapaxes(inverse, 1, 2)) / 2

    @property
    def best(self) -> Array:
        """(groups, N, M): the weights of least error when all are there."""
        best: Array = np.linalg.solve(self.hessian, self.cross)
        return best

    def times(self, factors: Array) -> "Quadratic":
        """The same for weights that are multiplied with a factor for each output (groups, M), as are errors."""
        return Quadratic(self.hessian, self.cross * factors[:, None, :], self.energy * factors**2)

    def errors(self, weights: Array) -> Array:
        """(groups, M) for weights (groups, N, M)."""
        quadratic = np.einsum("gnm,gnm->gm", weights, self.hessian @ weights - 2.0 * self.cross)
        errors: Array = np.maximum(self.energy + quadratic, 0.0)
        return errors

    def fitted(self, support: Array) -> Array:
        """(groups, N, M): the weights of least error that are zero outside a support (groups, N, M) of booleans.

        Each output has a system of its own. Those of nearly the same size are solved together, filled up to the largest
        of them with rows of the identity.
        """
        groups, inputs, outputs = support.shape
        rows = np.swapaxes(support, 1, 2).reshape(-1, inputs)
        counts = rows.sum(axis=1)
        order = np.argsort(counts, kind="stable")[np.count_nonzero(counts == 0) :]
        found = np.zeros(rows.shape)
        while len(order):
            size = int(counts[order[-1]])
            many = max(1, _CHUNK // size**2)
            near = int(np.searchsorted(counts[order], 7 * size // 8))  # smaller ones are not worth filling up
            first = max(len(order) - many, near)
            self._fit(rows, order[first:], size, found)
            order = order[:first]
        return np.swapaxes(found.reshape(groups, outputs, inputs), 1, 2)

    def _fit(self, rows: Array, chosen: Array, size: int, found: Array) -> None:
        outputs = self.cross.shape[2]
        # Kept inputs first, and as many of the others behind them as fill the system.
        places = np.argsort(~rows[chosen], axis=1, kind="stable")[:, :size]
        there = np.take_along_axis(rows[chosen], places, axis=1)
        group, output = np.divmod(chosen, outputs)
        systems = self.hessian[group[:, None, None], places[:, :, None], places[:, None, :]]
        systems *= there[:, :, None] & there[:, None, :]
        diagonal = np.arange(size)
        systems[:, diagonal, diagonal] += ~there
        targets = self.cross[group[:, None], places, output[:, None]] * there
        solution = np.linalg.solve(systems, targets[:, :, None])[:, :, 0]
        found[chosen[:, None], places] = solution * there
