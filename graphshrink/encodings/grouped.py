"""Grouped Huffman: a codebook for each group of channels, and one stream for the codes of all.

    entries (groups, R)   the distinct values of each group, the most frequent first
    stream                which of its group's values each weight is, see `stream`

The codes of a group are ranks by frequency, so that groups of other scales and shapes have much the same statistics.
"""

import math
from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from graphshrink.encodings.base import Builder
from graphshrink.encodings.chunks import LONGEST
from graphshrink.encodings.codebook import Codebook, CodebookEncoded, Layout
from graphshrink.encodings.huffman import LEAST
from graphshrink.encodings.stream import Stream, stream_of
from graphshrink.encodings.stream_graph import MIN_OPSET, OfStreams, emit_stream
from graphshrink.ir.types import Array


@dataclass(frozen=True, slots=True, eq=False)
class GroupedEncoded(OfStreams):
    """A tensor as a stream of ranks, and the values of each group.

    Attributes:
        layout: how the tensor is divided into groups.
        entries: (groups, R), in the tensor's type.
        stream: (groups * row,) ranks.
    """

    encoding: ClassVar[str] = "grouped-huffman"
    layout: Layout
    entries: Array
    stream: Stream

    def decode(self) -> Array:
        """The tensor, bit for bit."""
        ranks: Array = self.stream.decode().astype(np.int64).reshape(len(self.entries), -1)
        return self.layout.from_rows(np.take_along_axis(self.entries, ranks, axis=1))

    def emit(self, builder: Builder, output: str) -> None:
        """Ranks -> places in the table of all entries -> the tensor."""
        groups, entries = self.entries.shape
        have = (groups, self.stream.n // groups)
        ranks = emit_stream(builder, self.stream, builder.shared_constant(np.arange(entries, dtype=np.int32)), have)
        offsets = builder.shared_constant(np.arange(0, groups * entries, entries, dtype=np.int32)[:, None])
        places = builder.op("Add", ranks, offsets)
        rows = builder.op("Gather", builder.constant(self.entries.reshape(-1)), places)
        self.layout.finish(builder, rows, have, output, self.encoding)


class Grouped:
    """Applies where groups of channels have few distinct values each."""

    name: ClassVar[str] = "grouped-huffman"
    min_opset: ClassVar[int] = MIN_OPSET

    def encode(self, array: Array) -> GroupedEncoded | None:
        """None where one codebook serves the whole tensor best, or none does, or the tensor is too small to gain."""
        if not LEAST <= array.size <= LONGEST:
            return None
        found = Codebook().encode(array)
        if found is None or len(found.entries) == 1 or found.entries.shape[1] < 2:
            return None
        return _by_frequency(found)


def _by_frequency(found: CodebookEncoded) -> GroupedEncoded:
    codes: Array = found.unpacked()
    entries = found.entries.shape[1]
    counts = np.stack([np.bincount(row, minlength=entries) for row in codes])
    order = np.argsort(-counts, axis=1, kind="stable")
    ranks = np.argsort(order, axis=1, kind="stable")
    most = int((counts > 0).sum(axis=1).max())  # those that only fill a row up come last
    labels = np.take_along_axis(ranks, codes.astype(np.int64), axis=1).astype(np.uint8).reshape(-1)
    used = np.ascontiguousarray(np.take_along_axis(found.entries, order, axis=1)[:, :most])
    assert labels.size == math.prod(found.layout.shape)
    return GroupedEncoded(found.layout, used, stream_of(labels, most))
