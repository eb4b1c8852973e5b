"""Huffman: few distinct values, stored once each, and a stream of codes at close to the entropy.

    entries (symbols,)   the distinct values, in the weight's type
    stream               which of them each weight is, see `stream`

This is the storage of Deep Compression (Han, Mao and Dally 2016, arXiv:1510.00149) with phrases in front of the prefix
code, which bring it closer to the entropy where zero, or another value, dominates.
"""

from dataclasses import dataclass
from typing import ClassVar, Final

from graphshrink.encodings.base import Builder
from graphshrink.encodings.chunks import Chunks, Part, by_chunks
from graphshrink.encodings.codebook import bits_of, distinct, labels_of
from graphshrink.encodings.stream import Stream, stream_of
from graphshrink.encodings.stream_graph import MIN_OPSET, OfStreams, emit_stream
from graphshrink.ir.types import Array

LEAST: Final = 2048
"""Weights: below this the tables weigh more than what is saved."""


@dataclass(frozen=True, slots=True, eq=False)
class HuffmanEncoded(OfStreams):
    """A tensor as a stream of symbols, and the value of each."""

    encoding: ClassVar[str] = "huffman"
    shape: tuple[int, ...]
    entries: Array
    stream: Stream

    def decode(self) -> Array:
        """The tensor, bit for bit."""
        return self.entries[self.stream.decode()].reshape(self.shape)

    def emit(self, builder: Builder, output: str) -> None:
        """The stream's operators."""
        self.compute(builder)
        builder.finish(output, self.encoding)

    def compute(self, builder: Builder) -> str:
        """Add what computes the tensor, under a fresh name."""
        return emit_stream(builder, self.stream, builder.constant(self.entries), self.shape)


class HuffmanChunks(Chunks):
    """A very large tensor in parts."""

    __slots__ = ()
    encoding: ClassVar[str] = "huffman"


class Huffman:
    """Applies to tensors of at least two and at most 256 distinct values."""

    name: ClassVar[str] = "huffman"
    min_opset: ClassVar[int] = MIN_OPSET

    def encode(self, array: Array) -> Part | Chunks | None:
        """None where the values are too many, or the tensor too small to gain."""
        return None if array.size < LEAST else by_chunks(array, huffman, HuffmanChunks)


def huffman(array: Array) -> HuffmanEncoded | None:
    """A tensor of at least two elements, or None where it has one value or more than 256, or nothing is gained."""
    bits = bits_of(array)
    book = distinct(bits)
    if book is None or len(book) < 2:
        return None
    stream = stream_of(labels_of(bits, book), len(book))
    return HuffmanEncoded(array.shape, book.view(array.dtype), stream) if stream.nbytes < array.nbytes else None
