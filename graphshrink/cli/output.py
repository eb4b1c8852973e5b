"""Printing, and writing small files."""

import os
import sys
import tempfile
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path

from graphshrink.errors import GraphshrinkError, UsageError
from graphshrink.escaping import safe
from graphshrink.report.progress import to_stderr

_LONGEST = 500  # characters of a message


def open_closed_streams() -> None:
    """Put the null device where stdin, stdout or stderr was closed before we started.

    Otherwise the next file opened, a model perhaps, gets the number of stderr, and C libraries print into it; and some
    Python libraries use `sys.stderr` while they are imported.
    """
    for number, name, mode in ((0, "stdin", "r"), (1, "stdout", "w"), (2, "stderr", "w")):
        if getattr(sys, name) is not None:
            continue
        null = os.open(os.devnull, os.O_RDWR)
        if null != number:
            os.dup2(null, number)
            os.close(null)
        setattr(sys, name, open(number, mode, encoding="utf-8", closefd=False))  # noqa: SIM115 - for as long as we run


def say(line: str) -> None:
    """One line on stderr."""
    to_stderr(f"graphshrink: {safe(line, _LONGEST)}")


def print_lines(lines: Iterable[str]) -> None:
    """Print to stdout, in ASCII where the terminal knows no more."""
    encoding = sys.stdout.encoding or "ascii"
    try:
        for line in lines:
            print(line.encode(encoding, "replace").decode(encoding))
        sys.stdout.flush()
    except OSError:  # nobody reads any more, or the disk is full: what was to be done is done
        close_stdout()


def close_stdout() -> None:
    """Nobody takes what we print; without this, Python would complain once more when it exits."""
    with suppress(OSError, ValueError):
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def expect_writable(path: Path | None) -> None:
    """Say early, not after an hour of work, that a result could not be written."""
    if path is None:
        return
    folder = resolved(path).parent
    if path.exists() and not path.is_file():
        raise UsageError(f"{path}: is a folder or a device; give the path of a file")
    if not folder.is_dir():
        raise UsageError(f"{path.parent}: no such folder")
    if not os.access(folder, os.W_OK):
        raise UsageError(f"{path.parent}: no permission to write here")


def resolved(path: Path) -> Path:
    """The path behind links.

    Raises:
        UsageError: it is a link to itself, or a name that the system cannot spell.
    """
    try:
        path.exists()  # resolving does not look at every part of a name that is too long
        return path.resolve()
    except (OSError, RuntimeError, ValueError) as e:
        raise UsageError(f"{safe(path)}: cannot be a path: {safe(e)}") from e


def expect_distinct(option: str, path: Path | None, others: dict[str, Path | str | None]) -> None:
    """What an option writes must not take the place of a model or of its data."""
    for name, other in others.items():
        if path is not None and other is not None and resolved(path) == resolved(Path(other)):
            raise UsageError(f"{option} {path}: is {name} as well; give it a name of its own")


def write_text(path: Path, content: str) -> None:
    """Whole or not at all, through a link if the path is one."""
    target = path.resolve()
    try:
        with tempfile.TemporaryDirectory(prefix=f".{target.name}.", dir=target.parent) as folder:
            written = Path(folder) / target.name
            written.write_text(content, encoding="utf-8")
            written.replace(target)
    except OSError as e:
        raise GraphshrinkError(f"{path}: cannot be written: {e.strerror or e}") from e
