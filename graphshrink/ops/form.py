"""What every linear problem behind a layer can say of its arrays."""

from typing import Protocol

from graphshrink.ir.types import Array


class Form(Protocol):
    """How a family of operators lays out inputs, outputs and weights; see `graphshrink.ops.affine`.

    Attributes:
        channel_axis: the axis of the output that its channels lie along, counted from the last, which is -1.
        rank: number of axes of the output, where the operator fixes it.
        width: number of channels.
    """

    @property
    def rank(self) -> int | None:
        """See above."""
        ...

    @property
    def width(self) -> int:
        """See above."""
        ...

    @property
    def channel_axis(self) -> int:
        """See above."""
        ...

    def shape(self, x: tuple[int, ...]) -> tuple[int, ...]:
        """Shape of the output for an input of shape `x`."""
        ...

    def places(self, x: tuple[int, ...]) -> tuple[int, int]:
        """How many samples there are in an input of shape `x`, and how many places in the output of each."""
        ...

    def rows(self, x: Array, at: Array) -> Array:
        """(groups, samples * K, N): what the outputs at places `at` (samples, K) are made from."""
        ...

    def targets(self, y: Array, at: Array) -> Array:
        """(groups, samples * K, M): the outputs there; `y` has the full shape of an output."""
        ...

    def matrix(self, w: Array) -> Array:
        """(groups, N, M): the weights of each output in a column."""
        ...

    def array(self, matrix: Array) -> Array:
        """The inverse of `matrix`."""
        ...

    def channels(self, vector: Array) -> Array:
        """(groups, M) or (1, M): one number for each channel, in the order of the output's channel axis."""
        ...

    def vector(self, channels: Array) -> Array:
        """The inverse of `channels`."""
        ...
