"""Weights that repeat others: which are found, what is written for them, and that they come back as they were."""

from collections.abc import Callable
from pathlib import Path
from typing import Any, Final

import ml_dtypes
import numpy as np
import onnx
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as npst
from onnx import TensorProto, helper, numpy_helper
from onnx.reference import ReferenceEvaluator

from graphshrink.encodings import Policy, Storage, Stored, encode_graph
from graphshrink.ir.compare import difference
from graphshrink.ir.tensor import ELEM_TYPES
from graphshrink.ir.types import Array
from graphshrink.ir.weight import weights
from graphshrink.onnx_io.emit import emit
from graphshrink.onnx_io.load import load
from graphshrink.ops import why_not_a_weight
from tests.models import model_of, normal
from tests.runners import OPTIMISED, newest_opset, operators_left, run

BFLOAT16: Final = np.dtype(ml_dtypes.bfloat16)
UNSIGNED: Final[dict[int, Any]] = {2: np.uint16, 4: np.uint32, 8: np.uint64}


def few(*shape: int, seed: int = 0) -> Array:
    """Sixteen distinct values."""
    rng = np.random.default_rng(seed)
    array: Array = rng.standard_normal(16).astype(np.float32)[rng.integers(0, 16, shape)]
    return array


DENSE: Final = normal(64, 64)
FEW: Final = few(64, 64)
ONE_BIT: Final = np.tile(np.array([[1], [2]], np.float32), (32, 4096))


def chain(*arrays: Array, opset: int = 13, ir_version: int = 8) -> onnx.ModelProto:
    """x -> MatMul w0 -> MatMul w1 -> ... -> y, with initializers."""
    names = ["x", *(f"h{i}" for i in range(1, len(arrays))), "y"]
    nodes = [helper.make_node("MatMul", [names[i], f"w{i}"], [names[i + 1]]) for i in range(len(arrays))]
    held = {f"w{i}": array for i, array in enumerate(arrays)}
    inputs: dict[str, list[int | str]] = {"x": [2, arrays[0].shape[0]]}
    if ir_version < 4:
        inputs |= {name: list(array.shape) for name, array in held.items()}
    return model_of(nodes, held, inputs, {"y": [2, arrays[-1].shape[1]]}, opset=opset, ir_version=ir_version)


def as_constants(model: onnx.ModelProto) -> onnx.ModelProto:
    """The same with Constant operators instead of initializers."""
    held = [helper.make_node("Constant", [], [t.name], value=t) for t in model.graph.initializer]
    nodes = [*held, *model.graph.node]
    del model.graph.node[:], model.graph.initializer[:]
    model.graph.node.extend(nodes)
    return model


def in_function(model: onnx.ModelProto) -> onnx.ModelProto:
    """The same inside a local function."""
    inner = as_constants(model)
    opset = helper.make_opsetid("", model.opset_import[0].version)
    inner.functions.append(helper.make_function("local", "All", ["x"], ["y"], list(inner.graph.node), [opset]))
    del inner.graph.node[:]
    inner.graph.node.append(helper.make_node("All", ["x"], ["y"], domain="local"))
    inner.opset_import.add(domain="local", version=1)
    return inner


def in_branch(model: onnx.ModelProto) -> onnx.ModelProto:
    """The same inside the body of an If; the other branch holds the same weights once more."""
    bodies: list[onnx.GraphProto] = []
    for name in ("a", "b"):
        body = onnx.GraphProto(name=name, node=model.graph.node, initializer=model.graph.initializer)
        body.node[-1].output[0] = f"y{name}"
        body.output.add(name=f"y{name}", type=model.graph.output[0].type)
        bodies.append(body)
    del model.graph.node[:], model.graph.initializer[:]
    model.graph.node.append(helper.make_node("If", ["yes"], ["y"], then_branch=bodies[0], else_branch=bodies[1]))
    model.graph.input.append(helper.make_tensor_value_info("yes", TensorProto.BOOL, []))
    return model


def encoded(model: onnx.ModelProto, policy: Policy = "fast") -> tuple[onnx.ModelProto, dict[str, Stored]]:
    graph = load(model)
    stored = encode_graph(graph, [w for w in weights(graph) if why_not_a_weight(w) is None], Storage(policy))
    return emit(graph), {item.label: item for item in stored}


def encodings_of(model: onnx.ModelProto, policy: Policy = "fast") -> dict[str, str]:
    return {label: item.encoding for label, item in encoded(model, policy)[1].items()}


def bytes_of(model: onnx.ModelProto) -> bytes:
    return model.SerializeToString(deterministic=True)


# ---- what is found


def test_the_first_is_stored_in_its_own_way() -> None:
    dense, sixteen = normal(64, 64), few(64, 64)
    found = encodings_of(chain(dense, sixteen, dense, sixteen, normal(64, 64, seed=1), dense))
    assert list(found.values()) == ["plain", "codebook", "shared", "shared", "plain", "shared"]


def test_other_shapes_with_the_same_elements() -> None:
    dense = normal(64, 256)
    found = encodings_of(chain(dense, dense.reshape(256, 64), dense))
    assert list(found.values()) == ["plain", "shared", "shared"]


def test_bits_count_and_not_values() -> None:
    array = normal(64, 64)
    array[-1, -1] = 0.0
    negative = array.copy()
    negative[-1, -1] = -0.0
    assert set(encodings_of(chain(array, negative)).values()) == {"plain"}
    other = array.view(np.int32).copy()
    model = chain(array, array)
    model.graph.initializer[1].CopyFrom(numpy_helper.from_array(other, "w1"))  # the same bits, but whole numbers
    assert encodings_of(model) == {"w0": "plain"}


def test_what_is_too_small_to_gain_stays() -> None:
    assert set(encodings_of(chain(normal(3, 3), normal(3, 3))).values()) == {"plain"}
    assert set(encodings_of(chain(normal(64, 64), normal(64, 64)), "plain").values()) == {"plain"}
    assert set(encodings_of(chain(normal(64, 64), normal(64, 64), opset=8)).values()) == {"plain"}


def test_one_stands_for_all_and_costs_little() -> None:
    model = chain(*[normal(64, 64)] * 12)
    small, stored = encoded(model)
    plain = stored["w0"].plain_bytes
    assert small.ByteSize() < model.ByteSize() - 11 * (plain - 100)
    assert all(stored[f"w{i}"].stored_bytes < 100 for i in range(1, 12))


def test_outputs_and_what_may_be_overridden_stay() -> None:
    """Neither are they encoded, nor does anything refer to them."""
    model = chain(*[normal(64, 64)] * 4)
    model.graph.input.append(helper.make_tensor_value_info("w0", TensorProto.FLOAT, [64, 64]))
    model.graph.output.append(helper.make_tensor_value_info("w1", TensorProto.FLOAT, [64, 64]))
    small, stored = encoded(model)
    assert {label: item.encoding for label, item in stored.items()} == {"w2": "plain", "w3": "shared"}
    [node] = [node for node in small.graph.node if node.op_type == "Reshape"]
    assert node.input[0] == "w2"
    assert {t.name for t in small.graph.initializer} >= {"w0", "w1", "w2"}


@pytest.mark.parametrize(("array", "most"), [(ONE_BIT, 6), (DENSE, 200)])
def test_no_more_than_a_reader_takes_for_honest(array: Array, most: int) -> None:
    """Whatever one is stored in gives at most 200 times as much; after that the next one is stored in full."""
    held = {f"w{i}": array for i in range(450)}
    nodes = [helper.make_node("MatMul", ["x", name], [f"y{name}"]) for name in held]
    outputs: dict[str, list[int | str]] = {f"y{name}": [1, array.shape[1]] for name in held}
    model = model_of(nodes, dict(held), {"x": [1, array.shape[0]]}, outputs)
    small, stored = encoded(model)
    whole = [label for label, item in stored.items() if item.encoding != "shared"]
    assert whole == [f"w{i}" for i in range(0, 450, most)]
    assert difference(load(model), load(small)) is None
    assert bytes_of(encoded(small)[0]) == bytes_of(small)


def test_every_scope_has_its_own() -> None:
    small, stored = encoded(in_branch(chain(normal(64, 64), normal(64, 64))))
    assert sorted(item.encoding for item in stored.values()) == ["plain", "plain", "shared", "shared"]
    for attribute in small.graph.node[-1].attribute:
        assert [node.op_type for node in attribute.g.node] == ["Reshape", "MatMul", "MatMul"]


def test_an_operator_is_no_place_to_refer_to() -> None:
    """Decode operators come before it; an encoded one is computed by such."""
    for place in (as_constants, in_function):
        assert set(encodings_of(place(chain(normal(64, 64), normal(64, 64)))).values()) == {"plain"}
        found = encodings_of(place(chain(few(64, 64), few(64, 64))))
        assert sorted(found.values()) == ["codebook", "shared"]


# ---- that everything stays as it was

WIDE: Final = (normal(64, 256), normal(256, 64, seed=3), normal(64, 256), few(256, 64), few(64, 256))
TWO_PAIRS: Final = (FEW, FEW, DENSE, DENSE)
CASES: Final[dict[str, tuple[tuple[Array, ...], Callable[[onnx.ModelProto], onnx.ModelProto]]]] = {
    "plain first": ((DENSE, DENSE, DENSE), lambda model: model),
    "encoded first": ((FEW, DENSE, FEW, FEW), lambda model: model),
    "both": (WIDE, lambda model: model),
    "Constant": (TWO_PAIRS, as_constants),
    "function": (TWO_PAIRS, in_function),
    "If": (TWO_PAIRS, in_branch),
}
VERSIONS: Final = [(9, 3), (9, 4), (13, 7), (18, 8), (21, 10)]


@pytest.mark.parametrize(("opset", "ir_version"), VERSIONS)
@pytest.mark.parametrize("name", CASES)
def test_models_compute_the_same(name: str, opset: int, ir_version: int, tmp_path: Path) -> None:
    if (name == "function" and ir_version < 8) or (name in ("If", "Constant") and ir_version < 4):
        pytest.skip("not in files of that age")
    arrays, place = CASES[name]
    model = place(chain(*arrays, opset=opset, ir_version=ir_version))
    onnx.checker.check_model(model, full_check=True)
    small, stored = encoded(model)
    onnx.checker.check_model(small, full_check=True)
    if (name, ir_version) != ("plain first", 3):  # there only what is encoded can be referred to
        assert "shared" in {item.encoding for item in stored.values()}
        assert small.ByteSize() < model.ByteSize() - 60 * 64
    feeds: dict[str, Array] = {"x": normal(2, 64)}
    if name == "If":
        feeds["yes"] = np.array(True)
    for optimised in OPTIMISED:
        wanted = run(model, feeds, optimised=optimised)["y"]
        np.testing.assert_array_equal(run(small, feeds, optimised=optimised)["y"], wanted)
    assert operators_left(small, tmp_path) == operators_left(model, tmp_path)

    back = load(small)
    assert difference(load(model), back) is None
    assert bytes_of(encoded(small)[0]) == bytes_of(small)
    if ir_version >= 4 and name not in ("Constant", "function"):  # where constants are initializers before and after
        assert bytes_of(emit(back)) == bytes_of(emit(load(model)))


def test_what_is_said_of_a_weight_stays_with_it() -> None:
    model = chain(*[normal(64, 64)] * 3)
    model.graph.initializer[1].doc_string = "the second"
    entry = model.graph.initializer[2].metadata_props.add()
    entry.key, entry.value = "from", "a test"
    small, _ = encoded(model)
    assert bytes_of(emit(load(small))) == bytes_of(emit(load(model)))


# ---- any weights at all


@st.composite
def repeated(draw: st.DrawFn) -> list[Array]:
    """Tensors of any bits, some of them twice, some in another shape: scalars, empty ones, NaN payloads."""
    dtypes = [np.dtype(np.float32), np.dtype(np.float16), np.dtype(np.float64), BFLOAT16]
    found: list[Array] = []
    for _ in range(draw(st.integers(1, 3))):
        dtype = draw(st.sampled_from(dtypes))
        shape = draw(npst.array_shapes(min_dims=0, max_dims=3, min_side=0, max_side=12))
        unsigned = UNSIGNED[dtype.itemsize]
        rng = np.random.default_rng(draw(st.integers(0, 2**32)))
        most = draw(st.sampled_from([1, np.iinfo(unsigned).max]))
        array = np.asarray(rng.integers(0, most, shape, dtype=unsigned, endpoint=True)).view(dtype)
        found += [array] * draw(st.integers(1, 3))
        if draw(st.booleans()):
            found.append(array.reshape(array.shape[::-1]))
    return list(draw(st.permutations(found)))


def outputs_of(arrays: list[Array], opset: int) -> onnx.ModelProto:
    """A model that gives all of its weights out, bfloat16 as float32."""
    nodes: list[onnx.NodeProto] = []
    outputs: list[onnx.ValueInfoProto] = []
    for index, array in enumerate(arrays):
        elem_type = ELEM_TYPES[array.dtype]
        if array.dtype == BFLOAT16:
            elem_type = TensorProto.FLOAT
            nodes.append(helper.make_node("Cast", [f"w{index}"], [f"y{index}"], to=elem_type))
        else:
            nodes.append(helper.make_node("Identity", [f"w{index}"], [f"y{index}"]))
        outputs.append(helper.make_tensor_value_info(f"y{index}", elem_type, array.shape))
    held = [
        helper.make_tensor(f"w{i}", ELEM_TYPES[array.dtype], array.shape, array.tobytes(), raw=True)
        for i, array in enumerate(arrays)
    ]
    graph = helper.make_graph(nodes, "g", [], outputs, held)
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)], ir_version=8)


@settings(max_examples=200, deadline=None)
@given(repeated(), st.sampled_from([13, 21, newest_opset()]))
def test_any_weights_come_back(arrays: list[Array], opset: int) -> None:
    model = outputs_of(arrays, opset)
    graph = load(model)
    encode_graph(graph, weights(graph), Storage())
    small = emit(graph)
    assert small.ByteSize() <= model.ByteSize()
    again = load(small)
    assert bytes_of(emit(again)) == bytes_of(emit(load(model)))
    encode_graph(again, weights(again), Storage())
    assert bytes_of(emit(again)) == bytes_of(small)
    wanted = run(model, {}, optimised=False)
    for optimised in OPTIMISED:
        found = run(small, {}, optimised=optimised)
        assert all(found[name].tobytes() == wanted[name].tobytes() for name in wanted)
    if all(array.dtype != BFLOAT16 for array in arrays):
        reference: Any = ReferenceEvaluator(small).run(None, {})
        assert [np.asarray(output).tobytes() for output in reference] == [array.tobytes() for array in arrays]
