"""Files that are no models, or half of one."""

import gzip
import io
import os
import pickle
import socket
import struct
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final

import numpy as np
from onnx import TensorProto, numpy_helper

from tests.hostile.cases import DONE, DONE_OR_REFUSED, REFUSED, Case, Command, Model, compress, model_cases, write_model
from tests.models import two_layers


def good() -> bytes:
    """A sound model, as bytes."""
    return two_layers().SerializeToString()


def field(number: int, content: bytes) -> bytes:
    """A length-delimited field of a protobuf message."""
    return varint(number << 3 | 2) + varint(len(content)) + content


def varint(value: int) -> bytes:
    """A protobuf integer."""
    parts: list[int] = []
    while value >= 0x80:
        parts.append(value & 0x7F | 0x80)
        value >>= 7
    return bytes([*parts, value])


def _zipped() -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        archive.writestr(zipfile.ZipInfo("model.onnx"), good())
    return buffer.getvalue()


class _Bomb:
    """Unpickling it makes a file; see `_unpickled`."""

    def __reduce__(self) -> tuple[Any, ...]:
        return (Path.touch, (Path("unpickled"),))


def _tensor() -> TensorProto:
    return numpy_helper.from_array(np.arange(6, dtype=np.float32), "t")


_GOOD: Final = len(good())
_OFFSETS: Final = (1, 2, 17, 100, _GOOD // 4, _GOOD // 2, _GOOD - 100, _GOOD - 5, _GOOD - 1)

_CONTENTS: Final[tuple[tuple[str, Callable[[], Model]], ...]] = (
    ("empty", lambda: b""),
    *((f"truncated after {offset} bytes", lambda offset=offset: good()[:offset]) for offset in _OFFSETS),
    ("zeros", lambda: bytes(4096)),
    ("random bytes", lambda: np.random.default_rng(0).bytes(4096)),
    ("ones", lambda: b"\xff" * 4096),
    ("git-lfs pointer", lambda: b"version https://git-lfs.github.com/spec/v1\noid sha256:" + b"0" * 64 + b"\nsize 9\n"),
    ("HTML page", lambda: b"<!DOCTYPE html><html><body>404</body></html>"),
    ("HTML after a byte order mark and blanks", lambda: b"\xef\xbb\xbf \r\n\t<html></html>"),
    ("JSON", lambda: b'{"error": "access denied"}'),
    ("JSON array after blanks", lambda: b"\n\n  [1, 2]"),
    ("gzip", lambda: gzip.compress(good(), mtime=0)),
    ("zip", _zipped),
    ("empty zip", lambda: b"PK\x05\x06" + bytes(18)),
    ("pickle that makes a file", lambda: pickle.dumps(_Bomb())),
    ("pickle of protocol 0", lambda: pickle.dumps([1], 0)),
    ("HDF5", lambda: b"\x89HDF\r\n\x1a\n" + bytes(100)),
    ("zstandard", lambda: b"\x28\xb5\x2f\xfd" + bytes(100)),
    ("PNG", lambda: b"\x89PNG\r\n\x1a\n" + bytes(100)),
    ("safetensors", lambda: struct.pack("<Q", 2) + b"{}"),
    ("TFLite", lambda: b"\x1c\x00\x00\x00TFL3" + bytes(100)),
    ("ONNX Runtime's own format", lambda: b"\x30\x00\x00\x00ORTM" + bytes(100)),
    ("ONNX as text", lambda: b'ir_version: 8\ngraph { name: "g" }\n'),
    ("UTF-16 text", lambda: "model".encode("utf-16")),
    ("a TensorProto", lambda: _tensor().SerializeToString()),
    ("a bare GraphProto", lambda: two_layers().graph.SerializeToString()),
    ("a model twice", lambda: good() * 2),
    ("garbage after the model", lambda: good() + b"\xff\xff\xff\xff garbage"),
    ("a field of 2^63 bytes", lambda: b"\x3a" + varint(1 << 63) + good()),
    ("a field longer than the file", lambda: b"\x3a" + varint(_GOOD * 2) + good()),
    ("an overlong integer", lambda: b"\x08" + b"\x80" * 30 + b"\x01" + good()),
    ("a million open groups", lambda: b"\x0b" * 1_000_000),
    ("fields of a future ONNX", lambda: good() + field(999, b"new")),
    ("a graph that is text", lambda: field(7, b"not a graph at all")),
    ("two graphs that are merged", lambda: good() + field(7, two_layers(seed=3).graph.SerializeToString())),
    ("text that is no UTF-8", lambda: good().replace(b"first", b"\xc3\x28\xff\xfe\x80")),
)


def _unusual(make: Callable[[Path], object]) -> Callable[[Path], Command]:
    """IN is made by a function that is given its path."""

    def prepare(folder: Path) -> Command:
        make(folder / "model.onnx")
        return compress(folder)

    return prepare


def _socket(path: Path) -> None:
    here = Path.cwd()
    os.chdir(path.parent)  # a socket's path must be short
    try:
        with socket.socket(socket.AF_UNIX) as end:
            end.bind(path.name)
    finally:
        os.chdir(here)


def _sparse(size: int, start: bytes = b"") -> Callable[[Path], None]:
    def make(path: Path) -> None:
        with path.open("wb") as file:
            file.write(start)
            file.truncate(size)

    return make


def _linked(path: Path) -> None:
    path.symlink_to(write_model(path.parent, two_layers(), "real.onnx"))


def _unreadable(path: Path) -> None:
    write_model(path.parent, two_layers()).chmod(0)


def _named(given: str) -> Callable[[Path], Command]:
    return lambda folder: Command((given, folder / "out.onnx", "--quiet"), folder / "out.onnx")


_HEAD: Final = good() + b"\x3a" + varint(1 << 30)  # the beginning of a second graph

_FILES: Final = (
    Case("missing", _unusual(lambda path: None), REFUSED),
    Case("a folder", _unusual(Path.mkdir), REFUSED),
    Case("a named pipe", _unusual(os.mkfifo), REFUSED),
    Case("a socket", _unusual(_socket), REFUSED),
    Case("a link to /dev/zero", _unusual(lambda path: path.symlink_to("/dev/zero")), REFUSED),
    Case("a link to /dev/null", _unusual(lambda path: path.symlink_to(os.devnull)), REFUSED),
    Case("a link to itself", _unusual(lambda path: path.symlink_to(path)), REFUSED),
    Case("a link to nothing", _unusual(lambda path: path.symlink_to("nothing")), REFUSED),
    Case("a link to a model", _unusual(_linked), DONE),
    Case("sparse, 3 GB", _unusual(_sparse(3_000_000_000)), REFUSED),
    Case("sparse, just below protobuf's limit", _unusual(_sparse((1 << 31) - 1)), REFUSED),
    Case("a model and 1 GB of zeros", _unusual(_sparse(1_000_000_000, good())), REFUSED),
    Case("a graph of 1 GB of zeros", _unusual(_sparse(len(_HEAD) + (1 << 30), _HEAD)), REFUSED),
    Case("without permission to read", _unusual(_unreadable), DONE_OR_REFUSED),  # root may read it anyway
    Case("a name of 300 characters", _named("/tmp/" + "n" * 300), REFUSED),
    Case("a path of 10,000 characters", _named("/tmp" + "/n" * 5_000), REFUSED),
    Case("an address of the web", _named("https://example.com/model.onnx"), REFUSED),
    Case("memory of the process", _named("/proc/self/mem"), REFUSED),
)

CASES: Final = (*model_cases(_CONTENTS), *_FILES)
