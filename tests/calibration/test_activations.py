"""Values inside a model."""

import numpy as np
import onnx
import pytest
from hypothesis import given, settings
from onnx import TensorProto, helper

from graphshrink.calibration.activations import Taps, why_not_tapped
from graphshrink.calibration.batches import Batches
from graphshrink.calibration.samples import held
from graphshrink.errors import CalibrationError, JudgeError
from graphshrink.ir.extract import dynamic_operators
from graphshrink.ir.graph import Graph
from graphshrink.ir.types import Array, Feeds
from graphshrink.onnx_io.load import load
from graphshrink.onnx_io.runtime import Runtime
from tests.models import model_of, normal, two_layers
from tests.runners import inner_values
from tests.strategies import WIDTH, models

ONE = Batches(held([{"x": normal(1, 32)}], "one"))


def tapped(graph: Graph, names: list[str], runtime: Runtime, feeds: Feeds) -> dict[str, Array]:
    [batch] = Taps(graph, names, runtime, [feeds]).batches()
    return dict(batch)


def test_inner_values_inputs_and_outputs(runtime: Runtime) -> None:
    model, feeds = two_layers(), {"x": normal(3, 32)}
    found = tapped(load(model), ["y", "x", "h", "a"], runtime, feeds)
    assert list(found) == ["y", "x", "h", "a"]
    assert np.array_equal(found["x"], feeds["x"])
    for name, expected in inner_values(model, feeds, ["y", "h", "a"]).items():
        np.testing.assert_allclose(found[name], expected, rtol=1e-5, atol=1e-5)


def test_an_input_alone_needs_no_run(runtime: Runtime) -> None:
    model = model_of([helper.make_node("Mystery", ["x"], ["y"], domain="com.example")], {}, {"x": [2]}, {"y": [2]})
    assert tapped(load(model), ["x"], runtime, {"x": normal(2)})["x"].shape == (2,)


def test_only_what_is_behind_a_value_runs(runtime: Runtime) -> None:
    nodes = [
        helper.make_node("Relu", ["x"], ["h"]),
        helper.make_node("Mystery", ["h"], ["y"], domain="com.example"),
    ]
    model = model_of(nodes, {}, {"x": [2]}, {"y": [2]})
    model.opset_import.append(helper.make_opsetid("com.example", 1))
    graph, feeds = load(model), {"x": np.array([-1, 2], np.float32)}
    assert tapped(graph, ["h"], runtime, feeds)["h"].tolist() == [0, 2]
    with pytest.raises(JudgeError):
        tapped(graph, ["y"], runtime, feeds)


@given(models(runnable=True))
@settings(max_examples=30)
def test_any_model(runtime: Runtime, model: onnx.ModelProto) -> None:
    graph = load(model)
    feeds: dict[str, Array] = {"x": normal(3, WIDTH), "flag": np.array(False)}
    numbers = dynamic_operators(graph)
    names = [name for number, operator in graph.operators() if number in numbers for name in operator.outputs]
    expected = inner_values(model, feeds, names)
    for name, array in tapped(graph, names, runtime, feeds).items():
        np.testing.assert_allclose(
            array, expected[name], rtol=1e-3, atol=1e-3 * max(1.0, float(abs(expected[name]).max()))
        )


def branching() -> onnx.ModelProto:
    inner = helper.make_node("MatMul", ["x", "W"], ["inside"])
    outputs = [helper.make_tensor_value_info("inside", TensorProto.FLOAT, None)]
    branch = helper.make_graph([inner], "branch", [], outputs)
    nodes = [
        helper.make_node("If", ["c"], ["y"], then_branch=branch, else_branch=branch),
        helper.make_node("Transpose", ["W"], ["turned"]),
        helper.make_node("MatMul", ["y", "turned"], ["z"]),
    ]
    constants: dict[str, Array] = {"c": np.array(True), "W": normal(2, 2)}
    return model_of(nodes, constants, {"x": ["n", 2]}, {"z": ["n", 2]})


def test_what_cannot_be_tapped_has_a_reason(runtime: Runtime) -> None:
    graph = load(branching())
    [(_, body), *_] = graph.operator(0).subgraphs()
    reasons = {name: why_not_tapped(graph, name) for name in ("x", "y", "z", "turned", "W", "nobody")}
    assert [name for name, reason in reasons.items() if reason is None] == ["x", "y", "z"]
    assert len({*reasons.values()}) == 4
    assert "If" in (why_not_tapped(body, "inside") or "")
    with pytest.raises(CalibrationError, match="'turned'"):
        Taps(graph, ["z", "turned"], runtime, ONE)


def test_values_in_functions_have_a_reason() -> None:
    model = two_layers()
    nodes = [helper.make_node("Relu", ["u"], ["v"])]
    model.functions.append(helper.make_function("local", "F", ["u"], ["v"], nodes, [helper.make_opsetid("", 13)]))
    model.opset_import.append(helper.make_opsetid("local", 1))
    graph = load(model)
    assert graph.header is not None
    assert "function" in (why_not_tapped(graph.header.functions[0].body, "v") or "")


@pytest.mark.parametrize("op_type", ["Log", "Reciprocal"])
def test_what_is_not_finite_is_named(op_type: str, runtime: Runtime) -> None:
    nodes = [helper.make_node(op_type, ["x"], ["bad"]), helper.make_node("MatMul", ["bad", "W"], ["y"])]
    graph = load(model_of(nodes, {"W": normal(2, 2)}, {"x": ["n", 2]}, {"y": ["n", 2]}))
    feeds = {"x": np.array([[1, 2], [0, -1]], np.float32)}
    with pytest.raises(CalibrationError, match="'bad'"):
        tapped(graph, ["bad"], runtime, feeds)


def test_text_is_no_activation(runtime: Runtime) -> None:
    nodes = [helper.make_node("Cast", ["x"], ["text"], to=TensorProto.STRING), helper.make_node("Relu", ["x"], ["y"])]
    graph = load(model_of(nodes, {}, {"x": [2]}, {"y": [2]}))
    with pytest.raises(CalibrationError, match="'text'"):
        tapped(graph, ["text"], runtime, {"x": normal(2)})
