"""Normalisations, reductions, pooling and what compares: what counts channels counts those that are left."""

from typing import Any, Final

import numpy as np
import pytest
from onnx import TensorProto

from graphshrink.ir.types import Array
from graphshrink.onnx_io.runtime import Runtime
from tests.models import normal
from tests.removing import Case, Shape, dense, images, node

_STATISTICS: Final[dict[str, Shape | Array]] = {
    "gain": (8,),
    "offset": (8,),
    "mean": (8,),
    "variance": np.abs(normal(8, seed=6)) + 1,
}
_LAST: Final = np.array([-1])


def _axes(opset: int, axes: list[int]) -> tuple[dict[str, Any], list[str], dict[str, Shape | Array]]:
    """Axes of a reduction as an attribute, or as an input."""
    return ({"axes": axes}, [], {}) if opset < 18 else ({}, ["axes"], {"axes": np.array(axes)})


def _layer(opset: int) -> Case:
    """LayerNormalization in single steps."""
    given, more, axes = _axes(opset, [-1])
    steps = [
        node("ReduceMean", ["h", *more], ["m"], **given),
        node("Sub", ["h", "m"], ["d"]),
        node("Pow", ["d", "two"], ["q"]),
        node("ReduceMean", ["q", *more], ["v"], **given),
        node("Add", ["v", "epsilon"], ["w"]),
        node("Sqrt", ["w"], ["s"]),
        node("Div", ["d", "s"], ["n"]),
        node("Mul", ["n", "gain"], ["g"]),
        node("Add", ["g", "offset"], ["a"]),
    ]
    constants: dict[str, Shape | Array] = {
        "two": np.array(2, np.float32),
        "epsilon": np.array(1e-5, np.float32),
        "gain": (8,),
        "offset": (8,),
        **axes,
    }
    free = {"W1.1 gain.0 offset.0 W2.0": 8}
    return dense(f"LayerNormalization in steps, opset {opset}", steps, constants, free, opset=opset)


def _root(opset: int) -> Case:
    """RMSNormalization in single steps."""
    given, more, axes = _axes(opset, [-1])
    steps = [
        node("Mul", ["h", "h"], ["q"]),
        node("ReduceMean", ["q", *more], ["v"], **given),
        node("Sqrt", ["v"], ["s"]),
        node("Reciprocal", ["s"], ["r"]),
        node("Mul", ["h", "r"], ["n"]),
        node("Mul", ["n", "gain"], ["a"]),
    ]
    return dense(
        f"RMSNormalization in steps, opset {opset}", steps, {"gain": (8,), **axes}, {"W1.1 gain.0 W2.0": 8}, opset=opset
    )


def _reduction(op_type: str, opset: int, *, keepdims: int) -> Case:
    """Over channels, then added to a layer that takes them."""
    given, more, axes = _axes(opset, [1])
    back = [] if keepdims else [node("Unsqueeze", ["r", "one"], ["s"])]
    steps = [
        node(op_type, ["h", *more], ["r"], keepdims=keepdims, **given),
        *back,
        node("Add", ["h", "r" if keepdims else "s"], ["a"]),
    ]
    constants: dict[str, Shape | Array] = axes if keepdims else {**axes, "one": np.array([1])}
    return dense(f"{op_type}, keepdims={keepdims}, opset {opset}", steps, constants, {"W1.1 W2.0": 8}, opset=opset)


def _compared(op_type: str) -> Case:
    return dense(
        op_type,
        [node(op_type, ["h"], ["r"], axes=[1]), node("Add", ["h", "r"], ["a"])],
        {},
        {},
        {"W1.1 W2.0": f"{op_type} 'r' compares along this axis"},
    )


CASES: Final[list[Case]] = [
    *(
        images(
            f"BatchNormalization, opset {opset}",
            [node("BatchNormalization", ["h", "gain", "offset", "mean", "variance"], ["a"])],
            _STATISTICS,
            {"W1.0 gain.0 offset.0 mean.0 variance.0 W2.1": 8},
            opset=opset,
        )
        for opset in (9, 14, 17)
    ),
    dense(
        "BatchNormalization of rows",
        [node("BatchNormalization", ["h", "gain", "offset", "mean", "variance"], ["a"])],
        _STATISTICS,
        {"W1.1 gain.0 offset.0 mean.0 variance.0 W2.0": 8},
    ),
    images(
        "InstanceNormalization",
        [node("InstanceNormalization", ["h", "gain", "offset"], ["a"])],
        {"gain": (8,), "offset": (8,)},
        {"W1.0 gain.0 offset.0 W2.1": 8},
    ),
    images(
        "GroupNormalization",
        [node("GroupNormalization", ["h", "gain", "offset"], ["a"], num_groups=4)],
        {"gain": (8,), "offset": (8,)},
        {"W1.0 gain.0 offset.0 W2.1": 4},
        opset=21,
    ),
    images(
        "GroupNormalization of one group",
        [node("GroupNormalization", ["h", "gain", "offset"], ["a"], num_groups=1)],
        {"gain": (8,), "offset": (8,)},
        {},
        {"W1.0 gain.0 offset.0 W2.1": "its channels are tied to each other"},
        opset=21,
    ),
    images(
        "GroupNormalization as it is exported",
        [
            node("Reshape", ["h", "apart"], ["r"]),
            node("InstanceNormalization", ["r", "ones", "zeros"], ["i"]),
            node("Shape", ["h"], ["s"]),
            node("Reshape", ["i", "s"], ["t"]),
            node("Mul", ["t", "gain"], ["g"]),
            node("Add", ["g", "offset"], ["a"]),
        ],
        {
            "apart": np.array([0, 4, -1]),
            "ones": np.ones(4, np.float32),
            "zeros": np.zeros(4, np.float32),
            "gain": (8, 1, 1),
            "offset": (8, 1, 1),
        },
        {"W1.0 ones.0 zeros.0 gain.0 offset.0 W2.1": 4},
    ),
    *(
        dense(
            f"LayerNormalization, {len(given)} inputs",
            [node("LayerNormalization", ["h", *given], ["a"], epsilon=1e-3)],
            dict.fromkeys(given, (8,)),
            {f"W1.1 {' '.join(f'{n}.0' for n in given)} W2.0": 8},
            opset=17,
        )
        for given in (["gain"], ["gain", "offset"])
    ),
    dense(
        "LayerNormalization over two axes",
        [node("LayerNormalization", ["h", "gain", "offset"], ["a"], axis=1)],
        {"gain": (4, 8), "offset": (4, 8)},
        {"W1.1 gain.1 offset.1 W2.0": 8},
        x=(2, 4, 5),
        opset=17,
    ),
    dense(
        "LayerNormalization that tells its mean",
        [node("LayerNormalization", ["h", "gain"], ["n", "m", "s"]), node("Add", ["n", "m"], ["a"])],
        {"gain": (8,)},
        {},
        {"W1.1": "gives more than the normalised values"},
        opset=17,
    ),
    _layer(13),
    _layer(18),
    dense(
        "RMSNormalization",
        [node("RMSNormalization", ["h", "gain"], ["a"])],
        {"gain": (8,)},
        {"W1.1 gain.0 W2.0": 8},
        opset=23,
    ),
    _root(13),
    _root(18),
    *(
        _reduction(op_type, opset, keepdims=keepdims)
        for op_type, opset, keepdims in (
            ("ReduceMean", 13, 1),
            ("ReduceMean", 18, 0),
            ("ReduceL1", 13, 0),
            ("ReduceL2", 18, 1),
            ("ReduceSumSquare", 13, 1),
        )
    ),
    dense(
        "ReduceSum with axes as input",
        [node("ReduceSum", ["h", "axes"], ["r"]), node("Mul", ["h", "r"], ["a"])],
        {"axes": _LAST},
        {"W1.1 W2.0": 8},
    ),
    dense(
        "ReduceSum of opset 11",
        [node("ReduceSum", ["h"], ["r"], axes=[1]), node("Mul", ["h", "r"], ["a"])],
        {},
        {"W1.1 W2.0": 8},
        opset=11,
    ),
    dense(
        "mean of everything", [node("ReduceMean", ["h"], ["r"]), node("Add", ["h", "r"], ["a"])], {}, {"W1.1 W2.0": 8}
    ),
    dense(
        "no axes are no reduction",
        [node("ReduceSum", ["h"], ["r"], noop_with_empty_axes=1), node("Relu", ["r"], ["a"])],
        {},
        {"W1.1 W2.0": 8},
    ),
    _compared("ReduceMax"),
    _compared("ReduceMin"),
    _compared("ReduceProd"),
    _compared("ReduceLogSumExp"),
    dense(
        "Softmax over channels",
        [node("Softmax", ["h"], ["a"], axis=-1)],
        {},
        {},
        {"W1.1 W2.0": "Softmax 'a' compares along this axis"},
    ),
    dense("Softmax over another axis", [node("Softmax", ["h"], ["a"], axis=0)], {}, {"W1.1 W2.0": 8}),
    dense(
        "Softmax of opset 11 over all axes that follow",
        [node("Softmax", ["h"], ["a"], axis=1)],
        {},
        {},
        {"W1.1 W2.0": "compares"},
        x=(2, 3, 5),
        opset=11,
    ),
    dense("LogSoftmax", [node("LogSoftmax", ["h"], ["a"], axis=1)], {}, {"W1.1 W2.0": 8}, x=(2, 3, 5)),
    images("MaxPool", [node("MaxPool", ["h"], ["a"], kernel_shape=[2, 2], strides=[2, 2])]),
    images(
        "MaxPool, padded", [node("Neg", ["h"], ["n"]), node("MaxPool", ["n"], ["a"], kernel_shape=[3, 3], pads=[1] * 4)]
    ),
    images("AveragePool", [node("AveragePool", ["h"], ["a"], kernel_shape=[2, 2])]),
    images("LpPool", [node("LpPool", ["h"], ["a"], kernel_shape=[2, 2])], opset=11),
    images("GlobalAveragePool", [node("GlobalAveragePool", ["h"], ["a"])]),
    images("GlobalMaxPool", [node("GlobalMaxPool", ["h"], ["a"])]),
    images("GlobalAveragePool by ReduceMean", [node("ReduceMean", ["h"], ["a"], axes=[2, 3])]),
    images("LRN", [node("LRN", ["h"], ["a"], size=3, alpha=0.1, bias=1.0)]),
    images("LRN of opset 9", [node("LRN", ["h"], ["a"], size=5, alpha=0.1, bias=1.0)], opset=9),
    dense(
        "ArgMax over channels",
        [
            node("ArgMax", ["h"], ["i"], axis=1),
            node("Cast", ["i"], ["f"], to=TensorProto.FLOAT),
            node("Add", ["h", "f"], ["a"]),
        ],
        {},
        {},
        {"W1.1 W2.0": "ArgMax 'i' compares"},
    ),
    dense(
        "TopK over another axis", [node("TopK", ["h", "k"], ["a", "i"], axis=0)], {"k": np.array([2])}, {"W1.1 W2.0": 8}
    ),
]


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_normalising(case: Case, runtime: Runtime) -> None:
    case.holds(runtime)
