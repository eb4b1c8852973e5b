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


class HalfBfloat16Encoded(HalfEncoded):
    """A tensor in bfloat16."""

    encoding: ClassVar[str] = "half-bfloat16"


class Half:
    """Stores float32 and float64 in the first of some shorter types that holds every value."""

    name: ClassVar[str] = "half"
    min_opset: ClassVar[int] = 9
    types: ClassVar[tuple[np.dtype[Any], ...]] = (DTYPES[T.FLOAT16], DTYPES[T.FLOAT])
    form: ClassVar[type[HalfEncoded]] = HalfEncoded

    def encode(self, array: Array) -> HalfEncoded | None:
        """None where the values need their bits, and where the tensor is too small to gain."""
        if array.dtype not in _WIDE:
            return None
        for dtype in self.types:
            if array.size * (array.itemsize - dtype.itemsize) <= _CAST_BYTES:
                continue
            stored = _narrowed(array, dtype)
            if stored is not None:
                return self.form(stored, array.dtype)
        return None


class HalfBfloat16(Half):
    """The same with bfloat16, which operators take only from opset 13 on."""

    name: ClassVar[str] = "half-bfloat16"
    min_opset: ClassVar[int] = 13
    types: ClassVar[tuple[np.dtype[Any], ...]] = (DTYPES[T.BFLOAT16],)
    form: ClassVar[type[HalfEncoded]] = HalfBfloat16Encoded


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
            holds_nan = bool(np.isnan(wide).any())
        if holds_nan or (back.view(unsigned) != wide.view(unsigned)).any():
            return None
    return stored.reshape(array.shape)


def _parts(size: int) -> Iterator[slice]:
    """A small part first, then larger ones."""
    yield slice(0, _SAMPLE)
    for start in range(_SAMPLE, size, _CHUNK):
        yield slice(start, start + _CHUNK)
