"""Multiply-accumulates of graphs."""

import pytest
from onnx import TensorProto, helper

from graphshrink.ir.operator import Operator
from graphshrink.metrics.macs import macs, operator_macs
from graphshrink.onnx_io.load import load
from graphshrink.ops import RULES
from tests.models import model_of, normal, two_layers


def test_every_operator_that_has_any() -> None:
    graph = load(two_layers(width=64))
    shapes = {"x": ("n", 32), "h": ("n", 64), "a": ("n", 64), "y": ("n", 10)}
    assert macs(graph, shapes) == {0: 32 * 64, 2: 64 * 10}


def test_sizes_that_are_known_count() -> None:
    graph = load(two_layers(width=64))
    shapes = {"x": (5, 32), "h": (5, 64), "a": (5, 64), "y": (5, 10)}
    assert macs(graph, shapes) == {0: 5 * 32 * 64, 2: 5 * 64 * 10}
    assert macs(graph, {"x": (5, 32), "h": (5, 64)}) == {0: 5 * 32 * 64}
    assert macs(graph, {}) == {}


def test_look_ups_have_none() -> None:
    nodes = [helper.make_node("Gather", ["w", "x"], ["y"])]
    model = model_of(nodes, {"w": normal(5, 4)}, {"x": [3]}, {"y": [3, 4]})
    model.graph.input[0].type.tensor_type.elem_type = TensorProto.INT64
    graph = load(model)
    assert macs(graph, {"x": (3,), "y": (3, 4)}) == {}
    assert operator_macs(graph, graph.operator(0), {"x": (3,), "y": (3, 4)}) == 0


@pytest.mark.parametrize("op_type", RULES)
def test_operators_of_broken_models(op_type: str) -> None:
    graph = load(two_layers())
    for inputs in [(), ("x",), ("", ""), ("x", "h", "a", "y")]:
        assert not operator_macs(graph, Operator(op_type, inputs, ()), {"x": (1, 2), "y": ()})


def test_operators_without_a_rule() -> None:
    graph = load(two_layers())
    assert operator_macs(graph, Operator("Relu", ("x",), ("y",)), {"x": (1,), "y": (1,)}) is None


def test_sizes_that_are_not_known_count_as_one() -> None:
    """Older exporters write -1 where newer ones write a name."""
    graph = load(two_layers(width=64))
    assert macs(graph, {"x": (-1, 32), "h": (-1, 64)}) == {0: 32 * 64}
