"""Parts of graphs as models of their own."""

import numpy as np
import onnx
import pytest
from hypothesis import given
from onnx import helper

from graphshrink.errors import InternalError
from graphshrink.ir.check import check
from graphshrink.ir.compare import difference
from graphshrink.ir.extract import dynamic_operators, extract, fed_inputs, operators_behind
from graphshrink.ir.types import TensorType, ValueInfo
from graphshrink.onnx_io.emit import emit
from graphshrink.onnx_io.load import load
from tests.models import model_of, normal, two_layers
from tests.runners import inner_values, run
from tests.strategies import WIDTH, models


def test_a_part_holds_what_it_needs_and_nothing_else() -> None:
    graph = load(two_layers())
    part = extract(graph, [ValueInfo("h", graph.type_of("h"))], ["y"])
    assert [operator.op_type for _, operator in part.operators()] == ["Relu", "MatMul"]
    assert [info.name for info in part.inputs] == ["h"]
    assert [info.name for info in part.outputs] == ["y"]
    assert [value.name for value in part.initializers()] == ["W2"]
    assert part.opsets == graph.opsets


def test_what_is_not_needed_is_no_input() -> None:
    graph = load(two_layers())
    part = extract(graph, [*graph.inputs, ValueInfo("h"), ValueInfo("a")], ["y"])
    assert [info.name for info in part.inputs] == ["a"]


def test_a_part_without_a_source_is_a_bug() -> None:
    graph = load(two_layers())
    with pytest.raises(InternalError, match="'x'"):
        extract(graph, [], ["y"])


def test_only_a_main_graph_has_parts() -> None:
    branch = helper.make_graph(
        [helper.make_node("Relu", ["x"], ["r"])], "b", [], [helper.make_empty_tensor_value_info("r")]
    )
    node = helper.make_node("If", ["c"], ["y"], then_branch=branch, else_branch=branch)
    graph = load(model_of([node], {"c": np.array(True)}, {"x": [2]}, {"y": [2]}))
    [(_, body), *_] = graph.operator(0).subgraphs()
    with pytest.raises(InternalError):
        extract(body, [], ["r"])


def test_constants_of_old_files_are_no_inputs_of_a_part() -> None:
    model = two_layers()
    model.ir_version = 3
    for tensor in model.graph.initializer:
        model.graph.input.add().CopyFrom(helper.make_tensor_value_info(tensor.name, tensor.data_type, tensor.dims))
    graph = load(model)
    assert [info.name for info in fed_inputs(graph)] == ["x"]
    part = extract(graph, graph.inputs[:1], ["h"])
    check(part)
    feeds = {"x": normal(2, 32)}
    assert np.array_equal(run(emit(part), feeds, optimised=False)["h"], feeds["x"] @ graph_array(model, "W1"))


def graph_array(model: onnx.ModelProto, name: str) -> np.ndarray[tuple[int, ...], np.dtype[np.float32]]:
    [found] = [tensor for tensor in model.graph.initializer if tensor.name == name]
    return onnx.numpy_helper.to_array(found)


def test_operators_behind_a_value_end_where_values_are_given() -> None:
    graph = load(two_layers())
    assert operators_behind(graph, ["y"], {"h"}) == {1, 2}
    assert operators_behind(graph, ["y", "h"], {"a"}) == {0, 2}
    assert operators_behind(graph, ["h"], {"h"}) == set()


def test_what_only_retells_constants_is_not_dynamic() -> None:
    nodes = [
        helper.make_node("Transpose", ["W"], ["V"]),
        helper.make_node("Neg", ["V"], ["U"]),
        helper.make_node("MatMul", ["x", "U"], ["y"]),
    ]
    graph = load(model_of(nodes, {"W": normal(3, 4)}, {"x": ["n", 4]}, {"y": ["n", 3]}))
    assert dynamic_operators(graph) == {2}


@given(models(runnable=True))
def test_two_parts_make_the_whole(model: onnx.ModelProto) -> None:
    """Bodies that capture values, tied and overridable weights, functions: cut at any operator, the outputs stay."""
    graph = load(model)
    before = graph.copy()
    feeds = {"x": normal(3, WIDTH), "flag": np.array(True)}
    names = [
        name
        for number, operator in graph.operators()
        if number in dynamic_operators(graph)
        for name in operator.outputs
    ]
    expected = inner_values(model, feeds, names)
    for cut in names[:-1]:
        first = extract(graph, fed_inputs(graph), [cut])
        second = extract(graph, [*fed_inputs(graph), ValueInfo(cut, TensorType(onnx.TensorProto.FLOAT))], ["y"])
        check(first)
        check(second)
        middle = run(emit(first), {info.name: feeds[info.name] for info in first.inputs}, optimised=False)
        assert np.array_equal(middle[cut], expected[cut])
        all_feeds = {**feeds, **middle}
        last = run(emit(second), {info.name: all_feeds[info.name] for info in second.inputs}, optimised=False)
        assert np.array_equal(last["y"], expected["y"])
    assert difference(before, graph) is None
