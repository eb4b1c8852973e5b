"""Weights behind a DequantizeLinear: who gets this form, and that it decodes bit for bit and runs on few bits."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

import numpy as np
import onnx
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from onnx import helper
from onnx.reference import ReferenceEvaluator

from graphshrink.encodings import Storage, Stored, encode_graph, lift
from graphshrink.encodings.base import Builder, FreshNames
from graphshrink.encodings.quantised import QuantisedEncoded, quantise
from graphshrink.ir import edit
from graphshrink.ir.compare import difference
from graphshrink.ir.graph import Graph
from graphshrink.ir.types import Array
from graphshrink.ir.weight import weights
from graphshrink.onnx_io.emit import emit
from graphshrink.onnx_io.load import load, load_as_stored
from graphshrink.ops import why_not_a_weight
from tests.marks import few_bit_kernels
from tests.models import model_of, normal
from tests.runners import OPTIMISED, operators_left, run

pytestmark = few_bit_kernels

INPUTS: Final = 600  # not whole blocks
OUTPUTS: Final = 520
_KERNEL_ERROR: Final = 0.02  # inputs are rounded to 8 bits: 0.6 % for one operator


def grid(low: int, high: int, shape: tuple[int, int], axis: int | None, seed: int = 0) -> Array:
    """Whole multiples of a scale, or of one for each index along an axis."""
    rng = np.random.default_rng(seed)
    steps = rng.integers(low, high, shape, endpoint=True).astype(np.float32)
    scale = rng.uniform(0.01, 0.02, 1 if axis is None else shape[axis]).astype(np.float32)
    return np.asarray(steps * (scale[:, None] if axis == 0 else scale))


def product(
    weight: Array, *, opset: int = 21, ir_version: int = 10, op_type: str = "MatMul", **attributes: Any
) -> onnx.ModelProto:
    """x -> MatMul or Gemm with w -> y."""
    inputs, outputs = weight.shape[::-1] if attributes.get("transB") else weight.shape
    nodes = [helper.make_node(op_type, ["x", "w"], ["y"], **attributes)]
    return model_of(nodes, {"w": weight}, {"x": [3, inputs]}, {"y": [3, outputs]}, opset=opset, ir_version=ir_version)


def encoded(model: onnx.ModelProto) -> tuple[Graph, list[Stored]]:
    graph = load(model)
    chosen = [weight for weight in weights(graph) if why_not_a_weight(weight) is None]
    return graph, encode_graph(graph, chosen, Storage("quantised"))


def form_of(model: onnx.ModelProto) -> QuantisedEncoded | None:
    graph = load(model)
    [weight] = [weight for weight in weights(graph) if weight.name == "w"]
    return quantise(weight, graph.opset)


def far(found: Array, wanted: Array) -> float:
    return float(np.linalg.norm(found - wanted) / np.linalg.norm(wanted))


CASES: Final[dict[str, tuple[onnx.ModelProto, str, int]]] = {
    "4 bits": (product(grid(-8, 7, (INPUTS, OUTPUTS), 1)), "int4", 128),
    "4 bits, zero points": (product(grid(-2, 12, (INPUTS, OUTPUTS), 1)), "int4", 128),
    "8 bits, one scale": (product(grid(-128, 127, (INPUTS, OUTPUTS), None)), "int8", 128),
    "8 bits, zero points": (product(grid(-30, 220, (INPUTS, OUTPUTS), 1)), "int8", 128),
    "Gemm": (product(grid(-8, 7, (INPUTS, OUTPUTS), 1), op_type="Gemm"), "int4", 128),
    "Gemm, transB": (product(grid(-8, 7, (OUTPUTS, INPUTS), 0), op_type="Gemm", transB=1), "int4", 128),
    "opset 13": (product(grid(-8, 7, (INPUTS, OUTPUTS), 1), opset=13, ir_version=8), "int8", 0),
    "opset 13, one scale": (product(grid(-99, 9, (INPUTS, OUTPUTS), None), opset=13, ir_version=8), "int8", 0),
    "opset 18, transB": (
        product(grid(-30, 220, (OUTPUTS, INPUTS), 0), opset=18, ir_version=8, op_type="Gemm", transB=1),
        "int8",
        0,
    ),
    "IR version 3": (product(grid(-128, 127, (INPUTS, OUTPUTS), 1), opset=13, ir_version=3), "int8", 0),
}


@pytest.mark.parametrize("name", CASES)
def test_kernels_of_few_bits_multiply(name: str, tmp_path: Path) -> None:
    model, dtype, block = CASES[name]
    form = form_of(model)
    assert form is not None
    assert (str(form.codes.dtype), form.block) == (dtype, block)
    graph, [stored] = encoded(model)
    small = emit(graph)
    onnx.checker.check_model(small, full_check=True)
    assert stored.encoding == "quantised"
    assert small.ByteSize() < model.ByteSize() * (0.3 if dtype == "int8" else 0.15)

    feeds = {"x": normal(3, INPUTS)}
    wanted = run(model, feeds, optimised=False)["y"]
    assert far(run(small, feeds, optimised=False)["y"], wanted) < 1e-6  # sums in another order
    assert far(run(small, feeds, optimised=True)["y"], wanted) < _KERNEL_ERROR
    assert operators_left(small, tmp_path)["MatMulNBits"] == 1
    assert sum(operators_left(small, tmp_path).values()) == 1


@pytest.mark.parametrize("name", CASES)
def test_it_is_lifted(name: str) -> None:
    model, _, _ = CASES[name]
    graph, _ = encoded(model)
    small = emit(graph)
    [lifted] = lift(load_as_stored(small))
    assert lifted.encoding == "quantised"
    assert difference(load(model), load(small)) is None
    again, _ = encoded(small)
    assert emit(again).SerializeToString() == small.SerializeToString()


# ---- everything else is left to the other encodings

PLAIN: Final[Mapping[str, onnx.ModelProto]] = {
    "on no grid": product(normal(INPUTS, OUTPUTS)),
    "other axis": product(grid(-8, 7, (INPUTS, OUTPUTS), 0)),
    "few inputs": product(grid(-8, 7, (511, OUTPUTS), 1)),
    "few outputs": product(grid(-8, 7, (INPUTS, 255), 1)),
    "few outputs, opset 13": product(grid(-8, 7, (INPUTS, 511), 1), opset=13),
    "opset 12": product(grid(-8, 7, (INPUTS, OUTPUTS), 1), opset=12),
    "too wide": product(grid(-200, 200, (INPUTS, OUTPUTS), 1)),
    "alpha": product(grid(-8, 7, (INPUTS, OUTPUTS), 1), op_type="Gemm", alpha=0.5),
    "beta": product(grid(-8, 7, (INPUTS, OUTPUTS), 1), op_type="Gemm", beta=2.0),
    "float64": product(grid(-8, 7, (INPUTS, OUTPUTS), 1).astype(np.float64)),
}


@pytest.mark.parametrize("name", PLAIN)
def test_not_where_it_would_not_be_fast(name: str) -> None:
    assert form_of(PLAIN[name]) is None


def test_ones_for_alpha_and_beta_change_nothing() -> None:
    assert form_of(product(grid(-8, 7, (INPUTS, OUTPUTS), 1), op_type="Gemm", alpha=1.0, beta=1.0)) is not None


def test_a_weight_with_another_use_is_left_to_others() -> None:
    model = product(grid(-8, 7, (INPUTS, INPUTS), 1))
    assert form_of(model) is not None
    model.graph.node.append(helper.make_node("MatMul", ["y", "w"], ["z"]))
    assert form_of(model) is None


def test_a_left_factor_is_left_to_others() -> None:
    weight = grid(-8, 7, (INPUTS, OUTPUTS), 1)
    nodes = [helper.make_node("MatMul", ["w", "x"], ["y"])]
    assert form_of(model_of(nodes, {"w": weight}, {"x": [OUTPUTS, 3]}, {"y": [INPUTS, 3]}, opset=21)) is None


@pytest.mark.parametrize("activation", ["Relu", "Clip"])
@pytest.mark.parametrize("between", [[], ["Add"], ["Identity", "Add", "Dropout"], ["Add", "Identity"]])
def test_an_activation_that_is_joined_to_the_product_keeps_it_from_the_kernel(
    activation: str, between: list[str]
) -> None:
    def model(*follow: str) -> onnx.ModelProto:
        weight = grid(-8, 7, (INPUTS, INPUTS), 1)
        chain = ["MatMul", *follow, "MatMul"]
        nodes = [
            helper.make_node(op, [f"v{i}", *({"MatMul": [f"w{i}"], "Add": ["b"]}.get(op, []))], [f"v{i + 1}"])
            for i, op in enumerate(chain)
        ]
        constants = {"b": normal(INPUTS), "w0": weight, f"w{len(chain) - 1}": weight}
        shape: dict[str, list[int | str]] = {"v0": [3, INPUTS]}
        return model_of(nodes, constants, shape, {f"v{len(chain)}": [3, INPUTS]}, opset=21, ir_version=10)

    kinds = [item.encoding == "quantised" for item in encoded(model(*between, activation))[1]]
    assert kinds == [False, True]
    kinds = [item.encoding == "quantised" for item in encoded(model(*between, "Tanh", activation))[1]]
    assert kinds == [True, True]


def test_weights_without_a_kernel_decode_when_the_model_is_loaded(tmp_path: Path) -> None:
    weight = grid(-128, 127, (500, 40), 1)
    nodes = [helper.make_node("Gather", ["w", "i"], ["y"])]
    model = model_of(nodes, {"w": weight}, {}, {"y": [3, 40]}, opset=21, ir_version=10)
    model.graph.input.append(helper.make_tensor_value_info("i", onnx.TensorProto.INT64, [3]))
    graph, [stored] = encoded(model)
    assert stored.encoding == "grid"
    assert operators_left(emit(graph), tmp_path) == operators_left(model, tmp_path)
    for optimised in OPTIMISED:
        found = run(emit(graph), {"i": np.array([1, 499, 7])}, optimised=optimised)["y"]
        np.testing.assert_array_equal(found, weight[[1, 499, 7]])


# ---- any grid


@st.composite
def forms(draw: st.DrawFn) -> tuple[Array, QuantisedEncoded]:
    low = draw(st.integers(-130, 127))
    high = draw(st.integers(low, min(127, low + 255)))
    axis = draw(st.sampled_from([None, 1]))
    inputs, outputs = draw(st.integers(512, 700)), draw(st.integers(512, 530))
    weight = grid(low, high, (inputs, outputs), axis, seed=draw(st.integers(0, 2**32)))
    weight[:, 0] = 0
    transposed = draw(st.booleans())
    if transposed:
        model = product(np.ascontiguousarray(weight.T), op_type="Gemm", transB=1, opset=draw(st.sampled_from([13, 21])))
    else:
        model = product(weight, opset=draw(st.sampled_from([13, 18, 21])))
    form = form_of(model)
    assert form is not None
    return np.ascontiguousarray(weight.T) if transposed else weight, form


@settings(max_examples=25, deadline=None)
@given(forms())
def test_everybody_decodes_exactly(case: tuple[Array, QuantisedEncoded]) -> None:
    weight, form = case
    assert form.decode().tobytes() == weight.tobytes()
    builder = Builder(FreshNames(), 21, constants_inline=True)
    form.emit(builder, "w")
    model = decoding(builder, weight)
    reference: Any = ReferenceEvaluator(model).run(None, {})
    for found in (*reference, *(run(model, {}, optimised=optimised)["w"] for optimised in OPTIMISED)):
        assert (found.dtype, found.shape, found.tobytes()) == (weight.dtype, weight.shape, weight.tobytes())


def decoding(builder: Builder, weight: Array) -> onnx.ModelProto:
    """A model that does nothing but decode."""
    model = model_of([], {}, {}, {"w": list(weight.shape)}, opset=21, ir_version=10)
    graph = load_as_stored(model)
    edit.add_operators(graph, builder.operators, 0)
    return emit(graph)


# ---- other people's DequantizeLinear


@pytest.mark.parametrize(
    ("inputs", "attributes"),
    [
        (["q", "s1", "z1"], {"axis": 1}),  # uint8
        (["c", "s1", "z1"], {"axis": 1}),  # zero points of another type
        (["c", "s1", "c0"], {"axis": 1}),  # or of another shape
        (["c", "s1"], {"axis": 0}),
        (["c", "s1"], {"axis": -1}),
        (["c", "s1"], {"axis": 7}),
        (["c", "s2"], {"axis": 0, "block_size": 5}),
        (["c", "s2"], {"axis": 0, "block_size": -2}),
        (["c", "s2"], {"axis": 0}),
        (["c", "half"], {"axis": 1}),
        (["c", "s1"], {"axis": 1, "output_dtype": onnx.TensorProto.FLOAT}),
    ],
)
def test_forms_that_we_do_not_write_stay(inputs: list[str], attributes: dict[str, Any]) -> None:
    constants: dict[str, Array] = {
        "q": np.zeros((4, 6), np.uint8),
        "z1": np.zeros(6, np.uint8),
        "c": np.zeros((4, 6), np.int8),
        "c0": np.zeros((), np.int8),
        "s1": np.ones(6, np.float32),
        "s2": np.ones((2, 6), np.float32),
        "half": np.ones(6, np.float16),
    }
    nodes = [
        helper.make_node("DequantizeLinear", inputs, ["w"], name="gs:quantised/gs1", **attributes),
        helper.make_node("Identity", ["w"], ["y"]),
    ]
    model = load_as_stored(model_of(nodes, constants, {}, {"y": []}, opset=21))
    before = emit(model).SerializeToString()
    assert lift(model) == []
    assert emit(model).SerializeToString() == before


def test_a_block_may_be_longer_than_the_weight() -> None:
    """What it claims costs no memory."""
    constants: dict[str, Array] = {"c": np.full((4, 6), 2, np.int8), "s": np.full((1, 6), 0.5, np.float32)}
    nodes = [
        helper.make_node("DequantizeLinear", ["c", "s"], ["w"], name="gs:quantised/gs1", axis=0, block_size=1 << 40),
        helper.make_node("Identity", ["w"], ["y"]),
    ]
    [weight] = weights(load(model_of(nodes, constants, {}, {"y": []}, opset=21)))
    np.testing.assert_array_equal(weight.array, np.ones((4, 6), np.float32))
