"""Models of one operator, or one body, that uses weights which some encoding is for."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final, TypeAlias

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from graphshrink.ir.types import Array
from tests.few_values import few, pruned, skewed
from tests.models import model_of, normal

Draw: TypeAlias = Callable[..., Array]


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
    "Gemm": one_operator("Gemm", {"W": skewed(300, 130), "B": normal(130)}, normal(2, 300), [2, 130], {"W"}, transB=0),
    "MatMul": one_operator("MatMul", {"W": pruned(400, 300)}, normal(2, 400), [2, 300], {"W"}),
    "MatMul, batch": one_operator("MatMul", {"W": skewed(3, 200, 130)}, normal(3, 2, 200), [3, 2, 130], {"W"}),
    "Gather": one_operator("Gather", {"W": skewed(1111, 50)}, np.array([3, 1, 49]), [3, 50], {"W"}),
    "LSTM": recurrent("LSTM", 4, 110, skewed),
    "GRU": recurrent("GRU", 3, 200, pruned),
    "RNN": recurrent("RNN", 1, 300, skewed),
}
VERSIONS: Final = [(9, 3), (9, 4), (11, 6), (13, 7), (18, 8), (21, 10)]
