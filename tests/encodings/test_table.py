"""Every encoding of the table: what it stores is decoded bit for bit, by everybody, in no more bytes than plain."""

from pathlib import Path
from typing import Any, Final

import numpy as np
import onnx
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from onnx import TensorProto, helper
from onnx.reference import ReferenceEvaluator

from graphshrink.encodings import ENCODINGS, Policy, Storage, Stored, best_encoding, encode_graph, lift
from graphshrink.encodings.base import Builder, Encoded, Encoding, FreshNames
from graphshrink.ir.compare import difference
from graphshrink.ir.graph import Graph
from graphshrink.ir.tensor import ELEM_TYPES
from graphshrink.ir.types import Array
from graphshrink.ir.weight import weights
from graphshrink.onnx_io.emit import emit
from graphshrink.onnx_io.fields import keep_in_place
from graphshrink.onnx_io.load import load, load_as_stored
from graphshrink.onnx_io.tensors import write_tensor
from graphshrink.onnx_io.to_proto import write_operator
from graphshrink.ops import why_not_a_weight
from tests.consumers import CONSUMERS, LARGE, VERSIONS, Case
from tests.few_values import BFLOAT16, DTYPES, SHORTER, alphabet, assert_same_bits, drawn, few, tensors
from tests.models import model_of
from tests.runners import OPTIMISED, newest_opset, operators_left, run

FOR_WIDE_TYPES: Final = ("half", "half-bfloat16")
OPSETS: Final = [9, 10, 11, 13, 18, 21, newest_opset()]

NAMES = [encoding.name for encoding in ENCODINGS]


# How many of the tensors each encoding takes, at the least.
FEWEST: Final = {
    "pairs": 5,
    "codebook": 60,
    "grid": 30,
    "half": 60,
    "half-bfloat16": 60,
    "huffman": 20,
    "grouped-huffman": 3,
    "sparse": 10,
}


def encoded_by(encoding: Encoding, dtype: np.dtype[Any]) -> list[tuple[Array, Encoded]]:
    found = [(array, encoded) for array in tensors(dtype) if (encoded := encoding.encode(array)) is not None]
    if not applies(encoding, dtype):
        assert not found
        pytest.skip("does not apply to this type")
    assert len(found) >= FEWEST[encoding.name]
    return found


def applies(encoding: Encoding, dtype: np.dtype[Any]) -> bool:
    """Whether an encoding takes a type at all."""
    if encoding.name in FOR_WIDE_TYPES:
        return dtype in SHORTER
    if encoding.name == "grid":
        return dtype == np.float32
    return encoding.name != "sparse" or dtype != BFLOAT16


def decoding_model(tensors: list[tuple[Array, Encoded]], opset: int) -> onnx.ModelProto:
    """A model that does nothing but decode; bfloat16, which NumPy does not have, is cast to float32."""
    builder = Builder(FreshNames(), opset)
    for index, (_, encoded) in enumerate(tensors):
        encoded.emit(builder, f"w{index}")
    model = onnx.ModelProto(ir_version=4 if opset <= 9 else 8)
    model.opset_import.add(domain="", version=opset)
    model.graph.name = "decode"
    for operator in builder.operators:
        write_operator(operator, model.graph.node.add(), keep_in_place)
    for tensor in builder.tensors:
        write_tensor(tensor, model.graph.initializer.add(), keep_in_place)
    for index, (array, _) in enumerate(tensors):
        if array.dtype == BFLOAT16:
            model.graph.node.append(helper.make_node("Cast", [f"w{index}"], [f"y{index}"], to=TensorProto.FLOAT))
        else:
            model.graph.node.append(helper.make_node("Identity", [f"w{index}"], [f"y{index}"]))
        elem_type = TensorProto.FLOAT if array.dtype == BFLOAT16 else ELEM_TYPES[array.dtype]
        model.graph.output.append(helper.make_tensor_value_info(f"y{index}", elem_type, array.shape))
    return model


def as_read(array: Array) -> Array:
    """What the decoding model gives out: bfloat16 as the float32 with the same upper half."""
    if array.dtype != BFLOAT16:
        return array
    widened: Array = (array.view(np.uint16).astype(np.uint32) << 16).view(np.float32)
    return widened


def supported(encoding: Encoding, dtype: np.dtype[Any]) -> list[int]:
    least = max(encoding.min_opset, 13 if dtype == BFLOAT16 else 1)
    # Decoding a stream takes hundreds of operators, in few forms: below opset 16, below 18, and from then on.
    some = OPSETS if encoding.min_opset < 11 else [11, 13, 17, newest_opset()]
    return [opset for opset in some if opset >= least]


# ---- what is stored is what comes back


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("encoding", ENCODINGS, ids=NAMES)
def test_decode_is_exact(encoding: Encoding, dtype: np.dtype[Any]) -> None:
    for array, encoded in encoded_by(encoding, dtype):
        assert_same_bits(encoded.decode(), array)


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("encoding", ENCODINGS, ids=NAMES)
def test_onnx_runtime_decodes_exactly(encoding: Encoding, dtype: np.dtype[Any]) -> None:
    cases = encoded_by(encoding, dtype)
    for opset in supported(encoding, dtype) if cases else ():
        model = decoding_model(cases, opset)
        onnx.checker.check_model(model, full_check=True)
        for optimised in OPTIMISED:
            outputs = run(model, {}, optimised=optimised)
            for index, (array, _) in enumerate(cases):
                assert_same_bits(outputs[f"y{index}"], as_read(array))


def by_reference(model: onnx.ModelProto) -> Any:
    """What the reference computes; in onnx 1.19 its Gather fails on indices that are not contiguous in memory."""
    try:
        return ReferenceEvaluator(model).run(None, {})
    except TypeError as e:
        if "no attribute 'ascontiguousarray'" in str(e.__cause__):
            pytest.skip("Gather of this reference fails on indices that are not contiguous")
        raise


@pytest.mark.parametrize("dtype", [dtype for dtype in DTYPES if dtype != BFLOAT16], ids=str)
@pytest.mark.parametrize("encoding", ENCODINGS, ids=NAMES)
def test_the_reference_decodes_exactly(encoding: Encoding, dtype: np.dtype[Any]) -> None:
    cases = encoded_by(encoding, dtype)
    for opset in supported(encoding, dtype):
        found = by_reference(decoding_model(cases, opset))
        for output, (array, _) in zip(found, cases, strict=True):
            assert_same_bits(np.asarray(output), array)


@pytest.mark.parametrize("encoding", ENCODINGS, ids=NAMES)
def test_empty_tensors_and_single_weights_are_not_encoded(encoding: Encoding) -> None:
    for shape in [(0,), (0, 5), (5, 0), (2, 0, 3), (), (1,), (1, 1, 1)]:
        assert encoding.encode(np.zeros(shape, np.float32)) is None


@pytest.mark.parametrize("policy", ["fast", "small"])
def test_types_that_are_no_weights_are_not_encoded(policy: Any) -> None:
    for dtype in (np.int64, np.uint8, np.bool_, np.complex64, np.complex128, np.dtype("O")):
        assert best_encoding(np.zeros((100, 100), dtype), policy, 18) is None
    assert best_encoding(np.zeros((100, 100), BFLOAT16), policy, 11) is None  # no operator moves it before opset 13
    assert best_encoding(np.zeros((100, 100), BFLOAT16), policy, 13) is not None
    assert best_encoding(np.zeros((100, 100), np.float32), policy, 8) is None
    assert best_encoding(np.zeros((100, 100), np.float32), "plain", 18) is None


# ---- in models, with everything that uses weights


def encoded(model: onnx.ModelProto, storage: Storage | None = None) -> tuple[Graph, list[Stored]]:
    graph = load(model)
    chosen = [w for w in weights(graph) if why_not_a_weight(w) is None]
    return graph, encode_graph(graph, chosen, storage or Storage())


@pytest.mark.parametrize(("opset", "ir_version"), VERSIONS)
@pytest.mark.parametrize("name", CONSUMERS)
def test_models_compute_the_same_with_encoded_weights(name: str, opset: int, ir_version: int, tmp_path: Path) -> None:
    if name == "function" and ir_version < 8:
        pytest.skip("functions came with IR version 8")
    case = CONSUMERS[name](opset, ir_version)
    expect_the_same(case, Storage(), tmp_path)


@pytest.mark.parametrize(("opset", "ir_version"), [version for version in VERSIONS if version[0] >= 11])
@pytest.mark.parametrize("portable", [False, True])
@pytest.mark.parametrize("name", LARGE)
def test_models_compute_the_same_with_streams(
    name: str, portable: bool, opset: int, ir_version: int, tmp_path: Path
) -> None:
    case = LARGE[name](opset, ir_version)
    stored = expect_the_same(case, Storage("small", portable=portable), tmp_path)
    streams = {item.encoding for item in stored} & {"huffman", "grouped-huffman", "sparse"}
    # OpenVINO's recurrent layers want constants, and it folds no stream.
    assert bool(streams) != (portable and name in ("LSTM", "GRU", "RNN"))


def expect_the_same(case: Case, storage: Storage, folder: Path) -> list[Stored]:
    onnx.checker.check_model(case.model, full_check=True)
    graph, stored = encoded(case.model, storage)
    model = emit(graph)
    onnx.checker.check_model(model, full_check=True)

    assert {item.label.rpartition("/")[2] for item in stored if item.encoding != "plain"} == case.encoded
    assert model.ByteSize() < case.model.ByteSize()
    for optimised in OPTIMISED:
        wanted = run(case.model, case.feeds, optimised=optimised)["y"]
        found = run(model, case.feeds, optimised=optimised)["y"]
        # Not optimised, long sums are added up in another order where a weight is no constant.
        np.testing.assert_allclose(found, wanted, rtol=0, atol=0 if wanted.size < 200 else 1e-5 * np.abs(wanted).max())
    assert operators_left(model, folder) == operators_left(case.model, folder)  # nothing is decoded at a run
    if not model.functions:  # they raise the IR version
        assert difference(load(case.model), load(model)) is None

    again, _ = encoded(model, storage)
    assert emit(again).SerializeToString(deterministic=True) == model.SerializeToString(deterministic=True)
    return stored


@pytest.mark.parametrize("name", CONSUMERS)
def test_lift_gives_the_arrays_back(name: str) -> None:
    case = CONSUMERS[name](18, 8)
    graph, _ = encoded(case.model)
    stored = load_as_stored(emit(graph))
    assert {lifted.name for lifted in lift(stored)} == case.encoded
    mine = {weight.name: weight.array for weight in weights(stored)}
    for weight in weights(load(case.model)):
        assert mine[weight.name].dtype == weight.array.dtype
        np.testing.assert_array_equal(mine[weight.name], weight.array)
    assert lift(stored) == []


def test_the_order_of_weights_and_what_is_said_of_them_survive() -> None:
    model = model_of(
        [helper.make_node("MatMul", [f"h{i}", f"w{i}"], [f"h{i + 1}"]) for i in range(4)],
        {f"w{i}": few(32, 32, entries=1 << i, seed=i) for i in range(4)},
        {"h0": [1, 32]},
        {"h4": [1, 32]},
    )
    model.graph.initializer[1].doc_string = "the second"
    entry = model.graph.initializer[1].metadata_props.add()
    entry.key, entry.value = "from", "a test"
    model.graph.value_info.append(helper.make_tensor_value_info("w2", TensorProto.FLOAT, [32, 32]))
    graph, stored = encoded(model)
    assert all(item.encoding != "plain" for item in stored)
    back = emit(load(emit(graph)))
    assert back.SerializeToString() == emit(load(model)).SerializeToString()


def test_a_table_that_only_one_small_weight_needs_does_not_pay() -> None:
    """The 320 weights of `small` would save bytes but for the 1.2 kB table of base-3 digits, which no other uses."""
    model = model_of(
        [helper.make_node("MatMul", ["x", "small"], ["h"]), helper.make_node("MatMul", ["h", "large"], ["y"])],
        {"small": few(20, 16, entries=3), "large": few(16, 4000)},
        {"x": [1, 20]},
        {"y": [1, 4000]},
    )
    _, stored = encoded(model)
    assert {item.label: item.encoding == "plain" for item in stored} == {"small": True, "large": False}


# ---- any weights at all


@st.composite
def arrays(draw: st.DrawFn) -> Array:
    dtype = draw(st.sampled_from(DTYPES))
    shape = tuple(draw(st.lists(st.integers(1, 40), min_size=1, max_size=4)))
    shape = shape if np.prod(shape) < 70_000 else shape[:2]
    axis = draw(st.integers(0, len(shape) - 1))
    rng = np.random.default_rng(draw(st.integers(0, 2**32)))
    entries = draw(st.integers(1, 300))
    books = [alphabet(dtype, entries, rng) for _ in range(shape[axis] if draw(st.booleans()) else 1)]
    rest = shape[:axis] + shape[axis + 1 :]
    array = np.stack([drawn(books[i % len(books)], rest, rng) for i in range(shape[axis])], axis=axis)
    sparse: Array = np.where(rng.random(shape) < draw(st.floats(0, 1)), array, dtype.type(0))
    return sparse


@settings(max_examples=150, deadline=None)
@given(arrays(), st.sampled_from([9, 13, 21]), st.sampled_from(["fast", "small"]), st.booleans())
def test_any_weights(array: Array, opset: int, policy: Policy, portable: bool) -> None:
    storage = Storage(policy, portable=portable)
    elem_type = ELEM_TYPES[array.dtype]
    constant = helper.make_tensor("w", elem_type, array.shape, array.tobytes(), raw=True)
    graph = helper.make_graph(
        [helper.make_node("Identity", ["w"], ["y"])],
        "g",
        [],
        [helper.make_tensor_value_info("y", elem_type, array.shape)],
        [constant],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)], ir_version=8)
    loaded = load(model)
    [item] = encode_graph(loaded, weights(loaded), storage)
    written = emit(loaded)
    assert written.ByteSize() <= model.ByteSize()
    assert (item.encoding == "plain") == (written.ByteSize() == model.ByteSize())
    again = load(written)
    assert_same_bits(next(w.array for w in weights(again) if w.name == "w"), array)
    encode_graph(again, weights(again), storage)
    assert emit(again).SerializeToString(deterministic=True) == written.SerializeToString(deterministic=True)
    if item.encoding != "plain" and array.dtype != BFLOAT16:
        for optimised in OPTIMISED:
            assert_same_bits(run(written, {}, optimised=optimised)["y"], array)
