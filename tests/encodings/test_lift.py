"""Reading decode subgraphs back, also those that are damaged, foreign, or made to do harm."""

import re
from collections.abc import Callable
from typing import Any

import numpy as np
import onnx
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from onnx import TensorProto, helper, numpy_helper

from graphshrink.encodings import Storage, encode_graph, lift
from graphshrink.errors import ModelError
from graphshrink.ir import edit
from graphshrink.ir.check import check
from graphshrink.ir.tensor import tensor_of
from graphshrink.ir.types import Array
from graphshrink.ir.weight import weights
from graphshrink.onnx_io.emit import emit
from graphshrink.onnx_io.load import load, load_as_stored
from graphshrink.ops import why_not_a_weight
from tests.damage import expect_read_or_refused
from tests.models import model_of, normal
from tests.runners import OPTIMISED, run


def few(*shape: int, entries: int = 16, seed: int = 0) -> Array:
    rng = np.random.default_rng(seed)
    values = rng.standard_normal(entries).astype(np.float32)
    array: Array = values[rng.integers(0, entries, shape)]
    return array


def encoded(model: onnx.ModelProto) -> onnx.ModelProto:
    graph = load(model)
    chosen = [weight for weight in weights(graph) if why_not_a_weight(weight) is None]
    stored = encode_graph(graph, chosen, Storage())
    assert all(item.encoding != "plain" for item in stored)
    return emit(graph)


def product(array: Array, *, ir_version: int = 8) -> onnx.ModelProto:
    """x -> MatMul w -> y."""
    sizes: dict[str, list[int | str]] = {"x": [1, array.shape[0]]}
    nodes = [helper.make_node("MatMul", ["x", "w"], ["y"])]
    return model_of(nodes, {"w": array}, sizes, {"y": [1, array.shape[1]]}, ir_version=ir_version)


def node_of(model: onnx.ModelProto, op_type: str) -> onnx.NodeProto:
    return next(node for node in model.graph.node if node.op_type == op_type)


def constant(model: onnx.ModelProto, name: str) -> onnx.TensorProto:
    return next(tensor for tensor in model.graph.initializer if tensor.name == name)


def set_constant(model: onnx.ModelProto, name: str, array: Array) -> None:
    constant(model, name).CopyFrom(numpy_helper.from_array(array, name))


def unchanged(model: onnx.ModelProto) -> None:
    """Nothing is lifted, and nothing else happens."""
    before = load_as_stored(model)
    wanted = emit(before).SerializeToString()
    assert lift(before) == []
    assert emit(before).SerializeToString() == wanted


def nodes_only(nodes: list[onnx.NodeProto], **constants: Any) -> onnx.ModelProto:
    """A model of nodes that need no input; its output is the last node's, with an Identity behind it."""
    last = helper.make_node("Identity", [nodes[-1].output[0]], ["y"])
    return model_of([*nodes, last], constants, {}, {"y": []})


# ---- what is ours comes back, with nothing left behind


def test_nothing_is_left_behind() -> None:
    model = product(few(80, 71))
    back = load(encoded(model))
    assert emit(back).SerializeToString() == emit(load(model)).SerializeToString()


@pytest.mark.parametrize("entries", [2, 3, 4, 6, 16])
@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64])
def test_many_small_groups(entries: int, dtype: Any) -> None:
    """A table of what each byte stands for would be far larger than the weights, for each of 511 channels."""
    rng = np.random.default_rng(0)
    books = rng.standard_normal((entries, 511)).astype(dtype)
    array = books[rng.integers(0, entries, (90, 511)), np.arange(511)]
    graph = load(product(array.astype(np.float32)))
    edit.set_constant(graph, "w", tensor_of(array, "w"))
    [stored] = encode_graph(graph, weights(graph), Storage())
    assert stored.encoding != "plain"
    [weight] = weights(load(emit(graph)))
    assert (weight.array.dtype, weight.array.tobytes()) == (array.dtype, array.tobytes())


def test_what_was_lifted_is_told() -> None:
    graph = load_as_stored(encoded(product(few(80, 71))))
    [lifted] = lift(graph)
    assert (lifted.graph, lifted.name, lifted.encoding) == (graph, "w", "codebook")


def test_constants_that_somebody_else_uses_stay() -> None:
    model = encoded(product(few(80, 71)))
    entries = next(tensor.name for tensor in model.graph.initializer if tensor.data_type == TensorProto.FLOAT)
    table = node_of(model, "Cast").output[0]
    model.graph.node.append(helper.make_node("Identity", [entries], ["other"]))
    model.graph.output.append(helper.make_tensor_value_info("other", TensorProto.FLOAT, None))
    model.graph.output.append(helper.make_tensor_value_info(table, TensorProto.INT32, None))
    wanted = run(model, {"x": normal(1, 80)}, optimised=False)
    del wanted["y"]  # ONNX Runtime multiplies by constants in another order
    graph = load(model)
    assert entries in graph
    assert [o.op_type for _, o in graph.operators()] == ["Cast", "MatMul", "Identity"]
    found = run(emit(graph), {"x": normal(1, 80)}, optimised=False)
    for name, array in wanted.items():
        np.testing.assert_array_equal(found[name], array)


def test_a_constant_used_in_a_body_stays() -> None:
    model = encoded(product(few(80, 71)))
    entries = next(tensor.name for tensor in model.graph.initializer if tensor.data_type == TensorProto.FLOAT)
    output = helper.make_tensor_value_info("inner", TensorProto.FLOAT, None)
    body = helper.make_graph([helper.make_node("Identity", [entries], ["inner"])], "body", [], [output])
    model.graph.input.append(helper.make_tensor_value_info("yes", TensorProto.BOOL, []))
    model.graph.node.append(helper.make_node("If", ["yes"], ["other"], then_branch=body, else_branch=body))
    model.graph.output.append(helper.make_tensor_value_info("other", TensorProto.FLOAT, None))
    graph = load(model)
    assert {weight.name for weight in weights(graph)} == {"w", entries}


def test_an_encoded_weight_that_a_body_uses() -> None:
    weight = few(80, 71)

    def body(name: str) -> onnx.GraphProto:
        nodes = [helper.make_node("MatMul", ["x", "w"], [name])]
        return helper.make_graph(nodes, name, [], [helper.make_tensor_value_info(name, TensorProto.FLOAT, [1, 71])])

    node = helper.make_node("If", ["yes"], ["y"], then_branch=body("a"), else_branch=body("b"))
    model = model_of([node], {"w": weight}, {"x": [1, 80]}, {"y": [1, 71]})
    model.graph.input.append(helper.make_tensor_value_info("yes", TensorProto.BOOL, []))
    small = encoded(model)
    assert "w" not in {tensor.name for tensor in small.graph.initializer}
    assert emit(load(small)).SerializeToString() == emit(load(model)).SerializeToString()


def test_an_encoded_weight_that_is_also_an_output_stays_as_it_is() -> None:
    model = encoded(product(few(80, 71)))
    model.graph.output.append(helper.make_tensor_value_info("w", TensorProto.FLOAT, [80, 71]))
    unchanged(model)
    for optimised in OPTIMISED:
        np.testing.assert_array_equal(run(model, {"x": normal(1, 80)}, optimised=optimised)["w"], few(80, 71))


def test_a_weight_decoded_from_another() -> None:
    """Nobody writes this, but it is what it says: both are constants."""
    model = encoded(product(few(80, 80)))
    model.graph.node.insert(
        len(model.graph.node) - 1, helper.make_node("Transpose", ["w"], ["v"], name="gs:codebook/again", perm=[1, 0])
    )
    model.graph.node[-1].input[1] = "v"
    model.graph.node.append(helper.make_node("MatMul", ["x", "w"], ["z"]))
    model.graph.output.append(helper.make_tensor_value_info("z", TensorProto.FLOAT, [1, 80]))
    found = {weight.name: weight.array for weight in weights(load(model))}
    np.testing.assert_array_equal(found["w"], few(80, 80))
    np.testing.assert_array_equal(found["v"], few(80, 80).T)
    assert found.keys() == {"w", "v"}


# ---- what is none of ours stays


def test_marks_on_something_else_stay() -> None:
    x = {"x": [2, 2]}
    node = helper.make_node("Relu", ["x"], ["y"], name="gs:codebook/gs1")
    unchanged(model_of([node], {}, x, {"y": [2, 2]}))  # type: ignore[arg-type]
    node = helper.make_node("Add", ["x", "x"], ["y"], name="gs:codebook/gs1")
    unchanged(model_of([node], {}, x, {"y": [2, 2]}))  # type: ignore[arg-type]
    node = helper.make_node("Split", ["w"], ["y", "z"], name="gs:codebook/gs1")
    unchanged(model_of([node], {"w": normal(2, 2)}, {}, {"y": [1, 2]}))


@pytest.mark.parametrize(
    "name", ["gs:", "gs:/gs1", "gs:codebook", "gs:Newer/gs1", "gs:a/b/gs1", "xgs:codebook/gs1", "codebook/gs1", ""]
)
def test_what_is_no_mark_stays(name: str) -> None:
    model = encoded(product(few(80, 71)))
    marked = next(node for node in model.graph.node if node.name.startswith("gs:"))
    marked.name = name
    unchanged(model)


@pytest.mark.parametrize(
    "node",
    [
        helper.make_node("Reshape", ["w", "minus"], ["v"]),
        helper.make_node("Cast", ["w"], ["v"], to=TensorProto.INT32),
        helper.make_node("Cast", ["bytes"], ["v"], to=TensorProto.INT64),
        helper.make_node("Add", ["w", "w"], ["v"]),
        helper.make_node("Mul", ["wide", "one"], ["v"]),
        helper.make_node("Mul", ["w", "tall"], ["v"]),
        helper.make_node("Gather", ["w", "wide"], ["v"]),
        helper.make_node("Transpose", ["w"], ["v"]),
        helper.make_node("Transpose", ["w"], ["v"], perm=[0.5, 0.5]),
        helper.make_node("Slice", ["w", "one", "one", "one", "one"], ["v"]),
        helper.make_node("Slice", ["w", "minus", "one"], ["v"]),
        helper.make_node("Slice", ["w", "one", "minus", "one"], ["v"]),
    ],
)
def test_operators_in_forms_that_we_do_not_write_stay(node: onnx.NodeProto) -> None:
    node.name = "gs:codebook/gs1"
    constants: dict[str, Any] = {
        "w": normal(2, 3),
        "bytes": np.array([1], np.uint8),
        "wide": np.array([1]),
        "tall": normal(4, 1, 1),
        "one": np.array([1]),
        "minus": np.array([-2]),
    }
    unchanged(nodes_only([node], **constants))


def test_constants_that_the_caller_may_override_stay() -> None:
    model = encoded(product(few(80, 71)))
    codes = next(tensor for tensor in model.graph.initializer if tensor.data_type == TensorProto.UINT8)
    info = helper.make_tensor_value_info(codes.name, codes.data_type, codes.dims)
    model.graph.input.append(info)
    unchanged(model)


def test_texts_stay() -> None:
    node = helper.make_node("Reshape", ["text", "shape"], ["v"], name="gs:codebook/gs1")
    model = nodes_only([node], shape=np.array([1]))
    model.graph.initializer.append(numpy_helper.from_array(np.array(["hello"], np.object_), "text"))
    unchanged(model)


# ---- what is damaged is said


def _index_out_of_range(model: onnx.ModelProto) -> None:
    cut = next(tensor for tensor in model.graph.initializer if tensor.data_type == TensorProto.FLOAT)
    set_constant(model, cut.name, np.zeros(3, np.float32))


def _wrong_reshape(model: onnx.ModelProto) -> None:
    set_constant(model, node_of(model, "Reshape").input[1], np.array([80, 72]))


def _wrong_axis(model: onnx.ModelProto) -> None:
    for node in model.graph.node:
        if node.op_type == "Gather":
            node.attribute[0].i = 5


def _contradicting_slice(model: onnx.ModelProto) -> None:
    set_constant(model, node_of(model, "Slice").input[3], np.array([7]))


@pytest.mark.parametrize("damage", [_index_out_of_range, _wrong_reshape, _wrong_axis, _contradicting_slice])
def test_damaged_weights_are_an_error(damage: Callable[[onnx.ModelProto], None]) -> None:
    model = encoded(product(few(81, 71)))
    damage(model)
    with pytest.raises(
        ModelError, match=r"^an encoded weight is damaged: \w+ .* with output '\w+' fails .*get the file again$"
    ):
        load(model)


def test_damaged_transpose() -> None:
    node = helper.make_node("Transpose", ["w"], ["v"], name="gs:codebook/gs1", perm=[0, 0])
    with pytest.raises(ModelError, match="Transpose"):
        load(nodes_only([node], w=normal(2, 3)))


@settings(max_examples=150, deadline=None)
@given(st.data())
def test_any_damage(data: st.DataObject) -> None:
    """Whatever a byte of the file becomes, it is read as something, or it is a ModelError."""
    entries = data.draw(st.sampled_from([3, 16, 32]))
    content = bytearray(encoded(product(few(81, 37, entries=entries))).SerializeToString())
    place = data.draw(st.integers(0, len(content) - 1) | st.integers(0, 700))
    content[min(place, len(content) - 1)] = data.draw(st.integers(0, 255))
    expect_read_or_refused(bytes(content))


# ---- what is made to do harm is refused at once


def test_growth_by_gathering_is_refused() -> None:
    """2 kB that say they are a terabyte."""
    nodes = [
        helper.make_node("Gather", ["w", "i"], ["a"]),
        helper.make_node("Gather", ["a", "i"], ["b"], axis=1),
        helper.make_node("Gather", ["b", "i"], ["c"], axis=2, name="gs:codebook/gs1"),
    ]
    with pytest.raises(ModelError, match="absurdly large"):
        load(nodes_only(nodes, w=np.zeros((1, 1, 1), np.float32), i=np.zeros(6000, np.int32)))


def test_growth_by_adding_is_refused() -> None:
    node = helper.make_node("Add", ["a", "b"], ["c"], name="gs:codebook/gs1")
    with pytest.raises(ModelError, match="absurdly large"):
        load(nodes_only([node], a=np.zeros((100_000, 1), np.int32), b=np.zeros((1, 100_000), np.int32)))


def test_growth_by_many_weights_is_refused() -> None:
    """Each alone would pass: 100 bytes in the file for 4 MB."""
    nodes = [helper.make_node("Gather", ["w", "i"], [f"v{i}"], name=f"gs:codebook/{i}") for i in range(100)]
    with pytest.raises(ModelError, match="absurdly large"):
        load(nodes_only(nodes, w=np.zeros((1, 200), np.float32), i=np.zeros(5000, np.int32)))


def test_growth_by_many_steps_is_refused() -> None:
    nodes = [helper.make_node("Transpose", [f"v{i}"], [f"v{i + 1}"], perm=[1, 0]) for i in range(20_000)]
    nodes[-1].name = "gs:codebook/gs1"
    with pytest.raises(ModelError, match="absurdly large"):
        load(nodes_only(nodes, v0=np.zeros((300, 300), np.float32)))


def test_diamonds_cost_no_more_than_their_length() -> None:
    """2 ** 3000 paths."""
    nodes = [helper.make_node("Add", [f"v{i}", f"v{i}"], [f"v{i + 1}"], name=f"gs:codebook/{i}") for i in range(3000)]
    graph = load(nodes_only(nodes, v0=np.zeros(1, np.int32)))
    assert len(weights(graph)) == 1  # all others were parts of it, and their values are gone with their uses


def test_cycles_stay() -> None:
    nodes = [
        helper.make_node("Transpose", ["b"], ["a"], name="gs:codebook/gs1"),
        helper.make_node("Transpose", ["a"], ["b"], name="gs:codebook/gs2"),
    ]
    model = nodes_only(nodes)
    unchanged(model)
    with pytest.raises(ModelError, match=re.escape("depends on itself")):
        check(load_as_stored(model))


def test_nodes_out_of_order_stay() -> None:
    """A model that is broken is for the checker; nothing is computed from it."""
    model = encoded(product(few(80, 71)))
    nodes = list(model.graph.node)[::-1]
    del model.graph.node[:]
    model.graph.node.extend(nodes)
    unchanged(model)


@pytest.mark.parametrize("ir_version", [3, 8])
def test_damage_where_constants_are_operators(ir_version: int) -> None:
    model = product(few(80, 71), ir_version=ir_version)
    if ir_version < 4:
        model.graph.input.append(helper.make_tensor_value_info("w", TensorProto.FLOAT, [80, 71]))
    small = encoded(model)
    assert ("Constant" in {node.op_type for node in small.graph.node}) == (ir_version < 4)
    [weight] = weights(load(small))
    np.testing.assert_array_equal(weight.array, few(80, 71))


def test_a_constant_operator_that_stays_one_is_weighed_as_one() -> None:
    """Below IR version 4; later it is read again as an initializer, which takes less."""
    array = few(20, 30, entries=200).astype(np.float16).astype(np.float32)
    nodes = [
        helper.make_node("Constant", [], ["w"], value=numpy_helper.from_array(array)),
        helper.make_node("MatMul", ["x", "w"], ["y"]),
    ]
    model = model_of(nodes, {}, {"x": [1, 20]}, {"y": [1, 30]}, ir_version=3)
    graph = load(model)
    (stored,) = encode_graph(graph, weights(graph), Storage())
    assert stored.encoding == "half"
    assert abs(stored.plain_bytes - stored.stored_bytes - (model.ByteSize() - emit(graph).ByteSize())) <= 2


@pytest.mark.parametrize("length", range(8, 24))
def test_constants_that_are_read_again_as_initializers_are_stored_as_before(length: int) -> None:
    array = few(1, length, entries=length)
    nodes = [
        helper.make_node("Constant", [], ["v"], value=numpy_helper.from_array(array)),
        helper.make_node("MatMul", ["x", "v"], ["h"]),
        helper.make_node("MatMul", ["h", "w"], ["y"]),
    ]
    model = model_of(nodes, {"w": array.reshape(-1, 1)}, {"x": [1, 1]}, {"y": [1, 1]}, ir_version=8)
    graph = load(model)
    encode_graph(graph, weights(graph), Storage())
    once = emit(graph)
    again = load(once)
    encode_graph(again, weights(again), Storage())
    assert emit(again) == once
