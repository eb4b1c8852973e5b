"""Operators that compute every element from those at the same place: what they broadcast, and what is a mere number."""

from typing import Final

import numpy as np
import pytest
from onnx import TensorProto

from graphshrink.onnx_io.runtime import Runtime
from graphshrink.ops.coupling import elementwise
from tests.models import normal
from tests.removing import Case, dense, images, node

_ONE_IN: Final = ("Relu", "Sigmoid", "Exp", "Softplus", "Cos", "Sign", "Elu", "HardSigmoid", "Identity", "Neg", "Erf")
_MASK: Final = np.arange(8) % 3 > 0

CASES: Final[list[Case]] = [
    *(dense(op_type, [node(op_type, ["h"], ["a"])]) for op_type in _ONE_IN),
    dense("bias", [node("Add", ["h", "b"], ["a"])], {"b": (8,)}, {"W1.1 b.0 W2.0": 8}),
    dense("bias of all axes", [node("Add", ["h", "b"], ["a"])], {"b": (1, 8)}, {"W1.1 b.1 W2.0": 8}),
    dense("number", [node("Mul", ["h", "b"], ["a"])], {"b": ()}, {"W1.1 W2.0": 8}),
    dense("number in a vector", [node("Div", ["h", "b"], ["a"])], {"b": (1, 1)}, {"W1.1 W2.0": 8}),
    dense("column", [node("Add", ["h", "b"], ["a"])], {"b": (3, 1)}, {"W1.1 W2.0": 8}),
    dense("matrix", [node("Max", ["h", "b"], ["a"])], {"b": (3, 8)}, {"W1.1 b.1 W2.0": 8}),
    dense("wider than the value", [node("Add", ["h", "b"], ["a"])], {"b": (2, 3, 8)}, {"W1.1 b.2 W2.0": 8}),
    dense("gate", [node("Sigmoid", ["h"], ["s"]), node("Mul", ["h", "s"], ["a"])]),
    dense(
        "Pow",
        [node("Abs", ["h"], ["p"]), node("Pow", ["p", "b"], ["a"])],
        {"b": np.full(8, 2, np.float32)},
        {"W1.1 b.0 W2.0": 8},
    ),
    dense("Sum of three", [node("Sum", ["h", "h", "b"], ["a"])], {"b": (8,)}, {"W1.1 b.0 W2.0": 8}),
    dense("Mean of two", [node("Mean", ["h", "b"], ["a"])], {"b": (8,)}, {"W1.1 b.0 W2.0": 8}),
    dense("Min", [node("Min", ["h", "b"], ["a"])], {"b": (8,)}, {"W1.1 b.0 W2.0": 8}),
    dense(
        "Clip",
        [node("Clip", ["h", "low", "high"], ["a"])],
        {"low": np.array(0.2, np.float32), "high": ()},
        {"W1.1 W2.0": 8},
    ),
    dense("Clip of opset 9", [node("Clip", ["h"], ["a"], min=-1.0, max=1.0)], opset=9),
    dense("PRelu", [node("PRelu", ["h", "slope"], ["a"])], {"slope": (8,)}, {"W1.1 slope.0 W2.0": 8}),
    dense("PRelu with one slope", [node("PRelu", ["h", "slope"], ["a"])], {"slope": (1,)}, {"W1.1 W2.0": 8}),
    images("PRelu of images", [node("PRelu", ["h", "s"], ["a"])], {"s": (8, 1, 1)}, {"W1.0 s.0 W2.1": 8}),
    images("gain of images", [node("Mul", ["h", "s"], ["a"])], {"s": (1, 8, 1, 1)}, {"W1.0 s.1 W2.1": 8}),
    dense(
        "Where",
        [node("Where", ["mask", "h", "b"], ["a"])],
        {"mask": _MASK, "b": (8,)},
        {"W1.1 b.0 W2.0": 8},
    ),
    dense(
        "Where of comparisons",
        [node("Less", ["h", "b"], ["c"]), node("Where", ["c", "h", "z"], ["a"])],
        {"b": (8,), "z": ()},
        {"W1.1 b.0 W2.0": 8},
    ),
    dense(
        "logic",
        [
            node("Greater", ["h", "b"], ["c"]),
            node("Not", ["c"], ["d"]),
            node("And", ["c", "m"], ["e"]),
            node("Or", ["d", "e"], ["f"]),
            node("Cast", ["f"], ["a"], to=TensorProto.FLOAT),
        ],
        {"b": (8,), "m": _MASK},
        {"W1.1 b.0 W2.0": 8},
    ),
    dense(
        "Cast", [node("Cast", ["h"], ["d"], to=TensorProto.DOUBLE), node("Cast", ["d"], ["a"], to=TensorProto.FLOAT)]
    ),
    dense("CastLike", [node("CastLike", ["h", "like"], ["a"])], {"like": (3, 4)}, {"W1.1 W2.0": 8}, opset=15),
    dense("Dropout", [node("Dropout", ["h"], ["a", "m"])]),
    dense("Dropout of opset 9", [node("Dropout", ["h"], ["a"], ratio=0.3)], opset=9),
    dense("Gelu", [node("Gelu", ["h"], ["a"])], opset=20),
    dense("Mish", [node("Mish", ["h"], ["a"])], opset=18),
    dense("HardSwish", [node("HardSwish", ["h"], ["a"])], opset=14),
    dense(
        "remainder",
        [node("Mod", ["h", "b"], ["a"], fmod=1)],
        {"b": np.abs(normal(8, seed=3)) + 1},
        {"W1.1 b.0 W2.0": 8},
    ),
    dense(
        "not a number",
        [node("IsNaN", ["h"], ["n"]), node("Where", ["n", "z", "h"], ["a"])],
        {"z": ()},
        {"W1.1 W2.0": 8},
    ),
    dense(
        "the model's input is added",
        [node("Add", ["h", "x"], ["a"])],
        {},
        {},
        {"W1.0 W1.1 W2.0": "an input of the model keeps its shape"},
        width=5,
    ),
    dense(
        "QDQ",
        [node("QuantizeLinear", ["h", "s", "z"], ["q"]), node("DequantizeLinear", ["q", "s", "z"], ["a"])],
        {"s": np.array(0.05, np.float32), "z": np.array(3, np.uint8)},
        {"W1.1 W2.0": 8},
    ),
    dense(
        "QDQ by channel",
        [
            node("QuantizeLinear", ["h", "s", "z"], ["q"], axis=1),
            node("DequantizeLinear", ["q", "s", "z"], ["a"], axis=1),
        ],
        {"s": np.linspace(0.02, 0.1, 8).astype(np.float32), "z": np.arange(8).astype(np.int8)},
        {"W1.1 s.0 W2.0": 8},
    ),
    dense(
        "QDQ of opset 10",
        [node("QuantizeLinear", ["h", "s"], ["q"]), node("DequantizeLinear", ["q", "s"], ["a"])],
        {"s": np.array(0.05, np.float32)},
        {"W1.1 W2.0": 8},
        opset=10,
    ),
]


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_elementwise(case: Case, runtime: Runtime) -> None:
    case.holds(runtime)


def test_names_are_sorted_and_once() -> None:
    assert list(elementwise.NAMES) == sorted(set(elementwise.NAMES))
