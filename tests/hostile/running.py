"""Running one command under limits, and measuring what it took."""

import os
import resource
import shlex
import signal
import subprocess
import sys
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from tests.hostile.cases import GIB, Command
from tests.models import ROOT

_SAFETY: Final = 12 * GIB  # of address space, so that what has no bound cannot take the machine down
_DEVNULL: Final = Path(os.devnull)


@dataclass(frozen=True, slots=True)
class Program:
    """How graphshrink is called: of the checkout, or an installed one.

    Attributes:
        command: the words before the arguments.
        folder: what has to be on PYTHONPATH.
    """

    command: tuple[str, ...]
    folder: Path | None = None


# -P: as the installed command does, leave the working directory off the path.
CHECKOUT: Final = Program((sys.executable, "-P", "-m", "graphshrink"), ROOT)


def program_from(command: str | None) -> Program:
    """A program from a command line such as `/venv/bin/graphshrink`; the checkout's by default."""
    return Program(tuple(shlex.split(command))) if command else CHECKOUT


@dataclass(frozen=True, slots=True)
class Done:
    """How a command ended.

    Attributes:
        code: its exit code, negative for a signal.
        expired: whether it had to be stopped at the time limit.
        seconds: the wall time it took.
        memory: most bytes that were resident at once, in it or in one of its children.
        survivor: whether a process of it was still there afterwards.
    """

    code: int
    stdout: str
    stderr: str
    expired: bool
    seconds: float
    memory: int
    survivor: bool


def environment_of(program: Program, changes: Mapping[str, str | None], temporary: Path) -> dict[str, str]:
    """The surroundings: those of the tests, without what would change graphshrink's behaviour."""
    base: dict[str, str | None] = {
        key: value for key, value in os.environ.items() if not key.startswith(("GRAPHSHRINK_", "PYTHON", "LC_"))
    }
    base |= {"LANG": "C.UTF-8", "TMPDIR": str(temporary), "PYTHONDONTWRITEBYTECODE": "1"}
    folder = str(program.folder) if program.folder is not None else ""
    base |= {"PYTHONPATH": folder or None, **changes}
    if "PYTHONPATH" in changes:  # a case's own entries come first
        base["PYTHONPATH"] = f"{changes['PYTHONPATH']}:{folder}" if folder else changes["PYTHONPATH"]
    return {key: value for key, value in base.items() if value is not None}


def run(command: Command, program: Program, room: Path, seconds: float) -> Done:
    """Run a command; `room` holds its temporary folder (`tmp`), its default working directory, and what it prints."""
    (room / "tmp").mkdir()
    (room / "cwd").mkdir()
    cwd = command.cwd if command.cwd is not None else room / "cwd"
    out = command.stdout if command.stdout is not None else room / "stdout"
    started = time.monotonic()
    with out.open("wb") as stdout, (room / "stderr").open("wb") as stderr:
        process = subprocess.Popen(
            [*program.command, *command.arguments],
            stdin=subprocess.DEVNULL,
            stdout=stdout,
            stderr=stderr,
            cwd=cwd,
            env=environment_of(program, command.environment, room / "tmp"),
            start_new_session=True,
            preexec_fn=lambda: _confine(command, cwd),
        )
    expired, memory = _wait(process, started + seconds)
    took = time.monotonic() - started
    survivor = not expired and _outlived(process.pid)
    if survivor or expired:
        _kill(process.pid)
    printed = [_text(path) for path in (out, room / "stderr")]
    return Done(process.returncode, printed[0], printed[1], expired, took, memory, survivor)


def _confine(command: Command, cwd: Path) -> None:
    """In the child, before the program starts."""
    for number, limit in {resource.RLIMIT_CORE: 0, resource.RLIMIT_AS: _SAFETY, **command.limits}.items():
        if number == resource.RLIMIT_AS and sys.platform != "linux":
            continue
        hard = resource.getrlimit(number)[1]
        bound = limit if hard == resource.RLIM_INFINITY else min(limit, hard)
        resource.setrlimit(number, (bound, bound))  # the hard one too: the worker may lower its bound, not raise it
    for stream in command.closed:
        os.close(stream)
    if command.delete_cwd:
        cwd.rmdir()


def _wait(process: "subprocess.Popen[bytes]", deadline: float) -> tuple[bool, int]:
    """Wait for the end, at most until the deadline; give whether that passed, and the memory that was used."""
    expired = False
    while True:
        found, status, usage = os.wait4(process.pid, os.WNOHANG)
        if found:
            process.returncode = os.waitstatus_to_exitcode(status)
            return expired, usage.ru_maxrss * (1 if sys.platform == "darwin" else 1024)
        if not expired and time.monotonic() > deadline:
            expired = True
            _kill(process.pid)
        time.sleep(0.005)


def _outlived(group: int) -> bool:
    """Whether a process of a group is still there some seconds after its leader's end."""
    for _ in range(100):
        try:
            os.killpg(group, 0)
        except ProcessLookupError:
            return False
        time.sleep(0.05)
    return True


def _kill(group: int) -> None:
    try:
        os.killpg(group, signal.SIGKILL)
    except ProcessLookupError:
        return


def _text(path: Path) -> str:
    """What was printed; bytes that are no UTF-8 become characters that are found to be unfit."""
    return path.read_bytes().decode("utf-8", "surrogateescape") if path.is_file() else ""
