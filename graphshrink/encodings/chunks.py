"""Chunks: very large tensors in parts that are encoded one by one and joined.

Runtimes that add up in float32 (OpenVINO's CumSum) are exact up to 2^24, so that no vector of positions may be longer.
"""

from collections.abc import Callable, Hashable
from dataclasses import dataclass
from typing import ClassVar, Final, Protocol

import numpy as np

from graphshrink.encodings.base import Builder, Encoded
from graphshrink.ir.types import Array

LONGEST: Final = 1 << 24  # elements
_PART: Final = 1 << 23


class Part(Encoded, Protocol):
    """An encoded tensor that can be computed under a fresh name, without a mark."""

    def compute(self, builder: Builder) -> str:
        """Add what computes the tensor; returns its name."""
        ...


@dataclass(frozen=True, slots=True, eq=False)
class Chunks:
    """The parts of a flattened tensor; each encoding has a class of its own for them."""

    encoding: ClassVar[str]
    shape: tuple[int, ...]
    parts: tuple[Part, ...]

    @property
    def tables(self) -> Hashable:
        """Those of the parts."""
        return self.parts[0].tables

    def decode(self) -> Array:
        """The tensor, bit for bit."""
        return np.concatenate([part.decode() for part in self.parts]).reshape(self.shape)

    def emit(self, builder: Builder, output: str) -> None:
        """The parts, one after the other."""
        builder.reshape(builder.op("Concat", *[part.compute(builder) for part in self.parts], axis=0), self.shape)
        builder.finish(output, self.encoding)


def by_chunks(array: Array, encode: Callable[[Array], Part | None], chunks: type[Chunks]) -> Part | Chunks | None:
    """Encode a tensor whole, or in parts if it is very large; None if that does not apply to one of them."""
    if array.size <= LONGEST:
        return encode(array)
    parts: list[Part] = []
    flat = array.reshape(-1)
    for start in range(0, array.size, _PART):
        part = encode(flat[start : start + _PART])
        if part is None:
            return None
        parts.append(part)
    return chunks(array.shape, tuple(parts))
