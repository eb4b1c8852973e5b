"""The child process in which the ONNX checker, shape inference and ONNX Runtime run.

    python -P -m graphshrink._worker [MEMORY]        MEMORY: bytes of address space, enforced on Linux

It answers one request after the other (`graphshrink.onnx_io.frames`, on stdin and stdout) and lives until stdin ends.
A request's head names a command of `_COMMANDS`; its other keys are the arguments. A reply's head is the command's
result, or `{"error": class name, "message": first line}`. `graphshrink.onnx_io.runtime` is its only client.

A hang, a crash in a native library, or a model that fills the memory ends here and not in the user's process.
This is no sandbox.
"""

import ctypes
import importlib
import math
import os
import signal
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from io import BufferedReader
from pathlib import Path
from queue import SimpleQueue
from threading import Thread
from typing import Any, Final, TypeAlias

import numpy as np

from graphshrink.ir.types import Array
from graphshrink.onnx_io import frames
from graphshrink.onnx_io.frames import Frame

_DTYPE_NAMES: Final[Mapping[str, str]] = {
    **{f"tensor({name})": name for name in frames.DTYPES},
    "tensor(float)": "float32",
    "tensor(double)": "float64",
    "tensor(string)": "object",
    "tensor(float8e4m3fn)": "float8_e4m3fn",
    "tensor(float8e4m3fnuz)": "float8_e4m3fnuz",
    "tensor(float8e5m2)": "float8_e5m2",
    "tensor(float8e5m2fnuz)": "float8_e5m2fnuz",
    "tensor(float8e8m0)": "float8_e8m0fnu",
    "tensor(float4e2m1)": "float4_e2m1fn",
}
"""NumPy's name for each of ONNX Runtime's types of tensors."""

_FOREIGN: Final = frames.WHOLE_BYTES | frames.PARTS_OF_BYTES  # what ONNX Runtime knows and NumPy does not

_SHAPE_DATA_ELEMENTS: Final = 4096  # shape inference reads the values of tensors such as shapes, which are never longer


@dataclass(frozen=True)
class _Opened:
    """A session of ONNX Runtime, and how it was made."""

    session: Any
    path: str
    optimise: bool
    threads: int
    providers: Sequence[str]


@dataclass
class _State:
    """What the worker remembers between requests."""

    opened: dict[int, _Opened] = field(default_factory=dict[int, _Opened])
    last: int = 0


# ---- the commands


def _check(_: _State, request: Frame) -> Frame:
    """Give the ONNX checker's objection to the model at `path`, or null; `full` adds strict shape inference."""
    checker, inference = _module("onnx.checker"), _module("onnx.shape_inference")
    try:
        checker.check_model(request.head["path"], full_check=request.head["full"])
    except (checker.ValidationError, inference.InferenceError) as error:
        return Frame({"objection": " ".join(str(error).split()) or type(error).__name__})
    return Frame({"objection": None})


def _infer_shapes(_: _State, request: Frame) -> Frame:
    """Give the dims of every value of the main graph whose rank is known."""
    path = request.head["path"]
    model = _load(path)
    _drop_weights(model, str(Path(path).parent))
    graph = _module("onnx.shape_inference").infer_shapes(model, data_prop=True).graph
    values = [*graph.input, *graph.output, *graph.value_info]
    typed = [value for value in values if value.type.tensor_type.HasField("shape")]
    return Frame({"shapes": {value.name: _dims(value.type.tensor_type.shape) for value in typed}})


def _open(state: _State, request: Frame) -> Frame:
    """Open a session on the model at `path`; give its number, inputs and outputs."""
    path, optimise, threads, providers = (request.head[key] for key in ("path", "optimise", "threads", "providers"))
    available = _module("onnxruntime").get_available_providers()
    missing = [name for name in providers if name not in available]
    if missing:
        raise ValueError(f"execution provider {missing[0]} is not available (there are: {', '.join(available)})")
    session = _session(path, optimise, threads, providers, {})
    inputs, outputs = session.get_inputs(), session.get_outputs()
    unranked = _unranked(path) if any(not value.shape for value in (*inputs, *outputs)) else set[str]()
    state.last += 1
    state.opened[state.last] = _Opened(session, path, optimise, threads, providers)
    described = [[_describe(value, unranked) for value in values] for values in (inputs, outputs)]
    return Frame({"session": state.last, "inputs": described[0], "outputs": described[1]})


def _run(state: _State, request: Frame) -> Frame:
    """Run a session; give each output's position among the reply's arrays, or a list of them for a sequence."""
    session = state.opened[request.head["session"]].session
    names = request.head["names"]
    wanted = [output.name for output in session.get_outputs()] if names is None else names
    values = _runner(session, wanted, _feeds(request))()
    arrays: list[Array] = []
    outputs = [[name, _place(name, value, arrays)] for name, value in zip(wanted, values, strict=True)]
    return Frame({"outputs": outputs}, arrays)


def _time(state: _State, request: Frame) -> Frame:
    """Give the seconds that each of `repeats` runs takes."""
    session = state.opened[request.head["session"]].session
    run = _runner(session, [output.name for output in session.get_outputs()], _feeds(request))
    seconds: list[float] = []
    for _ in range(request.head["repeats"]):
        start = time.perf_counter()
        run()
        seconds.append(time.perf_counter() - start)
    return Frame({"seconds": seconds})


def _count(state: _State, request: Frame) -> Frame:
    """Count the operators that ONNX Runtime runs for a session; its optimised graph goes into `folder`."""
    opened = state.opened[request.head["session"]]
    target = str(Path(request.head["folder"], "optimised.onnx"))
    entries = {  # weights beside the model, else models over 2 GB could not be written
        "session.optimized_model_external_initializers_file_name": "weights",
        "session.optimized_model_external_initializers_min_size_in_bytes": "1024",
    }
    _session(opened.path, opened.optimise, opened.threads, opened.providers, entries, target)
    graph = _load(target).graph
    standard = ("", "ai.onnx")
    counts = Counter(
        node.op_type if node.domain in standard else f"{node.domain}.{node.op_type}" for node in _nodes(graph)
    )
    return Frame({"counts": dict(sorted(counts.items()))})


def _close(state: _State, request: Frame) -> Frame:
    """Close a session."""
    state.opened.pop(request.head["session"], None)
    return Frame({})


_Command: TypeAlias = Callable[[_State, Frame], Frame]

_COMMANDS: Final[Mapping[str, _Command]] = {
    "check": _check,
    "infer_shapes": _infer_shapes,
    "open": _open,
    "run": _run,
    "time": _time,
    "count": _count,
    "close": _close,
}


# ---- ONNX


def _module(name: str) -> Any:
    """Import a library at its first use; untyped, as onnxruntime has no types and onnx only some."""
    return importlib.import_module(name)


def _load(path: str) -> Any:
    return _module("onnx").load(path, load_external_data=False)


def _drop_weights(model: Any, folder: str) -> None:
    """Empty long initializers, which shape inference would only copy, several times; fetch short external ones."""
    external = _module("onnx.external_data_helper")
    for tensor in model.graph.initializer:
        if math.prod(tensor.dims) > _SHAPE_DATA_ELEMENTS:
            for name in (
                "raw_data",
                "float_data",
                "int32_data",
                "int64_data",
                "double_data",
                "uint64_data",
                "string_data",
            ):
                tensor.ClearField(name)
        elif external.uses_external_data(tensor):
            with suppress(Exception):  # best effort: what is wrong with the file is for the checker to say
                external.load_external_data_for_tensor(tensor, folder)


def _dims(shape: Any) -> list[int | str | None]:
    return [dim.dim_value if dim.HasField("dim_value") else dim.dim_param or None for dim in shape.dim]


def _unranked(path: str) -> set[str]:
    """Name the inputs and outputs without a shape: ONNX Runtime reports the same `[]` for them as for scalars."""
    graph = _load(path).graph
    return {value.name for value in (*graph.input, *graph.output) if not value.type.tensor_type.HasField("shape")}


def _nodes(graph: Any) -> Iterator[Any]:
    pending = [graph]
    while pending:
        for node in pending.pop().node:
            yield node
            for attribute in node.attribute:
                pending += [attribute.g] if attribute.HasField("g") else attribute.graphs


# ---- ONNX Runtime


def _session(
    path: str,
    optimise: bool,
    threads: int,
    providers: Sequence[str],
    entries: Mapping[str, str],
    target: str | None = None,
) -> Any:
    onnxruntime = _module("onnxruntime")
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 4
    options.use_deterministic_compute = True
    options.intra_op_num_threads = threads
    options.inter_op_num_threads = 1
    if not optimise:
        options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    for key, value in entries.items():
        options.add_session_config_entry(key, value)
    if target is not None:
        options.optimized_model_filepath = target
    # No fallback: it would print, and judge by another provider than the one asked for.
    return onnxruntime.InferenceSession(path, options, providers=list(providers), enable_fallback=0)


def _describe(value: Any, unranked: set[str]) -> dict[str, Any]:
    """Describe an input or output; one that is no tensor has type `object` and no shape."""
    known = value.type in _DTYPE_NAMES and value.name not in unranked
    shape = [size if isinstance(size, (int, str)) else None for size in value.shape] if known else None
    return {"name": value.name, "dtype": _DTYPE_NAMES.get(value.type, "object"), "shape": shape}


def _feeds(request: Frame) -> dict[str, Array]:
    return dict(zip(request.head["feeds"], request.arrays, strict=True))


def _runner(session: Any, names: Sequence[str], feeds: Mapping[str, Array]) -> Callable[[], list[Any]]:
    """Return what runs the session once.

    ONNX Runtime takes and gives NumPy arrays, but none of `ml_dtypes`; those go as raw memory with a type.
    """
    kinds = {value.type for value in (*session.get_inputs(), *session.get_outputs())}
    if kinds.isdisjoint(kind for kind, name in _DTYPE_NAMES.items() if name in _FOREIGN):
        return lambda: session.run(names, feeds)
    values = {name: _to_ort(array) for name, array in feeds.items()}
    return lambda: [_from_ort(value) for value in session.run_with_ort_values(names, values)]


def _to_ort(array: Array) -> Any:
    ort_value = _module("onnxruntime").OrtValue
    if array.dtype.name not in _FOREIGN:
        return ort_value.ortvalue_from_numpy(array)
    _require_whole_bytes(array.dtype.name)
    kind = _module("onnx.helper").np_dtype_to_tensor_dtype(array.dtype)
    return ort_value.ortvalue_from_numpy_with_onnx_type(array.view(f"u{array.dtype.itemsize}"), kind)


def _from_ort(value: Any) -> Any:
    name = _DTYPE_NAMES.get(value.data_type(), "object")
    if name not in _FOREIGN:
        return value.numpy()
    _require_whole_bytes(name)
    size = math.prod(value.shape()) * frames.DTYPES[name].itemsize
    memory = (
        ctypes.string_at(value.data_ptr(), size) if size else b""
    )  # a copy: the value is gone when its array is sent
    return np.frombuffer(memory, frames.DTYPES[name]).reshape(value.shape())


def _require_whole_bytes(name: str) -> None:
    if name in frames.PARTS_OF_BYTES:
        raise TypeError(f"an input or output of type {name} cannot be exchanged with ONNX Runtime")


def _place(name: str, value: Any, arrays: list[Array]) -> int | list[int]:
    items: list[Any] = [*value] if isinstance(value, list) else [value]
    if not all(isinstance(item, np.ndarray) for item in items):
        raise TypeError(f"output {name!r} is neither a tensor nor a list of tensors, so it cannot be compared")
    first = len(arrays)
    arrays += items
    return list(range(first, len(arrays))) if isinstance(value, list) else first


# ---- the process


def _limit(memory: int | None) -> None:
    """Bound the address space, and leave no core file behind for a crash that is somebody else's."""
    if sys.platform != "linux":
        return
    import resource

    resource.setrlimit(resource.RLIMIT_CORE, (0, resource.getrlimit(resource.RLIMIT_CORE)[1]))
    own = resource.getrlimit(resource.RLIMIT_DATA)[1]  # the bound of the process that started this one is its own
    resource.setrlimit(resource.RLIMIT_DATA, (own, own))
    if memory is not None:
        hard = resource.getrlimit(resource.RLIMIT_AS)[1]
        resource.setrlimit(resource.RLIMIT_AS, (memory if hard == resource.RLIM_INFINITY else min(memory, hard), hard))


def _private(fd: int, replacement: int) -> int:
    """Move a standard stream to a new descriptor, so that what native code prints cannot get between the messages."""
    private = os.dup(fd)
    os.dup2(replacement, fd)
    return private


def _receive(source: BufferedReader, requests: "SimpleQueue[Frame]") -> None:
    """Queue the requests. A thread, so that the end of stdin ends the process even while native code hangs."""
    with suppress(Exception):
        while (request := frames.read(source)) is not None:
            requests.put(request)
    os._exit(0)


def _answer(state: _State, request: Frame) -> frames.Packed:
    try:
        return frames.pack(_COMMANDS[request.head["command"]](state, request))
    except Exception as error:  # the client decides what it means; the worker lives on
        first = next(iter(str(error).strip().splitlines()), "")
        return frames.pack(Frame({"error": type(error).__name__, "message": first}))


def main(arguments: Sequence[str]) -> None:
    """Serve until stdin ends."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C reaches the whole group; the client decides
    _limit(int(arguments[0]) if arguments else None)
    nothing = os.open(os.devnull, os.O_RDONLY)
    source = os.fdopen(_private(0, nothing), "rb")
    target = os.fdopen(_private(1, 2), "wb")
    requests: SimpleQueue[Frame] = SimpleQueue()
    Thread(target=_receive, args=(source, requests), daemon=True).start()
    state = _State()
    try:
        while True:
            frames.write(target, _answer(state, requests.get()))
    except OSError:  # the client is gone
        os._exit(0)


if __name__ == "__main__":
    main(sys.argv[1:])
