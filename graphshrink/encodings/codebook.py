"""Codebook: few distinct values, stored once each, and a small code for every weight.

    entries (groups, R)      the distinct values of each group of channels (one group: of the whole tensor)
    codes   (groups, bytes)  several codes to the byte, in one to three planes

Codes are packed by radix: a byte holds m digits of radix r (r ** m <= 256). Decoding a plane is one Gather from a table
that lists the digits of every byte, which gives m weights a step; a tensor with one plane skips the digits and gathers
weights straight from a table of values. Alphabets that no single radix packs well use planes that add up: 64 values are
a plane of radix 16 and one of radix 4.

Weights are compared by their bits, so that signed zeros and NaN payloads survive.
"""

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, ClassVar, Final, NamedTuple

import numpy as np

from graphshrink.encodings.base import Builder
from graphshrink.ir.tensor import T
from graphshrink.ir.types import Array

MAX_ENTRIES: Final = 256

DECODE_BYTES: Final = 400
"""About what a decode subgraph takes in a file: what a pass must save before its work pays."""


class Plane(NamedTuple):
    """A digit of every code: its radix, how many fit one byte, and what one unit of it is worth."""

    radix: int
    per_byte: int
    stride: int = 1

    def digits(self) -> Array:
        """(radix ** per_byte, per_byte) uint8: the digits of each byte, times the stride."""
        places: Array = self.radix ** np.arange(self.per_byte)
        codes: Array = np.arange(int(places[-1]) * self.radix)[:, None]
        return (codes // places % self.radix * self.stride).astype(np.uint8)


# How codes are packed, by the number of entries: the first row that is large enough.
_PACKINGS: Final[tuple[tuple[int, tuple[Plane, ...]], ...]] = (
    (2, (Plane(2, 8),)),
    (3, (Plane(3, 5),)),
    (4, (Plane(4, 4),)),
    (6, (Plane(6, 3),)),
    (8, (Plane(4, 4), Plane(2, 8, stride=4))),
    (16, (Plane(16, 2),)),
    (32, (Plane(16, 2), Plane(2, 8, stride=16))),
    (64, (Plane(16, 2), Plane(4, 4, stride=16))),
    (128, (Plane(16, 2), Plane(4, 4, stride=16), Plane(2, 8, stride=64))),
    (256, (Plane(256, 1),)),
)


def packing(entries: int) -> tuple[Plane, ...]:
    """The planes for a codebook of 1 to 256 entries."""
    return next(planes for limit, planes in _PACKINGS if entries <= limit)


def table_bytes(entries: int) -> int:
    """About what the tables take that all tensors with so many entries share."""
    return sum(plane.digits().size + 100 for plane in packing(entries) if plane.per_byte > 1)


def _padded_entries(planes: tuple[Plane, ...], entries: int) -> int:
    """Rows of the codebook: every code that the planes can spell must exist, bytes alone are taken as they are."""
    return entries if planes[0].radix == MAX_ENTRIES else math.prod(plane.radix for plane in planes)


def stored_bytes(size: int, groups: int, entries: int, itemsize: int) -> int:
    """Bytes of codes, entries and offsets for `size` weights in equal groups; decode operators not included."""
    planes = packing(entries)
    codes = sum(groups * -(-size // groups // plane.per_byte) for plane in planes)
    offsets = groups * np.dtype(np.int32).itemsize if groups > 1 else 0
    return codes + groups * _padded_entries(planes, entries) * itemsize + offsets


class Layout(NamedTuple):
    """How a tensor is divided into groups of neighbouring channels, each of which is stored as a row.

    Attributes:
        shape: of the tensor.
        axis: the axis whose channels are grouped; it comes first in the stored order.
    """

    shape: tuple[int, ...]
    axis: int

    @property
    def stored(self) -> tuple[int, ...]:
        """The shape with the grouped axis first."""
        return (self.shape[self.axis], *self.shape[: self.axis], *self.shape[self.axis + 1 :])

    def from_rows(self, rows: Array) -> Array:
        """The tensor from its rows."""
        return np.ascontiguousarray(np.moveaxis(rows.reshape(self.stored), 0, self.axis))

    def finish(self, builder: Builder, rows: str, have: tuple[int, ...], output: str, mark: str) -> None:
        """Cut the padding of rows, give the tensor its shape and axes, and mark the last operator.

        Args:
            builder: where to.
            rows: name of a value whose first axis are the groups; rows may be padded.
            have: its shape.
            output: name of the weight.
            mark: name of the encoding.
        """
        row = math.prod(self.shape) // have[0]
        if math.prod(have) != math.prod(self.shape):
            rows = builder.first_columns(builder.reshape(rows, (have[0], math.prod(have[1:]))), row)
            have = (have[0], row)
        if self.axis:
            order = (*range(1, self.axis + 1), 0, *range(self.axis + 1, len(self.shape)))
            moved = builder.reshape(rows, self.stored) if have != self.stored else rows
            builder.op("Transpose", moved, perm=order, output=output, mark=mark)
        elif have != self.shape:
            builder.reshape(rows, self.shape, output=output, mark=mark)
        else:
            builder.finish(output, mark)


@dataclass(frozen=True, slots=True, eq=False)
class CodebookEncoded:
    """A tensor in codebook form.

    Attributes:
        layout: how it is divided into groups.
        entries: (groups, R), in the tensor's type.
        planes: how codes are packed.
        codes: one (groups, bytes) uint8 array for each plane.
    """

    encoding: ClassVar[str] = "codebook"
    layout: Layout
    entries: Array
    planes: tuple[Plane, ...]
    codes: tuple[Array, ...]

    @property
    def tables(self) -> tuple[Plane, ...]:
        """Tensors packed alike share the tables of their digits."""
        return self.planes

    @property
    def _row(self) -> int:
        return math.prod(self.layout.shape) // len(self.entries)

    def unpacked(self) -> Array:
        """(groups, row) uint8: the code of each weight."""
        labels = np.zeros((len(self.entries), self._row), np.uint8)
        for group, row in enumerate(labels):
            for plane, codes in zip(self.planes, self.codes, strict=True):
                row += plane.digits()[codes[group]].reshape(-1)[: self._row]
        return labels

    def decode(self) -> Array:
        """The tensor, bit for bit."""
        rows = np.empty((len(self.entries), self._row), self.entries.dtype)
        for group, labels in enumerate(self.unpacked()):
            np.take(self.entries[group], labels, out=rows[group])
        return self.layout.from_rows(rows)

    def emit(self, builder: Builder, output: str) -> None:
        """Codes -> (Cast, Gather) -> the tensor; see docs/format.md."""
        groups, row, per_byte = len(self.entries), self._row, self.planes[0].per_byte
        if len(self.planes) > 1 or self._table_outgrows_weights:
            rows = self._gather_from_entries(builder, self._sum_of_planes(builder))
            have: tuple[int, ...] = (groups, row)
        elif per_byte == 1:
            shape = self.layout.shape
            codes = self.codes[0].reshape(shape) if groups == 1 else self.codes[0]
            rows = self._gather_from_entries(builder, _as_index(builder, codes))
            have = shape if groups == 1 else (groups, row)
        else:
            rows = self._gather_from_bytes(builder)
            have = (groups, self.codes[0].shape[1], per_byte)
        self.layout.finish(builder, rows, have, output, self.encoding)

    @property
    def _table_outgrows_weights(self) -> bool:
        """Whether a table of what each byte stands for, one for each group, would hold more than the tensor does."""
        plane, groups = self.planes[0], len(self.entries)
        table = groups * plane.radix**plane.per_byte * plane.per_byte
        return groups > 1 and plane.per_byte > 1 and table > math.prod(self.layout.shape)

    def _gather_from_bytes(self, builder: Builder) -> str:
        """One plane: (groups, bytes, per_byte) weights from a table of the weights that each byte stands for."""
        plane, groups = self.planes[0], len(self.entries)
        digits = builder.shared_table(plane.digits(), T.INT32)
        index = _as_index(builder, self.codes[0])
        if groups == 1:
            table = builder.op("Gather", builder.constant(self.entries[0]), digits, axis=0)
            return builder.op("Gather", table, index, axis=0)
        table = builder.op("Gather", builder.constant(self.entries), digits, axis=1)
        rows = plane.radix**plane.per_byte
        flat = builder.reshape(table, (groups * rows, plane.per_byte))
        return builder.op("Gather", flat, self._add_offsets(builder, index, rows), axis=0)

    def _gather_from_entries(self, builder: Builder, index: str) -> str:
        groups, entries = self.entries.shape
        if groups > 1:
            index = self._add_offsets(builder, index, entries)
        return builder.op("Gather", builder.constant(self.entries.reshape(-1)), index, axis=0)

    def _add_offsets(self, builder: Builder, index: str, step: int) -> str:
        offsets = (np.arange(len(self.entries)) * step).astype(np.int32)[:, None]
        return builder.op("Add", index, builder.shared_constant(offsets))

    def _sum_of_planes(self, builder: Builder) -> str:
        """(groups, row) codes, int32."""
        total = ""
        for plane, codes in zip(self.planes, self.codes, strict=True):
            digits = builder.shared_table(plane.digits(), T.INT32)
            spelled = builder.op("Gather", digits, _as_index(builder, codes), axis=0)
            width = codes.shape[1] * plane.per_byte
            spelled = builder.reshape(spelled, (len(codes), width))
            if width != self._row:
                spelled = builder.first_columns(spelled, self._row)
            total = builder.op("Add", total, spelled) if total else spelled
        return total


def _as_index(builder: Builder, codes: Array) -> str:
    return builder.op("Cast", builder.constant(codes), to=T.INT32)


class Codebook:
    """Finds the grouping and the packing with the fewest bytes."""

    name: ClassVar[str] = "codebook"
    min_opset: ClassVar[int] = 9

    def encode(self, array: Array) -> CodebookEncoded | None:
        """None where the values are too many, or the tensor is too small to gain."""
        best: tuple[int, int] | None = None  # axis, groups
        limit = array.nbytes
        for axis, groups in _groupings(array.shape) if array.size else ():
            extra = _GROUPED_BYTES if groups > 1 else 0
            sizes = [extra + stored_bytes(array.size, groups, n, array.itemsize) for n in range(1, MAX_ENTRIES + 1)]
            entries = most_distinct(array, axis, groups, sum(size < limit for size in sizes))
            if entries is not None:
                limit = sizes[entries - 1]
                best = (axis, groups)
        return None if best is None else _encode(array, *best)


def group_counts(channels: int) -> Iterator[int]:
    """The numbers of groups into which channels are divided, from few to one a channel.

    Halves, quarters, ... as far as they divide evenly.
    """
    width = channels
    while width > 1:
        width = width // 2 if width % 2 == 0 else 1
        yield channels // width


def _groupings(shape: tuple[int, ...]) -> Iterator[tuple[int, int]]:
    """(axis, groups) worth trying: the whole tensor, then groups of channels along the first, second and last axis."""
    yield 0, 1
    for axis in sorted({0, 1, len(shape) - 1} & set(range(len(shape)))) if len(shape) > 1 else ():
        for groups in group_counts(shape[axis]):
            yield axis, groups


def most_distinct(array: Array, axis: int, groups: int, limit: int) -> int | None:
    """The largest number of distinct values (by their bits) in a group, or None if that is above a limit up to 256."""
    limit = min(limit, MAX_ENTRIES)
    first = array[(slice(None),) * axis + (slice(array.shape[axis] // groups),)] if array.ndim else array
    if _too_many(_corner(first), limit) or _too_many(first, limit):  # so fail most, before the whole is copied
        return None
    most = 0
    for row in _rows(array, axis, groups):
        book = distinct(row, limit)
        if book is None:
            return None
        most = max(most, len(book))
    return most


def _too_many(array: Array, limit: int) -> bool:
    return distinct(bits_of(array), limit) is None


def _corner(array: Array) -> Array:
    """Some thousands of neighbouring weights, as a view."""
    cut: list[slice] = []
    left = _SAMPLE
    for length in reversed(array.shape):
        cut.append(slice(max(1, left)))
        left //= max(1, min(length, left))
    return array[tuple(reversed(cut))]


def bits_of(array: Array) -> Array:
    """(elements,) the bits of a tensor's elements, as unsigned integers."""
    bits: Array = _rows(array, 0, 1)[0]
    return bits


def _rows(array: Array, axis: int, groups: int) -> Array:
    """(groups, elements) bits of the weights, as unsigned integers."""
    moved = np.ascontiguousarray(np.moveaxis(array, axis, 0) if axis else array)
    return moved.reshape(groups, -1).view(_UNSIGNED[array.itemsize])


def distinct(bits: Array, limit: int = MAX_ENTRIES) -> Array | None:
    """The distinct numbers of a vector in order, or None if there are more than a limit up to 256."""
    known = np.unique(bits[:_SAMPLE])
    for start in range(_SAMPLE, len(bits), _CHUNK):
        if len(known) > limit:
            return None
        chunk = bits[start : start + _CHUNK]
        new = chunk[known[labels_of(chunk, known)] != chunk]
        if new.size:
            known = np.union1d(known, new)
    return known if len(known) <= limit else None


def labels_of(bits: Array, book: Array) -> Array:
    """Where in an ordered book of at most 256 numbers each number stands; anything for numbers that are not in it.

    A multiplication and a shift send each number to a slot of a table (Knuth 1973, volume 3, 6.4), with a factor for
    which no two entries meet: three passes that a processor does many at once, instead of a binary search.
    """
    if len(bits) < _HASH_FROM:
        return np.minimum(np.searchsorted(book, bits), len(book) - 1).astype(np.uint8)
    dtype = bits.dtype.type
    shift = dtype(8 * bits.itemsize - _HASH_BITS)
    for factor in _FACTORS:
        slots = (book * dtype(factor & np.iinfo(dtype).max)) >> shift
        if len(np.unique(slots)) == len(book):
            break
    else:
        return np.minimum(np.searchsorted(book, bits), len(book) - 1).astype(np.uint8)
    table = np.zeros(1 << _HASH_BITS, np.uint8)
    table[slots] = np.arange(len(book), dtype=np.uint8)
    labels = np.empty(len(bits), np.uint8)
    factor = dtype(factor & np.iinfo(dtype).max)
    for start in range(0, len(bits), _BLOCK):
        block = bits[start : start + _BLOCK] * factor
        np.right_shift(block, shift, out=block)
        labels[start : start + _BLOCK] = table[block]
    return labels


_UNSIGNED: Final[Mapping[int, Any]] = {2: np.uint16, 4: np.uint32, 8: np.uint64}
_SAMPLE: Final = 4096
_CHUNK: Final = 1 << 20
_BLOCK: Final = 1 << 15  # numbers that stay in the cache while they are looked up
_HASH_FROM: Final = 1 << 14
_HASH_BITS: Final = 16
_FACTORS: Final = tuple(0x9E3779B97F4A7C15 * odd & 0xFFFFFFFFFFFFFFFF for odd in range(1, 65, 2))
_PART: Final = 120 << 13  # labels packed at a time: whole bytes in every packing
_GROUPED_BYTES: Final = 150  # about what the operators take that tell groups apart


def _encode(array: Array, axis: int, groups: int) -> CodebookEncoded:
    rows = _rows(array, axis, groups)
    books = [book for row in rows if (book := distinct(row)) is not None]
    most = max(map(len, books))
    planes = packing(most)
    padded = _padded_entries(planes, most)
    entries = np.empty((groups, padded), rows.dtype)
    codes = tuple(np.zeros((groups, -(-rows.shape[1] // plane.per_byte)), np.uint8) for plane in planes)
    for index, (row, book) in enumerate(zip(rows, books, strict=True)):
        entries[index] = np.pad(book, (0, padded - len(book)), mode="edge")
        for start in range(0, len(row), _PART):
            labels = labels_of(row[start : start + _PART], book)
            for plane, packed in zip(planes, codes, strict=True):
                pack(labels, plane, packed[index, start // plane.per_byte :])
    return CodebookEncoded(Layout(array.shape, axis), entries.view(array.dtype), planes, codes)


def pack(labels: Array, plane: Plane, packed: Array) -> None:
    """Add the plane's digit of every label to the first bytes of `packed`, several digits to the byte."""
    for place in range(min(plane.per_byte, len(labels))):
        digits = labels[place :: plane.per_byte] // np.uint8(plane.stride)
        if plane.radix < MAX_ENTRIES:
            digits %= np.uint8(plane.radix)
        packed[: len(digits)] += digits * np.uint8(plane.radix**place)
