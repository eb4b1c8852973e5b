"""fold on small graphs: what becomes part of a layer, what stays, and that models compute the same."""

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from graphshrink.ir.check import check
from graphshrink.ir.graph import Graph
from graphshrink.ir.types import Array
from graphshrink.ir.weight import weights
from graphshrink.onnx_io.emit import emit
from graphshrink.onnx_io.load import load
from graphshrink.passes.fold import Fold
from graphshrink.passing.base import Context, PassResult, Selection
from tests.models import model_of, normal
from tests.runners import OPTIMISED, run

node = helper.make_node

BATCH_NORM = ["gain", "offset", "mean", "variance"]
NORMAL = dict(
    zip(BATCH_NORM, (normal(6, seed=1), normal(6, seed=2), normal(6, seed=3), normal(6, seed=4) ** 2), strict=True)
)
CHANNELS = normal(6, 1, 1, seed=5)


def folded(model: onnx.ModelProto, selection: Selection | None = None) -> tuple[Graph, PassResult]:
    graph = load(model)
    result = Fold().run(graph, Context(selection=selection or Selection()))
    check(graph)
    return graph, result


def kinds(graph: Graph) -> list[str]:
    return [operator.op_type for _, operator in graph.operators() if operator.op_type != "Constant"]


def constants(graph: Graph) -> dict[str, Array]:
    return {weight.name: weight.array for weight in weights(graph)}


def expect_same(model: onnx.ModelProto, graph: Graph, shape: tuple[int, ...]) -> None:
    feeds: Mapping[str, Array] = {"x": normal(*shape, seed=9)}
    for optimised in OPTIMISED:
        then, now = run(model, feeds, optimised=optimised), run(emit(graph), feeds, optimised=optimised)
        for name, array in then.items():
            np.testing.assert_allclose(now[name], array, rtol=1e-4, atol=1e-4)


def conv(tail: list[onnx.NodeProto], held: dict[str, Array], **rest: Any) -> onnx.ModelProto:
    """x -> Conv (6 channels) -> tail, from c to y."""
    groups: int = rest.pop("groups", 1)
    bias: bool = rest.pop("bias", False)
    layer = node("Conv", ["x", "W", *(["b"] if bias else [])], ["c"], group=groups, pads=[1, 1, 1, 1], name="layer")
    made = {"W": normal(6, 6 // groups, 3, 3), **({"b": normal(6, seed=8)} if bias else {}), **held}
    return model_of([layer, *tail], made, {"x": ["n", 6, 4, 4]}, {"y": ["n", 6, 4, 4]}, **rest)


def norm(source: str = "c", result: str = "y", **attributes: Any) -> onnx.NodeProto:
    return node("BatchNormalization", [source, *BATCH_NORM], [result], **attributes)


# ---- what becomes part of a layer


@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize("groups", [1, 2, 6])
def test_a_normalisation_behind_a_convolution(groups: int, bias: bool) -> None:
    model = conv([norm(epsilon=0.1)], NORMAL, groups=groups, bias=bias)
    graph, result = folded(model)
    assert kinds(graph) == ["Conv"]
    assert {name: array.shape for name, array in constants(graph).items() if name != "W"} == {
        "b" if bias else "offset": (6,)
    }
    assert result.graph == [result.graph[0]]
    assert result.graph[0].startswith("folded 1 BatchNormalization, 1 layers with new weights: ")
    expect_same(model, graph, (2, 6, 4, 4))


@pytest.mark.parametrize("groups", [1, 2])
def test_a_transposed_convolution(groups: int) -> None:
    nodes = [node("ConvTranspose", ["x", "W"], ["c"], group=groups), norm("c", "n"), node("Relu", ["n"], ["y"])]
    held = {"W": normal(4, 6 // groups, 3, 3), **NORMAL}
    model = model_of(nodes, held, {"x": ["n", 4, 4, 4]}, {"y": ["n", 6, 6, 6]})
    graph, _ = folded(model)
    assert kinds(graph) == ["ConvTranspose", "Relu"]
    expect_same(model, graph, (2, 4, 4, 4))


def test_a_chain_of_scales_and_shifts() -> None:
    tail = [
        node("Mul", ["c", "per channel"], ["m"]),
        node("Sub", ["one", "m"], ["s"]),
        norm("s", "n"),
        node("Identity", ["n"], ["i"]),
        node("Div", ["i", "two"], ["d"]),
        node("Add", ["per channel", "d"], ["y"]),
    ]
    held = {
        "per channel": CHANNELS,
        "one": np.ones((1, 1, 1, 1), np.float32),
        "two": np.full((), 2, np.float32),
    } | NORMAL
    model = conv(tail, held, bias=True)
    graph, _ = folded(model)
    assert kinds(graph) == ["Conv"]
    assert constants(graph).keys() == {"W", "b"}
    expect_same(model, graph, (2, 6, 4, 4))


@pytest.mark.parametrize("turned", [0, 1])
def test_a_gemm_with_factors(turned: int) -> None:
    nodes = [
        node("Gemm", ["x", "W", "b"], ["g"], alpha=0.5, beta=3.0, transB=turned),
        norm("g", "n"),
        node("Mul", ["n", "last"], ["y"]),
    ]
    weight = normal(6, 5) if turned else normal(5, 6)
    held = {"W": weight, "b": normal(1, 6), "last": normal(6, seed=7), **NORMAL}
    model = model_of(nodes, held, {"x": ["n", 5]}, {"y": ["n", 6]})
    graph, _ = folded(model)
    assert kinds(graph) == ["Gemm"]
    expect_same(model, graph, (3, 5))


def test_of_a_product_one_addition_is_left() -> None:
    nodes = [
        node("MatMul", ["x", "W"], ["p"]),
        node("Add", ["p", "b"], ["a"]),
        node("Mul", ["a", "last"], ["m"]),
        node("Sub", ["m", "b"], ["y"]),
    ]
    held = {"W": normal(5, 6), "b": normal(6, seed=1), "last": normal(6, seed=7)}
    model = model_of(nodes, held, {"x": ["n", 2, 5]}, {"y": ["n", 2, 6]})
    graph, result = folded(model)
    assert kinds(graph) == ["MatMul", "Add"]
    assert result.graph[0].startswith("folded 1 Mul, 1 Sub, 1 layers")
    expect_same(model, graph, (3, 2, 5))


def test_a_product_with_a_scale_alone() -> None:
    nodes = [node("MatMul", ["x", "W"], ["p"]), node("Mul", ["p", "last"], ["y"])]
    model = model_of(nodes, {"W": normal(5, 6), "last": normal(6)}, {"x": ["n", 5]}, {"y": ["n", 6]})
    graph, _ = folded(model)
    assert kinds(graph) == ["MatMul"]
    expect_same(model, graph, (3, 5))


def test_constants_are_moved_to_where_they_are_used() -> None:
    tail = [node("Reshape", ["b", "shape"], ["r"]), node("Add", ["c", "r"], ["y"])]
    held = {"b": normal(6, seed=1), "shape": np.array([1, -1, 1, 1])}
    model = conv(tail, held)
    graph, result = folded(model)
    assert kinds(graph) == ["Conv"]
    assert constants(graph).keys() == {"W", "b"}
    assert result.graph[0].startswith("folded 1 Reshape, 1 Add, 1 layers")
    expect_same(model, graph, (2, 6, 4, 4))


def test_a_transposed_weight() -> None:
    nodes = [node("Transpose", ["W"], ["t"]), node("MatMul", ["x", "t"], ["y"])]
    model = model_of(nodes, {"W": normal(6, 5)}, {"x": ["n", 5]}, {"y": ["n", 6]})
    graph, _ = folded(model)
    assert kinds(graph) == ["MatMul"]
    assert constants(graph)["W"].shape == (5, 6)
    expect_same(model, graph, (3, 5))


@pytest.mark.parametrize("ir_version", [3, 8])
def test_constants_that_two_layers_share(ir_version: int) -> None:
    """The first layer needs a bias of its own; the second takes the constants over."""
    nodes = [
        node("Conv", ["x", "V"], ["h"], pads=[1, 1, 1, 1]),
        norm("h", "n"),
        node("Conv", ["n", "W"], ["c"], pads=[1, 1, 1, 1]),
        norm(),
    ]
    held = {"V": normal(6, 6, 3, 3, seed=1), "W": normal(6, 6, 3, 3), **NORMAL}
    model = model_of(nodes, held, {"x": ["n", 6, 4, 4]}, {"y": ["n", 6, 4, 4]}, ir_version=ir_version, opset=9)
    if ir_version == 3:
        for tensor in model.graph.initializer:
            model.graph.input.append(helper.make_tensor_value_info(tensor.name, TensorProto.FLOAT, tensor.dims))
    graph, _ = folded(model)
    assert kinds(graph) == ["Conv", "Conv"]
    if ir_version != 3:
        assert len(constants(graph)) == 4
    expect_same(model, graph, (2, 6, 4, 4))


def test_a_second_time_there_is_nothing_to_do() -> None:
    graph, _ = folded(conv([norm()], NORMAL))
    again = Fold().run(graph, Context())
    assert not again.graph
    assert again.kept == ["all operators: none behind a layer or a constant could go"]


def test_declarations_go_with_what_they_declare() -> None:
    model = conv([norm("c", "n"), node("Relu", ["n"], ["y"])], NORMAL)
    model.graph.value_info.extend(
        helper.make_tensor_value_info(name, TensorProto.FLOAT, ["n", 6, 4, 4]) for name in ("c", "n")
    )
    graph, _ = folded(model)
    assert list(graph.value_info) == ["n"]


def moved_model(**rest: Any) -> onnx.ModelProto:
    """x -> Conv (W out of Squeeze) -> Add (b out of Reshape)."""
    nodes = [
        node("Squeeze", ["W"], ["w"], axes=[0]),
        node("Conv", ["x", "w"], ["c"], pads=[1, 1, 1, 1]),
        node("Reshape", ["b", "shape"], ["r"]),
        node("Add", ["c", "r"], ["y"]),
    ]
    held = {"W": normal(1, 6, 6, 3, 3), "b": normal(6, seed=1), "shape": np.array([6, 1, 1])}
    return model_of(nodes, held, {"x": [2, 6, 4, 4]}, {"y": [2, 6, 4, 4]}, opset=9, **rest)


def test_shapes_that_inputs_declare_stay() -> None:
    """Below IR version 4 every initializer is an input, whose shape callers see."""
    model = moved_model(ir_version=3)
    for tensor in model.graph.initializer:
        model.graph.input.append(helper.make_tensor_value_info(tensor.name, tensor.data_type, tensor.dims))
    graph, result = folded(model)
    assert kinds(graph) == kinds(load(model))
    assert not result.graph
    graph, _ = folded(moved_model())
    assert kinds(graph) == ["Conv"]


def test_a_shape_that_is_declared_goes_with_it() -> None:
    model = moved_model()
    model.graph.value_info.append(helper.make_tensor_value_info("W", TensorProto.FLOAT, [1, 6, 6, 3, 3]))
    graph, _ = folded(model)
    assert "W" not in graph.value_info
    expect_same(model, graph, (2, 6, 4, 4))


# ---- what stays


def used_twice() -> onnx.ModelProto:
    return conv([norm("c", "n"), node("Add", ["n", "c"], ["y"])], NORMAL)


def no_constant() -> onnx.ModelProto:
    return conv([node("Mul", ["x", "x"], ["m"]), node("Mul", ["c", "m"], ["y"])], {})


def along_another_axis() -> onnx.ModelProto:
    return conv([node("Mul", ["c", "columns"], ["y"])], {"columns": normal(4)})


def more_axes() -> onnx.ModelProto:
    nodes = [node("Gemm", ["x", "W"], ["g"]), node("Mul", ["g", "m"], ["y"])]
    held = {"W": normal(5, 6), "m": normal(1, 1, 6)}
    return model_of(nodes, held, {"x": [2, 5]}, {"y": [1, 2, 6]})


def more_axes_than_a_vector() -> onnx.ModelProto:
    nodes = [node("MatMul", ["x", "W"], ["p"]), node("Mul", ["p", "m"], ["y"])]
    return model_of(nodes, {"W": normal(5, 6), "m": normal(1, 6)}, {"x": [5]}, {"y": [1, 6]})


def annotated() -> onnx.ModelProto:
    model = conv([norm()], NORMAL)
    model.graph.quantization_annotation.add(tensor_name="c")
    return model


def trains_by_default() -> onnx.ModelProto:
    return conv([norm(consumed_inputs=[0, 0, 0, 1, 1], is_test=0)], NORMAL, opset=5)


def open_to_callers() -> onnx.ModelProto:
    model = conv([norm()], NORMAL)
    model.graph.input.append(helper.make_tensor_value_info("gain", TensorProto.FLOAT, [6]))
    return model


def open_weight() -> onnx.ModelProto:
    model = conv([norm()], NORMAL)
    model.graph.input.append(helper.make_tensor_value_info("W", TensorProto.FLOAT, [6, 6, 3, 3]))
    return model


def shared_weight() -> onnx.ModelProto:
    nodes = [
        node("Conv", ["x", "W"], ["c"], pads=[1, 1, 1, 1]),
        norm("c", "n"),
        node("Conv", ["n", "W"], ["y"], pads=[1, 1, 1, 1]),
    ]
    return model_of(nodes, {"W": normal(6, 6, 3, 3), **NORMAL}, {"x": [1, 6, 4, 4]}, {"y": [1, 6, 4, 4]})


def infinite() -> onnx.ModelProto:
    return conv([node("Mul", ["c", "huge"], ["m"]), node("Mul", ["m", "tiny"], ["y"])], {"huge": HUGE, "tiny": HUGE})


HUGE = np.full((6, 1, 1), 1e38, np.float32)


def output_between() -> onnx.ModelProto:
    model = conv([norm()], NORMAL)
    model.graph.output.append(helper.make_tensor_value_info("c", TensorProto.FLOAT, ["n", 6, 4, 4]))
    return model


@pytest.mark.parametrize(
    "make",
    [
        *(used_twice, no_constant, along_another_axis, more_axes, more_axes_than_a_vector),
        *(annotated, trains_by_default, open_to_callers, open_weight, shared_weight),
        *(infinite, output_between),
    ],
)
def test_what_cannot_be_folded_stays(make: Any) -> None:
    model = make()
    before = load(model)
    graph, result = folded(model)
    assert kinds(graph) == kinds(before)
    assert not result.graph
    assert emit(graph) == emit(before)
    if "BatchNormalization" in kinds(graph):
        assert result.kept[0] == "1 BatchNormalization that no layer's output alone goes to"


@pytest.mark.parametrize("pattern", ["W", "layer", "Conv", "gain", "BatchNormalization"])
def test_what_is_not_selected_stays(pattern: str) -> None:
    graph, result = folded(conv([norm()], NORMAL), replace(Selection(), exclude=(pattern,)))
    assert kinds(graph) == ["Conv", "BatchNormalization"]
    assert not result.graph


def test_half_precision_stays() -> None:
    model = conv([norm()], NORMAL)
    for tensor in model.graph.initializer:
        tensor.CopyFrom(numpy_helper.from_array(numpy_helper.to_array(tensor).astype(np.float16), tensor.name))
    for info in (*model.graph.input, *model.graph.output):
        info.type.tensor_type.elem_type = TensorProto.FLOAT16
    graph, _ = folded(model)
    assert kinds(graph) == ["Conv", "BatchNormalization"]
