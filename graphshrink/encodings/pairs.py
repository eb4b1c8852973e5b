"""Pairs: 17 to 64 distinct values, of which one look-up gives two weights.

    entries (R,)             R = 32 or 64 values; the last is repeated where there are fewer
    low     (k, m) uint8     for m pairs each: the lower 8 bits of what the pair stands for
    high    (k,)   uint8     for the same pairs: the upper bits, a digit for each pair

A pair of codes i and j is the number i + R * j of 10 or 12 bits, and a table lists both values for each number. Codes
that fill no byte evenly would otherwise have to be put together of two planes, weight by weight, which takes twice
the memory and twice the time at load.
"""

import math
from collections.abc import Hashable
from dataclasses import dataclass
from typing import ClassVar, Final

import numpy as np
from numpy.typing import NDArray

from graphshrink.encodings.base import Builder
from graphshrink.encodings.codebook import Plane, bits_of, distinct, labels_of, pack
from graphshrink.ir.tensor import T
from graphshrink.ir.types import Array

# R, and how the upper bits of a pair are packed.
_HIGH: Final = {32: Plane(4, 4), 64: Plane(16, 2)}
_LEAST: Final = 1  # weights for each number of a pair: below it the table outgrows them


@dataclass(frozen=True, slots=True, eq=False)
class PairsEncoded:
    """A tensor as pairs of codes.

    Attributes:
        shape: of the tensor.
        entries: (R,) in the tensor's type.
        low, high: (k, m) and (k,) uint8, see above; pairs beyond the last weight are zeros.
    """

    encoding: ClassVar[str] = "pairs"
    shape: tuple[int, ...]
    entries: Array
    low: NDArray[np.uint8]
    high: NDArray[np.uint8]

    @property
    def tables(self) -> Hashable:
        """Tensors with as many entries share what numbers stand for."""
        return ("pairs", len(self.entries))

    def decode(self) -> Array:
        """The tensor, bit for bit."""
        digits = _HIGH[len(self.entries)].digits().astype(np.int32)
        numbers = self.low + 256 * digits[self.high]
        codes = np.stack([numbers % len(self.entries), numbers // len(self.entries)], axis=-1)
        return self.entries[codes.reshape(-1)[: math.prod(self.shape)]].reshape(self.shape)

    def emit(self, builder: Builder, output: str) -> None:
        """Numbers of pairs -> (Gather) -> the tensor; see docs/format.md."""
        entries = len(self.entries)
        high = builder.op("Cast", builder.constant(self.high), to=T.INT32)
        low = builder.op("Cast", builder.constant(self.low), to=T.INT32)
        numbers = builder.op("Add", builder.op("Gather", _digits(builder, entries), high), low)
        table = builder.op("Gather", builder.constant(self.entries), _codes(builder, entries))
        weights = builder.op("Gather", table, numbers)
        if 2 * self.low.size != math.prod(self.shape):
            weights = builder.first_columns(builder.reshape(weights, (1, -1)), math.prod(self.shape))
        builder.reshape(weights, self.shape)
        builder.finish(output, self.encoding)


def _digits(builder: Builder, entries: int) -> str:
    """(bytes, m) int32: 256 times the digits of each byte, shared."""
    digits = builder.shared_table(_HIGH[entries].digits(), T.INT32)
    return builder.shared_op("Mul", digits, builder.scalar(256, np.int32))


def _codes(builder: Builder, entries: int) -> str:
    """(R * R, 2) int32: the codes of each number, shared."""
    each = builder.shared_table(np.arange(entries, dtype=np.uint8).reshape(1, -1, 1), T.INT32)
    square = builder.shared_constant(np.array([entries, entries, 1], np.int64))
    first = builder.shared_op("Expand", each, square)
    second = builder.shared_op("Transpose", first, perm=(1, 0, 2))
    both = builder.shared_op("Concat", first, second, axis=2)
    return builder.shared_op("Reshape", both, builder.shared_constant(np.array([-1, 2], np.int64)))


class Pairs:
    """Applies to tensors of 17 to 64 distinct values that are no smaller than the table of pairs."""

    name: ClassVar[str] = "pairs"
    min_opset: ClassVar[int] = 9

    def encode(self, array: Array) -> PairsEncoded | None:
        """None where the values are too few or too many, or the tensor is too small."""
        smallest = min(_HIGH)
        if array.size < _LEAST * smallest**2:
            return None
        bits = bits_of(array)
        book = distinct(bits, max(_HIGH))
        if book is None or len(book) <= smallest // 2:
            return None
        entries = next(size for size in _HIGH if len(book) <= size)
        if array.size < _LEAST * entries**2:
            return None
        padded = np.pad(book, (0, entries - len(book)), mode="edge").view(array.dtype)
        return PairsEncoded(array.shape, padded, *_packed(labels_of(bits, book), entries))


def _packed(labels: NDArray[np.uint8], entries: int) -> tuple[NDArray[np.uint8], NDArray[np.uint8]]:
    """The lower and the upper bits of all pairs."""
    plane = _HIGH[entries]
    bytes_of_high = -(-len(labels) // (2 * plane.per_byte))
    low = np.zeros((bytes_of_high, plane.per_byte), np.uint8)
    high = np.zeros(bytes_of_high, np.uint8)
    first, second = labels[::2], labels[1::2]
    # i + R * j, of which i + R * (the lower bits of j) are 8 bits, and the others are the upper ones.
    both = low.reshape(-1)
    both[: len(first)] = first
    both[: len(second)] += (second % np.uint8(256 // entries)) * np.uint8(entries)
    pack(second // np.uint8(256 // entries), plane, high)
    return low, high
