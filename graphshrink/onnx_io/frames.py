"""Messages between graphshrink and its child process: a JSON head and raw arrays, never a pickle.

    frame  = length of the header (4 bytes, little-endian) | header (JSON, ASCII) | the bytes of all arrays in turn
    header = {"head": {...}, "arrays": [array, ...]}
    array  = {"dtype": "float32", "shape": [1, 3], "nbytes": 12} or {"shape": [2], "strings": ["a", "b"]}

Arrays are little-endian and C-ordered, sent from their own memory and received into their final one: nothing is copied
between. Strings travel in the header; bytes become strings with `surrogateescape`. What comes is distrusted,
since a stranger's model may have taken over the child: types are from a closed table, and sizes have to agree before
memory is asked for.
"""

import json
import math
import struct
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from io import BufferedIOBase
from typing import Any, Final, TypeAlias

import ml_dtypes
import numpy as np

from graphshrink.ir.types import Array

_LENGTH: Final = struct.Struct("<I")

_NUMPY_NAMES: Final = (
    *("bool", "int8", "int16", "int32", "int64", "uint8", "uint16", "uint32", "uint64"),
    *("float16", "float32", "float64", "complex64", "complex128"),
)
WHOLE_BYTES: Final = frozenset(
    {"bfloat16", "float8_e4m3fn", "float8_e4m3fnuz", "float8_e5m2", "float8_e5m2fnuz", "float8_e8m0fnu"}
)
"""Types of `ml_dtypes` that lie in memory as ONNX Runtime holds them."""

PARTS_OF_BYTES: Final = frozenset({"float4_e2m1fn", "int2", "uint2", "int4", "uint4"})
"""Types of `ml_dtypes` that take a byte an element, where ONNX Runtime packs several into one."""

DTYPES: Final[Mapping[str, np.dtype[Any]]] = {
    **{name: np.dtype(name) for name in _NUMPY_NAMES},
    **{name: np.dtype(getattr(ml_dtypes, name)) for name in sorted(WHOLE_BYTES | PARTS_OF_BYTES)},
    "object": np.dtype(object),
}
"""Every element type that a frame can hold, by its name; `object` stands for strings."""

Packed: TypeAlias = list[bytes | memoryview]
"""A frame ready to be written; the views keep their arrays alive."""


@dataclass(frozen=True, slots=True)
class Frame:
    """One message: any JSON object, and arrays that it refers to by their position."""

    head: Mapping[str, Any]
    arrays: Sequence[Array] = ()


def pack(frame: Frame) -> Packed:
    """Return the parts of a frame, in the order in which they are to be written.

    Raises:
        TypeError: an array has a type that no frame can hold.
        ValueError: the head, or the strings, are longer than a frame's header can be.
    """
    described = [_describe(array) for array in frame.arrays]
    entries = [entry for entry, _ in described]
    header = json.dumps({"head": frame.head, "arrays": entries}, separators=(",", ":")).encode("ascii")
    if len(header) >= 1 << 32:
        raise ValueError("a message's header would be longer than 4 GiB")
    return [_LENGTH.pack(len(header)) + header, *(payload for _, payload in described if payload is not None)]


def write(stream: BufferedIOBase, packed: Packed) -> None:
    """Write what `pack` returned, and flush."""
    for part in packed:
        stream.write(part)
    stream.flush()


def read(stream: BufferedIOBase) -> Frame | None:
    """Read the next frame; None where the stream ends between two frames.

    Raises:
        EOFError: the stream ends within a frame.
        ValueError: what came is no frame.
    """
    prefix = stream.read(_LENGTH.size)
    if not prefix:
        return None
    if len(prefix) < _LENGTH.size:
        raise EOFError("the stream ended within a message")
    header = bytearray(_LENGTH.unpack(prefix)[0])
    _fill(stream, memoryview(header))
    try:
        message = json.loads(header)
        return Frame({**message["head"]}, [_receive(stream, entry) for entry in message["arrays"]])
    except (KeyError, TypeError, RecursionError) as error:
        raise ValueError(f"this is no message ({error!r})") from error


def _describe(array: Array) -> tuple[dict[str, Any], memoryview | None]:
    if array.dtype.kind in "OSUT":
        return {"shape": array.shape, "strings": [_text(item) for item in array.ravel().tolist()]}, None
    name = array.dtype.name
    if name not in DTYPES:
        raise TypeError(f"arrays of type {array.dtype} cannot be sent")
    # Not np.ascontiguousarray, which gives a 0-d array an axis. A byte view, because ml_dtypes have no buffer format.
    plain = np.asarray(array, dtype=_little_endian(array.dtype), order="C")
    view = plain.reshape(-1).view(np.uint8).data
    return {"dtype": name, "shape": array.shape, "nbytes": view.nbytes}, view


def _text(item: object) -> str:
    if isinstance(item, str):
        return item
    if isinstance(item, bytes):
        return item.decode("utf-8", "surrogateescape")
    raise TypeError(f"arrays of Python objects cannot be sent, only of strings (found {type(item).__name__})")


def _little_endian(dtype: np.dtype[Any]) -> np.dtype[Any]:
    return dtype.newbyteorder("<") if dtype.name in _NUMPY_NAMES else dtype


def _receive(stream: BufferedIOBase, entry: Mapping[str, Any]) -> Array:
    shape = tuple(entry["shape"])
    if not all(type(size) is int and size >= 0 for size in shape):
        raise ValueError("a message has an array of impossible shape")
    if "strings" in entry:
        if not all(isinstance(item, str) for item in entry["strings"]):
            raise ValueError("a message has something else among its strings")
        return np.array(entry["strings"], dtype=object).reshape(shape)
    dtype = _little_endian(DTYPES[entry["dtype"]])
    if dtype.hasobject or entry["nbytes"] != math.prod(shape) * dtype.itemsize:
        raise ValueError("a message has an array whose size contradicts its shape")
    array = np.empty(shape, dtype)
    _fill(stream, array.reshape(-1).view(np.uint8).data)
    return array


def _fill(stream: BufferedIOBase, view: memoryview) -> None:
    filled = 0
    while filled < len(view):
        count = stream.readinto(view[filled:])
        if not count:
            raise EOFError("the stream ended within a message")
        filled += count
