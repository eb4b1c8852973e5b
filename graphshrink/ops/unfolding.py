"""Conv and ConvTranspose: the patch of the input that each output is made from."""

import math
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np

from graphshrink.ir.types import Array


class Taps(NamedTuple):
    """Along one axis: which input each output takes at each tap of the kernel, and whether there is such a one."""

    place: Array
    valid: Array


@dataclass(frozen=True, slots=True)
class Unfolding:
    """A convolution, or a transposed one, with attributes as ONNX has them.

    Attributes:
        weights: shape of the kernel: (M, N / groups, *kernel), transposed (N, M / groups, *kernel).
        groups: of channels.
        strides, dilations, pads, auto_pad: as in ONNX; one number an axis, all begins before all ends.
        transposed: whether it is a ConvTranspose.
        output_padding, output_shape: of a transposed one.
    """

    weights: tuple[int, ...]
    groups: int
    strides: tuple[int, ...]
    dilations: tuple[int, ...]
    pads: tuple[int, ...]
    auto_pad: bytes
    transposed: bool
    output_padding: tuple[int, ...]
    output_shape: tuple[int, ...] | None

    @property
    def _axes(self) -> int:
        return len(self.weights) - 2

    @property
    def channel_axis(self) -> int:
        """The second axis."""
        return -1 - self._axes

    @property
    def rank(self) -> int:
        """As many axes as the kernel."""
        return len(self.weights)

    @property
    def width(self) -> int:
        """Channels of all groups."""
        return self.weights[1] * self.groups if self.transposed else self.weights[0]

    def shape(self, x: tuple[int, ...]) -> tuple[int, ...]:
        """Samples, channels, and the sizes of the output."""
        return (x[0], self.width, *(self._along(axis, x[2 + axis])[0] for axis in range(self._axes)))

    def places(self, x: tuple[int, ...]) -> tuple[int, int]:
        """Samples and pixels of the output."""
        return x[0], math.prod(self.shape(x)[2:])

    def rows(self, x: Array, at: Array) -> Array:
        """The patches: channels of a group, then the kernel's axes; zeros where they reach over the edge."""
        samples, count = at.shape
        sizes = self.shape(x.shape)[2:]
        where = np.unravel_index(at, sizes)
        taps = [self._taps(axis, x.shape[2 + axis], where[axis]) for axis in range(self._axes)]
        valid = np.ones((samples, count) + (1,) * self._axes, np.bool_)
        index: list[Array] = []
        for axis, tap in enumerate(taps):
            spread = (samples, count, *(self.weights[2 + axis] if a == axis else 1 for a in range(self._axes)))
            index.append(tap.place.reshape(spread))
            valid = valid & tap.valid.reshape(spread)
        sample = np.arange(samples, dtype=np.intp)[(slice(None), *(None,) * (1 + self._axes))]
        # Advanced indices with a slice between them: their axes come first, channels last.
        picked: tuple[Any, ...] = (sample, slice(None), *index)
        patches = x[picked] * valid[..., None]
        channels = x.shape[1] // self.groups
        split = patches.reshape(samples * count, math.prod(self.weights[2:]), self.groups, channels)
        return np.ascontiguousarray(split.transpose(2, 0, 3, 1)).reshape(self.groups, samples * count, -1)

    def targets(self, y: Array, at: Array) -> Array:
        """The pixels."""
        flat = y.reshape(y.shape[0], self.groups, y.shape[1] // self.groups, -1)
        chosen = np.take_along_axis(flat, at[:, None, None, :], axis=3)
        return chosen.transpose(1, 0, 3, 2).reshape(self.groups, at.size, -1)

    def matrix(self, w: Array) -> Array:
        """The kernels of each group, in the order of `rows`."""
        if self.transposed:
            split = w.reshape(self.groups, w.shape[0] // self.groups, w.shape[1], -1)
            return split.transpose(0, 1, 3, 2).reshape(self.groups, -1, w.shape[1])
        return w.reshape(self.groups, w.shape[0] // self.groups, -1).transpose(0, 2, 1)

    def array(self, matrix: Array) -> Array:
        """The inverse of `matrix`."""
        if self.transposed:
            taps = math.prod(self.weights[2:])
            split = matrix.reshape(self.groups, -1, taps, self.weights[1])
            return split.transpose(0, 1, 3, 2).reshape(self.weights)
        return matrix.transpose(0, 2, 1).reshape(self.weights)

    def channels(self, vector: Array) -> Array:
        """Channels of a group lie together."""
        return vector.reshape(self.groups, -1)

    def vector(self, channels: Array) -> Array:
        """The inverse of `channels`."""
        return channels.reshape(-1)

    # ---- along one axis

    def _along(self, axis: int, size: int) -> tuple[int, int]:
        """Size of the output, and how much padding comes before the input."""
        return self._transposed(axis, size) if self.transposed else self._plain(axis, size)

    def _plain(self, axis: int, size: int) -> tuple[int, int]:
        stride, reach = self.strides[axis], (self.weights[2 + axis] - 1) * self.dilations[axis] + 1
        if self.auto_pad in (b"SAME_UPPER", b"SAME_LOWER"):
            made = -(-size // stride)
            return made, self._before(max(0, (made - 1) * stride + reach - size))
        before, after = (0, 0) if self.auto_pad == b"VALID" else (self.pads[axis], self.pads[axis + self._axes])
        return (size + before + after - reach) // stride + 1, before

    def _transposed(self, axis: int, size: int) -> tuple[int, int]:
        stride, reach = self.strides[axis], (self.weights[2 + axis] - 1) * self.dilations[axis] + 1
        whole = stride * (size - 1) + self.output_padding[axis] + reach
        same = self.auto_pad in (b"SAME_UPPER", b"SAME_LOWER")
        if self.output_shape is not None or same:
            made = size * stride if self.output_shape is None else self.output_shape[axis - self._axes]
            return made, self._before(max(0, whole - made))
        before, after = (0, 0) if self.auto_pad == b"VALID" else (self.pads[axis], self.pads[axis + self._axes])
        return whole - before - after, before

    def _before(self, total: int) -> int:
        """How much of the padding comes first: the smaller half for SAME_UPPER, else the larger."""
        return total // 2 if self.auto_pad == b"SAME_UPPER" else total - total // 2

    def _taps(self, axis: int, size: int, at: Array) -> Taps:
        before = self._along(axis, size)[1]
        steps = np.arange(self.weights[2 + axis]) * self.dilations[axis]
        if self.transposed:
            reached = at[..., None] + before - steps
            index, exact = reached // self.strides[axis], reached % self.strides[axis] == 0
        else:
            index = at[..., None] * self.strides[axis] - before + steps
            exact = np.ones(index.shape, np.bool_)
        valid = exact & (index >= 0) & (index < size)
        return Taps(np.where(valid, index, 0), valid)
