"""Codebook: few distinct values, stored once each, and a small code for every weight.

    entries (groups, R)      the distinct values of each group of channels (one group: of the whole tensor)
    codes   (groups, bytes)  several codes to the byte, in one to three planes

Codes are packed by radix: a byte holds m digits of radix r (r ** m <= 256). Decoding a plane is one Gather from a table that lists the
digits of every byte, which gives m weights a step; a tensor with one plane skips the digits and gathers weights straight from a table of
values. Alphabets that no single radix packs well use planes that add up: 64 values are a plane of radix 16 and one of radix 4.

Weights are compared by their bits, so that signed zeros and NaN payloads survive.
"""

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, ClassVar, Final, NamedTuple

import numpy as np
import onnx

from graphshrink.encodings.base import Builder
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
        codes = np.arange(self.radix**self.per_byte)[:, None]
        digits: Array = codes // self.radix ** np.arange(self.per_byte) % self.radix * self.stride
        return digits.astype(np.uint8)


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


def _padded_entries(planes: tuple[Plane, ...], entries: int) -> int:
    """Rows of the codebook: every code that the planes can spell must exist, bytes alone are taken as they are."""
    return entries if planes[0].radix == MAX_ENTRIES else math.prod(plane.radix for plane in planes)


def stored_bytes(size: int, groups: int, entries: int, itemsize: int) -> int:
    """Bytes of codes and entries for `size` weights in equal groups; decode operators not included."""
    planes = packing(entries)
    codes = sum(groups * -(-size // groups // plane.per_byte) for plane in planes)
    return codes + groups * _padded_entries(planes, entries) * itemsize


@dataclass(frozen=True, slots=True, eq=False)
class CodebookEncoded:
    """A tensor in codebook form.

    Attributes:
        shape: of the tensor.
        axis: the axis whose channels are grouped; it comes first in the stored order.
        entries: (groups, R), in the tensor's type.
        planes: how codes are packed.
        codes: one (groups, bytes) uint8 array for each plane.
    """

    encoding: ClassVar[str] = "codebook"
    shape: tuple[int, ...]
    axis: int
    entries: Array
    planes: tuple[Plane, ...]
    codes: tuple[Array, ...]

    @property
    def _row(self) -> int:
        return math.prod(self.shape) // len(self.entries)

    @property
    def _stored_shape(self) -> tuple[int, ...]:
        """The shape with the grouped axis first."""
        return (self.shape[self.axis], *self.shape[: self.axis], *self.shape[self.axis + 1 :]) if self.axis else self.shape

    def decode(self) -> Array:
        """The tensor, bit for bit."""
        groups = len(self.entries)
        index = np.zeros((groups, self._row), np.intp)
        for plane, codes in zip(self.planes, self.codes, strict=True):
            index += codes if plane.per_byte == 1 else plane.digits()[codes].reshape(groups, -1)[:, : self._row]
        rows: Array = np.take_along_axis(self.entries, index, axis=1)
        return np.ascontiguousarray(np.moveaxis(rows.reshape(self._stored_shape), 0, self.axis))

    def emit(self, builder: Builder, output: str) -> None:
        """Codes -> (Cast, Gather) -> the tensor; see docs/format.md."""
        groups, row = len(self.entries), self._row
        if len(self.planes) > 1:
            rows = self._gather_from_entries(builder, self._sum_of_planes(builder))
            have: tuple[int, ...] = (groups, row)
        elif self.planes[0].per_byte == 1:
            codes = self.codes[0].reshape(self.shape) if groups == 1 else self.codes[0]
            rows = self._gather_from_entries(builder, builder.op("Cast", builder.constant(codes), to=onnx.TensorProto.INT32))
            have = self.shape if groups == 1 else (groups, row)
        else:
            rows = self._gather_from_bytes(builder)
            have = (groups, self.codes[0].shape[1], self.planes[0].per_byte)
        self._finish(builder, rows, have, output)

    def _finish(self, builder: Builder, rows: str, have: tuple[int, ...], output: str) -> None:
        """Cut the padding, give the tensor its shape and axes, and mark the last operator."""
        if math.prod(have) != math.prod(self.shape):
            rows = builder.first_columns(builder.reshape(rows, (have[0], math.prod(have[1:]))), self._row)
            have = (have[0], self._row)
        if self.axis:
            order = (*range(1, self.axis + 1), 0, *range(self.axis + 1, len(self.shape)))
            builder.op("Transpose", builder.reshape(rows, self._stored_shape), perm=order, output=output, mark=self.encoding)
        elif have != self.shape:
            builder.reshape(rows, self.shape, output=output, mark=self.encoding)
        else:
            builder.finish(output, self.encoding)

    def _gather_from_bytes(self, builder: Builder) -> str:
        """One plane: (groups, bytes, per_byte) weights from a table of the weights that each byte stands for."""
        plane, groups = self.planes[0], len(self.entries)
        digits = builder.shared_cast(plane.digits(), onnx.TensorProto.INT32)
        index = builder.op("Cast", builder.constant(self.codes[0]), to=onnx.TensorProto.INT32)
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
            digits = builder.shared_cast(plane.digits(), onnx.TensorProto.INT32)
            index = builder.op("Cast", builder.constant(codes), to=onnx.TensorProto.INT32)
            spelled = builder.op("Gather", digits, index, axis=0)
            width = codes.shape[1] * plane.per_byte
            spelled = builder.reshape(spelled, (len(codes), width))
            if width != self._row:
                spelled = builder.first_columns(spelled, self._row)
            total = builder.op("Add", total, spelled) if total else spelled
        return total


class Codebook:
    """Finds the grouping and the packing with the fewest bytes."""

    name: ClassVar[str] = "codebook"
    min_opset: ClassVar[int] = 9

    def encode(self, array: Array) -> CodebookEncoded | None:
        """None where the values are too many, or the tensor is too small to gain."""
        best: tuple[int, int, int] | None = None  # bytes, axis, groups
        limit = array.nbytes
        for axis, groups in _groupings(array.shape) if array.size else ():
            sizes = [stored_bytes(array.size, groups, entries, array.itemsize) for entries in range(1, MAX_ENTRIES + 1)]
            affordable = sum(size < limit for size in sizes)
            entries = _most_distinct(array, axis, groups, affordable)
            if entries is not None:
                limit = sizes[entries - 1]
                best = (limit, axis, groups)
        return None if best is None else _encode(array, *best[1:])


def group_counts(channels: int) -> Iterator[int]:
    """The numbers of groups into which channels are divided, from few to one a channel: halves, quarters, ... as far as they divide evenly."""
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


def _rows(array: Array, axis: int, groups: int) -> Array:
    """(groups, elements) bits of the weights, as unsigned integers."""
    bits = np.ascontiguousarray(np.moveaxis(array, axis, 0)) if axis else np.ascontiguousarray(array)
    return bits.reshape(groups, -1).view(_UNSIGNED[array.itemsize])


_UNSIGNED: Final[dict[int, Any]] = {1: np.uint8, 2: np.uint16, 4: np.uint32, 8: np.uint64}
_CHUNK: Final = 1 << 20


def _most_distinct(array: Array, axis: int, groups: int, affordable: int) -> int | None:
    """The largest number of distinct values in a group, or None as soon as one has more than is affordable."""
    first = _rows(np.take(array, range(array.shape[axis] // groups), axis), axis, 1) if groups > 1 else _rows(array, axis, groups)
    most = 0
    for rows in (first, _rows(array, axis, groups)):  # most groupings fail on their first group, before the whole is copied
        for row in rows:
            values = distinct(row)
            if values is None or len(values) > affordable:
                return None
            most = max(most, len(values))
        if groups == 1:
            break
    return most


def distinct(bits: Array) -> Array | None:
    """The distinct numbers of a vector in order, or None if there are more than 256."""
    known = np.unique(bits[:4096])
    for start in range(4096, len(bits), _CHUNK):
        if len(known) > MAX_ENTRIES:
            return None
        chunk = bits[start : start + _CHUNK]
        at = np.minimum(np.searchsorted(known, chunk), len(known) - 1)
        new = chunk[known[at] != chunk]
        if new.size:
            known = np.union1d(known, new)
    return known if len(known) <= MAX_ENTRIES else None


def _encode(array: Array, axis: int, groups: int) -> CodebookEncoded:
    rows = _rows(array, axis, groups)
    books = [distinct(row) for row in rows]
    most = max(len(book) for book in books if book is not None)
    planes = packing(most)
    padded = _padded_entries(planes, most)
    entries = np.empty((groups, padded), rows.dtype)
    labels = np.empty(rows.shape, np.uint8)
    for index, (row, book) in enumerate(zip(rows, books, strict=True)):
        assert book is not None  # _count has seen every row
        entries[index] = np.pad(book, (0, padded - len(book)), mode="edge")
        for start in range(0, len(row), _CHUNK):
            labels[index, start : start + _CHUNK] = np.searchsorted(book, row[start : start + _CHUNK])
    codes = tuple(_pack(labels, plane) for plane in planes)
    return CodebookEncoded(array.shape, axis, entries.view(array.dtype), planes, codes)


def _pack(labels: Array, plane: Plane) -> Array:
    """(groups, bytes): the plane's digit of every label, several to the byte, each row padded with zeros."""
    if plane.per_byte == 1:
        return labels
    digits = labels // plane.stride % plane.radix if plane.stride > 1 else labels % plane.radix
    padded = np.pad(digits, ((0, 0), (0, -labels.shape[1] % plane.per_byte)))
    packed = np.zeros((len(labels), padded.shape[1] // plane.per_byte), np.uint8)
    for place in range(plane.per_byte):
        packed += padded[:, place :: plane.per_byte] * np.uint8(plane.radix**place)
    return packed
