"""Asking about a file before opening it."""

import stat
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path

from graphshrink.errors import CalibrationError
from graphshrink.escaping import safe


@contextmanager
def readable(path: Path) -> Generator[None]:
    """Turn what the file system, or a text that cannot be a path, raises into a CalibrationError of one line."""
    try:
        yield
    except (OSError, ValueError) as error:
        reason = error.strerror if isinstance(error, OSError) and error.strerror else str(error)
        raise CalibrationError(f"{safe(path)}: cannot be read: {safe(reason)}; check the path") from error


def regular_file(path: Path) -> int:
    """The size of a file, once it is known to be a regular one that is not empty (opening a FIFO would hang)."""
    with readable(path):
        status = path.stat()
    if not stat.S_ISREG(status.st_mode):
        raise CalibrationError(f"{safe(path)}: is no regular file; give a file with samples")
    if not status.st_size:
        raise CalibrationError(f"{safe(path)}: is an empty file; give a file with samples")
    return status.st_size
