"""External data: finding tensors in files beside the model, safely, and writing such files.

A model is a stranger's file, and `location` a path that it chose. Only a regular file inside the model's folder is ever
opened.
"""

import hashlib
import os
import re
import stat
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO, Final

from graphshrink.errors import ModelError, UsageError
from graphshrink.ir.graph import Graph
from graphshrink.ir.tensor import ExternalData
from graphshrink.ir.weight import constants

GIT_LFS: Final = b"version https://git-lfs"
"""How a file begins that stands for one that git-lfs has not fetched."""

ALIGNMENT: Final = 4096
"""Where tensors start in a data file, so that runtimes can map them."""

_CHUNK: Final = 16 << 20
_DECIMAL: Final = re.compile(r"0|[1-9][0-9]{0,18}")
_FORBIDDEN: Final = re.compile(r"[\x00-\x1f\x7f-\x9f\\]|^[A-Za-z]:|://")


def locate(entries: tuple[tuple[str, str], ...], folder: Path | None, length: int, where: str) -> ExternalData:
    """Where the data of a tensor lies, checked.

    Args:
        entries: keys and values of `external_data`.
        folder: the model's folder; None when it is not known, which leaves the file unresolved.
        length: bytes that the tensor's type and shape ask for.
        where: the tensor, for messages.

    Raises:
        ModelError: the entries are malformed, point outside the folder, or the file does not hold the bytes.
    """
    given = dict(entries)
    if len(given) != len(entries):
        raise ModelError(f"{where}: external data says something twice")
    location = given.get("location", "")
    offset, stated = _decimal(given, "offset", 0, where), _decimal(given, "length", length, where)
    if stated != length:
        raise ModelError(f"{where}: external data has {stated} bytes where its shape and type ask for {length}")
    if not location or _FORBIDDEN.search(location) or Path(location).is_absolute():
        raise ModelError(f"{where}: external data location {location!r} is not a plain relative path")
    if folder is None:
        return ExternalData(entries, None, offset, length)
    return ExternalData(entries, _own_file(folder / location, folder, offset + length, where), offset, length)


def _decimal(given: Mapping[str, str], key: str, default: int, where: str) -> int:
    text = given.get(key)
    if text is None:
        return default
    if not _DECIMAL.fullmatch(text):
        raise ModelError(f"{where}: external data {key} {text!r} is not a plain number")
    return int(text)


def _own_file(path: Path, folder: Path, end: int, where: str) -> Path:
    """The file behind a path, links resolved: it has to be a regular one inside the folder, of at least `end` bytes."""
    try:
        resolved, home = path.resolve(strict=True), folder.resolve(strict=True)
        info = resolved.stat()
    except OSError as e:
        raise ModelError(f"{where}: external data file {path.name!r} cannot be opened: {e.strerror or e}") from e
    except (RuntimeError, ValueError) as e:  # a ring of links (before Python 3.13), a name that the system cannot spell
        raise ModelError(f"{where}: external data file {path.name!r} cannot be opened: {e}") from e
    if not resolved.is_relative_to(home):
        hint = "; a model hub's cache is made of links: copy the model with its data to a folder of its own first"
        outside = f"{where}: external data {path.name!r} lies outside the model's folder"
        raise ModelError(outside + hint if path.is_symlink() else outside)
    if not stat.S_ISREG(info.st_mode):
        raise ModelError(f"{where}: external data {path.name!r} is not a regular file")
    if info.st_nlink > 1:
        raise ModelError(f"{where}: external data {path.name!r} has several names (hard links); copy it first")
    if end > info.st_size:
        with resolved.open("rb") as file:
            if file.read(len(GIT_LFS)) == GIT_LFS:
                raise ModelError(f"{where}: external data {path.name!r} is a git-lfs pointer; run `git lfs pull`")
        have = f"ends at {info.st_size} bytes, before the tensor does ({end})"
        raise ModelError(f"{where}: external data {path.name!r} {have}")
    return resolved


@dataclass(frozen=True, slots=True)
class Placement:
    """Where a tensor was written."""

    offset: int
    length: int


class DataWriter:
    """Writes tensors one after the other into an open file, and hashes what it writes."""

    def __init__(self, file: BinaryIO) -> None:
        self._file = file
        self._at = 0
        self._hash = hashlib.sha256()

    def write(self, data: bytes | memoryview) -> Placement:
        """Append a tensor at the next aligned place; chunks keep the memory low when `data` is a mapped file."""
        self._put(b"\0" * (-self._at % ALIGNMENT))
        offset = self._at
        view = memoryview(data)
        for start in range(0, len(view), _CHUNK):
            self._put(view[start : start + _CHUNK])
        return Placement(offset, len(view))

    def _put(self, data: bytes | memoryview) -> None:
        self._file.write(data)
        self._hash.update(data)
        self._at += len(data)

    @property
    def digest(self) -> str:
        """SHA-256 of everything written, in hexadecimal."""
        return self._hash.hexdigest()


def flush_to_disk(file: BinaryIO, durable: bool) -> None:
    """Hand the bytes to the system and, if they are to be `durable`, wait until they would survive a power cut."""
    file.flush()
    if durable:
        os.fsync(file.fileno())


def flush_folders(folders: Iterable[Path]) -> None:
    """Make renames in these folders durable, where the system can."""
    if os.name != "posix":
        return
    for folder in set(folders):
        handle = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(handle)
        finally:
            os.close(handle)


def expect_no_data(path: Path, data: Iterable[Path]) -> None:
    """Raises: UsageError, if writing to a path would overwrite a file of external data that a model is read from."""
    if path.resolve() in {file.resolve() for file in data}:
        raise UsageError(f"{path}: holds the external data of the model that is read; name another file")


def model_files(graph: Graph, path: Path) -> tuple[Path, ...]:
    """The model file and its external data."""
    data = {
        tensor.data.path
        for _, scope in graph.scopes()
        for _, tensor in constants(scope)
        if isinstance(tensor.data, ExternalData) and tensor.data.path is not None
    }
    return (path, *sorted(data))
