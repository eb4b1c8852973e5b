"""Printing, and writing small files."""

import os
import sys
import tempfile
from collections.abc import Iterable
from pathlib import Path

from graphshrink.errors import GraphshrinkError, UsageError
from graphshrink.escaping import safe

_LONGEST = 500  # characters of a message


def say(line: str) -> None:
    """One line on stderr."""
    print(f"graphshrink: {safe(line, _LONGEST)}", file=sys.stderr)


def print_lines(lines: Iterable[str]) -> None:
    """Print to stdout, in ASCII where the terminal knows no more."""
    if sys.stdout is None:  # closed before we started
        return
    encoding = sys.stdout.encoding or "ascii"
    try:
        for line in lines:
            print(line.encode(encoding, "replace").decode(encoding))
        sys.stdout.flush()
    except BrokenPipeError:
        close_stdout()


def close_stdout() -> None:
    """Nobody reads any more; without this, Python would complain once more when it exits."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def expect_writable(path: Path | None) -> None:
    """Say early, not after an hour of work, that a result could not be written."""
    if path is None:
        return
    if path.exists() and not path.is_file():
        raise UsageError(f"{path}: is a folder or a device; give the path of a file")
    folder = path.resolve().parent
    if not folder.is_dir():
        raise UsageError(f"{path.parent}: no such folder")
    if not os.access(folder, os.W_OK):
        raise UsageError(f"{path.parent}: no permission to write here")


def expect_distinct(option: str, path: Path | None, others: dict[str, Path | str | None]) -> None:
    """What an option writes must not take the place of a model or of its data."""
    for name, other in others.items():
        if path is not None and other is not None and path.resolve() == Path(other).resolve():
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
