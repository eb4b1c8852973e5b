"""Gradients of every operator that has a rule, against differences of ONNX Runtime's outputs; and what has none."""

from collections.abc import Mapping, Sequence
from typing import Any, Final, NamedTuple

import numpy as np
import onnx
import pytest
from onnx import helper

from graphshrink.calibration.observing import observe
from graphshrink.ir import edit
from graphshrink.ir.types import Array, TensorType, ValueInfo
from graphshrink.onnx_io.emit import emit
from graphshrink.onnx_io.load import load
from graphshrink.onnx_io.runtime import Runtime
from graphshrink.ops.gradient.backward import RULES, backward
from graphshrink.ops.gradient.base import Writer
from tests.models import model_of, normal
from tests.runners import run_all

node = helper.make_node

_STEP: Final = 1e-2  # of differences: rounding of float32 and curvature are about as large with it
_NEAR: Final = 5e-3  # relative to the largest gradient


class Case(NamedTuple):
    """Operators from x to y."""

    name: str
    nodes: Sequence[onnx.NodeProto]
    x: tuple[int, ...] = (2, 6)
    constants: Mapping[str, Array] = {}
    opset: int = 17
    positive: bool = False

    @property
    def model(self) -> onnx.ModelProto:
        """The model; shapes of outputs are left open."""
        model = model_of(list(self.nodes), dict(self.constants), {"x": list(self.x)}, {"y": []}, opset=self.opset)
        model.graph.output[0].type.tensor_type.ClearField("shape")
        return model

    @property
    def feed(self) -> Array:
        """Numbers that no operator has a kink or a tie near."""
        count = int(np.prod(self.x))
        spaced = (np.random.default_rng(3).permutation(count) + 0.5 - (0 if self.positive else count / 2)) / count * 4
        found: Array = spaced.reshape(self.x).astype(np.float32) + np.float32(0.03)
        return found


def unary(op_type: str, *, opset: int = 17, positive: bool = False, **attributes: Any) -> Case:
    return Case(op_type, [node(op_type, ["x"], ["y"], **attributes)], opset=opset, positive=positive)


def _ints(*values: int) -> Array:
    return np.array(values, np.int64)


_IMAGE: Final = (1, 2, 6, 6)

CASES: Final[list[Case]] = [
    *(unary(name) for name in ("Abs", "Elu", "Erf", "Exp", "Identity", "LeakyRelu", "Neg", "Relu", "Sigmoid")),
    *(unary(name) for name in ("Softplus", "Tanh", "HardSwish", "Dropout")),
    *(unary(name, positive=True) for name in ("Log", "Reciprocal", "Sqrt")),
    unary("Gelu", opset=20),
    unary("HardSigmoid", alpha=0.3),
    unary("Softmax", axis=1),
    unary("LogSoftmax", axis=1),
    Case(
        "Clip",
        [node("Clip", ["x", "a", "b"], ["y"])],
        constants={"a": np.array(-0.9, np.float32), "b": np.array(1.25, np.float32)},
    ),
    Case("Cast", [node("Cast", ["x"], ["d"], to=11), node("Cast", ["d"], ["y"], to=1)]),
    Case("PRelu", [node("PRelu", ["x", "s"], ["y"])], constants={"s": normal(6)}),
    Case("Pow", [node("Pow", ["x", "p"], ["y"])], constants={"p": np.array(3, np.float32)}),
    Case("Add", [node("Exp", ["x"], ["e"]), node("Add", ["e", "x"], ["y"])]),
    Case("Sum", [node("Exp", ["x"], ["e"]), node("Sum", ["e", "x", "x"], ["y"])]),
    Case("Mean", [node("Exp", ["x"], ["e"]), node("Mean", ["e", "x"], ["y"])]),
    Case("Sub", [node("Exp", ["x"], ["e"]), node("Sub", ["x", "e"], ["y"])]),
    Case("Mul", [node("Tanh", ["x"], ["e"]), node("Mul", ["e", "x"], ["y"])]),
    Case("Div", [node("Exp", ["x"], ["e"]), node("Div", ["x", "e"], ["y"])]),
    Case("Max", [node("Neg", ["x"], ["e"]), node("Max", ["e", "x"], ["y"])]),
    Case("Min", [node("Neg", ["x"], ["e"]), node("Min", ["e", "x"], ["y"])]),
    Case(
        "Where",
        [node("Greater", ["x", "z"], ["c"]), node("Exp", ["x"], ["e"]), node("Where", ["c", "x", "e"], ["y"])],
        constants={"z": np.array(0, np.float32)},
    ),
    Case("broadcast", [node("ReduceMean", ["x"], ["m"], axes=[1]), node("Mul", ["m", "x"], ["y"])]),
    Case("broadcast rank", [node("ReduceMax", ["x"], ["m"], axes=[0], keepdims=0), node("Mul", ["m", "x"], ["y"])]),
    # ---- products
    Case("Gemm", [node("Gemm", ["x", "w"], ["y"], alpha=0.5)], constants={"w": normal(6, 3)}),
    Case(
        "Gemm with both",
        [node("Tanh", ["s"], ["t"]), node("Gemm", ["x", "w", "t"], ["y"], transB=1, beta=2.0)],
        constants={"w": normal(3, 6), "s": normal(1, 3)},
    ),
    Case(
        "Gemm that adds x",
        [node("Gemm", ["a", "w", "x"], ["y"], beta=0.5)],
        constants={"a": normal(2, 4), "w": normal(4, 6)},
    ),
    Case("MatMul", [node("MatMul", ["x", "w"], ["y"])], constants={"w": normal(6, 3)}),
    Case("MatMul from the right", [node("MatMul", ["w", "x"], ["y"])], constants={"w": normal(3, 2)}),
    Case(
        "MatMul of activations",
        [node("Transpose", ["x"], ["t"], perm=[0, 2, 1]), node("MatMul", ["x", "t"], ["y"])],
        (2, 3, 4),
    ),
    Case("MatMul, broadcast", [node("MatMul", ["w", "x"], ["y"])], (4, 3), constants={"w": normal(3, 2, 4)}),
    Case("Conv", [node("Conv", ["x", "w"], ["y"], pads=[1, 1, 1, 1])], _IMAGE, {"w": normal(3, 2, 3, 3)}),
    Case(
        "Conv with steps",
        [node("Conv", ["x", "w"], ["y"], strides=[2, 2], pads=[1, 0, 0, 1])],
        _IMAGE,
        {"w": normal(3, 2, 3, 2)},
    ),
    Case(
        "Conv with holes, by channel",
        [node("Conv", ["x", "w"], ["y"], dilations=[2, 2], group=2)],
        _IMAGE,
        {"w": normal(2, 1, 2, 2)},
    ),
    Case(
        "ConvTranspose",
        [node("ConvTranspose", ["x", "w"], ["y"], strides=[2, 2], pads=[1, 1, 0, 0])],
        (1, 2, 3, 3),
        {"w": normal(2, 3, 3, 3)},
    ),
    # ---- moves
    Case("Reshape", [node("Reshape", ["x", "s"], ["y"])], constants={"s": _ints(3, 4)}),
    Case("Flatten", [node("Flatten", ["x"], ["y"])], (2, 2, 3)),
    Case("Transpose", [node("Transpose", ["x"], ["y"], perm=[1, 2, 0])], (2, 3, 2)),
    Case("Concat", [node("Exp", ["x"], ["e"]), node("Concat", ["e", "x"], ["y"], axis=-1)]),
    Case("Split", [node("Split", ["x", "s"], ["a", "y"], axis=1)], constants={"s": _ints(2, 4)}),
    Case(
        "Split, both",
        [node("Split", ["x", "s"], ["a", "b"], axis=1), node("Exp", ["a"], ["c"]), node("Mul", ["b", "c"], ["y"])],
        constants={"s": _ints(3, 3)},
    ),
    Case(
        "Slice",
        [node("Slice", ["x", "a", "b", "c"], ["y"])],
        constants={"a": _ints(-4), "b": _ints(99), "c": _ints(1)},
    ),
    Case("Gather", [node("Gather", ["x", "i"], ["y"], axis=1)], constants={"i": np.array(-2, np.int64)}),
    Case("Gather of a list", [node("Gather", ["x", "i"], ["y"], axis=1)], constants={"i": _ints(4)}),
    Case("Pad", [node("Pad", ["x", "p"], ["y"])], constants={"p": _ints(0, 1, 1, 2)}),
    Case("Expand", [node("Expand", ["x", "s"], ["y"])], (2, 1, 3), {"s": _ints(2, 4, 3)}),
    *(
        Case(
            f"Resize, {how}",
            [
                node(
                    "Resize",
                    ["x", "", "s"],
                    ["y"],
                    mode="nearest",
                    coordinate_transformation_mode=how,
                    nearest_mode=near,
                )
            ],
            (1, 2, 3, 3),
            {"s": np.array([1, 1, 2, 3], np.float32)},
        )
        for how, near in (("asymmetric", "floor"), ("half_pixel", "round_prefer_floor"))
    ),
    Case("Squeeze", [node("Squeeze", ["x"], ["y"])], (2, 1, 3)),
    Case("Unsqueeze", [node("Unsqueeze", ["x", "a"], ["y"])], constants={"a": _ints(0)}),
    # ---- reductions
    Case("ReduceMean", [node("ReduceMean", ["x"], ["y"], axes=[1], keepdims=0)]),
    Case("ReduceMean of all", [node("ReduceMean", ["x"], ["y"], keepdims=1)]),
    Case("ReduceSum", [node("ReduceSum", ["x", "a"], ["y"])], (2, 3, 2), {"a": _ints(-1)}),
    Case("ReduceMax", [node("ReduceMax", ["x"], ["y"], axes=[1])]),
    Case("ReduceMin", [node("ReduceMin", ["x"], ["y"], axes=[1], keepdims=0)]),
    Case("GlobalAveragePool", [node("GlobalAveragePool", ["x"], ["y"])], _IMAGE),
    Case("GlobalMaxPool", [node("GlobalMaxPool", ["x"], ["y"])], _IMAGE),
    Case("MaxPool", [node("MaxPool", ["x"], ["y"], kernel_shape=[2, 2], strides=[2, 2])], _IMAGE),
    Case("MaxPool, odd", [node("MaxPool", ["x"], ["y"], kernel_shape=[3, 2], strides=[3, 2])], (1, 2, 7, 5)),
    Case("AveragePool", [node("AveragePool", ["x"], ["y"], kernel_shape=[3, 3], strides=[2, 2])], _IMAGE),
    # ---- normalisations
    Case(
        "BatchNormalization",
        [node("BatchNormalization", ["x", "s", "b", "m", "v"], ["y"])],
        _IMAGE,
        {"s": normal(2), "b": normal(2, seed=1), "m": normal(2, seed=2), "v": np.abs(normal(2, seed=3)) + 0.5},
    ),
    Case(
        "LayerNormalization",
        [node("LayerNormalization", ["x", "s", "b"], ["y"], epsilon=0.1)],
        constants={"s": normal(6), "b": normal(6, seed=1)},
    ),
    Case(
        "InstanceNormalization",
        [node("InstanceNormalization", ["x", "s", "b"], ["y"], epsilon=0.1)],
        (1, 2, 3, 3),
        {"s": normal(2), "b": normal(2, seed=1)},
    ),
    *(
        Case(f"{name}, opset 18", [node(name, ["x", "a"], ["y"])], constants={"a": _ints(1)}, opset=18)
        for name in ("ReduceMean", "ReduceMax")
    ),
]


def gradients(case: Case, runtime: Runtime, factor: Array) -> tuple[onnx.ModelProto, dict[str, str]]:
    """The model with the gradients of  sum(factor * y)."""
    graph = load(case.model)
    observed = observe(graph, {"x": case.feed}, runtime)
    writer = Writer(graph, "gradient")
    names = backward(writer, {"y": writer.constant(factor)}, observed.shapes, observed.dtypes, observed.known)
    edit.set_outputs(graph, [ValueInfo(names["x"], TensorType(1, None))] if "x" in names else [])
    return emit(graph), names


def outputs(case: Case, feeds: Sequence[Array]) -> list[Array]:
    return [one["y"].astype(np.float64) for one in run_all(case.model, [{"x": x} for x in feeds], optimised=False)]


def differences(case: Case, factor: Array) -> Array:
    x, found = case.feed, np.zeros(case.x)
    for place in np.ndindex(*case.x):
        both = [x.copy(), x.copy()]
        both[0][place] += np.float32(_STEP)
        both[1][place] -= np.float32(_STEP)
        up, down = outputs(case, both)
        found[place] = np.sum(factor * (up - down)) / (both[0][place] - both[1][place])
    return found


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_gradients_are_limits_of_differences(case: Case, runtime: Runtime) -> None:
    factor = normal(*outputs(case, [case.feed])[0].shape, seed=11)
    model, names = gradients(case, runtime, factor)
    [found] = run_all(model, [{"x": case.feed}], optimised=True)
    expected = differences(case, factor)
    gradient = found[names["x"]]
    assert gradient.shape == case.x
    assert np.abs(gradient - expected).max() <= _NEAR * np.abs(expected).max()


def test_every_rule_is_tried() -> None:
    tried = {one.op_type for case in CASES for one in case.nodes}
    assert set(RULES) - tried == {"Swish", "Upsample"}, "of opset 24, and Resize's predecessor"


@pytest.mark.parametrize(
    ("name", "nodes"),
    [
        ("no rule", [node("Cos", ["x"], ["y"])]),
        ("one way of two has no rule", [node("Cos", ["x"], ["c"]), node("Add", ["c", "x"], ["y"])]),
        ("no rule further on", [node("Relu", ["x"], ["a"]), node("Cos", ["a"], ["y"])]),
        ("steps of two", [node("Slice", ["x", "zero", "end", "axis", "two"], ["y"])]),
        (
            "places are not copied alike",
            [node("Resize", ["x", "", "scales"], ["y"], mode="nearest", coordinate_transformation_mode="asymmetric")],
        ),
        ("a second output is used", [node("TopK", ["x", "one"], ["y", "i"])]),
    ],
)
def test_parts_of_gradients_are_none(name: str, nodes: list[onnx.NodeProto], runtime: Runtime) -> None:
    numbers = {"zero": 0, "end": 6, "axis": 1, "two": 2, "one": 1}
    used = {given for one in nodes for given in one.input}
    constants = {key: _ints(value) for key, value in numbers.items() if key in used}
    case = Case(name, nodes, constants=constants | ({"scales": np.ones(2, np.float32)} if "scales" in used else {}))
    factor = normal(*outputs(case, [case.feed])[0].shape)
    assert "x" not in gradients(case, runtime, factor)[1]


def test_a_branch_to_no_output_is_ignored(runtime: Runtime) -> None:
    case = Case("dead end", [node("Cos", ["x"], ["unused"]), node("Neg", ["x"], ["y"])])
    factor = normal(2, 6)
    model, names = gradients(case, runtime, factor)
    [found] = run_all(model, [{"x": case.feed}], optimised=True)
    assert np.array_equal(found[names["x"]], -factor)


def test_what_a_body_captures_has_none(runtime: Runtime) -> None:
    body = helper.make_graph([node("Neg", ["a"], ["o"])], "b", [], [helper.make_tensor_value_info("o", 1, None)])
    nodes = [
        node("Relu", ["x"], ["a"]),
        node("If", ["c"], ["i"], then_branch=body, else_branch=body),
        node("Add", ["i", "a"], ["y"]),
    ]
    case = Case("captured", nodes, constants={"c": np.array(True)})
    assert set(gradients(case, runtime, normal(2, 6))[1]) == {"y", "i"}
