"""Tensors of constants: what a TensorProto holds, without the protobuf.

Bytes are kept as they were stored and turned into an array only when somebody asks, so that a model of many gigabytes
can pass through untouched. Arrays handed out are read-only.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, TypeAlias

import ml_dtypes
import numpy as np
import onnx

from graphshrink.errors import InternalError, ModelError
from graphshrink.ir.basis import SpectralData, spectral_data
from graphshrink.ir.types import Array, Metadata

T = onnx.TensorProto

# Element types that NumPy or ml_dtypes can hold, with the bits one element takes when packed.
DTYPES: dict[int, np.dtype[Any]] = {
    number: np.dtype(dtype)
    for number, dtype in (
        (T.FLOAT, np.float32),
        (T.UINT8, np.uint8),
        (T.INT8, np.int8),
        (T.UINT16, np.uint16),
        (T.INT16, np.int16),
        (T.INT32, np.int32),
        (T.INT64, np.int64),
        (T.BOOL, np.bool_),
        (T.FLOAT16, np.float16),
        (T.DOUBLE, np.float64),
        (T.UINT32, np.uint32),
        (T.UINT64, np.uint64),
        (T.COMPLEX64, np.complex64),
        (T.COMPLEX128, np.complex128),
        (T.BFLOAT16, ml_dtypes.bfloat16),
        (T.FLOAT8E4M3FN, ml_dtypes.float8_e4m3fn),
        (T.FLOAT8E4M3FNUZ, ml_dtypes.float8_e4m3fnuz),
        (T.FLOAT8E5M2, ml_dtypes.float8_e5m2),
        (T.FLOAT8E5M2FNUZ, ml_dtypes.float8_e5m2fnuz),
        (T.UINT4, ml_dtypes.uint4),
        (T.INT4, ml_dtypes.int4),
        (T.FLOAT4E2M1, ml_dtypes.float4_e2m1fn),
        # Numbers rather than names below: the oldest onnx we support does not name them yet.
        (24, ml_dtypes.float8_e8m0fnu),
        (25, ml_dtypes.uint2),
        (26, ml_dtypes.int2),
        (27, ml_dtypes.float6_e2m3fn),
        (28, ml_dtypes.float6_e3m2fn),
    )
}
ELEM_TYPES: dict[np.dtype[Any], int] = {dtype: number for number, dtype in DTYPES.items()}
PACKED_BITS: dict[int, int] = {T.UINT4: 4, T.INT4: 4, T.FLOAT4E2M1: 4, 25: 2, 26: 2, 27: 6, 28: 6}
FLOATING: frozenset[int] = frozenset({T.FLOAT, T.DOUBLE, T.FLOAT16, T.BFLOAT16})
"""Element types in which trained weights come."""


@dataclass(frozen=True, slots=True)
class RawData:
    """Little-endian bytes as in `raw_data`; a view into the mapped model file when that is large."""

    buffer: bytes | memoryview


@dataclass(frozen=True, slots=True)
class FieldData:
    """Elements from a typed field (`float_data`, `int32_data`, ...), as the bytes `raw_data` would have."""

    buffer: bytes


@dataclass(frozen=True, slots=True)
class StringData:
    """Elements of a tensor of strings."""

    items: tuple[bytes, ...]


@dataclass(frozen=True, slots=True)
class ExternalData:
    """Bytes in a file beside the model, mapped into memory when they are read.

    `entries` are the keys and values of the file as they were; `path` is where they point, already checked to lie
    inside the model's folder, and None when the model was given without a folder. `offset` and `length` are in bytes.
    """

    entries: tuple[tuple[str, str], ...]
    path: Path | None
    offset: int
    length: int


@dataclass(frozen=True, slots=True)
class FilledData:
    """One element, as the bytes `raw_data` would have, that stands at every place; no other memory is taken."""

    element: bytes


TensorData: TypeAlias = RawData | FieldData | StringData | ExternalData | FilledData | SpectralData


def _map(data: ExternalData) -> memoryview:
    where = f"external data {dict(data.entries).get('location', '')!r}"
    if data.path is None:
        raise ModelError(f"{where}: the model came without a folder; load it by its path")
    if data.length == 0:
        return memoryview(b"")
    try:
        return np.memmap(data.path, np.uint8, "r", data.offset, (data.length,)).data
    except (OSError, ValueError) as e:  # it was there when the model was loaded
        raise ModelError(f"{where} can no longer be read: {e}") from e


_READ: dict[type[Any], Callable[[Any], bytes | memoryview]] = {
    RawData: lambda data: data.buffer,
    FieldData: lambda data: data.buffer,
    ExternalData: _map,
    SpectralData: lambda data: data.array.reshape(-1).view(np.uint8).data,
}

_MAX_FILLED: int = 1 << 59  # bytes, with which sizes still fit 64 bits


@dataclass(frozen=True, slots=True, eq=False)
class Tensor:
    """One tensor of constants, immutable.

    Attributes:
        name: its name in the file; None where tensors need none (attributes).
        elem_type: the ONNX element type, `onnx.TensorProto.DataType`.
        dims: sizes, row-major.
        data: where the elements are.
        states_location: whether the file says `data_location = DEFAULT` in so many words.
    """

    name: str | None
    elem_type: int
    dims: tuple[int, ...]
    data: TensorData
    doc: str | None = None
    metadata: Metadata = ()
    states_location: bool = False

    @property
    def size(self) -> int:
        """Number of elements."""
        return math.prod(self.dims)

    @property
    def nbytes(self) -> int:
        """Bytes of the elements when stored plainly."""
        if isinstance(self.data, StringData):
            return sum(map(len, self.data.items))
        return packed_size(self.elem_type, self.dims)

    @property
    def buffer(self) -> bytes | memoryview:
        """The elements as `raw_data` stores them.

        Raises:
            ModelError: the tensor holds strings, or its external data cannot be read.
        """
        if isinstance(self.data, StringData):
            raise ModelError(f"tensor {self.name!r} holds strings, which have no raw form")
        if isinstance(self.data, FilledData):
            return self.array.tobytes()
        return _READ[type(self.data)](self.data)

    @property
    def array(self) -> Array:
        """The elements as a read-only array of shape `dims`; strings as objects (bytes)."""
        if isinstance(self.data, StringData):
            array: Array = np.array(self.data.items, dtype=object).reshape(self.dims)
        elif isinstance(self.data, FilledData):
            array = np.broadcast_to(np.frombuffer(self.data.element, DTYPES[self.elem_type]).reshape(()), self.dims)
        elif self.elem_type in PACKED_BITS:
            codes = unpack_codes(self.buffer, self.elem_type, self.size)
            array = _codes_to_values(self.elem_type)[codes].reshape(self.dims)
        else:
            array = np.frombuffer(self.buffer, DTYPES[self.elem_type]).reshape(self.dims)
        array.flags.writeable = False
        return array

    def with_array(self, array: Array) -> "Tensor":
        """The same tensor with other elements (and their type and shape)."""
        new = tensor_of(array, self.name)
        return replace(new, doc=self.doc, metadata=self.metadata)

    def in_basis(self, coefficients: Array, basis: Array) -> "Tensor":
        """The same tensor with elements that are declared to be coefficients in an orthonormal basis, and stay so.

        Args:
            coefficients: (rows, k) or (n, k, m) float32, see `ir.basis`; in row-major order the weights computed from
                them are the elements.
            basis: (k, k) float32; its rows are orthonormal to 1e-5.

        Raises:
            InternalError: the basis is not orthonormal, or the coefficients are not of this kind.
        """
        data = spectral_data(coefficients, basis)
        if data is None or coefficients.size != self.size or self.elem_type != T.FLOAT:
            raise InternalError(f"tensor {self.name!r}: no coefficients of {list(self.dims)} in an orthonormal basis")
        return replace(self, data=data, states_location=False)


def tensor_of(array: Array, name: str | None = None) -> Tensor:
    """A tensor that holds `array` as raw data; the array is not copied and must not be written to any more.

    Strings come as an array of objects, `bytes` or `str`.

    Raises:
        InternalError: ONNX has no such element type.
    """
    dims = tuple(map(int, array.shape))
    if array.dtype == object:
        items = tuple(item.encode() if isinstance(item, str) else bytes(item) for item in array.reshape(-1))
        return Tensor(name, T.STRING, dims, StringData(items))
    native = array.astype(array.dtype.newbyteorder("="), copy=False)
    elem_type = ELEM_TYPES.get(native.dtype)
    if elem_type is None:
        raise InternalError(f"tensor {name!r}: ONNX has no element type for {array.dtype}")
    if elem_type in PACKED_BITS:
        return Tensor(
            name, elem_type, dims, RawData(pack_codes(np.ascontiguousarray(native).view(np.uint8), elem_type))
        )
    return Tensor(
        name, elem_type, dims, RawData(np.ascontiguousarray(native).reshape(-1).view(np.uint8).data.toreadonly())
    )


def filled_tensor(name: str, value: Tensor | None, dims: tuple[int, ...]) -> Tensor | None:
    """What ConstantOfShape gives; None where the value is no single element of a whole-byte type, or the shape absurd.

    Args:
        name: of the result.
        value: the one element; None for ONNX's default, a float32 zero.
        dims: of the result.
    """
    element = value if value is not None else tensor_of(np.zeros(1, np.float32))
    if element.size != 1 or element.elem_type not in DTYPES or element.elem_type in PACKED_BITS:
        return None
    if any(d < 0 for d in dims) or math.prod(d for d in dims if d) >= _MAX_FILLED // DTYPES[element.elem_type].itemsize:
        return None
    return Tensor(name, element.elem_type, dims, FilledData(bytes(element.buffer)))


def packed_size(elem_type: int, dims: tuple[int, ...]) -> int:
    """Bytes that `dims` elements of a type take in `raw_data` (Python integers: no overflow)."""
    bits = PACKED_BITS.get(elem_type) or 8 * DTYPES[elem_type].itemsize
    return -(-math.prod(dims) * bits // 8)


def unpack_codes(buffer: bytes | memoryview, elem_type: int, size: int) -> Array:
    """Bit patterns, a byte each, of `size` elements below one byte: a stream of bits, lowest bits first."""
    width = PACKED_BITS[elem_type]
    bits = np.unpackbits(np.frombuffer(buffer, np.uint8), count=size * width, bitorder="little")
    return np.packbits(bits.reshape(size, width), axis=1, bitorder="little").reshape(size)


def pack_codes(codes: Array, elem_type: int) -> bytes:
    """The inverse of `unpack_codes`; bits above the width of the type do not count."""
    width = PACKED_BITS[elem_type]
    bits = np.unpackbits(codes.reshape(-1, 1), axis=1, bitorder="little")[:, :width]
    return np.packbits(bits, bitorder="little").tobytes()


def _codes_to_values(elem_type: int) -> Array:
    """The value of each bit pattern of a type below one byte."""
    bits, dtype = PACKED_BITS[elem_type], DTYPES[elem_type]
    codes = np.arange(1 << bits)
    if elem_type in (T.INT4, 26):  # two's complement
        codes = np.where(codes >= 1 << (bits - 1), codes - (1 << bits), codes)
    if "float" in dtype.name:
        return codes.astype(np.uint8).view(dtype)
    return codes.astype(np.int8).astype(dtype)


@dataclass(frozen=True, slots=True, eq=False)
class SparseTensor:
    """Constants of which only the non-zero ones are stored: `values` (nnz,), `indices` (nnz,) or (nnz, rank)."""

    values: Tensor
    indices: Tensor
    dims: tuple[int, ...]

    @property
    def name(self) -> str | None:
        """The name, which ONNX keeps on the values."""
        return self.values.name
