import gzip
import io
import json
import os
import pickle
import sys
import zipfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import AttributeProto, TensorProto, helper, numpy_helper

from graphshrink.errors import ModelError
from graphshrink.onnx_io import load as load_module
from graphshrink.onnx_io.emit import emit
from graphshrink.onnx_io.load import load, load_as_stored
from tests.models import LENET, normal, saved, two_layers

posix_only = pytest.mark.skipif(sys.platform == "win32", reason="POSIX's files")


def zipped() -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        archive.writestr("data.pkl", b"")
    return buffer.getvalue()


LFS = b"version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 1\n"
MISTAKES: list[tuple[str, bytes, str]] = [
    ("git-lfs", LFS, "git lfs pull"),
    ("html", b"<!DOCTYPE html><html></html>", "HTML"),
    ("html after blanks", b"\n\n  <html></html>", "HTML"),
    ("html after a byte order mark", b"\xef\xbb\xbf<html></html>", "HTML"),
    ("gzip", gzip.compress(b"model"), "gzip"),
    ("zip", zipped(), "zip"),
    ("empty zip", b"PK\x05\x06" + bytes(18), "zip"),
    *((f"pickle {p}", pickle.dumps([1], protocol=p), "pickle, which is never opened") for p in (2, 3, 4, 5)),
    ("json", json.dumps({"a": 1}).encode(), "JSON"),
    ("json list", b" [1, 2]", "JSON"),
    ("hdf5", b"\x89HDF\r\n\x1a\n", "HDF5"),
    ("empty", b"", "is empty"),
    ("text", b"this is no model", "not an ONNX model"),
    ("zeros", bytes(100), "not an ONNX model"),
    ("no graph", onnx.ModelProto(ir_version=8).SerializeToString(), "holds no graph"),
    ("cut", two_layers().SerializeToString()[:-100], "not an ONNX model, or a damaged one"),
    ("large and cut", two_layers(width=1 << 14).SerializeToString()[:-100], "cut short"),
]


def message(model: str | os.PathLike[str] | onnx.ModelProto) -> str:
    with pytest.raises(ModelError) as caught:
        load(model)
    text = str(caught.value)
    assert "\n" not in text
    assert text.isprintable()
    return text


@pytest.mark.parametrize(("content", "said"), [row[1:] for row in MISTAKES], ids=[row[0] for row in MISTAKES])
def test_files_that_are_no_models(tmp_path: Path, content: bytes, said: str) -> None:
    path = tmp_path / "model.onnx"
    path.write_bytes(content)
    text = message(path)
    assert text.startswith(f"{path}: ")
    assert said in text


def test_a_pickle_is_never_opened(tmp_path: Path) -> None:
    path = tmp_path / "model.onnx"
    path.write_bytes(pickle.dumps(Trap(tmp_path / "opened")))
    assert "pickle" in message(path)
    assert not (tmp_path / "opened").exists()


class Trap:
    def __init__(self, trace: Path) -> None:
        self.trace = trace

    def __reduce__(self) -> tuple[Callable[[str], object], tuple[str]]:
        return Path.touch, (str(self.trace),)  # type: ignore[return-value]


def test_a_missing_file(tmp_path: Path) -> None:
    assert message(tmp_path / "gone.onnx").endswith("gone.onnx: cannot be opened: No such file or directory")


def test_a_folder(tmp_path: Path) -> None:
    assert message(tmp_path) == f"{tmp_path}: is not a regular file"


@posix_only
def test_a_pipe_does_not_hang(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    assert message(tmp_path / "pipe").endswith("is not a regular file")


@posix_only
def test_a_device() -> None:
    assert message("/dev/null") == "/dev/null: is not a regular file"


@posix_only
@pytest.mark.skipif(sys.platform != "win32" and os.geteuid() == 0, reason="root reads everything")
def test_a_file_that_may_not_be_read(tmp_path: Path) -> None:
    path = saved(two_layers(), tmp_path)
    path.chmod(0)
    assert "cannot be read: Permission denied" in message(path)


def test_a_file_that_vanishes_between_looking_and_opening(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def trusting(path: Path) -> int:
        return 1

    monkeypatch.setattr(load_module, "_expect_model_file", trusting)
    assert "cannot be read: No such file" in message(tmp_path / "gone.onnx")


@posix_only
def test_a_name_that_is_no_line_of_text(tmp_path: Path) -> None:
    path = tmp_path / "two\nlines\x1b[31m.onnx"
    path.write_bytes(LFS)
    assert "two\\nlines\\x1b[31m.onnx" in message(path)


def test_a_path_that_the_system_cannot_spell() -> None:
    assert "null" in message("mod\0el.onnx")


def test_a_file_beyond_the_size_cap(tmp_path: Path) -> None:
    path = tmp_path / "large.onnx"
    with path.open("wb") as file:
        file.truncate(1 << 31)  # sparse: takes no space
    assert "ends at 2 GB" in message(path)


def test_a_path_may_be_a_string_or_a_link(tmp_path: Path) -> None:
    model = onnx.load(LENET)
    (tmp_path / "link.onnx").symlink_to(LENET)
    assert emit(load(str(LENET))) == emit(load(tmp_path / "link.onnx")) == model


def test_the_model_given_is_not_changed() -> None:
    model = two_layers()
    before = model.SerializeToString(deterministic=True)
    emit(load(model))
    assert model.SerializeToString(deterministic=True) == before


# ---- broken models


def broken(change: Callable[[onnx.ModelProto], object]) -> onnx.ModelProto:
    model = two_layers()
    change(model)
    return model


def bare(**fields: object) -> Callable[[onnx.ModelProto], object]:
    """Put this in the place of the second weight."""

    def change(model: onnx.ModelProto) -> None:
        model.graph.initializer[1].CopyFrom(TensorProto(name="W2", **fields))  # type: ignore[arg-type]

    return change


def add_attribute(**fields: object) -> Callable[[onnx.ModelProto], object]:
    return lambda m: m.graph.node[0].attribute.append(AttributeProto(name="a", **fields))  # type: ignore[arg-type]


def segmented(model: onnx.ModelProto) -> None:
    model.graph.initializer[0].segment.begin = 0


FLOAT, STRING, INT64 = TensorProto.FLOAT, TensorProto.STRING, TensorProto.INT64
INFO = helper.make_tensor_value_info("h", FLOAT, [1])
BROKEN: list[tuple[str, Callable[[onnx.ModelProto], object], str]] = [
    ("two producers", lambda m: m.graph.node.add(op_type="Relu", input=["x"], output=["y"]), "'y' would have two"),
    ("an input produced", lambda m: m.graph.node.add(op_type="Relu", input=["y"], output=["x"]), "'x' would have two"),
    ("an initializer produced", lambda m: m.graph.node.add(op_type="Relu", input=["x"], output=["W1"]), "'W1' would"),
    ("an initializer twice", lambda m: m.graph.initializer.append(m.graph.initializer[0]), "'W1' exists already"),
    ("a nameless initializer", lambda m: m.graph.initializer[0].ClearField("name"), "has no name"),
    ("an input twice", lambda m: m.graph.input.append(m.graph.input[0]), "'x' is declared twice"),
    ("a declaration twice", lambda m: m.graph.value_info.extend([INFO, INFO]), "declares a value twice"),
    ("a cycle", lambda m: m.graph.node[0].input.__setitem__(0, "a"), "depends on itself"),
    ("a dangling name", lambda m: m.graph.node[0].input.__setitem__(0, "gone"), "'gone', which nothing produces"),
    ("a dangling output", lambda m: m.graph.output.add(name="gone"), "'gone' is produced by nothing"),
    ("an unknown element type", bare(data_type=99, dims=[0]), "unknown element type 99"),
    ("no element type", bare(), "unknown element type 0"),
    ("a negative size", bare(data_type=FLOAT, dims=[-1]), "negative size"),
    ("65 axes", bare(data_type=FLOAT, dims=[1] * 65, float_data=[1]), "65 axes"),
    ("an absurd shape", bare(data_type=FLOAT, dims=[0, 2**40, 2**40]), "absurd shape"),
    ("an overflowing product", bare(data_type=FLOAT, dims=[2**32, 2**32, 2**32]), "absurd shape"),
    ("no data", bare(data_type=FLOAT, dims=[2**20, 2**20]), f"holds 0 bytes where its shape and type ask for {2**42}"),
    ("too few bytes", bare(data_type=FLOAT, dims=[2], raw_data=b"1234"), "holds 4 bytes where"),
    ("too many numbers", bare(data_type=FLOAT, dims=[1], float_data=[1, 2]), "holds 8 bytes where"),
    ("data twice", bare(data_type=FLOAT, dims=[1], float_data=[1], raw_data=b"1234"), "twice, in float_data and raw"),
    ("data thrice", bare(data_type=FLOAT, dims=[1], float_data=[1], int32_data=[1]), "twice, in float_data and int32"),
    ("the wrong field", bare(data_type=FLOAT, dims=[1], double_data=[1]), "in double_data where its type asks for"),
    ("strings for floats", bare(data_type=FLOAT, dims=[1], string_data=[b"1"]), "in string_data where its type"),
    ("raw strings", bare(data_type=STRING, dims=[0], raw_data=b""), "not in string_data"),
    ("strings as numbers", bare(data_type=STRING, dims=[1], int32_data=[1]), "not in string_data"),
    ("too few strings", bare(data_type=STRING, dims=[2], string_data=[b"1"]), "holds 1 strings where"),
    ("int8 of 300", bare(data_type=TensorProto.INT8, dims=[1], int32_data=[300]), "cannot hold"),
    ("uint32 of 2^32", bare(data_type=TensorProto.UINT32, dims=[1], uint64_data=[2**32]), "cannot hold"),
    ("int4 of 300", bare(data_type=TensorProto.INT4, dims=[1], int32_data=[300]), "cannot hold"),
    ("segments", segmented, "segments"),
    ("two values of an attribute", add_attribute(type=AttributeProto.INT, i=1, f=1.0), "holds f, i"),
    ("another value than it says", add_attribute(type=AttributeProto.INT, f=1.0), "is of type INT but holds f"),
    ("an undefined type", add_attribute(type=AttributeProto.UNDEFINED, f=1.0), "UNDEFINED but holds f"),
    ("an attribute twice", lambda m: [add_attribute(i=1)(m) for _ in range(2)], "has an attribute twice"),
    ("a broken tensor in an attribute", add_attribute(type=4, t=TensorProto(data_type=1, dims=[1])), "holds 0 bytes"),
    (
        "a contradictory shape",
        lambda m: m.graph.value_info.append(helper.make_tensor_value_info("W1", FLOAT, [1, 64])),
        "constant 'W1' has shape [32, 64] but is declared as [1, 64]",
    ),
]


@pytest.mark.parametrize(("change", "said"), [row[1:] for row in BROKEN], ids=[row[0] for row in BROKEN])
def test_broken_models(tmp_path: Path, change: Callable[[onnx.ModelProto], object], said: str) -> None:
    model = broken(change)
    assert said in message(model)
    path = tmp_path / "model.onnx"
    path.write_bytes(model.SerializeToString())
    text = message(path)
    assert said in text
    assert text.startswith(f"{path}: ")
    assert text.count(str(path)) == 1


def test_broken_functions() -> None:
    def add_function(model: onnx.ModelProto, *outputs: str) -> onnx.FunctionProto:
        function = model.functions.add(name="f", domain="local")
        for output in outputs:
            function.node.add(op_type="Constant", output=[output])
        return function

    assert "function 'f': value 'a' would have two producers" in message(broken(lambda m: add_function(m, "a", "a")))
    doubled = broken(lambda m: add_function(m).value_info.extend([INFO, INFO]))
    assert "function 'f' declares a value twice" in message(doubled)


def test_text_that_is_no_utf8() -> None:
    content = two_layers().SerializeToString().replace(b"second", b"\xff\xfe\xfd\xfc\xfb\xfa")
    model = onnx.ModelProto()
    model.ParseFromString(content)
    assert "no text" in message(model)


def test_a_model_as_stored_is_not_checked() -> None:
    model = broken(lambda m: m.graph.node[0].input.__setitem__(0, "gone"))
    assert emit(load_as_stored(model)) == model


def test_operators_that_nobody_knows_are_no_error() -> None:
    node = helper.make_node("Mystery", ["x", "W"], ["y"], domain="com.example", secret=1)
    graph = helper.make_graph(
        [node],
        "g",
        [helper.make_tensor_value_info("x", FLOAT, [1])],
        [helper.make_tensor_value_info("y", FLOAT, [1])],
        [numpy_helper.from_array(normal(1), "W")],
    )
    model = helper.make_model(graph)
    assert emit(load(model)) == model


def test_large_files_are_read_lazily(tmp_path: Path) -> None:
    array = np.arange(1 << 19, dtype=np.float32)
    graph = helper.make_graph([], "g", [], [], [numpy_helper.from_array(array, "W")])
    loaded = load(saved(helper.make_model(graph), tmp_path))
    tensor = loaded.constant("W")
    assert tensor is not None
    assert type(memoryview(tensor.buffer).obj).__name__ == "mmap"
    assert np.array_equal(tensor.array, array)


def test_a_message_without_a_graph() -> None:
    assert "holds no graph" in message(onnx.ModelProto(ir_version=8))
