"""Reading a model file into the IR, with tensors left on disk until they are asked for."""

import mmap
import os
import stat
from pathlib import Path
from typing import Final

import onnx
from google.protobuf.message import DecodeError

from graphshrink.encodings import lift
from graphshrink.errors import ModelError
from graphshrink.escaping import safe
from graphshrink.ir.check import check
from graphshrink.ir.graph import Graph
from graphshrink.ir.tensor import RawData
from graphshrink.ir.weight import constants
from graphshrink.onnx_io.external import GIT_LFS
from graphshrink.onnx_io.fields import Source
from graphshrink.onnx_io.from_proto import read_model
from graphshrink.onnx_io.limits import expect_bounded
from graphshrink.onnx_io.wire import split

_MAP_FROM: Final = 1 << 20  # smaller files are read whole
_SIZE_CAP: Final = 1 << 31  # protobuf's own limit

# What people pass by mistake, by the first bytes of the file.
_MISTAKES: Final = (
    (GIT_LFS, "is a git-lfs pointer, not the model; run `git lfs pull`"),
    (b"\x1f\x8b", "is gzip-compressed; unpack it first"),
    (b"PK\x03\x04", "is a zip archive (a PyTorch checkpoint?); unpack it, or export the model to ONNX first"),
    (b"PK\x05\x06", "is an empty zip archive"),
    *(
        (bytes((0x80, protocol)), "is a Python pickle, which is never opened; export the model to ONNX first")
        for protocol in (2, 3, 4, 5)
    ),
    (b"<", "is HTML or XML: a download that failed?"),
    (b"{", "is JSON, not ONNX"),
    (b"[", "is JSON, not ONNX"),
    (b"\x89HDF", "is HDF5 (a Keras checkpoint?); export it to ONNX first"),
)
_TEXT: Final = (b"<", b"{", b"[")  # blanks may stand before these


def load(model: str | os.PathLike[str] | onnx.ModelProto) -> Graph:
    """Read a model into the IR. Weights that graphshrink encoded are given back as ordinary weights.

    Args:
        model: a path, or a model in memory (whose external data, if any, stays unread).

    Raises:
        ModelError: the file cannot be read, is no ONNX model, or its graph is broken.
    """
    graph = load_as_stored(model)
    try:
        lift(graph)
        check(graph)
    except ModelError as e:
        raise ModelError(f"{_place(model)}{e}") from e
    return graph


def load_as_stored(model: str | os.PathLike[str] | onnx.ModelProto) -> Graph:
    """`load` without lifting encoded weights and without checking the graph."""
    try:
        if isinstance(model, onnx.ModelProto):
            known = onnx.ModelProto()
            known.CopyFrom(model)
            _expect_known_fields(known)
            _expect_graph(known)
            expect_bounded(model)
            return read_model(model, Source())
        return read_model(*_parse(Path(model)))
    except ModelError as e:
        raise ModelError(f"{_place(model)}{e}") from e
    except OSError as e:
        raise ModelError(f"{_place(model)}cannot be read: {e.strerror or e}") from e
    except (DecodeError, UnicodeDecodeError, RecursionError) as e:
        raise ModelError(f"{_place(model)}not an ONNX model, or a damaged one ({e})") from e
    except ValueError as e:  # a path that the system cannot spell, an enum value that no version of ONNX knows
        raise ModelError(f"{_place(model)}{e}") from e


class MappedPages:
    """The memory that holds what was read of a mapped model file: it can be given back, and is read again if needed."""

    def __init__(self, graph: Graph) -> None:
        buffers = (
            tensor.data.buffer
            for _, scope in graph.scopes()
            for _, tensor in constants(scope)
            if isinstance(tensor.data, RawData)
        )
        found = (buffer.obj for buffer in buffers if isinstance(buffer, memoryview))
        self._files = {id(file): file for file in found if isinstance(file, mmap.mmap)}

    def release(self) -> None:
        """Give it back, where the system can."""
        if hasattr(mmap, "MADV_DONTNEED"):
            for file in self._files.values():
                file.madvise(mmap.MADV_DONTNEED)


def _place(model: str | os.PathLike[str] | onnx.ModelProto) -> str:
    """The beginning of messages about a model; escaped, since a file's name may hold anything."""
    if isinstance(model, onnx.ModelProto):
        return ""
    return f"{safe(os.fspath(model))}: "


def _parse(path: Path) -> tuple[onnx.ModelProto, Source]:
    size = _expect_model_file(path)
    small = size < _MAP_FROM
    with path.open("rb") as file:
        content = memoryview(file.read() if small else mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ))
    start = bytes(content[:64]).removeprefix(b"\xef\xbb\xbf")
    for magic, mistake in _MISTAKES:
        if start.startswith(magic) or (magic in _TEXT and start.lstrip().startswith(magic)):
            raise ModelError(mistake)
    proto = onnx.ModelProto()
    if small:
        proto.ParseFromString(bytes(content))
        source = Source(path.parent)
    else:
        found, rest = split(content)
        proto.ParseFromString(rest)
        source = Source(path.parent, found.resolve)
    _expect_known_fields(proto)
    _expect_graph(proto)
    expect_bounded(proto)
    return proto, source


def _expect_graph(proto: onnx.ModelProto) -> None:
    if not proto.HasField("graph"):
        raise ModelError("holds no graph: not an ONNX model")


def _expect_known_fields(proto: onnx.ModelProto) -> None:
    """Raises: ModelError, if the file is of a newer ONNX, parts of which would be lost; takes them out to find out."""
    size = proto.ByteSize()
    proto.DiscardUnknownFields()
    if proto.ByteSize() != size:
        raise ModelError(f"holds fields that onnx {onnx.__version__} does not know; install a newer onnx")


def _expect_model_file(path: Path) -> int:
    """Stat before open, since opening a pipe would hang; returns the size in bytes."""
    try:
        info = path.stat()
    except OSError as e:
        raise ModelError(f"cannot be opened: {e.strerror or e}") from e
    if not stat.S_ISREG(info.st_mode):
        raise ModelError("is not a regular file")
    if info.st_size == 0:
        raise ModelError("is empty")
    if info.st_size >= _SIZE_CAP:
        raise ModelError(f"has {info.st_size} bytes; an ONNX file ends at 2 GB, larger models have external data")
    return info.st_size
