"""Asking about a file before opening it."""

import stat
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path

from graphshrink.calibration.feeds import show
from graphshrink.errors import CalibrationError


@contextmanager
def readable(path: Path) -> Generator[None]:
    """Turn what the file system, or a text that cannot be a path, raises into a CalibrationError of one line."""
    try:
        yield
    except (OSError, ValueError) as error:
        reason = error.strerror if isinstance(error, OSError) and error.strerror else str(error)
        raise CalibrationError(f"{show(path)}: cannot be read: {show(reason)}; check the path") from error


def regular_file(path: Path) -> int:
    """The size of a file, once it is known to be a regular one that is not empty (opening a FIFO would hang)."""
    with readable(path):
        status = path.stat()
    if not stat.S_ISREG(status.st_mode):
        raise CalibrationError(f"{show(path)}: is no regular file; give a file with samples")
    if not status.st_size:
        raise CalibrationError(f"{show(path)}: is an empty file; give a file with samples")
    return status.st_size
