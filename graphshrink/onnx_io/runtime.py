"""The judges, at arm's length: the ONNX checker, shape inference and ONNX Runtime, in a child process.

    with Runtime(timeout=60) as runtime, runtime.open(path) as session:
        outputs = session.run({"x": x})

Whatever a model does there, hang, crash or fill the memory, is an ordinary `JudgeError` here, and the next request
finds a fresh worker. The process is `graphshrink._worker`; the messages are `graphshrink.onnx_io.frames`.
"""

import re
import tempfile
import weakref
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from threading import RLock
from types import TracebackType
from typing import Any, Final, Self

import numpy as np

from graphshrink.errors import CalibrationError, JudgeError
from graphshrink.escaping import safe
from graphshrink.ir.types import Array, Dim, Feeds, TensorSpec
from graphshrink.onnx_io import frames
from graphshrink.onnx_io.frames import Frame
from graphshrink.onnx_io.process import Worker, WorkerLost

_JUDGES: Final[Mapping[str, str]] = {"check": "the ONNX checker", "infer_shapes": "ONNX shape inference"}
"""Who executes a command; ONNX Runtime, if not listed."""

TEMPORARY: Final = "graphshrink-"
"""What temporary folders are called."""

_LONGEST: Final = 300  # characters of a message

_OUT_OF_MEMORY: Final = re.compile(r"MemoryError|bad[_ ]alloc|failed to allocate|out of memory", re.IGNORECASE)


_EACH_FILE: Final = 4  # times its bytes: two sessions at once, each of which copies its weights while it is opened


@dataclass(frozen=True, slots=True)
class Limits:
    """What running a stranger's model may cost.

    Attributes:
        seconds: for one request: a check, opening a model, or a run of one sample.
        memory: bytes of address space of the child process (Linux only), beside what the model's files need.
    """

    seconds: float = 300.0
    memory: int = 8 << 30

    def runtime(self, files: Iterable[Path], providers: Sequence[str] = ("CPUExecutionProvider",)) -> "Runtime":
        """A runtime for models that are about as large as these files."""
        known = list(files)
        memory = self.memory + _EACH_FILE * sum(path.stat().st_size for path in known)
        about = known[0] if known else None
        return Runtime(providers=providers, timeout=self.seconds, memory_limit=memory, about=about)


class Runtime:
    """Runs models in one warm child process, started at first use and restarted after a crash or time-out.

    May be used from several threads; requests then wait for each other. Dies with this process, however that ends.

    Args:
        threads: threads within one operator, for every session.
        providers: execution providers, the preferred one first; one that is not available is an error.
        timeout: seconds that one request may take, the start of the worker included (kept to about a tenth).
        memory_limit: bytes of address space of the worker (Linux only); to be chosen with the models' sizes in mind.
        about: the model that the user knows; messages name it where they are about a temporary file made of it.
    """

    def __init__(
        self,
        *,
        threads: int = 1,
        providers: Sequence[str] = ("CPUExecutionProvider",),
        timeout: float = 600.0,
        memory_limit: int | None = None,
        about: Path | None = None,
    ) -> None:
        self._about = about
        self._threads = threads
        self._providers = tuple(providers)
        self._timeout = timeout
        self._memory_limit = memory_limit
        self._lock = RLock()
        self._worker: Worker | None = None
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
        return None if objection is None else safe(objection, _LONGEST)

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
        worker: Worker | None = None,
        **arguments: Any,
    ) -> Frame:
        """Send a command to the given worker (by default to the present one, or a new one) and return its reply.

        Raises:
            CalibrationError: an array is of a type that cannot be sent.
            JudgeError: there was no reply, or it tells of an error.
        """
        place = self._place(model)
        judge = _JUDGES.get(command, "ONNX Runtime")
        try:
            packed = frames.pack(Frame({"command": command, **arguments}, arrays))
        except (TypeError, ValueError) as error:
            raise CalibrationError(safe(f"{place}: a feed cannot be used: {error}", _LONGEST)) from error
        with self._lock:
            try:
                reply = self._present(worker).exchange(packed)
            except WorkerLost as lost:
                if worker is None or worker is self._worker:
                    self._discard()
                raise JudgeError(safe(f"{place}: {judge} {lost}", _LONGEST)) from lost
            except BaseException:  # such as KeyboardInterrupt: the rest of the reply is still in the pipe
                self._discard()
                raise
        if "error" not in reply.head:
            return reply
        message = f"{reply.head['error']}: {reply.head['message']}"
        verdict = "ran out of memory" if _OUT_OF_MEMORY.search(message) else "refused the model"
        raise JudgeError(safe(f"{place}: {judge} {verdict} ({message})", _LONGEST))

    def _place(self, model: Path) -> str:
        about = self._about
        if about is None or model == about or not any(part.startswith(TEMPORARY) for part in model.parts):
            return _tail(model)
        return f"what was made of {_tail(about)}"

    def _present(self, wanted: Worker | None) -> Worker:
        if self._closed:
            raise WorkerLost("cannot run: this runtime was closed")
        if self._worker is not None and not self._worker.alive():
            self._discard()  # it died idle, which is not the fault of the model at hand
        if wanted is not None and wanted is not self._worker:
            raise WorkerLost("has lost this session, because its process had to be stopped; open the model again")
        if self._worker is None:
            try:
                self._worker = Worker(self._timeout, self._memory_limit)
            except OSError as error:
                raise WorkerLost(f"cannot be started ({error})") from error
            self._finalizer = weakref.finalize(self, self._worker.stop)  # also runs at exit
        return self._worker

    def _discard(self) -> None:
        if self._worker is not None:
            self._finalizer()
            self._worker = None


class Session:
    """A model loaded into ONNX Runtime, until `close`, or until the worker has to be restarted.

    Attributes:
        model: the file.
        inputs: what has to be fed. An input that is no tensor has dtype `object` and shape None.
        outputs: what comes out; likewise.
    """

    def __init__(self, runtime: Runtime, worker: Worker, model: Path, opened: Mapping[str, Any]) -> None:
        self._runtime = runtime
        self._worker = worker
        self.model = model
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
        with tempfile.TemporaryDirectory(prefix=TEMPORARY) as folder:
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
            self.model, command, arrays, self._worker, session=self._number, **arguments
        )


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
