"""Half: values that a shorter floating type holds exactly, stored in it and cast back.

    stored  float16, bfloat16 or (for float64) float32, in the tensor's own shape

Models that were trained or kept in half precision and exported as float32 are full of them. Every runtime widens these
types exactly, subnormals, infinities and signed zeros included, but for NaN: some make signalling NaNs quiet, some
forget the payload. So a tensor with a NaN is none of ours.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, ClassVar, Final

import numpy as np

from graphshrink.encodings.base import Builder
from graphshrink.ir.tensor import DTYPES, ELEM_TYPES, T
from graphshrink.ir.types import Array

_WIDE: Final = (DTYPES[T.FLOAT], DTYPES[T.DOUBLE])
_UNSIGNED: Final[dict[int, Any]] = {4: np.uint32, 8: np.uint64}
_CAST_BYTES: Final = 40  # what the operator takes at least
_SAMPLE: Final = 4096  # most tensors fail within it
_CHUNK: Final = 1 << 18


@dataclass(frozen=True, slots=True, eq=False)
class HalfEncoded:
    """A tensor in a shorter type.

    Attributes:
        stored: its values in that type.
        dtype: the type that it has.
    """

    encoding: ClassVar[str] = "half"
    stored: Array
    dtype: np.dtype[Any]

    @property
    def tables(self) -> tuple[()]:
        """None."""
        return ()

    def decode(self) -> Array:
        """The tensor, bit for bit."""
        return self.stored.astype(self.dtype)

    def emit(self, builder: Builder, output: str) -> None:
        """Stored -> Cast -> the tensor."""
        constant = builder.constant(self.stored)
        builder.op("Cast", constant, to=ELEM_TYPES[self.dtype], output=output, mark=self.encoding)


@dataclass(frozen=True, slots=True)
class Half:
    """Stores float32 and float64 in the first of some shorter types that holds every value.

    Attributes:
        name: of the encoding.
        min_opset: since when operators take these types.
        types: the shorter ones, the preferred one first.
    """

    name: str
    min_opset: int
    types: tuple[np.dtype[Any], ...]

    def encode(self, array: Array) -> HalfEncoded | None:
        """None where the values need their bits, and where the tensor is too small to gain."""
        if array.dtype not in _WIDE:
            return None
        for dtype in self.types:
            if array.size * (array.itemsize - dtype.itemsize) <= _CAST_BYTES:
                continue
            stored = _narrowed(array, dtype)
            if stored is not None:
                return HalfEncoded(stored, array.dtype)
        return None


HALVES: Final = (
    Half("half", 9, (DTYPES[T.FLOAT16], DTYPES[T.FLOAT])),
    Half("half-bfloat16", 13, (DTYPES[T.BFLOAT16],)),
)
"""Two encodings, since operators take bfloat16 only from opset 13 on."""


def _narrowed(array: Array, dtype: np.dtype[Any]) -> Array | None:
    """The same values in another type, or None if one of them is another value there, or NaN."""
    flat = array.reshape(-1)
    stored = np.empty(flat.size, dtype)
    unsigned = _UNSIGNED[array.itemsize]
    for part in _parts(flat.size):
        wide = flat[part]
        with np.errstate(all="ignore"):
            stored[part] = wide.astype(dtype)
            back = stored[part].astype(array.dtype)
        if np.isnan(wide).any() or (back.view(unsigned) != wide.view(unsigned)).any():
            return None
    return stored.reshape(array.shape)


def _parts(size: int) -> Iterator[slice]:
    """A small part first, then larger ones."""
    yield slice(0, _SAMPLE)
    for start in range(_SAMPLE, size, _CHUNK):
        yield slice(start, start + _CHUNK)
