"""Gather from a table of weights: a row of the table for each index."""

import math
from dataclasses import dataclass

import numpy as np

from graphshrink.ir.types import Array


@dataclass(frozen=True, slots=True)
class Lookup:
    """A table whose rows are looked up. As a product its inputs would be unit vectors, so rows are mere indices here.

    Attributes:
        weights: shape of the table, (rows, ...).
        rank: of the output; not known.
    """

    weights: tuple[int, ...]
    rank: None = None

    @property
    def channel_axis(self) -> int:
        """The last one."""
        return -1

    @property
    def width(self) -> int:
        """Numbers in a row."""
        return math.prod(self.weights[1:])

    def shape(self, x: tuple[int, ...]) -> tuple[int, ...]:
        """A row for every index."""
        return (*x, *self.weights[1:])

    def places(self, x: tuple[int, ...]) -> tuple[int, int]:
        """Every index counts as a sample."""
        return math.prod(x), 1

    def rows(self, x: Array, at: Array) -> Array:
        """(1, P, 1) float64: the indices, none of them negative."""
        indices = x.reshape(-1)[: at.size].astype(np.float64)
        return np.where(indices < 0, indices + self.weights[0], indices).reshape(1, -1, 1)

    def targets(self, y: Array, at: Array) -> Array:
        """The rows of the table."""
        return y.reshape(1, -1, self.width)[:, : at.size]

    def matrix(self, w: Array) -> Array:
        """The table itself."""
        return w.reshape(1, self.weights[0], self.width)

    def array(self, matrix: Array) -> Array:
        """The inverse of `matrix`."""
        return matrix.reshape(self.weights)

    def channels(self, vector: Array) -> Array:
        """As they are."""
        return vector.reshape(1, -1)

    def vector(self, channels: Array) -> Array:
        """The inverse of `channels`."""
        return channels.reshape(-1)
