"""The judges, at arm's length: the ONNX checker, shape inference and ONNX Runtime, in a child process.

    with Runtime(timeout=60) as runtime, runtime.open(path) as session:
        outputs = session.run({"x": x})

Whatever a model does there, hang, crash or fill the memory, is an ordinary `JudgeError` here, and the next request
finds a fresh worker. The process is `graphshrink._worker`; the messages are `graphshrink.onnx_io.frames`.
"""

import math
import os
import re
import signal
import subprocess
import sys
import tempfile
import time
import weakref
from collections.abc import Mapping, Sequence
from contextlib import suppress
from io import BufferedReader, BufferedWriter
from pathlib import Path
from threading import Event, RLock, Thread
from types import TracebackType
from typing import Any, Final, Self, cast

import numpy as np

from graphshrink.errors import CalibrationError, JudgeError
from graphshrink.ir.types import Array, Dim, Feeds, TensorSpec
from graphshrink.onnx_io import frames
from graphshrink.onnx_io.frames import Frame

_JUDGES: Final[Mapping[str, str]] = {"check": "the ONNX checker", "infer_shapes": "ONNX shape inference"}
"""Who executes a command; ONNX Runtime, if not listed."""

_OUT_OF_MEMORY: Final = re.compile(r"MemoryError|bad[_ ]alloc|failed to allocate|out of memory", re.IGNORECASE)

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


class Runtime:
    """Runs models in one warm child process, started at first use and restarted after a crash or time-out.

    May be used from several threads; requests then wait for each other. Dies with this process, however that ends.

    Args:
        threads: threads within one operator, for every session.
        providers: execution providers, the preferred one first; one that is not available is an error.
        timeout: seconds that one request may take, the start of the worker included (kept to about a tenth).
        memory_limit: bytes of address space of the worker (Linux only); to be chosen with the models' sizes in mind.
    """

    def __init__(
        self,
        *,
        threads: int = 1,
        providers: Sequence[str] = ("CPUExecutionProvider",),
        timeout: float = 600.0,
        memory_limit: int | None = None,
    ) -> None:
        self._threads = threads
        self._providers = tuple(providers)
        self._timeout = timeout
        self._memory_limit = memory_limit
        self._lock = RLock()
        self._worker: _Worker | None = None
        self._closed = False

    def check(self, model: Path, *, full: bool = True) -> str | None:
        """Ask the ONNX checker; return None if it accepts the model, else its objection in one line.

        Args:
            model: the file.
            full: also infer shapes strictly.

        Raises:
            JudgeError: the checker did not come to a verdict.
        """
        objection = self._ask(model, "check", path=_absolute(model), full=full).head["objection"]
        return None if objection is None else _one_line(str(objection))

    def infer_shapes(self, model: Path) -> dict[str, tuple[Dim, ...]]:
        """Return the dims of each value of the main graph, as far as ONNX can tell; values of unknown rank are missing.

        Raises:
            JudgeError: shape inference failed as a whole.
        """
        shapes = self._ask(model, "infer_shapes", path=_absolute(model)).head["shapes"]
        return {name: tuple(dims) for name, dims in shapes.items()}

    def open(self, model: Path, *, optimise: bool = True) -> "Session":
        """Load a model into ONNX Runtime, with all of its optimisations or with none.

        Raises:
            JudgeError: ONNX Runtime refused the model, crashed, or ran out of time or memory.
        """
        with self._lock:
            reply = self._ask(
                model,
                "open",
                path=_absolute(model),
                optimise=optimise,
                threads=self._threads,
                providers=self._providers,
            )
            assert self._worker is not None
            return Session(self, self._worker, model, reply.head)

    def close(self) -> None:
        """Kill the worker, also while another thread waits for it; the runtime and its sessions are then of no use."""
        self._closed = True
        worker = self._worker
        if worker is not None:
            worker.kill()  # before the lock, which a request holds until it is answered
        with self._lock:
            self._discard()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()

    def _ask(
        self,
        model: Path,
        command: str,
        arrays: Sequence[Array] = (),
        worker: "_Worker | None" = None,
        **arguments: Any,
    ) -> Frame:
        """Send a command to the given worker (by default to the present one, or a new one) and return its reply.

        Raises:
            CalibrationError: an array is of a type that cannot be sent.
            JudgeError: there was no reply, or it tells of an error.
        """
        place = _tail(model)
        judge = _JUDGES.get(command, "ONNX Runtime")
        try:
            packed = frames.pack(Frame({"command": command, **arguments}, arrays))
        except (TypeError, ValueError) as error:
            raise CalibrationError(_one_line(f"{place}: a feed cannot be used: {error}")) from error
        with self._lock:
            try:
                reply = self._present(worker).exchange(packed)
            except _WorkerLost as lost:
                if worker is None or worker is self._worker:
                    self._discard()
                raise JudgeError(_one_line(f"{place}: {judge} {lost}")) from lost
            except BaseException:  # such as KeyboardInterrupt: the rest of the reply is still in the pipe
                self._discard()
                raise
        if "error" not in reply.head:
            return reply
        message = f"{reply.head['error']}: {reply.head['message']}"
        verdict = "ran out of memory" if _OUT_OF_MEMORY.search(message) else "refused the model"
        raise JudgeError(_one_line(f"{place}: {judge} {verdict} ({message})"))

    def _present(self, wanted: "_Worker | None") -> "_Worker":
        if self._closed:
            raise _WorkerLost("cannot run: this runtime was closed")
        if self._worker is not None and not self._worker.alive():
            self._discard()  # it died idle, which is not the fault of the model at hand
        if wanted is not None and wanted is not self._worker:
            raise _WorkerLost("has lost this session, because its process had to be stopped; open the model again")
        if self._worker is None:
            try:
                self._worker = _Worker(self._timeout, self._memory_limit)
            except OSError as error:
                raise _WorkerLost(f"cannot be started ({error})") from error
            self._finalizer = weakref.finalize(self, self._worker.stop)  # also runs at exit
        return self._worker

    def _discard(self) -> None:
        if self._worker is not None:
            self._finalizer()
            self._worker = None


class Session:
    """A model loaded into ONNX Runtime, until `close`, or until the worker has to be restarted.

    Attributes:
        inputs: what has to be fed. An input that is no tensor has dtype `object` and shape None.
        outputs: what comes out; likewise.
    """

    def __init__(self, runtime: Runtime, worker: "_Worker", model: Path, opened: Mapping[str, Any]) -> None:
        self._runtime = runtime
        self._worker = worker
        self._model = model
        self._number: int = opened["session"]
        self.inputs = tuple(map(_spec, opened["inputs"]))
        self.outputs = tuple(map(_spec, opened["outputs"]))

    def run(self, feeds: Feeds, names: Sequence[str] | None = None) -> dict[str, Array]:
        """Run the model once; return the named outputs, or all.

        Strings come as an array of `str`, a sequence of tensors as a 1-d array of arrays (dtype `object`, both).

        Raises:
            CalibrationError: a feed is neither numbers nor strings.
            JudgeError: ONNX Runtime refused the feeds or an output's type, crashed, or ran out of time or memory.
        """
        reply = self._ask("run", _arrays(feeds), feeds=list(feeds), names=None if names is None else list(names))
        return {name: _output(place, reply.arrays) for name, place in reply.head["outputs"]}

    def time(self, feeds: Feeds, repeats: int) -> list[float]:
        """Run the model `repeats` times, within the time limit of one request; return the seconds that each run took.

        Raises:
            CalibrationError, JudgeError: as for `run`.
        """
        return list(self._ask("time", _arrays(feeds), feeds=list(feeds), repeats=repeats).head["seconds"])

    def operator_counts(self) -> dict[str, int]:
        """Count the operators, also in subgraphs, that are left to run after ONNX Runtime's optimisations.

        Names outside the standard domain are qualified (`com.microsoft.nchwc.Conv`). The file is loaded again.

        Raises:
            JudgeError: as for `Runtime.open`.
        """
        # The folder is made here, since a worker that is killed could not remove it.
        with tempfile.TemporaryDirectory(prefix="graphshrink-") as folder:
            return dict(self._ask("count", folder=folder).head["counts"])

    def close(self) -> None:
        """Free the model's memory in the worker, if both are still there."""
        with suppress(JudgeError):
            self._ask("close")

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()

    def _ask(self, command: str, arrays: Sequence[Array] = (), **arguments: Any) -> Frame:
        return self._runtime._ask(  # pyright: ignore[reportPrivateUsage]
            self._model, command, arrays, self._worker, session=self._number, **arguments
        )


class _WorkerLost(Exception):  # noqa: N818 an event, not an error that a user sees
    """The worker is gone; the message says why, as the rest of a sentence about the judge."""


class _Worker:
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
            _WorkerLost: it crashed, took too long, or sent nonsense. It cannot be used any more.
        """
        self._deadline = time.monotonic() + self._timeout
        try:
            frames.write(self._requests, packed)
            reply = frames.read(self._replies)
        except (OSError, EOFError):
            reply = None
        except (ValueError, MemoryError) as error:
            raise _WorkerLost(f"sent a reply that cannot be read ({error})") from error
        finally:
            self._deadline = math.inf
        if self._expired:
            raise _WorkerLost(f"ran out of time (the limit is {self._timeout:g} s)")
        if reply is None:
            raise _WorkerLost(self._cause())
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
        raise _WorkerLost("cannot be started, because Python does not know its own executable")
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


def _absolute(model: Path) -> str:
    return str(model.absolute())


def _arrays(feeds: Feeds) -> list[Array]:
    return [np.asarray(array) for array in feeds.values()]


def _spec(described: Mapping[str, Any]) -> TensorSpec:
    shape = described["shape"]
    return TensorSpec(described["name"], frames.DTYPES[described["dtype"]], None if shape is None else tuple(shape))


def _output(place: int | list[int], arrays: Sequence[Array]) -> Array:
    if isinstance(place, int):
        return arrays[place]
    sequence = np.empty(len(place), dtype=object)
    for position, index in enumerate(place):
        sequence[position] = arrays[index]
    return sequence


def _tail(model: Path) -> str:
    """Return the path, or its end if it would leave no room for a message."""
    text = str(model)
    return text if len(text) <= 120 else f"...{text[-117:]}"


def _one_line(text: str) -> str:
    """Make text of strangers fit for a message: control characters escaped, at most 300 characters."""
    plain = "".join(char if char.isprintable() else char.encode("unicode_escape").decode("ascii") for char in text)
    return plain if len(plain) <= 300 else plain[:297] + "..."
