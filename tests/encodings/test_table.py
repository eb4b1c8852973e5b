"""Every encoding of the table: what it stores is decoded bit for bit, by everybody, in no more bytes than plain."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import Any, Final, TypeAlias

import numpy as np
import onnx
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from onnx import TensorProto, helper, numpy_helper
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
from tests.models import model_of, normal
from tests.runners import OPTIMISED, newest_opset, operators_left, run

BFLOAT16: Final = np.dtype(import_module("ml_dtypes").bfloat16)
DTYPES: Final = [np.dtype(np.float32), np.dtype(np.float16), BFLOAT16, np.dtype(np.float64)]
UNSIGNED: Final[dict[int, Any]] = {2: np.uint16, 4: np.uint32, 8: np.uint64}
OPSETS: Final = [9, 10, 11, 13, 18, 21, newest_opset()]
ENTRIES: Final = [1, 2, 3, 4, 5, 6, 7, 8, 9, 15, 16, 17, 32, 33, 64, 65, 100, 128, 129, 200, 255, 256]
SHAPES: Final = [(97,), (1, 64), (64, 1), (3, 37), (5, 7, 11), (2, 3, 5, 7), (3, 3, 3, 3, 3), (1, 1, 31, 1, 2), (509,)]
SHORTER: Final = {
    np.dtype(np.float32): [np.dtype(np.float16), BFLOAT16],
    np.dtype(np.float64): [np.dtype(np.float16), BFLOAT16, np.dtype(np.float32)],
}
FOR_WIDE_TYPES: Final = ("half", "half-bfloat16")

NAMES = [encoding.name for encoding in ENCODINGS]


def bits(array: Array) -> Array:
    unsigned: Array = np.ascontiguousarray(array).view(UNSIGNED[array.itemsize])
    return unsigned


def assert_same_bits(found: Array, wanted: Array) -> None:
    assert (found.dtype, found.shape) == (wanted.dtype, wanted.shape)
    np.testing.assert_array_equal(bits(found), bits(wanted))


def alphabet(dtype: np.dtype[Any], count: int, rng: np.random.Generator) -> Array:
    """Distinct values, signed zeros, infinities, subnormals and NaNs with a payload among them."""
    unsigned = UNSIGNED[dtype.itemsize]
    sign = 1 << (8 * dtype.itemsize - 1)
    infinity = int(bits(np.array([np.inf], dtype))[0])
    special = [sign, 0, infinity | 5, infinity, sign | infinity, 1, sign | infinity | 7]
    random = rng.integers(0, np.iinfo(unsigned).max, 2 * count + 10, dtype=unsigned, endpoint=True).tolist()
    chosen = list(dict.fromkeys([*special[: count // 2], *random]))[:count]
    values: Array = np.array(chosen, unsigned).view(dtype)
    return values


def drawn(values: Array, shape: tuple[int, ...], rng: np.random.Generator) -> Array:
    """A tensor in which every value occurs, if there is room."""
    size = int(np.prod(shape))
    labels = np.concatenate([np.arange(len(values)), rng.integers(0, len(values), size)])[:size]
    rng.shuffle(labels)
    array: Array = values[labels].reshape(shape)
    return array


def grouped(dtype: np.dtype[Any], shape: tuple[int, ...], axis: int, rng: np.random.Generator) -> Array:
    """Every index along an axis has values of its own."""
    values = alphabet(dtype, 4 * shape[axis], rng).reshape(shape[axis], 4)
    rest = shape[:axis] + shape[axis + 1 :]
    array: Array = np.stack([drawn(v, rest, rng) for v in values], axis=axis)
    return array


def tensors(dtype: np.dtype[Any]) -> Iterator[Array]:
    rng = np.random.default_rng(0)
    for entries in ENTRIES:
        yield drawn(alphabet(dtype, entries, rng), (1009,), rng)
    for shape in SHAPES:
        for entries in (2, 3, 5, 8, 12):
            yield drawn(alphabet(dtype, entries, rng), shape, rng)
    for shape, axis in [((4, 1201), 0), ((1201, 4), 1), ((3, 8, 211), 1), ((7, 3, 5, 67), 3), ((2, 3, 67, 2, 5), 4)]:
        yield grouped(dtype, shape, axis, rng)
    for axis in (0, 1, 2):
        yield np.asarray(np.repeat(grouped(dtype, (6, 10, 90), axis, rng), 2, axis=axis))  # neighbours share theirs
    for entries, shape in [(2, (2049,)), (3, (61, 67)), (17, (3, 29, 31)), (60, (5, 1000)), (256, (2, 2, 1009))]:
        values = alphabet(dtype, entries, rng)
        yield drawn(values, shape, rng)
        for zeros in (0.5, 0.98):
            yield np.where(rng.random(shape) < zeros, dtype.type(0), drawn(values, shape, rng)).astype(dtype)
    yield far_between(dtype, rng)
    yield from on_grids(dtype, rng)
    for short in SHORTER.get(dtype, ()):
        for shape in SHAPES:
            for entries in (2, 7, 16, 100, 257, 300, 400, 500):
                yield widened(drawn(alphabet(short, entries, rng), shape, rng), dtype)


def far_between(dtype: np.dtype[Any], rng: np.random.Generator) -> Array:
    """Non-zeros that are thousands of zeros apart, and one at either end."""
    array = np.zeros(20_011, dtype)
    places = [0, 5, 6, 4000, 13_000, 13_001, 20_010]
    array[places] = drawn(alphabet(dtype, 3, rng), (len(places),), rng)
    return array


def on_grids(dtype: np.dtype[Any], rng: np.random.Generator) -> Iterator[Array]:
    """Whole multiples of a scale: of all, or of each index along an axis."""
    for low, high in [(-128, 127), (0, 255), (-8, 7), (0, 15), (-200, 55), (-90, 90), (-1, 1), (3, 17)]:
        for shape, axis in [((11, 211), None), ((6, 401), 0), ((401, 6), 1), ((3, 5, 199), 1), ((2, 7, 3, 61), 3)]:
            steps = rng.integers(low, high, shape, endpoint=True)
            count = 1 if axis is None else shape[axis]
            scale = rng.uniform(0.01, 0.02, count).astype(dtype)
            spread = [1] * len(shape) if axis is None else [count if a == axis else 1 for a in range(len(shape))]
            yield np.asarray(steps.astype(dtype) * scale.reshape(spread))


def widened(array: Array, dtype: np.dtype[Any]) -> Array:
    """The same numbers in a wider type, NaNs made zero."""
    with np.errstate(invalid="ignore"):  # signalling NaNs
        numbers: Array = np.where(np.isnan(array), array.dtype.type(0), array).astype(dtype)
    return numbers


# How many of the tensors each encoding takes, at the least.
FEWEST: Final = {
    "codebook": 60,
    "grid": 40,
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
    return encoding.name not in ("sparse", "grid") or dtype != BFLOAT16


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
    return [opset for opset in OPSETS if opset >= least]


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


@pytest.mark.parametrize("dtype", [dtype for dtype in DTYPES if dtype != BFLOAT16], ids=str)
@pytest.mark.parametrize("encoding", ENCODINGS, ids=NAMES)
def test_the_reference_decodes_exactly(encoding: Encoding, dtype: np.dtype[Any]) -> None:
    cases = encoded_by(encoding, dtype)
    for opset in supported(encoding, dtype):
        found: Any = ReferenceEvaluator(decoding_model(cases, opset)).run(None, {})
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

Draw: TypeAlias = Callable[..., Array]


def few(*shape: int, entries: int = 16, seed: int = 0) -> Array:
    """Weights with few distinct values."""
    rng = np.random.default_rng(seed)
    values = (0.1 * rng.standard_normal(entries)).astype(np.float32)
    values[0] = 0.0
    array: Array = values[rng.integers(0, entries, shape)]
    return array


def skewed(*shape: int, seed: int = 0) -> Array:
    """Weights of which most are zero or near it."""
    array: Array = np.round(np.random.default_rng(seed).laplace(size=shape)).astype(np.float32) / 16
    return array


def pruned(*shape: int, seed: int = 0) -> Array:
    """Weights of which one in twelve is left, each with a value of its own."""
    rng = np.random.default_rng(seed)
    array: Array = np.where(rng.random(shape) < 1 / 12, rng.standard_normal(shape), 0).astype(np.float32)
    return array


@dataclass(frozen=True)
class Case:
    """A model, what to feed it, and which of its constants are weights to be encoded."""

    model: onnx.ModelProto
    feeds: dict[str, Array]
    encoded: set[str]


def one_operator(
    op_type: str, constants: dict[str, Array], x: Array, y: list[int | str], encoded: set[str], **attributes: Any
) -> Callable[[int, int], Case]:
    """x -> operator -> y; what is left out among the inputs is the empty string."""

    def make(opset: int, ir_version: int) -> Case:
        inputs = list(constants)
        at = inputs.index("indices") if "indices" in inputs else 0
        if op_type == "Gather":
            node = helper.make_node(op_type, [inputs[0], "x"], ["y"], **attributes)
        else:
            node = helper.make_node(op_type, ["x", *inputs[at:]], ["y"], **attributes)
        held = {name: array for name, array in constants.items() if array.size}
        model = model_of([node], held, {"x": list(x.shape)}, {"y": y}, opset=opset, ir_version=ir_version)
        if x.dtype == np.int64:
            model.graph.input[0].type.tensor_type.elem_type = TensorProto.INT64
        if ir_version < 4:
            model.graph.input.extend(
                helper.make_tensor_value_info(name, TensorProto.FLOAT, array.shape) for name, array in held.items()
            )
        return Case(model, {"x": x}, encoded)

    return make


def recurrent(op_type: str, gates: int, hidden: int = 24, draw: Draw = few) -> Callable[[int, int], Case]:
    constants = {
        "W": draw(1, gates * hidden, 20),
        "R": draw(1, gates * hidden, hidden, seed=1),
        "B": normal(1, 2 * gates * hidden),
    }
    y: list[int | str] = [3, 1, 2, hidden]
    return one_operator(op_type, constants, normal(3, 2, 20), y, {"W", "R"}, hidden_size=hidden)


def in_if(opset: int, ir_version: int) -> Case:
    """A weight in each branch and one that both capture from outside."""

    def branch(name: str, seed: int) -> onnx.GraphProto:
        nodes = [
            helper.make_node("MatMul", ["x", "shared"], [f"h{name}"]),
            helper.make_node("MatMul", [f"h{name}", name], [f"y{name}"]),
        ]
        array = few(40, 30, seed=seed)
        if ir_version < 4:
            constant = helper.make_node("Constant", [], [name], value=numpy_helper.from_array(array))
            nodes.insert(0, constant)
        held = [] if ir_version < 4 else [numpy_helper.from_array(array, name)]
        output = helper.make_tensor_value_info(f"y{name}", TensorProto.FLOAT, [2, 30])
        return helper.make_graph(nodes, name, [], [output], held)

    node = helper.make_node("If", ["yes"], ["y"], then_branch=branch("a", 1), else_branch=branch("b", 2))
    shared = few(32, 40)
    model = model_of([node], {"shared": shared}, {"x": [2, 32]}, {"y": [2, 30]}, opset=opset, ir_version=ir_version)
    model.graph.input.append(helper.make_tensor_value_info("yes", TensorProto.BOOL, []))
    if ir_version < 4:
        model.graph.input.append(helper.make_tensor_value_info("shared", TensorProto.FLOAT, shared.shape))
    return Case(model, {"x": normal(2, 32), "yes": np.array(False)}, {"shared", "a", "b"})


def in_loop(opset: int, ir_version: int) -> Case:
    body = helper.make_graph(
        [
            helper.make_node("MatMul", ["h", "W"], ["product"]),
            helper.make_node("Tanh", ["product"], ["next"]),
            helper.make_node("Identity", ["more"], ["again"]),
        ],
        "body",
        [
            helper.make_tensor_value_info("step", TensorProto.INT64, []),
            helper.make_tensor_value_info("more", TensorProto.BOOL, []),
            helper.make_tensor_value_info("h", TensorProto.FLOAT, [2, 40]),
        ],
        [
            helper.make_tensor_value_info("again", TensorProto.BOOL, []),
            helper.make_tensor_value_info("next", TensorProto.FLOAT, [2, 40]),
        ],
        [numpy_helper.from_array(few(40, 40), "W")] if ir_version >= 4 else [],
    )
    if ir_version < 4:
        value = numpy_helper.from_array(few(40, 40))
        body.node.insert(0, helper.make_node("Constant", [], ["W"], value=value))
    nodes = [
        helper.make_node("Constant", [], ["trips"], value=numpy_helper.from_array(np.array(3))),
        helper.make_node("Loop", ["trips", "", "x"], ["y"], body=body),
    ]
    model = model_of(nodes, {}, {"x": [2, 40]}, {"y": [2, 40]}, opset=opset, ir_version=ir_version)
    return Case(model, {"x": normal(2, 40)}, {"W"})


def in_function(opset: int, ir_version: int) -> Case:
    value = numpy_helper.from_array(few(40, 40))
    function = helper.make_function(
        "local",
        "Dense",
        ["a"],
        ["b"],
        [helper.make_node("Constant", [], ["W"], value=value), helper.make_node("MatMul", ["a", "W"], ["b"])],
        [helper.make_opsetid("", opset)],
    )
    nodes = [helper.make_node("Dense", [a], [b], domain="local") for a, b in (("x", "h"), ("h", "y"))]
    model = model_of(nodes, {}, {"x": [2, 40]}, {"y": [2, 40]}, opset=opset, ir_version=ir_version)
    model.opset_import.add(domain="local", version=1)
    model.functions.append(function)
    return Case(model, {"x": normal(2, 40)}, {"W"})


def in_constant_node(opset: int, ir_version: int) -> Case:
    value = numpy_helper.from_array(few(40, 40))
    nodes = [helper.make_node("Constant", [], ["W"], value=value), helper.make_node("MatMul", ["x", "W"], ["y"])]
    model = model_of(nodes, {}, {"x": [2, 40]}, {"y": [2, 40]}, opset=opset, ir_version=ir_version)
    return Case(model, {"x": normal(2, 40)}, {"W"})


CONSUMERS: Final[dict[str, Callable[[int, int], Case]]] = {
    "Conv": one_operator("Conv", {"W": few(16, 8, 3, 3), "B": normal(16)}, normal(1, 8, 6, 6), [1, 16, 4, 4], {"W"}),
    "Conv, groups": one_operator("Conv", {"W": few(32, 4, 3, 3)}, normal(1, 8, 6, 6), [1, 32, 4, 4], {"W"}, group=2),
    "ConvTranspose": one_operator("ConvTranspose", {"W": few(8, 16, 3, 3)}, normal(1, 8, 4, 4), [1, 16, 6, 6], {"W"}),
    "Gemm": one_operator("Gemm", {"W": few(40, 30), "B": normal(30)}, normal(2, 40), [2, 30], {"W"}),
    "Gemm, transB": one_operator("Gemm", {"W": few(30, 40), "B": normal(30)}, normal(2, 40), [2, 30], {"W"}, transB=1),
    "MatMul": one_operator("MatMul", {"W": few(40, 30)}, normal(2, 40), [2, 30], {"W"}),
    "MatMul, batch": one_operator("MatMul", {"W": few(3, 20, 30)}, normal(3, 2, 20), [3, 2, 30], {"W"}),
    "MatMul, 1 bit": one_operator("MatMul", {"W": few(80, 70, entries=2)}, normal(2, 80), [2, 70], {"W"}),
    "MatMul, 6 bits": one_operator("MatMul", {"W": few(80, 70, entries=64)}, normal(2, 80), [2, 70], {"W"}),
    "MatMul, 7 bits": one_operator("MatMul", {"W": few(99, 71, entries=128)}, normal(2, 99), [2, 71], {"W"}),
    "Gather": one_operator("Gather", {"W": few(50, 30)}, np.array([3, 1, 49]), [3, 30], {"W"}),
    "LSTM": recurrent("LSTM", 4),
    "GRU": recurrent("GRU", 3),
    "RNN": recurrent("RNN", 1),
    "If": in_if,
    "Loop": in_loop,
    "function": in_function,
    "Constant": in_constant_node,
}
# With weights that are large enough for the functions which decode streams.
LARGE: Final[dict[str, Callable[[int, int], Case]]] = {
    "Conv": one_operator("Conv", {"W": skewed(64, 70, 3, 3)}, normal(1, 70, 6, 6), [1, 64, 4, 4], {"W"}),
    "ConvTranspose": one_operator(
        "ConvTranspose", {"W": pruned(70, 64, 3, 3)}, normal(1, 70, 3, 3), [1, 64, 5, 5], {"W"}
    ),
    "Gemm": one_operator("Gemm", {"W": skewed(300, 130)}, normal(2, 300), [2, 130], {"W"}, transB=0),
    "MatMul": one_operator("MatMul", {"W": pruned(400, 300)}, normal(2, 400), [2, 300], {"W"}),
    "MatMul, batch": one_operator("MatMul", {"W": skewed(3, 200, 130)}, normal(3, 2, 200), [3, 2, 130], {"W"}),
    "Gather": one_operator("Gather", {"W": skewed(1111, 50)}, np.array([3, 1, 49]), [3, 50], {"W"}),
    "LSTM": recurrent("LSTM", 4, 110, skewed),
    "GRU": recurrent("GRU", 3, 200, pruned),
    "RNN": recurrent("RNN", 1, 300, skewed),
}
VERSIONS: Final = [(9, 3), (9, 4), (11, 6), (13, 7), (18, 8), (21, 10)]


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
    assert {item.encoding for item in stored} & {"huffman", "sparse"}


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
