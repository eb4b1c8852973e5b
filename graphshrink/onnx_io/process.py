"""One child process of `graphshrink._worker`, the pipes to it, and its end."""

import math
import os
import signal
import subprocess
import sys
import time
from contextlib import suppress
from io import BufferedReader, BufferedWriter
from pathlib import Path
from threading import Event, Thread
from typing import Final, cast

from graphshrink.onnx_io import frames
from graphshrink.onnx_io.frames import Frame

_BOOT: Final = """\
import importlib.machinery, importlib.util, sys
folder = sys.argv.pop(1)
sys.path.append(folder)
spec = importlib.machinery.PathFinder.find_spec("graphshrink", [folder])
sys.modules["graphshrink"] = importlib.util.module_from_spec(spec)
from graphshrink import _worker
_worker.main(sys.argv[1:])
"""
"""Runs the worker of *this* graphshrink, installed or not, even where another one is installed.

Its folder, which may also hold our dependencies, comes last on the path, so that nothing in it shadows anything. The
package's own `__init__` is not executed: it would import the whole compiler, which the worker has no use for.
"""


class WorkerLost(Exception):  # noqa: N818 an event, not an error that a user sees
    """The worker is gone; the message says why, as the rest of a sentence about the judge."""


class Worker:
    """One child process and the pipes to it."""

    def __init__(self, timeout: float, memory_limit: int | None) -> None:
        self._timeout = timeout
        self._limited = memory_limit is not None
        self._owner = os.getpid()
        self._process = subprocess.Popen(
            _command(memory_limit),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=None if os.environ.get("GRAPHSHRINK_DEBUG") else subprocess.DEVNULL,
            env=_environment(),
            creationflags=getattr(subprocess, "CREATE_NO_WINDOW", 0),
        )
        self._requests = cast(BufferedWriter, self._process.stdin)
        self._replies = cast(BufferedReader, self._process.stdout)
        self._deadline = math.inf
        self._expired = False
        self._stopped = Event()
        Thread(target=self._watch, name="graphshrink-watch", daemon=True).start()

    def exchange(self, packed: frames.Packed) -> Frame:
        """Send a request and return the reply to it.

        Raises:
            WorkerLost: it crashed, took too long, or sent nonsense. It cannot be used any more.
        """
        self._deadline = time.monotonic() + self._timeout
        try:
            frames.write(self._requests, packed)
            reply = frames.read(self._replies)
        except (OSError, EOFError):
            reply = None
        except (ValueError, MemoryError) as error:
            raise WorkerLost(f"sent a reply that cannot be read ({error})") from error
        finally:
            self._deadline = math.inf
        if self._expired:
            raise WorkerLost(f"ran out of time (the limit is {self._timeout:g} s)")
        if reply is None:
            raise WorkerLost(self._cause())
        return reply

    def alive(self) -> bool:
        """Say whether the process still runs."""
        return self._process.poll() is None

    def kill(self) -> None:
        """End the process, at once; not a process of which this one is only a fork."""
        if self._owner == os.getpid():
            self._process.kill()

    def stop(self) -> None:
        """End the process and leave nothing of it behind, neither pipes nor a zombie."""
        self._stopped.set()
        self.kill()
        with suppress(OSError):  # the rest of a request that nobody will read
            self._requests.close()
        self._replies.close()
        if self._owner == os.getpid():
            self._process.wait()

    def _watch(self) -> None:
        """Kill the process at the deadline.

        One thread that looks now and then works on every system, also when the pipe to the worker is full, and costs a
        request nothing, where a Timer for each would add from 0.1 to 3 ms.
        """
        while not self._stopped.wait(min(1.0, self._timeout / 10)):
            if time.monotonic() > self._deadline:
                self._expired = True
                self.kill()

    def _cause(self) -> str:
        """Say why the worker closed its pipes."""
        with suppress(subprocess.TimeoutExpired):
            self._process.wait(timeout=5)
        code = self._process.returncode
        if code is None or code >= 0:
            cause = f"stopped without an answer (exit code {code}; GRAPHSHRINK_DEBUG=1 shows what it printed"
            return f"{cause}{'; perhaps it ran out of memory' if self._limited else ''})"
        memory = "; perhaps it ran out of memory" if self._limited or -code == signal.SIGKILL else ""
        return f"crashed ({_signal_name(-code)}{memory})"


def _command(memory_limit: int | None) -> list[str]:
    if not sys.executable:
        raise WorkerLost("cannot be started, because Python does not know its own executable")
    # -P keeps the working directory off the path; what this interpreter was told to ignore, the worker ignores too.
    flags = ["-P", *["-E"] * sys.flags.ignore_environment, *["-s"] * sys.flags.no_user_site]
    limit = [] if memory_limit is None else [str(memory_limit)]
    return [sys.executable, *flags, "-c", _BOOT, str(Path(__file__).parents[2]), *limit]


def _environment() -> dict[str, str]:
    """Return our environment without PYTHONPATH's relative entries: the working directory, which `-P` leaves in."""
    environment = dict(os.environ)
    # The worker needs NumPy for its arrays alone; a pool of threads would take time and address space.
    environment["OPENBLAS_NUM_THREADS"] = "1"
    folders = [folder for folder in environment.pop("PYTHONPATH", "").split(os.pathsep) if Path(folder).is_absolute()]
    return {**environment, "PYTHONPATH": os.pathsep.join(folders)} if folders else environment


def _signal_name(number: int) -> str:
    try:
        return signal.Signals(number).name
    except ValueError:
        return f"signal {number}"
