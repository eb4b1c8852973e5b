"""What the table says of every operator, against cases counted by hand."""

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from graphshrink.ir.graph import Graph
from graphshrink.ir.operator import Operator, attributes_of
from graphshrink.ir.types import Array
from graphshrink.ir.weight import Weight, weights
from graphshrink.onnx_io.load import load
from graphshrink.ops import RULES, output_axis, rule_of, why_not_a_weight
from graphshrink.ops.base import Shape
from tests.models import model_of, normal


def operator(op_type: str, **attributes: int) -> Operator:
    return Operator(op_type, (), (), attributes_of(**attributes))


# (operator, attributes, input, rank) -> axis
AXES: list[tuple[str, dict[str, int], int, int, int | None]] = [
    ("Conv", {}, 0, 4, None),
    ("Conv", {}, 1, 4, 0),
    ("Conv", {"group": 8}, 1, 4, 0),
    ("Conv", {}, 2, 1, None),
    ("ConvTranspose", {}, 1, 4, 1),
    ("ConvTranspose", {}, 2, 1, None),
    ("Gather", {}, 0, 2, 0),
    ("Gather", {"axis": 1}, 0, 3, 1),
    ("Gather", {"axis": -1}, 0, 3, 2),
    ("Gather", {}, 0, 1, None),
    ("Gather", {}, 1, 2, None),
    ("Gemm", {}, 0, 2, 0),
    ("Gemm", {"transA": 1}, 0, 2, 1),
    ("Gemm", {}, 1, 2, 1),
    ("Gemm", {"transB": 1}, 1, 2, 0),
    ("Gemm", {"transA": 1}, 1, 2, 1),
    ("Gemm", {}, 2, 1, None),
    ("GRU", {}, 1, 3, 1),
    ("GRU", {}, 2, 3, 1),
    ("GRU", {}, 3, 2, None),
    ("LSTM", {}, 0, 3, None),
    ("LSTM", {}, 1, 3, 1),
    ("LSTM", {}, 2, 3, 1),
    ("LSTM", {}, 7, 2, None),
    ("MatMul", {}, 1, 2, 1),
    ("MatMul", {}, 1, 4, 3),
    ("MatMul", {}, 0, 2, 0),
    ("MatMul", {}, 0, 3, 1),
    ("MatMul", {}, 1, 1, None),
    ("MatMul", {}, 0, 1, None),
    ("RNN", {}, 1, 3, 1),
    ("RNN", {}, 2, 3, 1),
    ("RNN", {}, 5, 3, None),
]

# (operator, attributes, input shapes, output shapes) -> multiply-accumulates
MACS: list[tuple[str, dict[str, int], Sequence[Shape | None], Sequence[Shape | None], int | None]] = [
    # 16 x 30 x 30 outputs, each from 3 x 3 x 3 inputs
    ("Conv", {}, [(1, 3, 32, 32), (16, 3, 3, 3), (16,)], [(1, 16, 30, 30)], 16 * 900 * 27),
    # depthwise: each output from 3 x 3 inputs of one channel
    ("Conv", {"group": 8}, [(2, 8, 10, 10), (8, 1, 3, 3)], [(2, 8, 8, 8)], 2 * 8 * 64 * 9),
    ("Conv", {}, [(1, 4, 100), (6, 4, 5)], [(1, 6, 96)], 6 * 96 * 20),
    ("Conv", {}, [None, (6, 4, 5)], [None], None),
    ("Conv", {}, [(1, 4, 100), None], [(1, 6, 96)], None),
    # every one of 4 x 5 x 5 inputs goes to 6 x 2 x 2 outputs
    ("ConvTranspose", {}, [(1, 4, 5, 5), (4, 6, 2, 2)], [(1, 6, 6, 6)], 100 * 24),
    ("ConvTranspose", {"group": 2}, [(1, 4, 5, 5), (4, 3, 2, 2)], [(1, 6, 6, 6)], 100 * 12),
    ("ConvTranspose", {}, [None, (4, 6, 2, 2)], [(1, 6, 6, 6)], None),
    ("Gather", {}, [(1000, 64), (7,)], [(7, 64)], 0),
    ("Gemm", {}, [(5, 7), (7, 11), (11,)], [(5, 11)], 5 * 7 * 11),
    ("Gemm", {"transA": 1}, [(7, 5), (7, 11)], [(5, 11)], 5 * 7 * 11),
    ("Gemm", {"transB": 1}, [(5, 7), (11, 7)], [(5, 11)], 5 * 7 * 11),
    ("Gemm", {}, [None, (7, 11)], [(5, 11)], None),
    ("Gemm", {}, [(7,), (7, 11)], [(11,)], None),
    ("MatMul", {}, [(5, 7), (7, 11)], [(5, 11)], 5 * 7 * 11),
    ("MatMul", {}, [(2, 3, 5, 7), (3, 7, 11)], [(2, 3, 5, 11)], 6 * 5 * 7 * 11),
    ("MatMul", {}, [(7,), (7, 11)], [(11,)], 7 * 11),
    ("MatMul", {}, [(5, 7), (7,)], [(5,)], 5 * 7),
    ("MatMul", {}, [(7,), (7,)], [()], 7),
    ("MatMul", {}, [(), (7,)], [(7,)], None),
    # 9 steps of 2 sequences, each with all of W and R
    ("LSTM", {}, [(9, 2, 20), (1, 96, 20), (1, 96, 24)], [(9, 1, 2, 24)], 18 * (96 * 20 + 96 * 24)),
    ("GRU", {}, [(9, 2, 20), (2, 72, 20), (2, 72, 24)], [(9, 2, 2, 24)], 18 * 2 * 72 * 44),
    ("RNN", {}, [(9, 2, 20), (1, 24, 20), (1, 24, 24)], [(9, 1, 2, 24)], 18 * 24 * 44),
    ("RNN", {}, [None, (1, 24, 20), (1, 24, 24)], [None], None),
]


@pytest.mark.parametrize(("op_type", "attributes", "index", "rank", "axis"), AXES)
def test_output_axes(op_type: str, attributes: dict[str, int], index: int, rank: int, axis: int | None) -> None:
    assert RULES[op_type].output_axis(operator(op_type, **attributes), index, rank) == axis


@pytest.mark.parametrize(("op_type", "attributes", "inputs", "outputs", "macs"), MACS)
def test_macs(
    op_type: str,
    attributes: dict[str, int],
    inputs: Sequence[Shape | None],
    outputs: Sequence[Shape | None],
    macs: int | None,
) -> None:
    padded = [*inputs, None, None, None], [*outputs, None, None, None]
    assert RULES[op_type].macs(operator(op_type, **attributes), *padded) == macs


@pytest.mark.parametrize("op_type", RULES)
def test_every_rule_has_cases_and_knows_when_it_knows_nothing(op_type: str) -> None:
    assert op_type in {row[0] for row in AXES}
    assert op_type in {row[0] for row in MACS}
    assert not RULES[op_type].macs(operator(op_type), [None] * 3, [None] * 3)
    assert onnx.defs.get_schema(op_type).domain == ""


def test_only_the_standard_domain_has_rules() -> None:
    assert rule_of(operator("MatMul")) is RULES["MatMul"]
    assert rule_of(replace(operator("MatMul"), domain="")) is RULES["MatMul"]
    assert rule_of(replace(operator("MatMul"), domain="ai.onnx")) is RULES["MatMul"]
    assert rule_of(replace(operator("MatMul"), domain="com.microsoft")) is None
    assert rule_of(operator("Relu")) is None


# ---- weights in graphs


def found(model: onnx.ModelProto, name: str = "w") -> Weight:
    return next(weight for weight in weights(load(model)) if weight.name == name)


def using(nodes: list[onnx.NodeProto], array: Array, **constants: Array) -> onnx.ModelProto:
    """A graph around a constant w; the shapes of its inputs and outputs do not matter here."""
    made = {name for node in nodes for name in node.output}
    used = dict.fromkeys(name for node in nodes for name in node.input if name)
    inputs: dict[str, list[int | str]] = {n: ["n"] for n in used if n not in made and n not in constants and n != "w"}
    return model_of(nodes, {"w": array, **constants}, inputs, {nodes[-1].output[0]: ["n"]})


def chain(array: Array, *nodes: onnx.NodeProto) -> onnx.ModelProto:
    """w through some operators, then MatMul x."""
    return using([*nodes, helper.make_node("MatMul", ["x", nodes[-1].output[0]], ["y"])], array)


def test_the_axis_behind_transpositions() -> None:
    turn = helper.make_node("Transpose", ["w"], ["v"], perm=[1, 0])
    assert output_axis(found(chain(normal(4, 6), turn))) == 0
    assert output_axis(found(chain(normal(4, 6), helper.make_node("Transpose", ["w"], ["v"])))) == 0
    moved = helper.make_node("Transpose", ["w"], ["v"], perm=[2, 0, 1])
    assert output_axis(found(chain(normal(4, 6, 8), moved))) == 1  # the last axis of v was axis 1
    again = helper.make_node("Transpose", ["v"], ["u"], perm=[2, 0, 1])
    assert output_axis(found(chain(normal(4, 6, 8), moved, again))) == 0
    same = helper.make_node("Identity", ["w"], ["v"])
    assert output_axis(found(chain(normal(4, 6), same))) == 1


def test_the_axis_behind_a_reshape_is_unknown() -> None:
    nodes = [helper.make_node("Reshape", ["w", "shape"], ["v"]), helper.make_node("MatMul", ["x", "v"], ["y"])]
    weight = found(using(nodes, normal(24), shape=np.array([4, 6])))
    assert why_not_a_weight(weight) is None
    assert output_axis(weight) is None


def test_broken_axes_are_unknown() -> None:
    assert output_axis(found(using([helper.make_node("Gather", ["w", "x"], ["y"], axis=7)], normal(4, 6)))) is None
    assert output_axis(found(using([helper.make_node("Gather", ["w", "x"], ["y"], axis=-7)], normal(4, 6)))) is None
    broken = helper.make_node("Transpose", ["w"], ["v"], perm=[5])
    assert output_axis(found(chain(normal(4, 6), broken))) is None


def test_tied_embeddings_agree() -> None:
    """Every word is a row of the table and a column of the output layer."""
    nodes = [
        helper.make_node("Gather", ["w", "ids"], ["h"]),
        helper.make_node("Transpose", ["w"], ["v"], perm=[1, 0]),
        helper.make_node("MatMul", ["h", "v"], ["y"]),
    ]
    weight = found(using(nodes, normal(50, 8)))
    assert [use.operator.op_type for use in weight.uses] == ["Gather", "MatMul"]
    assert output_axis(weight) == 0


def test_uses_that_disagree_have_no_axis() -> None:
    nodes = [helper.make_node("MatMul", ["w", "a"], ["h"]), helper.make_node("MatMul", ["h", "w"], ["y"])]
    weight = found(using(nodes, normal(8, 8)))
    assert why_not_a_weight(weight) is None
    assert output_axis(weight) is None


def product() -> onnx.ModelProto:
    return using([helper.make_node("MatMul", ["x", "w"], ["y"])], normal(4, 6))


def _integers() -> onnx.ModelProto:
    return using([helper.make_node("MatMul", ["x", "w"], ["y"])], np.ones((4, 6), np.int32))


def _output() -> onnx.ModelProto:
    model = product()
    model.graph.output.append(helper.make_tensor_value_info("w", TensorProto.FLOAT, [4, 6]))
    return model


def _output_behind_identity() -> onnx.ModelProto:
    model = product()
    model.graph.node.append(helper.make_node("Identity", ["w"], ["v"]))
    model.graph.output.append(helper.make_tensor_value_info("v", TensorProto.FLOAT, [4, 6]))
    return model


def _overridable() -> onnx.ModelProto:
    model = product()
    model.graph.input.append(helper.make_tensor_value_info("w", TensorProto.FLOAT, [4, 6]))
    return model


def _unused() -> onnx.ModelProto:
    model = product()
    model.graph.node[0].input[1] = "v"
    model.graph.initializer.append(numpy_helper.from_array(normal(4, 6), "v"))
    return model


def _bias() -> onnx.ModelProto:
    return using([helper.make_node("Gemm", ["x", "a", "w"], ["y"])], normal(4), a=normal(4, 4))


def _unknown() -> onnx.ModelProto:
    nodes = [helper.make_node("MatMul", ["x", "w"], ["h"]), helper.make_node("Add", ["h", "w"], ["y"])]
    return using(nodes, normal(4, 4))


def _vector() -> onnx.ModelProto:
    return using([helper.make_node("MatMul", ["x", "w"], ["y"])], normal(4))


def _other_domain() -> onnx.ModelProto:
    model = using([helper.make_node("MatMul", ["x", "w"], ["y"], domain="com.microsoft")], normal(4, 4))
    model.opset_import.add(domain="com.microsoft", version=1)
    return model


@pytest.mark.parametrize(
    ("make", "reason"),
    [
        (product, None),
        (_integers, "not of a floating type"),
        (_output, "it is an output of its graph"),
        (_output_behind_identity, "it is an output of its graph"),
        (_overridable, "the caller may override it"),
        (_unused, "nothing uses it"),
        (_bias, "input 2 of Gemm is no weight matrix"),
        (_unknown, "input 1 of Add is no weight matrix"),
        (_vector, "input 1 of MatMul is no weight matrix"),
        (_other_domain, "input 1 of MatMul is no weight matrix"),
    ],
)
def test_why_not_a_weight(make: Any, reason: str | None) -> None:
    said = why_not_a_weight(found(make()))
    assert said is None if reason is None else said is not None and reason in said


def test_below_ir_version_4_all_constants_are_inputs() -> None:
    model = _overridable()
    model.ir_version = 3
    assert why_not_a_weight(found(model)) is None


def test_a_graph_of_its_own_has_rules_too() -> None:
    graph = Graph()
    assert weights(graph) == []
