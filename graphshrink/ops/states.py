"""LSTM, GRU and RNN: what inputs and states contribute to the gates, each by a matrix of its own.

    gates(t) = x(t) @ W + h(t - 1) @ R + biases        for each direction

GRU multiplies the state by a gate before one of its three products with R, unless `linear_before_reset` is set; the
state as it is stands for that here.
"""

from dataclasses import dataclass

import numpy as np

from graphshrink.ir.types import Array


@dataclass(frozen=True, slots=True)
class Contribution:
    """The part of the gates that comes of the inputs, or of the states.

    Attributes:
        weights: shape of the weight: (directions, gates * hidden, N).
        of_states: whether it is R, whose rows are the operator's own first output, a step later in each direction.
        batch_first: whether the batch is the first axis (`layout`), rather than the steps.
        reverse: for each direction, whether it runs from the last step to the first.
        rank: of the gates as `shape` has them.
    """

    weights: tuple[int, ...]
    of_states: bool
    batch_first: bool
    reverse: tuple[bool, ...]
    rank: int = 3

    @property
    def channel_axis(self) -> int:
        """The last one: gates of all directions."""
        return -1

    @property
    def width(self) -> int:
        """Gates of all directions."""
        return self.weights[0] * self.weights[1]

    def shape(self, x: tuple[int, ...]) -> tuple[int, ...]:
        """(samples, steps, width)."""
        return (*self.places(x), self.width)

    def places(self, x: tuple[int, ...]) -> tuple[int, int]:
        """Samples, and steps of each; the first state of a direction is none of the outputs, and left out."""
        if not self.of_states:
            return (x[0], x[1]) if self.batch_first else (x[1], x[0])
        return (x[0], max(0, x[1] - 1)) if self.batch_first else (x[2], max(0, x[0] - 1))

    def rows(self, x: Array, at: Array) -> Array:
        """Inputs or states of those steps."""
        samples = np.arange(at.shape[0], dtype=np.intp)[:, None]
        if not self.of_states:
            steps = x if self.batch_first else np.swapaxes(x, 0, 1)
            same = steps[samples, at].reshape(at.size, x.shape[-1])
            return np.broadcast_to(same, (self.weights[0], *same.shape))
        states = np.moveaxis(x, 2, 0) if self.batch_first else np.moveaxis(x, (1, 2), (0, 1))
        chosen = [states[d][samples, at + backwards] for d, backwards in enumerate(self.reverse)]
        return np.stack(chosen).reshape(self.weights[0], at.size, x.shape[-1])

    def targets(self, y: Array, at: Array) -> Array:
        """The gates, of an array as `shape` says."""
        chosen = y[np.arange(at.shape[0])[:, None], at].reshape(at.size, *self.weights[:2])
        return np.swapaxes(chosen, 0, 1)

    def matrix(self, w: Array) -> Array:
        """One matrix for each direction."""
        return np.swapaxes(w, 1, 2)

    def array(self, matrix: Array) -> Array:
        """The inverse of `matrix`."""
        return np.swapaxes(matrix, 1, 2)

    def channels(self, vector: Array) -> Array:
        """Gates of a direction lie together."""
        return vector.reshape(self.weights[:2])

    def vector(self, channels: Array) -> Array:
        """The inverse of `channels`."""
        return channels.reshape(-1)
