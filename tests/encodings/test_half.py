"""Weights that a shorter type holds: which ones, in which type, and that every bit comes back from everybody."""

from importlib import import_module
from typing import Any, Final

import numpy as np
import onnx
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as npst
from onnx import TensorProto, helper, numpy_helper
from onnx.reference import ReferenceEvaluator

from graphshrink.encodings import Storage, encode_graph, lift
from graphshrink.encodings.half import Half, HalfBfloat16
from graphshrink.ir.tensor import ELEM_TYPES
from graphshrink.ir.types import Array
from graphshrink.ir.weight import weights
from graphshrink.onnx_io.emit import emit
from graphshrink.onnx_io.load import load, load_as_stored
from tests.models import model_of, normal
from tests.runners import OPTIMISED, newest_opset, run

BFLOAT16: Final = np.dtype(import_module("ml_dtypes").bfloat16)
HALF: Final = np.dtype(np.float16)
FLOAT: Final = np.dtype(np.float32)
DOUBLE: Final = np.dtype(np.float64)
ENCODINGS: Final = (Half(), HalfBfloat16())
PAIRS: Final = [(HALF, FLOAT), (HALF, DOUBLE), (BFLOAT16, FLOAT), (BFLOAT16, DOUBLE)]
UNSIGNED: Final[dict[int, Any]] = {2: np.uint16, 4: np.uint32, 8: np.uint64}


def every(short: np.dtype[Any], wide: np.dtype[Any]) -> Array:
    """Every number of a 16-bit type in a wider one: zeros, subnormals and infinities too, but no NaN."""
    with np.errstate(invalid="ignore"):
        numbers = np.arange(1 << 16, dtype=np.uint16).view(short).astype(wide)
    found: Array = numbers[~np.isnan(numbers)]
    return found


def same_bits(a: Array, b: Array) -> bool:
    return (a.dtype, a.shape, a.tobytes()) == (b.dtype, b.shape, b.tobytes())


def identity(array: Array, opset: int) -> onnx.ModelProto:
    """A model that gives out its only weight."""
    elem_type = ELEM_TYPES[array.dtype]
    graph = helper.make_graph(
        [helper.make_node("Identity", ["w"], ["y"])],
        "g",
        [],
        [helper.make_tensor_value_info("y", elem_type, array.shape)],
        [numpy_helper.from_array(array, "w")],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)], ir_version=8)


def stored_as(array: Array) -> np.dtype[Any] | None:
    """The type in which a tensor is stored, None for its own."""
    found = [encoded for encoding in ENCODINGS if (encoded := encoding.encode(array)) is not None]
    return found[0].stored.dtype if found else None


# ---- what applies


@pytest.mark.parametrize(("short", "wide"), PAIRS)
def test_every_number_of_a_short_type(short: np.dtype[Any], wide: np.dtype[Any]) -> None:
    numbers = every(short, wide)
    encoding = ENCODINGS[short == BFLOAT16]
    encoded = encoding.encode(numbers)
    assert encoded is not None
    assert encoded.stored.dtype == short
    assert same_bits(encoded.decode(), numbers)


def test_doubles_that_are_floats() -> None:
    numbers = normal(50, 70).astype(np.float64)
    numbers[0, :4] = np.array([1e-45, -0.0, np.inf, 3e38], np.float32)
    encoded = Half().encode(numbers)
    assert encoded is not None
    assert encoded.stored.dtype == FLOAT
    assert same_bits(encoded.decode(), numbers)


@pytest.mark.parametrize("wide", [FLOAT, DOUBLE])
@pytest.mark.parametrize("place", [0, 4095, 4096, 299_999])
@pytest.mark.parametrize("value", [np.nan, -np.nan, 1 + 2**-20, 1e9 + 64, -1e-12])
def test_one_number_that_needs_its_bits(wide: np.dtype[Any], place: int, value: float) -> None:
    numbers = np.resize(every(HALF, FLOAT), 300_000).astype(wide)
    numbers[place] = value
    assert stored_as(numbers) == (FLOAT if wide == DOUBLE and np.float64(np.float32(value)) == value else None)


def test_one_number_that_overflows() -> None:
    numbers = np.ones(1000, np.float32)
    numbers[7] = 65520.0  # rounds to infinity in float16
    assert stored_as(numbers) is None
    numbers[7] = 65536.0
    assert stored_as(numbers) == BFLOAT16


@pytest.mark.parametrize("payload", [0x7FC00000, 0xFFC00000, 0x7F802000, 0x7FC00001, 0xFF800001])
def test_no_nan_of_any_kind(payload: int) -> None:
    numbers = np.ones(1000, np.float32)
    numbers[-1] = np.array([payload], np.uint32).view(np.float32)[0]
    assert stored_as(numbers) is None


@pytest.mark.parametrize("dtype", [np.float16, BFLOAT16, np.int64, np.uint8, np.bool_, np.complex64, np.dtype("O")])
def test_other_types_stay(dtype: Any) -> None:
    assert stored_as(np.ones(1000).astype(dtype)) is None


@pytest.mark.parametrize(("size", "wide", "gains"), [(20, FLOAT, False), (21, FLOAT, True), (7, DOUBLE, True)])
def test_what_cannot_gain_stays(size: int, wide: np.dtype[Any], gains: bool) -> None:
    assert (stored_as(np.ones(size, wide)) is not None) == gains


# ---- in files


@pytest.mark.parametrize(("short", "wide"), PAIRS)
@pytest.mark.parametrize("opset", [9, 13, 21, newest_opset()])
def test_every_runtime_widens_exactly(short: np.dtype[Any], wide: np.dtype[Any], opset: int) -> None:
    numbers = every(short, wide)
    graph = load(identity(numbers, opset))
    [stored] = encode_graph(graph, weights(graph), Storage())
    if opset < 13 and short == BFLOAT16:  # operators take it from opset 13 on
        assert stored.encoding == ("plain" if wide == FLOAT else "half")
        return
    assert stored.encoding == ENCODINGS[short == BFLOAT16].name
    assert stored.stored_bytes < 0.51 * stored.plain_bytes
    model = emit(graph)
    onnx.checker.check_model(model, full_check=True)
    for optimised in OPTIMISED:
        assert same_bits(run(model, {}, optimised=optimised)["y"], numbers)
    reference: Any = ReferenceEvaluator(model).run(None, {})
    assert same_bits(np.asarray(reference[0]), numbers)
    [weight] = weights(load(model))
    assert same_bits(weight.array, numbers)


@st.composite
def arrays(draw: st.DrawFn) -> Array:
    """Mostly numbers that some shorter type holds; scalars, empty ones, and any bits now and then."""
    wide = draw(st.sampled_from([FLOAT, DOUBLE]))
    shape = draw(npst.array_shapes(min_dims=0, max_dims=4, min_side=0, max_side=9))
    short = draw(st.sampled_from([HALF, BFLOAT16, FLOAT, wide]))
    rng = np.random.default_rng(draw(st.integers(0, 2**32)))
    unsigned = UNSIGNED[short.itemsize]
    bits = rng.integers(0, np.iinfo(unsigned).max, shape, dtype=unsigned, endpoint=True)
    with np.errstate(invalid="ignore"):
        array: Array = np.asarray(bits).view(short).astype(wide)
        if draw(st.integers(0, 4)):
            array[np.isnan(array)] = -0.0
    return array


@settings(max_examples=200, deadline=None)
@given(arrays(), st.sampled_from([9, 13, 21]))
def test_any_weight_comes_back(array: Array, opset: int) -> None:
    model = identity(array, opset)
    graph = load(model)
    [stored] = encode_graph(graph, weights(graph), Storage())
    written = emit(graph)
    assert (written.ByteSize() < model.ByteSize()) == (stored.encoding != "plain")
    [weight] = weights(load(written))
    assert same_bits(weight.array, array)
    if stored.encoding != "plain":
        for optimised in OPTIMISED:
            assert same_bits(run(written, {}, optimised=optimised)["y"], array)


# ---- what is read back, and what is not


def marked_cast(array: Array, to: int) -> onnx.ModelProto:
    nodes = [
        helper.make_node("Cast", ["stored"], ["w"], to=to, name="gs:half/gs1"),
        helper.make_node("Identity", ["w"], ["y"]),
    ]
    model = model_of(nodes, {"stored": array}, {}, {"y": list(array.shape)})
    model.graph.output[0].type.tensor_type.elem_type = to
    return model


@pytest.mark.parametrize("short", [HALF, BFLOAT16])
@pytest.mark.parametrize("to", [TensorProto.FLOAT, TensorProto.DOUBLE])
def test_a_marked_cast_is_read_back(short: np.dtype[Any], to: int) -> None:
    graph = load_as_stored(marked_cast(every(short, FLOAT).astype(short), to))
    assert [item.name for item in lift(graph)] == ["w"]


@pytest.mark.parametrize(
    ("array", "to"),
    [
        (np.array([1, np.nan], np.float16), TensorProto.FLOAT),  # runtimes differ in what becomes of a NaN
        (np.ones(2, np.float32), TensorProto.FLOAT16),
        (np.ones(2, np.float64), TensorProto.FLOAT),
        (np.ones(2, np.float16), TensorProto.INT32),
        (np.ones(2, np.int8), TensorProto.FLOAT),
        (np.ones(2, np.uint8), TensorProto.FLOAT),
        (np.ones(2, np.float16), 1000),
    ],
)
def test_a_marked_cast_of_another_form_stays(array: Array, to: int) -> None:
    graph = load_as_stored(marked_cast(array, to))
    assert lift(graph) == []
    assert [operator.op_type for _, operator in graph.operators()] == ["Cast", "Identity"]
