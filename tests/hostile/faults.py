"""Runs the command again and again, each time with a fault at a later step of its work in the folder of OUT.

    python -P -m tests.hostile.faults FAULT ROOMS IN [OPTIONS]

Step n is run in the folder ROOMS/n, where `out.onnx` holds what ROOMS/older holds; when the fault struck, n.fault is
there afterwards and holds the exit code. The first n without it was reached by no fault, and is the last.

FAULT is what happens at the n-th time that the command opens, makes, renames or removes something:

    kill        SIGKILL, before it is done
    interrupt   Ctrl-C, before it is done
    half        a signal that kills, in the middle of a write: n steps into a file
    full        no space from there on, likewise

Each run is a fork of this process, which has imported everything; `tests.hostile.test_faults` looks at the folders.
"""

import os
import resource
import shutil
import signal
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final

from graphshrink.cli import run

_STEPS: Final = 80
_PARTS: Final = 6  # of a file that is written
_EVENTS: Final = frozenset({"open", "os.mkdir", "os.rename", "os.remove", "os.rmdir", "os.link", "os.truncate"})
_REMOVALS: Final = frozenset({"os.remove", "os.rmdir"})  # they may name no more than the last part of a path
_WRITING: Final = os.O_WRONLY | os.O_RDWR


def main() -> None:
    fault, rooms, source, *options = sys.argv[1:]
    whole = Path(rooms, "whole")
    whole.mkdir()
    if run([source, str(whole / "out.onnx"), *options]) != 0:  # imports what the other runs need
        raise SystemExit("the command fails without a fault")
    for step in range(1, _STEPS):
        home = Path(rooms, str(step))
        shutil.copytree(Path(rooms, "older"), home)
        child = os.fork()
        if child == 0:
            sys.addaudithook(_FAULTS[fault](step, home))
            sys.exit(run([source, str(home / "out.onnx"), *options]))
        code = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
        if not _mark(home).exists():
            return
        _mark(home).write_text(str(code))
    raise SystemExit(f"still at work after {_STEPS} steps")


def _mark(home: Path) -> Path:
    return home.with_name(f"{home.name}.fault")


Hook = Callable[[str, tuple[Any, ...]], None]


def _at_step(number: int) -> Callable[[int, Path], Hook]:
    """A signal at the n-th event."""

    def make(step: int, home: Path) -> Hook:
        seen = 0

        def watch(event: str, arguments: tuple[Any, ...]) -> None:
            nonlocal seen
            if not _concerns(home, event, arguments):
                return
            seen += 1
            if seen == step:
                _strike(home)
                os.kill(os.getpid(), number)

        return watch

    return make


def _at_byte(action: Any) -> Callable[[int, Path], Hook]:
    """A limit for the size of files, from the moment that a file in the folder is opened for writing."""

    def make(step: int, home: Path) -> Hook:
        limit = (step - 1) * _largest(home.parent / "whole") // _PARTS

        def watch(event: str, arguments: tuple[Any, ...]) -> None:
            if event != "open" or not _concerns(home, event, arguments) or not int(arguments[2]) & _WRITING:
                return
            if step <= _PARTS and not _mark(home).exists():
                signal.signal(signal.SIGXFSZ, action)
                _strike(home)
                resource.setrlimit(resource.RLIMIT_FSIZE, (limit, limit))

        return watch

    return make


def _strike(home: Path) -> None:
    """Leave a mark; the name is none that is watched."""
    os.close(os.open(_mark(home), os.O_CREAT | os.O_WRONLY))


def _largest(folder: Path) -> int:
    return max(path.stat().st_size for path in folder.iterdir())


def _concerns(home: Path, event: str, arguments: tuple[Any, ...]) -> bool:
    if event not in _EVENTS or str(_mark(home)) in map(str, arguments):
        return False
    inside = any(str(argument).startswith(f"{home}{os.sep}") for argument in arguments)
    return inside or event in _REMOVALS


_FAULTS: Final[dict[str, Callable[[int, Path], Hook]]] = {
    "kill": _at_step(signal.SIGKILL),
    "interrupt": _at_step(signal.SIGINT),
    "half": _at_byte(signal.SIG_DFL),
    "full": _at_byte(signal.SIG_IGN),
}


if __name__ == "__main__":
    main()
