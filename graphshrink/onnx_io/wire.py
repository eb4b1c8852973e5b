"""Large tensors of a serialised model, left where they are.

`protobuf` copies every tensor into memory when it parses a file. To keep a large model on disk until somebody looks at
its weights, `split` walks the wire format (field numbers and lengths, as protobuf's encoding guide defines them) and
swaps each large `raw_data` for a short reference into the file; what remains is parsed as usual.
"""

import secrets
import struct
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Final, TypeAlias

from graphshrink.errors import ModelError

THRESHOLD: Final = 4096
"""Bytes from which a tensor stays in the file; messages below it hold none and are not looked into."""

_NO_MESSAGE: Final = "the file is not in protobuf's format: it is damaged, or is no ONNX model"
_MOST_FIELDS: Final = 5_000_000  # more than a million operators need; a second for each million
_MAX_DEPTH: Final = 60  # deeper nesting is left to protobuf, which has a limit of its own

# Message -> field number -> message inside it; "raw" marks the bytes to leave behind. Numbers are those of onnx.proto.
_SCHEMA: Final[Mapping[str, Mapping[int, str]]] = {
    "Model": {7: "Graph", 20: "Training", 25: "Function"},
    "Training": {1: "Graph", 2: "Graph"},
    "Function": {7: "Node", 11: "Attribute"},
    "Graph": {1: "Node", 5: "Tensor", 15: "SparseTensor"},
    "Node": {5: "Attribute"},
    "Attribute": {5: "Tensor", 6: "Graph", 10: "Tensor", 11: "Graph", 22: "SparseTensor", 23: "SparseTensor"},
    "SparseTensor": {1: "Tensor", 2: "Tensor"},
    "Tensor": {9: "raw"},
}
_VARINT, _FIXED64, _LENGTH, _FIXED32 = 0, 1, 2, 5
_FIXED_SIZE: Final[Mapping[int, int]] = {_FIXED64: 8, _FIXED32: 4}

Chunk: TypeAlias = bytes | memoryview


@dataclass(slots=True)
class Split:
    """A model without its large tensors, and what is needed to find them again.

    `left` is how many more fields may be looked at. `token` is random for each file, so that no file can contain
    something that looks like a reference.
    """

    source: memoryview
    left: int = field(default_factory=lambda: _MOST_FIELDS)
    token: bytes = field(default_factory=lambda: secrets.token_bytes(16))

    def reference(self, start: int, length: int) -> bytes:
        """What stands in the place of `length` bytes from `start`."""
        return self.token + struct.pack("<QQ", start, length)

    def resolve(self, raw: bytes) -> Chunk:
        """The bytes that a `raw_data` field stands for."""
        if len(raw) != len(self.token) + 16 or not raw.startswith(self.token):
            return raw
        start, length = struct.unpack_from("<QQ", raw, len(self.token))
        return self.source[start : start + length]


def split(source: memoryview) -> tuple[Split, bytes]:
    """Take the large tensors out of a serialised ModelProto.

    Raises:
        ModelError: the bytes are not in protobuf's wire format.
    """
    found = Split(source)
    chunks: list[Chunk] = []
    try:
        _copy(found, "Model", 0, len(source), chunks, 0)
    except IndexError as e:
        raise ModelError("the file ends in the middle of a field: it was cut short, or is no ONNX model") from e
    return found, b"".join(chunks)


def _copy(found: Split, message: str, start: int, end: int, chunks: list[Chunk], depth: int) -> int:
    """Append the message in source[start:end] to `chunks` with references for large tensors; returns its new length."""
    source, inside = found.source, _SCHEMA[message]
    length, copied, at = 0, start, start
    while at < end:
        found.left -= 1
        field_at = at
        key, at = _varint(source, at)
        if key < 8 or found.left < 0:  # there is no field number 0: zeros are no message
            raise ModelError(_NO_MESSAGE if key < 8 else f"has more than {_MOST_FIELDS:,} fields to be looked at")
        wire_type = key & 7
        if wire_type == _VARINT:
            _, at = _varint(source, at)
        elif wire_type in _FIXED_SIZE:
            at += _FIXED_SIZE[wire_type]
        elif wire_type == _LENGTH:
            size, at = _varint(source, at)
            body, at = at, at + size
            if at > end:
                raise IndexError
            kind = inside.get(key >> 3)
            if kind is None or size < THRESHOLD or depth > _MAX_DEPTH:
                continue
            chunks.append(source[copied:field_at])
            replaced: list[Chunk] = []
            if kind == "raw":
                replaced.append(found.reference(body, size))
                new_size = len(replaced[0])
            else:
                new_size = _copy(found, kind, body, at, replaced, depth + 1)
            head = _to_varint(key) + _to_varint(new_size)
            chunks.append(head)
            chunks.extend(replaced)
            length += field_at - copied + len(head) + new_size
            copied = at
        else:
            raise ModelError(_NO_MESSAGE)
    if at > end:
        raise IndexError
    chunks.append(source[copied:end])
    return length + end - copied


def _varint(source: memoryview, at: int) -> tuple[int, int]:
    value = source[at]
    at += 1
    if value < 0x80:
        return value, at
    value &= 0x7F
    for shift in range(7, 70, 7):
        byte = source[at]
        at += 1
        value |= (byte & 0x7F) << shift
        if byte < 0x80:
            return value, at
    raise ModelError(_NO_MESSAGE)


def _to_varint(value: int) -> bytes:
    out = bytearray()
    while value > 0x7F:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    out.append(value)
    return bytes(out)
