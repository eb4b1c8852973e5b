"""Operators that add up products: weights on either side, groups, turned around, and none at all."""

from typing import Final

import numpy as np
import pytest

from graphshrink.onnx_io.runtime import Runtime
from tests.removing import ANYTHING, Case, case, dense, images, node

CASES: Final[list[Case]] = [
    case(
        "MatMul",
        [node("MatMul", ["x", "W1"], ["h"]), node("MatMul", ["h", "W2"], ["y"])],
        {"W1": (8, 6), "W2": (6, 3)},
        {"W1.1 W2.0": 6},
        {"W1.0": "an input of the model keeps its shape", "W2.1": "an output of the model keeps its shape"},
    ),
    case(
        "MatMul, weights on the left",
        [node("MatMul", ["W1", "x"], ["h"]), node("MatMul", ["W2", "h"], ["y"])],
        {"W1": (6, 2), "W2": (3, 6)},
        {"W1.0 W2.1": 6},
    ),
    case(
        "MatMul of a vector",
        [node("MatMul", ["x", "W1"], ["h"]), node("MatMul", ["h", "W2"], ["y"])],
        {"W1": (8, 6), "W2": (6, 3)},
        {"W1.1 W2.0": 6},
        x=(8,),
    ),
    case(
        "MatMul with a vector",
        [node("MatMul", ["x", "W1"], ["h"]), node("MatMul", ["h", "w"], ["y"])],
        {"W1": (8, 6), "w": (6,)},
        {"W1.1 w.0": 6},
    ),
    case(
        "MatMul of vectors",
        [node("MatMul", ["x", "W1"], ["h"]), node("MatMul", ["h", "w"], ["y"])],
        {"W1": (8, 6), "w": (6,)},
        {"W1.1 w.0": 6},
        x=(8,),
    ),
    case(
        "batched weights",
        [node("MatMul", ["x", "W1"], ["h"]), node("MatMul", ["h", "W2"], ["y"])],
        {"W1": (2, 8, 6), "W2": (2, 6, 3)},
        {"W1.2 W2.1": 6},
        x=(2, 4, 8),
    ),
    case(
        "weights broadcast over a batch",
        [node("MatMul", ["x", "W1"], ["h"]), node("MatMul", ["h", "W2"], ["y"])],
        {"W1": (1, 8, 6), "W2": (3, 1, 6, 3)},
        {"W1.2 W2.2": 6},
        x=(2, 4, 8),
    ),
    case(
        "a value of few axes broadcast to weights of many",
        [
            node("MatMul", ["x", "W1"], ["h"]),
            node("MatMul", ["h", "W2"], ["g"]),
            node("ReduceSum", ["g", "axes"], ["y"], keepdims=0),
        ],
        {"W1": (3, 8, 6), "W2": (3, 6, 4), "axes": np.array([0])},
        {"W1.0 W2.0": 3, "W1.2 W2.1": 6},
        x=(2, 8),
    ),
    case(
        "activation by activation",
        [
            node("MatMul", ["x", "Wq"], ["q"]),
            node("MatMul", ["x", "Wk"], ["k"]),
            node("Transpose", ["k"], ["kt"], perm=[0, 2, 1]),
            node("MatMul", ["q", "kt"], ["y"]),
        ],
        {"Wq": (8, 6), "Wk": (8, 6)},
        {"Wq.1 Wk.1": 6},
        x=(2, 4, 8),
    ),
    case(
        "activation by activation, over what both have",
        [
            node("MatMul", ["x", "Wq"], ["q"]),
            node("MatMul", ["x", "Wk"], ["k"]),
            node("Transpose", ["q"], ["qt"], perm=[0, 2, 1]),
            node("MatMul", ["qt", "k"], ["s"]),
            node("MatMul", ["s", "Wo"], ["t"]),
            node("MatMul", ["Wp", "t"], ["y"]),
        ],
        {"Wq": (8, 6), "Wk": (8, 5), "Wo": (5, 3), "Wp": (3, 6)},
        {"Wq.1 Wp.1": 6, "Wk.1 Wo.0": 5},
        x=(2, 4, 8),
    ),
    case(
        "product of weights",
        [node("MatMul", ["U", "V"], ["W"]), node("MatMul", ["x", "W"], ["h"]), node("MatMul", ["h", "W2"], ["y"])],
        {"U": (8, 4), "V": (4, 6), "W2": (6, 3)},
        {"U.1 V.0": 4, "V.1 W2.0": 6},
    ),
    *(
        case(
            f"Gemm, transA={a}, transB={b}",
            [
                node("Gemm", ["x", "W1", "b"], ["h"], transB=b),
                node("Transpose", ["h"], ["g"], perm=[1, 0] if a else [0, 1]),
                node("Gemm", ["g", "W2"], ["y"], transA=a, transB=b),
            ],
            {"W1": (6, 8) if b else (8, 6), "b": (6,), "W2": (3, 6) if b else (6, 3)},
            {"W1.0 b.0 W2.1": 6} if b else {"W1.1 b.0 W2.0": 6},
        )
        for a in (0, 1)
        for b in (0, 1)
    ),
    case(
        "Gemm, the weight is A",
        [node("Gemm", ["W1", "x"], ["h"], transA=1), node("Gemm", ["W2", "h"], ["y"])],
        {"W1": (2, 6), "W2": (3, 6)},
        {"W1.1 W2.1": 6},
    ),
    *(
        case(
            f"Gemm, bias {shape}",
            [node("Gemm", ["x", "W1", "b"], ["h"]), node("Gemm", ["h", "W2"], ["y"])],
            {"W1": (8, 6), "b": shape, "W2": (6, 3)},
            {f"W1.1 {where}W2.0": 6},
        )
        for shape, where in (((), ""), ((1,), ""), ((1, 6), "b.1 "), ((2, 6), "b.1 "), ((2, 1), ""))
    ),
    case(
        "Gemm of opset 9",
        [node("Gemm", ["x", "W1", "b"], ["h"]), node("Gemm", ["h", "W2", "c"], ["y"])],
        {"W1": (8, 6), "b": (6,), "W2": (6, 3), "c": (3,)},
        {"W1.1 b.0 W2.0": 6},
        opset=9,
    ),
    case(
        "IR version 3",
        [node("Gemm", ["x", "W1", "b"], ["h"]), node("MatMul", ["h", "W2"], ["y"])],
        {"W1": (8, 6), "b": (6,), "W2": (6, 3)},
        {"W1.1 b.0 W2.0": 6},
        opset=9,
        ir_version=3,
    ),
    images("Conv", [node("Relu", ["h"], ["a"])]),
    images("Conv of signals", [node("Relu", ["h"], ["a"])], x=(2, 3, 9)),
    images("Conv of volumes", [node("Relu", ["h"], ["a"])], x=(1, 3, 4, 4, 4)),
    images(
        "Conv with bias, stride and dilation",
        [node("Conv", ["h", "V", "b"], ["a"], strides=[2, 1], dilations=[1, 2], pads=[1, 2, 1, 2])],
        {"V": (6, 8, 3, 3), "b": (6,)},
        {"W1.0 V.1": 8, "V.0 b.0 W2.1": 6},
        taken=6,
    ),
    images(
        "Conv, padded by name",
        [node("Conv", ["h", "V"], ["a"], auto_pad="SAME_UPPER")],
        {"V": (6, 8, 3, 3)},
        {"W1.0 V.1": 8, "V.0 W2.1": 6},
        taken=6,
    ),
    images(
        "depthwise",
        [node("Conv", ["h", "V", "b"], ["a"], group=8, pads=[1, 1, 1, 1], kernel_shape=[3, 3])],
        {"V": (8, 1, 3, 3), "b": (8,)},
        {"W1.0 V.0 b.0 W2.1": 8},
    ),
    images(
        "depthwise, two for each",
        [node("Conv", ["h", "V", "b"], ["a"], group=8)],
        {"V": (16, 1, 3, 3), "b": (16,)},
        {"W1.0 V.0 b.0 W2.1": 8},
        taken=16,
    ),
    images(
        "grouped",
        [node("Conv", ["h", "V", "b"], ["a"], group=2, pads=[1, 1, 1, 1])],
        {"V": (6, 4, 3, 3), "b": (6,)},
        ANYTHING,
        taken=6,
    ),
    images("grouped, four in a group", [node("Conv", ["h", "V"], ["a"], group=4)], {"V": (8, 2, 3, 3)}, ANYTHING),
    images(
        "grouped twice",
        [
            node("Conv", ["h", "V"], ["g"], group=2),
            node("Relu", ["g"], ["r"]),
            node("Conv", ["r", "U"], ["a"], group=4),
        ],
        {"V": (8, 4, 3, 3), "U": (12, 2, 1, 1)},
        ANYTHING,
        taken=12,
    ),
    images(
        "ConvTranspose",
        [node("ConvTranspose", ["h", "V", "b"], ["a"], strides=[2, 2])],
        {"V": (8, 6, 2, 2), "b": (6,)},
        {"W1.0 V.0": 8, "V.1 b.0 W2.1": 6},
        taken=6,
    ),
    images(
        "ConvTranspose, grouped",
        [node("ConvTranspose", ["h", "V", "b"], ["a"], group=2)],
        {"V": (8, 3, 2, 2), "b": (6,)},
        ANYTHING,
        taken=6,
    ),
    images(
        "ConvTranspose, depthwise",
        [node("ConvTranspose", ["h", "V"], ["a"], group=8, strides=[2, 2])],
        {"V": (8, 1, 2, 2)},
        {"W1.0 V.0 W2.1": 8},
    ),
    images("the kernel's taps are no channels", [node("Relu", ["h"], ["a"])], held={}, free={"W1.0 W2.1": 8}),
    case(
        "Einsum as a product",
        [node("Einsum", ["x", "W1"], ["h"], equation="bsi,io->bso"), node("MatMul", ["h", "W2"], ["y"])],
        {"W1": (8, 6), "W2": (6, 3)},
        {"W1.1 W2.0": 6},
        x=(2, 4, 8),
    ),
    case(
        "Einsum of heads",
        [
            node("Einsum", ["x", "Wq"], ["q"], equation="bsi,ihd->bhsd"),
            node("Einsum", ["x", "Wk"], ["k"], equation="bsi,ihd->bhsd"),
            node("Einsum", ["q", "k"], ["s"], equation="bhid,bhjd->bhij"),
            node("Softmax", ["s"], ["p"], axis=-1),
            node("Einsum", ["x", "Wv"], ["v"], equation="bsi,ihd->bhsd"),
            node("Einsum", ["p", "v"], ["o"], equation="bhij,bhjd->bihd"),
            node("Einsum", ["o", "Wo"], ["y"], equation=" bihd , hdo -> bio "),
        ],
        {"Wq": (8, 3, 4), "Wk": (8, 3, 4), "Wv": (8, 3, 4), "Wo": (3, 4, 8)},
        {"Wq.1 Wk.1 Wv.1 Wo.0": 3, "Wq.2 Wk.2": 4, "Wv.2 Wo.1": 4},
        x=(2, 5, 8),
    ),
    case(
        "Einsum with an ellipsis",
        [node("Einsum", ["x", "W1"], ["h"], equation="...i,io->...o"), node("MatMul", ["h", "W2"], ["y"])],
        {"W1": (8, 6), "W2": (6, 3)},
        {},
        {"W1.1": "Einsum 'h' of", "W2.0": "Einsum 'h' of"},
        x=(2, 4, 8),
    ),
    dense(
        "Einsum that broadcasts",
        [node("Einsum", ["h", "b"], ["a"], equation="ni,ni->ni")],
        {"b": (1, 8)},
        {"W1.1 b.1 W2.0": 8},
    ),
]


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_contraction(case: Case, runtime: Runtime) -> None:
    case.holds(runtime)
