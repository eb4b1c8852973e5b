"""MatMul and Gemm: one matrix of weights, or a stack of them, each of which meets matrices of its own."""

import math
from dataclasses import dataclass

import numpy as np

from graphshrink.ir.types import Array


@dataclass(frozen=True, slots=True)
class Product:
    """y = factor * (x @ w), where any of the three may be turned around.

    Attributes:
        weights: shape of the weight: (*groups, N, M), or with the last two exchanged.
        turns_x, turns_y, turns_w: whether the last two axes are exchanged, as they are when the weight stands left.
        factor: of the product.
        rank: number of axes of all three, where the operator fixes it.
    """

    weights: tuple[int, ...]
    turns_x: bool
    turns_y: bool
    turns_w: bool
    factor: float = 1.0
    rank: int | None = None

    @property
    def channel_axis(self) -> int:
        """The last axis, or the one before."""
        return -2 if self.turns_y else -1

    @property
    def _stack(self) -> tuple[int, ...]:
        """Axes along which there are several matrices; for a single one, further axes of size 1 are mere form."""
        stack = self.weights[:-2]
        return stack if math.prod(stack) > 1 else ()

    @property
    def width(self) -> int:
        """Channels of a matrix; all matrices of a stack have the same."""
        return self.weights[-2 if self.turns_w else -1]

    def shape(self, x: tuple[int, ...]) -> tuple[int, ...]:
        """All axes but those of the matrices are broadcast."""
        if len(x) == 1:
            return (*self.weights[:-2], self.width)
        rows = x[-1] if self.turns_x else x[-2]
        lead = np.broadcast_shapes(x[:-2], self.weights[:-2])
        return (*lead, self.width, rows) if self.turns_y else (*lead, rows, self.width)

    def places(self, x: tuple[int, ...]) -> tuple[int, int]:
        """The first axis counts samples; rows of a single matrix are samples too."""
        rows = 1 if len(x) == 1 else x[-1] if self.turns_x else x[-2]
        lead = np.broadcast_shapes(x[:-2], self.weights[:-2])
        free = lead[: len(lead) - len(self._stack)]
        if len(x) < 3 and math.prod(free) == 1:  # axes of the weight's own, which number nothing
            return rows, 1
        return (free[0], math.prod(free[1:]) * rows) if free else (rows, 1)

    def rows(self, x: Array, at: Array) -> Array:
        """The rows of x themselves."""
        matrices = np.swapaxes(x, -1, -2) if self.turns_x and x.ndim > 1 else np.atleast_2d(x)
        lead = np.broadcast_shapes(matrices.shape[:-2], self.weights[:-2])
        rows = self._chosen(np.broadcast_to(matrices, (*lead, *matrices.shape[-2:])), at)
        return rows if self.factor == 1.0 else rows * rows.dtype.type(self.factor)

    def targets(self, y: Array, at: Array) -> Array:
        """The rows of y, whose rank is one less for an input that is a vector."""
        vectors = y.ndim == len(self.weights) - 1
        matrices = y[..., None, :] if vectors else np.swapaxes(y, -1, -2) if self.turns_y else y
        return self._chosen(matrices, at)

    def _chosen(self, matrices: Array, at: Array) -> Array:
        """(groups, samples * K, width) of matrices that were broadcast already."""
        free = matrices.shape[: matrices.ndim - 2 - len(self._stack)]
        width, groups = matrices.shape[-1], math.prod(self._stack)
        samples = at.shape[0]
        places = math.prod(free) * matrices.shape[-2] // samples
        moved = np.moveaxis(matrices.reshape(math.prod(free), groups, matrices.shape[-2], width), 1, 0)
        cut = moved.reshape(groups, samples, places, width)
        return cut[:, np.arange(samples)[:, None], at].reshape(groups, at.size, width)

    def matrix(self, w: Array) -> Array:
        """The weight with inputs along the rows."""
        turned = np.swapaxes(w, -1, -2) if self.turns_w else w
        return turned.reshape(math.prod(self._stack), *turned.shape[-2:])

    def array(self, matrix: Array) -> Array:
        """The inverse of `matrix`."""
        turned = np.swapaxes(matrix, -1, -2) if self.turns_w else matrix
        return turned.reshape(self.weights)

    def channels(self, vector: Array) -> Array:
        """(1, M): all matrices of a stack share them."""
        return vector.reshape(1, -1)

    def vector(self, channels: Array) -> Array:
        """The inverse of `channels`, for what the matrices of a stack have in common."""
        mean: Array = channels.mean(axis=0)
        return mean
