import gc
import io
import json
import os
import signal
import struct
import subprocess
import sys
import textwrap
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, cast

import ml_dtypes
import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper
from onnx.external_data_helper import convert_model_to_external_data, write_external_data_tensors

from graphshrink.errors import CalibrationError, JudgeError
from graphshrink.ir.types import Array, TensorSpec
from graphshrink.onnx_io import frames
from graphshrink.onnx_io.frames import Frame
from graphshrink.onnx_io.runtime import Runtime, Session

ROOT = Path(__file__).parents[2]
FLOAT, INT64 = TensorProto.FLOAT, TensorProto.INT64
linux_only = pytest.mark.skipif(sys.platform != "linux", reason="RLIMIT_AS and /proc are Linux's")
posix_only = pytest.mark.skipif(sys.platform == "win32", reason="signals are POSIX's")


@pytest.fixture(scope="module")
def runtime() -> Iterator[Runtime]:
    with Runtime(timeout=60) as warm:
        yield warm


# ---- models


def save(
    folder: Path,
    nodes: list[onnx.NodeProto],
    inputs: list[onnx.ValueInfoProto],
    outputs: list[onnx.ValueInfoProto],
    initializers: list[onnx.TensorProto] | None = None,
    opset: int = 17,
) -> Path:
    graph = helper.make_graph(nodes, "g", inputs, outputs, initializers or [])
    opsets = [helper.make_opsetid("", opset), helper.make_opsetid("ai.onnx.ml", 3)]
    path = folder / "model.onnx"
    path.write_bytes(helper.make_model(graph, opset_imports=opsets, ir_version=9).SerializeToString())
    return path


def value(name: str, kind: int = FLOAT, shape: Any = ("n", 2)) -> onnx.ValueInfoProto:
    return helper.make_tensor_value_info(name, kind, shape)


def identity(folder: Path, kind: int = FLOAT, shape: Any = ("n", 2)) -> Path:
    nodes = [helper.make_node("Identity", ["x"], ["y"])]
    return save(folder, nodes, [value("x", kind, shape)], [value("y", kind, shape)], opset=19)


def endless(folder: Path) -> Path:
    body = helper.make_graph(
        [helper.make_node("Identity", ["go"], ["on"]), helper.make_node("Sin", ["a"], ["b"])],
        "body",
        [value("i", INT64, []), value("go", TensorProto.BOOL, []), value("a", FLOAT, [])],
        [value("on", TensorProto.BOOL, []), value("b", FLOAT, [])],
    )
    trips = helper.make_tensor("trips", INT64, [], [1 << 60])
    loop = helper.make_node("Loop", ["trips", "", "x"], ["y"], body=body)
    return save(folder, [loop], [value("x", FLOAT, [])], [value("y", FLOAT, [])], [trips])


def enormous(folder: Path, elements: int) -> Path:
    nodes = [helper.make_node("ConstantOfShape", ["shape"], ["big"]), helper.make_node("Add", ["big", "x"], ["y"])]
    shape = helper.make_tensor("shape", INT64, [1], [elements])
    return save(folder, nodes, [value("x", FLOAT, [1])], [value("y", FLOAT, ["m"])], [shape])


def sample(dtype: np.dtype[Any], shape: tuple[int, ...]) -> Array:
    array = np.ones(shape, dtype)
    if dtype.hasobject:
        array[...] = "\u00fc\0"
    elif shape == (2, 3):
        array[0, 1] = 0 if dtype.name != "float8_e8m0fnu" else 2  # which has no zero
    return array


ONE = {"x": np.ones((), np.float32)}


def worker_pid(runtime: Any) -> int:
    return int(runtime._worker._process.pid)


def is_gone(pid: int, seconds: float = 5.0) -> bool:
    """Whether the process ends within some seconds; a zombie that is not ours to reap counts as ended."""
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        try:
            os.kill(pid, 0)
            state = Path(f"/proc/{pid}/stat")
            if state.exists() and state.read_text().rpartition(")")[2].split()[0] == "Z":
                return True
        except (ProcessLookupError, FileNotFoundError):
            return True
        time.sleep(0.02)
    return False


# ---- frames


def through_a_stream(array: Array) -> Array:
    stream = io.BytesIO()
    frames.write(stream, frames.pack(Frame({"a": 1}, [array])))
    stream.seek(0)
    frame = frames.read(stream)
    assert frame is not None
    assert frame.head == {"a": 1}
    assert frames.read(stream) is None
    return frame.arrays[0]


@pytest.mark.parametrize("shape", [(), (0, 3), (2, 3)])
@pytest.mark.parametrize("name", sorted(frames.DTYPES))
def test_frames_keep_arrays_of_every_type(name: str, shape: tuple[int, ...]) -> None:
    dtype = frames.DTYPES[name]
    array = sample(dtype, shape)
    back = through_a_stream(array)
    assert back.dtype == dtype
    assert back.shape == shape
    assert back.tolist() == array.tolist()


@pytest.mark.parametrize(
    "array",
    [np.arange(12, dtype=">f4").reshape(3, 4), np.arange(12).reshape(3, 4).T, np.arange(12)[::-2], np.zeros(1)[0:0]],
    ids=["big-endian", "transposed", "reversed", "empty"],
)
def test_frames_keep_values_in_any_layout(array: Array) -> None:
    back = through_a_stream(array)
    assert back.tolist() == array.tolist()
    assert back.flags.c_contiguous


def test_frames_keep_not_a_numbers_bits() -> None:
    array = np.array([0x7FC00001, 0xFF800000, 0x80000000], np.uint32).view(np.float32)
    assert through_a_stream(array).view(np.uint32).tolist() == array.view(np.uint32).tolist()


def test_frames_decode_bytes_as_strings() -> None:
    array = np.array([b"plain", b"\xff", "\u00fc", "\0"], dtype=object)
    assert through_a_stream(array).tolist() == ["plain", "\udcff", "\u00fc", "\0"]
    assert through_a_stream(np.array(["a", "bc"])).tolist() == ["a", "bc"]


def test_frames_do_not_copy_what_they_send() -> None:
    array = np.zeros(1000)
    assert np.shares_memory(np.frombuffer(frames.pack(Frame({}, [array]))[1], np.uint8), array)


@pytest.mark.parametrize("array", [np.array([1, "a"], object), np.zeros(2, "M8[s]"), np.zeros(2, "V3")])
def test_frames_refuse_what_has_no_plain_bytes(array: Array) -> None:
    with pytest.raises(TypeError, match="cannot be sent"):
        frames.pack(Frame({}, [array]))


@pytest.mark.parametrize(
    "entry",
    [
        {"dtype": "float32", "shape": [2], "nbytes": 4},
        {"dtype": "float32", "shape": [-1], "nbytes": -4},
        {"dtype": "object", "shape": [1], "nbytes": 8},
        {"dtype": "void", "shape": [1], "nbytes": 8},
        {"dtype": "float32", "shape": 1, "nbytes": 4},
        {"shape": [1], "strings": [1]},
        {"shape": [2], "strings": ["a"]},
        {"shape": [1]},
    ],
)
def test_frames_distrust_what_they_receive(entry: dict[str, Any]) -> None:
    header = json.dumps({"head": {}, "arrays": [entry]}).encode()
    with pytest.raises(ValueError, match=r"message|reshape"):
        frames.read(io.BytesIO(struct.pack("<I", len(header)) + header + bytes(8)))


def test_a_frame_cut_short_is_an_error() -> None:
    stream = io.BytesIO()
    frames.write(stream, frames.pack(Frame({}, [np.zeros(3)])))
    whole = stream.getvalue()
    for length in (1, 4, 10, len(whole) - 1):
        with pytest.raises(EOFError):
            frames.read(io.BytesIO(whole[:length]))


# ---- the judges


@pytest.mark.parametrize(
    ("kind", "dtype"),
    [
        (TensorProto.FLOAT, np.dtype(np.float32)),
        (TensorProto.DOUBLE, np.dtype(np.float64)),
        (TensorProto.FLOAT16, np.dtype(np.float16)),
        (TensorProto.BFLOAT16, np.dtype(ml_dtypes.bfloat16)),
        (TensorProto.FLOAT8E4M3FN, np.dtype(ml_dtypes.float8_e4m3fn)),
        (TensorProto.FLOAT8E5M2, np.dtype(ml_dtypes.float8_e5m2)),
        (TensorProto.BOOL, np.dtype(np.bool_)),
        (TensorProto.INT8, np.dtype(np.int8)),
        (TensorProto.UINT16, np.dtype(np.uint16)),
        (TensorProto.INT32, np.dtype(np.int32)),
        (TensorProto.UINT64, np.dtype(np.uint64)),
        (TensorProto.STRING, np.dtype(object)),
    ],
)
def test_runs_keep_every_type(runtime: Runtime, tmp_path: Path, kind: int, dtype: np.dtype[Any]) -> None:
    path = identity(tmp_path, kind, None)
    with runtime.open(path) as session:
        assert session.inputs == (TensorSpec("x", dtype, None),)
        for shape in ((), (0, 2), (3, 2)):
            array = sample(dtype, shape)
            result = session.run({"x": array})["y"]
            assert result.dtype == dtype
            assert result.shape == shape
            assert result.tolist() == array.tolist()


def test_specs_tell_scalars_from_unknown_ranks(runtime: Runtime, tmp_path: Path) -> None:
    names = ["scalar", "unranked", "symbolic"]
    inputs = [value("scalar", shape=[]), value("unranked", shape=None), value("symbolic", shape=["n", 3, None])]
    nodes = [helper.make_node("Identity", [name], [f"{name}_out"]) for name in names]
    outputs = [
        value("scalar_out", shape=[]),
        value("unranked_out", shape=None),
        value("symbolic_out", shape=["n", 3, None]),
    ]
    with runtime.open(save(tmp_path, nodes, inputs, outputs)) as session:
        assert [spec.name for spec in session.inputs] == names
        assert [spec.shape for spec in session.inputs] == [(), None, ("n", 3, None)]
        assert [spec.shape for spec in session.outputs] == [(), None, ("n", 3, None)]


def test_run_gives_the_outputs_asked_for(runtime: Runtime, tmp_path: Path) -> None:
    nodes = [helper.make_node("Neg", ["x"], ["minus"]), helper.make_node("Abs", ["x"], ["plus"])]
    path = save(tmp_path, nodes, [value("x")], [value("minus"), value("plus")])
    feeds = {"x": np.array([[1, -2]], np.float32)}
    with runtime.open(path) as session:
        assert list(session.run(feeds)) == ["minus", "plus"]
        result = session.run(feeds, ["plus"])
        assert list(result) == ["plus"]
        np.testing.assert_array_equal(result["plus"], [[1, 2]])


def test_a_sequence_comes_as_an_array_of_arrays(runtime: Runtime, tmp_path: Path) -> None:
    sequence = helper.make_tensor_sequence_value_info("y", FLOAT, None)
    path = save(tmp_path, [helper.make_node("SequenceConstruct", ["x", "x"], ["y"])], [value("x")], [sequence])
    x = np.ones((1, 2), np.float32)
    with runtime.open(path) as session:
        assert session.outputs == (TensorSpec("y", np.dtype(object), None),)
        result = session.run({"x": x})["y"]
        assert result.shape == (2,)
        np.testing.assert_array_equal(result[1], x)


def test_a_map_is_refused_by_name(runtime: Runtime, tmp_path: Path) -> None:
    node = helper.make_node("ZipMap", ["x"], ["y"], domain="ai.onnx.ml", classlabels_int64s=[0, 1])
    kind = helper.make_map_type_proto(INT64, helper.make_tensor_type_proto(FLOAT, []))
    output = helper.make_value_info("y", helper.make_sequence_type_proto(kind))
    with runtime.open(save(tmp_path, [node], [value("x")], [output])) as session:
        with pytest.raises(JudgeError, match="output 'y' is neither a tensor nor a list of tensors"):
            session.run({"x": np.ones((1, 2), np.float32)})
        assert len(session.time({"x": np.ones((1, 2), np.float32)}, 2)) == 2


def test_check(runtime: Runtime, tmp_path: Path) -> None:
    nodes = [helper.make_node("Relu", ["x"], ["y"])]
    contradictory = save(tmp_path, nodes, [value("x", shape=[2])], [value("y", shape=[2, 3])])
    assert runtime.check(contradictory, full=False) is None
    objection = runtime.check(contradictory)
    assert objection is not None
    assert "differ in rank" in objection
    assert runtime.check(identity(tmp_path)) is None


def test_messages_are_one_clean_short_line(runtime: Runtime, tmp_path: Path) -> None:
    node = helper.make_node("Bad\n::error::\x1b[31m\u202e" + "x" * 500, ["x"], ["y"])
    path = save(tmp_path, [node], [value("x")], [value("y")])
    objection = runtime.check(path)
    assert objection is not None
    with pytest.raises(JudgeError, match="refused the model") as caught:
        runtime.open(path)
    for text in (objection, str(caught.value)):
        assert text.isprintable()
        assert len(text) <= 300


def test_a_file_that_is_no_model(runtime: Runtime, tmp_path: Path) -> None:
    path = tmp_path / "model.onnx"
    path.write_bytes(b"no model")
    assert "parse" in (runtime.check(path) or "")
    with pytest.raises(JudgeError, match=r"model.onnx: ONNX Runtime refused the model \(InvalidProtobuf: "):
        runtime.open(path)
    with pytest.raises(JudgeError, match="ONNX shape inference refused the model"):
        runtime.infer_shapes(path)
    with pytest.raises(JudgeError, match="NoSuchFile"):
        runtime.open(tmp_path / "missing.onnx")


def test_infer_shapes(runtime: Runtime, tmp_path: Path) -> None:
    nodes = [
        helper.make_node("MatMul", ["x", "w"], ["a"]),
        helper.make_node("Reshape", ["a", "s"], ["b"]),
        helper.make_node("Relu", ["b"], ["y"]),
    ]
    shape = numpy_helper.from_array(np.array([0, 50, 100]), "s")
    weight = numpy_helper.from_array(np.zeros((2, 5000), np.float32), "w")
    path = save(tmp_path, nodes, [value("x")], [value("y", shape=None)], [weight, shape])
    expected = {"x": ("n", 2), "a": ("n", 5000), "b": ("n", 50, 100), "y": ("n", 50, 100)}
    assert runtime.infer_shapes(path) == expected
    model = onnx.ModelProto.FromString(path.read_bytes())
    convert_model_to_external_data(model, location="weights", size_threshold=0)
    path.write_bytes(write_external_data_tensors(model, str(tmp_path)).SerializeToString())
    assert (tmp_path / "weights").exists()
    inferred = runtime.infer_shapes(path)
    assert inferred.items() <= expected.items()  # onnx before 1.20 does not read the shape that lies outside
    assert {"x", "a"} <= inferred.keys()


def test_operator_counts_show_what_is_left_to_run(runtime: Runtime, tmp_path: Path) -> None:
    nodes = [helper.make_node("Cast", ["c"], ["w"], to=FLOAT), helper.make_node("MatMul", ["x", "w"], ["y"])]
    codes = helper.make_tensor("c", TensorProto.INT8, [2, 2], [1, 2, 3, 4])
    path = save(tmp_path, nodes, [value("x")], [value("y")], [codes])
    with runtime.open(path) as folded, runtime.open(path, optimise=False) as plain:
        assert folded.operator_counts() == {"MatMul": 1}
        assert plain.operator_counts() == {"Cast": 1, "MatMul": 1}


def test_operator_counts_look_into_subgraphs(runtime: Runtime, tmp_path: Path) -> None:
    with runtime.open(endless(tmp_path), optimise=False) as session:
        assert session.operator_counts() == {"Identity": 1, "Loop": 1, "Sin": 1}


def test_time(runtime: Runtime, tmp_path: Path) -> None:
    with runtime.open(identity(tmp_path)) as session:
        seconds = session.time({"x": np.ones((1, 2), np.float32)}, 5)
        assert len(seconds) == 5
        assert all(0 < second < 10 for second in seconds)


def test_wrong_feeds(runtime: Runtime, tmp_path: Path) -> None:
    with runtime.open(identity(tmp_path)) as session:
        for feeds in ({}, {"x": np.ones((1, 2))}, {"x": np.ones(3, np.float32)}, {"z": np.ones((1, 2), np.float32)}):
            with pytest.raises(JudgeError, match="ONNX Runtime refused"):
                session.run(feeds)
        with pytest.raises(CalibrationError, match="datetime64"):
            session.run({"x": np.zeros((1, 2), "M8[s]")})
        assert session.run({"x": np.ones((1, 2), np.float32)})["y"].shape == (1, 2)


def test_an_unavailable_provider_is_an_error(tmp_path: Path) -> None:
    with Runtime(providers=["NoSuchProvider"]) as runtime, pytest.raises(JudgeError, match="NoSuchProvider is not"):
        runtime.open(identity(tmp_path))


def test_threads_take_turns(runtime: Runtime, tmp_path: Path) -> None:
    with runtime.open(identity(tmp_path)) as session, ThreadPoolExecutor(4) as executor:

        def echo(number: int) -> bool:
            x = np.full((number % 7, 2), number, np.float32)
            return np.array_equal(session.run({"x": x})["y"], x)

        assert all(executor.map(echo, range(100)))


# ---- crashes, hangs, memory


def test_a_time_out_is_an_error_and_the_next_request_works(tmp_path: Path) -> None:
    path = endless(tmp_path)
    with Runtime(timeout=1.5) as runtime:
        session = runtime.open(path)
        pid = worker_pid(runtime)
        start = time.monotonic()
        with pytest.raises(JudgeError, match=r"model.onnx: ONNX Runtime ran out of time \(the limit is 1.5 s\)"):
            session.run(ONE)
        assert time.monotonic() - start < 10
        assert is_gone(pid)
        with pytest.raises(JudgeError, match="has lost this session"):
            session.run(ONE)
        session.close()
        assert runtime.check(path) is None
        assert worker_pid(runtime) != pid


@posix_only
@pytest.mark.parametrize("name", ["SIGKILL", "SIGSEGV"])
def test_a_crash_is_an_error_and_the_next_request_works(tmp_path: Path, name: str) -> None:
    path = endless(tmp_path)
    with Runtime() as runtime, ThreadPoolExecutor(1) as executor:
        session = runtime.open(path)
        pid = worker_pid(runtime)
        running = executor.submit(session.run, ONE)
        time.sleep(0.3)
        os.kill(pid, getattr(signal, name))
        with pytest.raises(JudgeError, match=rf"ONNX Runtime crashed \({name}"):
            running.result()
        with runtime.open(identity(tmp_path)) as other:
            assert other.run({"x": np.ones((1, 2), np.float32)})["y"].shape == (1, 2)


@posix_only
def test_a_worker_that_died_idle_is_replaced_without_an_error(tmp_path: Path) -> None:
    path = identity(tmp_path)
    with Runtime() as runtime:
        session = runtime.open(path)
        pid = worker_pid(runtime)
        os.kill(pid, signal.SIGKILL)
        assert is_gone(pid)
        time.sleep(0.2)  # "gone" may be a moment before the parent is told
        assert runtime.check(path) is None
        with pytest.raises(JudgeError, match="has lost this session"):
            session.operator_counts()


@linux_only
@pytest.mark.parametrize("elements", [1 << 40, 1 << 29], ids=["4 TiB", "2 GiB"])
def test_filling_the_memory_is_an_error(tmp_path: Path, elements: int) -> None:
    path = enormous(tmp_path, elements)
    with Runtime(memory_limit=2 << 30) as runtime:
        with pytest.raises(JudgeError, match="ran out of memory"), runtime.open(path) as session:
            session.run({"x": np.ones(1, np.float32)})
        assert runtime.check(path, full=False) is None


def test_close_ends_a_request_of_another_thread(tmp_path: Path) -> None:
    runtime = Runtime()
    with ThreadPoolExecutor(1) as executor:
        running = executor.submit(runtime.open(endless(tmp_path)).run, ONE)
        time.sleep(0.2)
        runtime.close()
        with pytest.raises(JudgeError):
            running.result()


def test_a_closed_runtime_says_so(tmp_path: Path) -> None:
    path = identity(tmp_path)
    with Runtime() as runtime:
        session = runtime.open(path)
    for use in (lambda: runtime.check(path), lambda: session.run({}), session.operator_counts):
        with pytest.raises(JudgeError, match="this runtime was closed"):
            use()
    session.close()
    runtime.close()


# ---- the process


@posix_only
def test_nothing_is_left_after_close_or_collection(tmp_path: Path) -> None:
    path = identity(tmp_path)
    runtime = Runtime()
    session: Session | None = runtime.open(path)
    pid = worker_pid(runtime)
    runtime.close()
    with pytest.raises(ProcessLookupError):  # not even a zombie
        os.kill(pid, 0)
    runtime = Runtime()
    session = runtime.open(path)
    pid = worker_pid(runtime)
    del runtime, session
    gc.collect()
    with pytest.raises(ProcessLookupError):
        os.kill(pid, 0)


def test_the_working_directory_does_not_shadow_modules(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = identity(tmp_path)
    for name in ("onnx", "onnxruntime", "numpy", "rich", "json", "ml_dtypes", "graphshrink", "sitecustomize"):
        (tmp_path / f"{name}.py").write_text("import os\nos._exit(66)\n")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join(["", ".", str(ROOT)]))
    with Runtime() as runtime:
        assert runtime.check(Path("model.onnx")) is None
        with runtime.open(path) as session:
            assert session.run({"x": np.ones((1, 2), np.float32)})["y"].shape == (1, 2)


def environment(**extra: str) -> dict[str, str]:
    return {**os.environ, "PYTHONPATH": str(ROOT), **extra}


RUN_ONCE = """\
import sys
from pathlib import Path
import numpy as np
from graphshrink.onnx_io.runtime import Runtime
runtime = Runtime()
session = runtime.open(Path(sys.argv[1]))
print(session.run({"x": np.ones((1, 2), np.float32)})["y"].tolist(), runtime._worker._process.pid)
"""


@posix_only
@pytest.mark.parametrize("way", ["script without main guard", "stdin"])
def test_works_from_scripts_and_leaves_no_orphan(tmp_path: Path, way: str) -> None:
    path = identity(tmp_path)
    script = tmp_path / "script.py"
    script.write_text(RUN_ONCE)
    command = [sys.executable, "-W", "error", "-" if way == "stdin" else str(script), str(path)]
    text = RUN_ONCE if way == "stdin" else ""
    done = subprocess.run(
        command, input=text, capture_output=True, text=True, env=environment(), timeout=30, check=False
    )
    assert done.stderr == ""
    result, pid = done.stdout.rsplit(maxsplit=1)
    assert result == "[[1.0, 1.0]]"
    assert is_gone(int(pid))


@posix_only
def test_a_worker_ends_with_its_client_even_while_a_model_hangs(tmp_path: Path) -> None:
    script = """\
        import os, sys, threading, time
        from pathlib import Path
        import numpy as np
        from graphshrink.onnx_io.runtime import Runtime
        runtime = Runtime()
        session = runtime.open(Path(sys.argv[1]))
        threading.Thread(target=session.run, args=({"x": np.ones((), np.float32)},), daemon=True).start()
        time.sleep(0.3)
        print(runtime._worker._process.pid, flush=True)
        os._exit(0)
    """
    command = [sys.executable, "-c", textwrap.dedent(script), str(endless(tmp_path))]
    done = subprocess.run(command, capture_output=True, text=True, env=environment(), timeout=30, check=True)
    assert is_gone(int(done.stdout))


@posix_only
def test_an_interrupt_kills_the_worker_and_prints_nothing(tmp_path: Path) -> None:
    script = """\
        import signal, sys
        from pathlib import Path
        import numpy as np
        from graphshrink.onnx_io.runtime import Runtime
        signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell may have the tests ignore it
        runtime = Runtime()
        session = runtime.open(Path(sys.argv[1]))
        print(runtime._worker._process.pid, flush=True)
        try:
            session.run({"x": np.ones((), np.float32)})
        except KeyboardInterrupt:
            print(runtime.check(Path(sys.argv[1])), flush=True)
    """
    command = [sys.executable, "-c", textwrap.dedent(script), str(endless(tmp_path))]
    with subprocess.Popen(
        command,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        env=environment(GRAPHSHRINK_DEBUG="1"),
        start_new_session=True,
    ) as process:
        assert process.stdout is not None
        pid = int(process.stdout.readline())
        time.sleep(0.3)
        os.killpg(process.pid, signal.SIGINT)
        out, err = process.communicate(timeout=30)
    assert out == b"None\n"
    assert err == b""
    assert is_gone(pid)


def test_what_libraries_print_does_not_get_between_the_messages() -> None:
    script = """\
        import os
        from graphshrink import _worker
        from graphshrink.onnx_io.frames import Frame
        def noisy(state, request):
            os.write(1, b"native noise")
            print("noise", flush=True)
            return Frame({"read": os.read(0, 1).decode()})
        _worker._COMMANDS["noisy"] = noisy
        _worker.main([])
    """
    with subprocess.Popen(
        [sys.executable, "-c", textwrap.dedent(script)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        env=environment(),
    ) as process:
        requests, replies = cast(io.BufferedWriter, process.stdin), cast(io.BufferedReader, process.stdout)
        assert process.stderr is not None
        frames.write(requests, frames.pack(Frame({"command": "noisy"})))
        assert frames.read(replies) == Frame({"read": ""}, [])
        requests.close()
        assert process.stderr.read().split() == [b"native", b"noisenoise"]
        assert process.wait(10) == 0


def test_the_worker_is_a_module_that_survives_errors_and_ends_with_stdin() -> None:
    with subprocess.Popen(
        [sys.executable, "-P", "-m", "graphshrink._worker"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        env=environment(),
    ) as process:
        requests, replies = cast(io.BufferedWriter, process.stdin), cast(io.BufferedReader, process.stdout)
        for _ in range(2):
            frames.write(requests, frames.pack(Frame({"command": "no such command"})))
            reply = frames.read(replies)
            assert reply is not None
            assert reply.head == {"error": "KeyError", "message": "'no such command'"}
        requests.close()
        assert process.wait(10) == 0
