from functools import cache
from pathlib import Path

import numpy as np
import onnx
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from onnx import TensorProto, helper, numpy_helper

from graphshrink.errors import ModelError
from graphshrink.ir.graph import Graph
from graphshrink.ir.tensor import RawData, Tensor
from graphshrink.onnx_io import load as load_module
from graphshrink.onnx_io import wire
from graphshrink.onnx_io.emit import emit
from graphshrink.onnx_io.fields import Source
from graphshrink.onnx_io.from_proto import read_model
from graphshrink.onnx_io.load import load, load_as_stored
from graphshrink.onnx_io.wire import THRESHOLD, split
from tests.models import TESTMODELS, two_layers
from tests.strategies import models

LARGE, SMALL = THRESHOLD // 4, THRESHOLD // 4 - 1  # float32 elements: at the threshold, and just below it


def floats(name: str, size: int, seed: int = 0) -> onnx.TensorProto:
    return numpy_helper.from_array(np.random.default_rng(seed).standard_normal(size).astype(np.float32), name)


def sparse(name: str, size: int) -> onnx.SparseTensorProto:
    indices = numpy_helper.from_array(np.arange(size, dtype=np.int64))
    return helper.make_sparse_tensor(floats(name, size), indices, [size])


def everywhere() -> onnx.ModelProto:
    """Large tensors in every place that ONNX has for them."""
    node = helper.make_node("Mystery", ["x"], ["y"], domain="custom")
    node.attribute.extend(
        [
            helper.make_attribute("t", floats("t", LARGE, 1)),
            helper.make_attribute("ts", [floats("a", LARGE, 2), floats("b", 1, 3)]),
            helper.make_attribute("s", sparse("s", LARGE)),
            helper.make_attribute("ss", [sparse("ss", LARGE)]),
        ]
    )
    body = helper.make_graph([], "body", [], [], [floats("inner", LARGE, 4)])
    nested = helper.make_graph([helper.make_node("If", ["c"], ["z"], then_branch=body)], "nested", [], [])
    node.attribute.extend([helper.make_attribute("g", nested), helper.make_attribute("gs", [body, body])])
    graph = helper.make_graph([node], "g", [], [], [floats("W", LARGE, 5)], sparse_initializer=[sparse("S", LARGE)])
    model = helper.make_model(graph)
    model.functions.add(name="f").attribute_proto.append(helper.make_attribute("d", floats("d", LARGE, 6)))
    model.functions[0].node.append(helper.make_node("Constant", [], ["c"], value=floats("c", LARGE, 7)))
    training = model.training_info.add()
    training.initialization.initializer.append(floats("i", LARGE, 8))
    training.algorithm.initializer.append(floats("j", LARGE, 9))
    return model


def restored(content: bytes) -> tuple[onnx.ModelProto, bytes]:
    """A model after the way through `split` and the IR, and what `split` left of it."""
    found, rest = split(memoryview(content))
    proto = onnx.ModelProto()
    proto.ParseFromString(rest)
    return emit(read_model(proto, Source(None, found.resolve))), rest


def raw_buffer(graph: Graph, name: str) -> bytes | memoryview:
    constant = graph.value(name).constant
    assert isinstance(constant, Tensor)
    assert isinstance(constant.data, RawData)
    return constant.data.buffer


def test_large_tensors_stay_behind_wherever_they_are() -> None:
    model = everywhere()
    again, rest = restored(model.SerializeToString())
    assert again == model
    # 8 of the 14 tensors have LARGE float32 elements and nothing else; the 3 sparse ones have int64 indices besides.
    assert len(rest) < 3000


def test_the_threshold_is_sharp() -> None:
    model = helper.make_model(helper.make_graph([], "g", [], [], [floats("L", LARGE), floats("S", SMALL)]))
    content = model.SerializeToString()
    source = memoryview(content)
    found, rest = split(source)
    proto = onnx.ModelProto()
    proto.ParseFromString(rest)
    large, small = proto.graph.initializer
    assert (len(large.raw_data), len(small.raw_data)) == (32, 4 * SMALL)
    graph = read_model(proto, Source(None, found.resolve))
    kept = raw_buffer(graph, "L")
    assert isinstance(kept, memoryview)
    assert kept.obj is content  # a view of the file, no copy
    assert isinstance(raw_buffer(graph, "S"), bytes)


def test_a_mapped_file_gives_views_of_itself(tmp_path: Path) -> None:
    model = helper.make_model(helper.make_graph([], "g", [], [], [floats("W", 1 << 19)]))
    path = tmp_path / "large.onnx"
    onnx.save(model, path)
    graph = load(path)
    assert type(memoryview(raw_buffer(graph, "W")).obj).__name__ == "mmap"
    assert emit(graph) == model


def test_nothing_that_looks_like_a_reference_is_taken_for_one() -> None:
    first, _ = split(memoryview(b""))
    second, _ = split(memoryview(b"\x08\x01" * 50))
    forged = first.reference(0, 100)
    assert second.resolve(forged) == forged
    assert second.resolve(second.token) == second.token
    assert len(second.resolve(second.reference(3, 90))) == 90


def test_fields_that_come_twice_are_merged_as_protobuf_does() -> None:
    one = helper.make_model(helper.make_graph([], "one", [], [], [floats("A", LARGE)])).SerializeToString()
    two = helper.make_model(helper.make_graph([], "two", [], [], [floats("B", LARGE)])).SerializeToString()
    expected = onnx.ModelProto()
    expected.ParseFromString(one + two)
    assert restored(one + two)[0] == expected
    assert [tensor.name for tensor in expected.graph.initializer] == ["A", "B"]


@settings(max_examples=100, deadline=None)
@given(models())
def test_any_model_is_what_protobuf_parses(model: onnx.ModelProto) -> None:
    model.graph.initializer.append(floats("large", LARGE))
    assert restored(model.SerializeToString())[0] == model


@pytest.mark.parametrize("name", ["lenet-5.onnx", "digit_cnn.onnx"])
def test_real_models_are_what_protobuf_parses(name: str) -> None:
    content = (TESTMODELS / name).read_bytes()
    assert restored(content)[0] == onnx.load_from_string(content)


# ---- damaged files


@cache
def healthy() -> tuple[bytes, ...]:
    """Models whose damaged copies must never crash the loader; the first is larger than the mapping threshold."""
    large = helper.make_model(
        helper.make_graph(
            [helper.make_node("MatMul", ["x", "W"], ["y"])],
            "g",
            [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["n", 512])],
            [helper.make_tensor_value_info("y", TensorProto.FLOAT, ["n", 512])],
            [numpy_helper.from_array(np.zeros((512, 512), np.float32), "W")],
        )
    )
    digit = (TESTMODELS / "digit_cnn.onnx").read_bytes()
    return large.SerializeToString(), digit, everywhere().SerializeToString()


@pytest.fixture(scope="module")
def scratch(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("damaged") / "model.onnx"


def expect_model_or_error(path: Path, content: bytes) -> None:
    path.write_bytes(content)
    try:
        graph = load(path)
    except ModelError as e:
        assert "\n" not in str(e)
        assert str(e).startswith(str(path))
    else:
        emit(graph)


@settings(max_examples=200, deadline=None)
@given(st.integers(0, 2), st.floats(0, 1))
@example(0, 0.5)
def test_cut_files_give_an_error(scratch: Path, which: int, where: float) -> None:
    content = healthy()[which]
    expect_model_or_error(scratch, content[: int(where * len(content))])


MUTATIONS = st.lists(st.tuples(st.floats(0, 1), st.binary(min_size=1, max_size=4)), min_size=1, max_size=8)


@settings(max_examples=400, deadline=None)
@given(st.integers(0, 2), MUTATIONS)
def test_overwritten_bytes_give_an_error_or_a_model(
    scratch: Path, which: int, mutations: list[tuple[float, bytes]]
) -> None:
    content = bytearray(healthy()[which])
    ends = 300  # structure lies at both ends of a file, weights between
    for where, new in mutations:
        at = int(where * 2 * ends) - ends
        content[at : at + len(new) if at + len(new) else None] = new
    expect_model_or_error(scratch, bytes(content))


@settings(max_examples=400, deadline=None)
@given(model=models(), mutations=MUTATIONS)
def test_mutated_small_models_give_an_error_or_a_model(
    scratch: Path, model: onnx.ModelProto, mutations: list[tuple[float, bytes]]
) -> None:
    content = bytearray(model.SerializeToString())
    for where, new in mutations:
        at = int(where * len(content))
        content[at : at + len(new)] = new
    expect_model_or_error(scratch, bytes(content))


@settings(max_examples=200, deadline=None)
@given(model=models(), mutations=MUTATIONS)
def test_the_wire_reader_refuses_and_accepts_what_protobuf_does(
    scratch: Path, model: onnx.ModelProto, mutations: list[tuple[float, bytes]]
) -> None:
    """The same file read whole and read by `split` gives the same model, or two errors."""
    content = bytearray(model.SerializeToString())
    for where, new in mutations:
        at = int(where * len(content))
        content[at : at + len(new)] = new
    scratch.write_bytes(content)
    with pytest.MonkeyPatch.context() as patch:
        outcomes = {threshold: outcome(scratch, threshold, patch) for threshold in (0, 1 << 20)}
    assert outcomes[0] == outcomes[1 << 20]


def outcome(path: Path, map_from: int, patch: pytest.MonkeyPatch) -> bytes | None:
    patch.setattr(load_module, "_MAP_FROM", map_from)
    try:
        return emit(load_as_stored(path)).SerializeToString(deterministic=True)
    except ModelError:
        return None


@settings(max_examples=200, deadline=None)
@given(st.binary(min_size=1, max_size=200))
@example(b"\x3a\xff\xff\xff\xff\x0f")  # a graph of 4 GB
@example(b"\x3a" + b"\xff" * 11)  # a length that never ends
@example(b"\x08")  # a key and nothing after it
@example(b"\x3b\x3c")  # a group, which ONNX never uses
@example(b"\x0d\x00")  # four bytes announced, one there
def test_arbitrary_bytes_give_an_error(scratch: Path, content: bytes) -> None:
    expect_model_or_error(scratch, content)
    try:
        split(memoryview(content))
    except ModelError as e:
        assert "\n" not in str(e)


def test_zeros_are_no_message_however_many(tmp_path: Path) -> None:
    for start in (b"", two_layers().SerializeToString()):
        path = tmp_path / "zeros.onnx"
        with path.open("wb") as file:
            file.write(start)
            file.truncate(1 << 30)
        with pytest.raises(ModelError, match="ONNX model"):
            load(path)


def test_fields_are_counted(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(wire, "_MOST_FIELDS", 100)
    again = onnx.ModelProto(ir_version=8).SerializeToString()
    with pytest.raises(ModelError, match="more than"):
        split(memoryview(again * 101))
