"""Sizes: of files, and of what a download would carry."""

import hashlib
import zlib
from collections.abc import Iterable
from pathlib import Path
from typing import Final

GZIP_UP_TO: Final = 100_000_000
"""Bytes up to which gzip is measured: some 5 seconds."""

_CHUNK: Final = 1 << 20


def gzip_bytes(parts: Iterable[bytes | memoryview]) -> int:
    """Bytes after gzip at its default level, streamed."""
    packer = zlib.compressobj(6, zlib.DEFLATED, 31)
    size = 0
    for part in parts:
        view = memoryview(part)
        for start in range(0, len(view), _CHUNK):
            size += len(packer.compress(view[start : start + _CHUNK]))
    return size + len(packer.flush())


def affordable_gzip(parts: Iterable[bytes | memoryview], size: int) -> int | None:
    """`gzip_bytes`, or None where `size` bytes would take longer than anybody wants to wait for one figure."""
    return gzip_bytes(parts) if size <= GZIP_UP_TO else None


def file_chunks(paths: Iterable[Path]) -> Iterable[bytes]:
    """The contents of files, one after the other, in parts."""
    for path in paths:
        with path.open("rb") as file:
            while chunk := file.read(_CHUNK):
                yield chunk


def sha256(paths: Iterable[Path]) -> str:
    """SHA-256 of the contents of files, one after the other."""
    digest = hashlib.sha256()
    for chunk in file_chunks(paths):
        digest.update(chunk)
    return digest.hexdigest()
