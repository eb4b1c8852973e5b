"""Sparse: mostly zeros, and where the others are.

    steps    from each non-zero to the next, in units of 2^s: a stream of codes, see `stream`
    rests    what the units leave over, s bits each, several to the byte
    values   of the non-zeros: a stream of codes where they are few, as they are where they are many

Steps between positions that are taken at random are distributed geometrically, for which whole units in a prefix code
and rests as they are come close to the entropy (Golomb 1966, "Run-length encodings"). A step that is too long for the
code is walked in several; between them lies a zero that is listed like a value, as in Deep Compression (Han, Mao and
Dally 2016, arXiv:1510.00149).
"""

import math
from dataclasses import dataclass
from typing import ClassVar, Final

import numpy as np
from numpy.typing import NDArray

from graphshrink.encodings.base import Builder
from graphshrink.encodings.chunks import Chunks, Part, by_chunks
from graphshrink.encodings.codebook import Plane, bits_of, pack
from graphshrink.encodings.huffman import LEAST, HuffmanEncoded, huffman
from graphshrink.encodings.stream import Stream, stream_of
from graphshrink.encodings.stream_graph import MIN_OPSET, OfStreams, emit_stream
from graphshrink.ir.tensor import T, tensor_of
from graphshrink.ir.types import Array

Ints = NDArray[np.int64]

_DENSEST: Final = 0.75  # share of non-zeros from which nothing is saved
_SYMBOL_BITS: Final = 64  # about what a symbol takes in tables
_MOST_UNITS: Final = 200  # of a step; longer ones are walked in several
_RESTS: Final = {0: None, 1: Plane(2, 8), 2: Plane(4, 4), 4: Plane(16, 2)}  # how s bits are packed


@dataclass(frozen=True, slots=True, eq=False)
class Steps:
    """Positions as steps from each to the next.

    Attributes:
        units: (symbols,) int32, how far each symbol of `stream` leads.
        stream: a symbol for each step.
        bits: s, of the rest.
        rests: the rests, packed; None where s is 0.
    """

    units: NDArray[np.int32]
    stream: Stream
    bits: int
    rests: NDArray[np.uint8] | None

    def decode(self) -> Ints:
        """The positions."""
        steps = self.units[self.stream.decode()].astype(np.int64)
        plane = _RESTS[self.bits]
        if plane is not None and self.rests is not None:
            steps += plane.digits()[self.rests].reshape(-1)[: len(steps)]
        return np.cumsum(steps)

    def emit(self, builder: Builder) -> str:
        """The positions, int32."""
        n = self.stream.n
        steps = emit_stream(builder, self.stream, builder.constant(self.units), (n,))
        plane = _RESTS[self.bits]
        if plane is not None and self.rests is not None:
            digits = builder.shared_table(plane.digits(), T.INT32)
            spelled = builder.op("Gather", digits, builder.op("Cast", builder.constant(self.rests), to=T.INT32))
            flat = builder.reshape(spelled, (-1,))
            if n % plane.per_byte:
                flat = builder.first(flat, n)
            steps = builder.op("Add", steps, flat)
        return builder.op("CumSum", steps, builder.scalar(0))


@dataclass(frozen=True, slots=True, eq=False)
class SparseEncoded(OfStreams):
    """A tensor as the positions and values of its non-zeros.

    Attributes:
        shape: of the tensor.
        steps: the positions in the flattened tensor.
        values: (n,) in the tensor's type, plainly or as a stream.
    """

    encoding: ClassVar[str] = "sparse"
    shape: tuple[int, ...]
    steps: Steps
    values: Array | HuffmanEncoded

    def decode(self) -> Array:
        """The tensor, bit for bit."""
        values = self.values if isinstance(self.values, np.ndarray) else self.values.decode()
        flat = np.zeros(math.prod(self.shape), values.dtype)
        flat[self.steps.decode()] = values
        return flat.reshape(self.shape)

    def emit(self, builder: Builder, output: str) -> None:
        """What computes the tensor, marked."""
        self.compute(builder)
        builder.finish(output, self.encoding)

    def compute(self, builder: Builder) -> str:
        """Zeros, into which the values are scattered."""
        if isinstance(self.values, np.ndarray):
            dtype, values = self.values.dtype, builder.constant(self.values)
        else:
            dtype, values = self.values.entries.dtype, self.values.compute(builder)
        size = builder.shared_constant(np.array([math.prod(self.shape)], np.int64))
        zeros = builder.op("ConstantOfShape", size, value=tensor_of(np.zeros(1, dtype)))
        flat = builder.op("ScatterElements", zeros, self.steps.emit(builder), values)
        return flat if len(self.shape) == 1 else builder.reshape(flat, self.shape)


class SparseChunks(Chunks):
    """A very large tensor in parts."""

    __slots__ = ()
    encoding: ClassVar[str] = "sparse"


class Sparse:
    """Applies where at most three quarters of a tensor are not zero (by their bits: negative zeros are not)."""

    name: ClassVar[str] = "sparse"
    min_opset: ClassVar[int] = MIN_OPSET

    def encode(self, array: Array) -> Part | Chunks | None:
        """None where too few are zero, or the tensor is too small to gain."""
        if array.size < LEAST or array.dtype.kind != "f":
            return None
        return by_chunks(array, _encode, SparseChunks)


def _encode(array: Array) -> SparseEncoded | None:
    bits = bits_of(array)
    positions = np.flatnonzero(bits)
    if not 2 <= len(positions) <= _DENSEST * array.size:
        return None
    steps, positions = _steps(positions)
    if steps is None:
        return None
    held = bits[positions].view(array.dtype)
    return SparseEncoded(array.shape, steps, huffman(held) or held)


def _steps(positions: Ints) -> tuple[Steps | None, Ints]:
    """Steps that lead to all positions, and to zeros between those that are far apart; None if there is but one length.

    The unit is the one with the fewest bits, as the entropy counts them.
    """
    choices = [(*_walked(positions, bits), bits) for bits in _RESTS]
    _, walked, bits = min(((_bits(steps, bits), walked, bits) for steps, walked, bits in choices), key=lambda c: c[0])
    steps = np.diff(walked, prepend=0)
    units, labels = np.unique(steps >> bits, return_inverse=True)
    if len(units) < 2:
        return None, walked
    plane = _RESTS[bits]
    return Steps(
        (units << bits).astype(np.int32),
        stream_of(labels.astype(np.uint8), len(units)),
        bits,
        None if plane is None else _packed((steps & (1 << bits) - 1).astype(np.uint8), plane),
    ), walked


def _walked(positions: Ints, bits: int) -> tuple[Ints, Ints]:
    """Steps between positions of which none has more than `_MOST_UNITS` units, and where they lead."""
    longest = _MOST_UNITS << bits
    steps = np.diff(positions, prepend=0)
    more = steps // (longest + 1)
    if not more.any():
        return steps, positions
    ends = np.cumsum(more + 1)
    all_steps = np.full(int(ends[-1]), longest)
    all_steps[ends - 1] = steps - more * longest
    return all_steps, np.cumsum(all_steps)


def _bits(steps: Ints, bits: int) -> float:
    counts = np.bincount(steps >> bits)
    counts = counts[counts > 0]
    stored = len(steps) * (bits + np.log2(len(steps))) - (counts * np.log2(counts)).sum()
    plane = _RESTS[bits]
    return float(stored) + _SYMBOL_BITS * len(counts) + (0 if plane is None else 8 * plane.digits().size)


def _packed(digits: NDArray[np.uint8], plane: Plane) -> NDArray[np.uint8]:
    packed = np.zeros(-(-len(digits) // plane.per_byte), np.uint8)
    pack(digits, plane, packed)
    return packed
