"""Reshape and its kin: axes that are taken apart and put together; heads, places within heads, groups, pixels."""

from typing import Final

import numpy as np
import onnx
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from graphshrink.ir.types import Array
from graphshrink.onnx_io.runtime import Runtime
from graphshrink.ops.coupling.reshaping import parts
from tests.removing import ANYTHING, Case, Shape, case, dense, images, node


def _ints(*values: int) -> Array:
    return np.array(values)


def _attention(heads: int, of_keys: int, width: int = 4, *, dense_scores: bool = False) -> list[onnx.NodeProto]:
    """Attention in single steps; fewer heads of keys and values are expanded to as many as there are of queries."""
    nodes: list[onnx.NodeProto] = []
    for name, count in (("q", heads), ("k", of_keys), ("v", of_keys)):
        nodes += [
            node("MatMul", ["x", f"W{name}"], [f"{name}1"]),
            node("Add", [f"{name}1", f"b{name}"], [f"{name}2"]),
            node("Reshape", [f"{name}2", f"{name} apart"], [f"{name}3"]),
            node("Transpose", [f"{name}3"], [f"{name}4"], perm=[0, 2, 1, 3]),
        ]
        if count != heads:
            nodes += [
                node("Unsqueeze", [f"{name}4", "two"], [f"{name}5"]),
                node("Expand", [f"{name}5", "repeated"], [f"{name}6"]),
                node("Reshape", [f"{name}6", "heads"], [f"{name}7"]),
            ]
        else:
            nodes += [node("Identity", [f"{name}4"], [f"{name}7"])]
    return [
        *nodes,
        node("Transpose", ["k7"], ["kt"], perm=[0, 1, 3, 2]),
        node("MatMul", ["q7", "kt"], ["s"]),
        node("Mul", ["s", "scale"], ["t"]),
        node("Softmax", ["t"], ["p"], axis=-1),
        node("MatMul", ["p", "v7"], ["o"]),
        node("Transpose", ["o"], ["o1"], perm=[0, 2, 1, 3]),
        node("Reshape", ["o1", "together"], ["o2"]),
        node("MatMul", ["o2", "Wo"], ["y"]),
    ]


def _attention_constants(heads: int, of_keys: int, width: int = 4) -> dict[str, Shape | Array]:
    both = {"q": heads, "k": of_keys, "v": of_keys}
    return {
        **{f"W{name}": (8, count * width) for name, count in both.items()},
        **{f"b{name}": (count * width,) for name, count in both.items()},
        **{f"{name} apart": _ints(0, -1, count, width) for name, count in both.items()},
        "two": _ints(2),
        "repeated": _ints(1, 1, heads // of_keys, 1, 1),
        "heads": _ints(2, heads, -1, width),
        "scale": np.array(0.5, np.float32),
        "together": _ints(0, 0, heads * width),
        "Wo": (heads * width, 8),
    }


def _fused(split: bool) -> Case:
    """Queries, keys and values of one product, parted by a Split, or by a Transpose and Gathers."""
    start = [node("MatMul", ["x", "W"], ["h"])]
    if split:
        start += [node("Split", ["h"], ["q0", "k0", "v0"], axis=2)]
        for name in "qkv":
            start += [
                node("Reshape", [f"{name}0", "apart"], [f"{name}1"]),
                node("Transpose", [f"{name}1"], [name], perm=[0, 2, 1, 3]),
            ]
    else:
        start += [node("Reshape", ["h", "in three"], ["h1"]), node("Transpose", ["h1"], ["h2"], perm=[2, 0, 3, 1, 4])]
        start += [node("Gather", ["h2", f"{number}"], [name], axis=0) for number, name in enumerate("qkv")]
    nodes = [
        *start,
        node("Transpose", ["k"], ["kt"], perm=[0, 1, 3, 2]),
        node("MatMul", ["q", "kt"], ["s"]),
        node("Softmax", ["s"], ["p"], axis=-1),
        node("MatMul", ["p", "v"], ["o"]),
        node("Transpose", ["o"], ["o1"], perm=[0, 2, 1, 3]),
        node("Reshape", ["o1", "together"], ["o2"]),
        node("MatMul", ["o2", "Wo"], ["y"]),
    ]
    constants: dict[str, Shape | Array] = {
        "W": (8, 36),
        "apart": _ints(2, 5, 3, 4),
        "in three": _ints(2, 5, 3, 3, 4),
        "together": _ints(2, 5, 12),
        "Wo": (12, 8),
        **{f"{number}": np.array(number) for number in range(3)},
    }
    return case(f"heads of one product, {'Split' if split else 'Gather'}", nodes, constants, ANYTHING, x=(2, 5, 8))


CASES: Final[list[Case]] = [
    images(
        "Flatten to a dense layer",
        [
            node("Conv", ["h", "V"], ["v"]),
            node("Flatten", ["v"], ["f"]),
            node("Gemm", ["f", "U"], ["g"]),
            node("Reshape", ["g", "s"], ["a"]),
        ],
        {"V": (6, 8, 1, 1), "U": (144, 5), "s": _ints(2, 5, 1, 1)},
        {"W1.0 V.1": 8, "V.0 U.0": 6, "U.1 W2.1": 5},
        taken=5,
    ),
    images(
        "Reshape to a dense layer, batch first",
        [node("Reshape", ["h", "f"], ["r"]), node("MatMul", ["r", "U"], ["g"]), node("Reshape", ["g", "s"], ["a"])],
        {"f": _ints(-1, 192), "U": (192, 5), "s": _ints(0, 5, 1, 1)},
        {"W1.0 U.0": 8, "U.1 W2.1": 5},
        taken=5,
    ),
    images(
        "Reshape with a 0 and a -1",
        [node("Reshape", ["h", "f"], ["r"]), node("Relu", ["r"], ["s"]), node("Reshape", ["s", "t"], ["a"])],
        {"f": _ints(0, 0, -1), "t": _ints(0, 8, 6, 4)},
        {"W1.0 W2.1": 8},
    ),
    images(
        "Flatten along another axis",
        [node("Flatten", ["h"], ["f"], axis=2), node("Reshape", ["f", "s"], ["a"])],
        {"s": _ints(2, 8, 6, 4)},
        {"W1.0 W2.1": 8},
    ),
    images(
        "tokens of an image",
        [
            node("Reshape", ["h", "s"], ["r"]),
            node("Transpose", ["r"], ["t"], perm=[0, 2, 1]),
            node("MatMul", ["t", "V"], ["v"]),
            node("Transpose", ["v"], ["u"], perm=[0, 2, 1]),
            node("Unsqueeze", ["u", "e"], ["a"]),
        ],
        {"s": _ints(2, 8, 24), "V": (8, 6), "e": _ints(3)},
        {"W1.0 V.0": 8, "V.1 W2.1": 6},
        taken=6,
    ),
    images(
        "pixel shuffle by Reshape",
        [
            node("Reshape", ["h", "apart"], ["r"]),
            node("Transpose", ["r"], ["t"], perm=[0, 1, 4, 2, 5, 3]),
            node("Reshape", ["t", "together"], ["a"]),
        ],
        {"apart": _ints(2, 2, 2, 2, 6, 4), "together": _ints(2, 2, 12, 8)},
        {"W1.0 W2.1": 2},
        taken=2,
    ),
    images(
        "channel shuffle, whole",
        [
            node("Reshape", ["h", "apart"], ["r"]),
            node("Transpose", ["r"], ["t"], perm=[0, 2, 1, 3, 4]),
            node("Reshape", ["t", "together"], ["a"]),
        ],
        {"apart": _ints(2, 2, 4, 6, 4), "together": _ints(2, 8, 6, 4)},
        {"W1.0 W2.1": 8},
    ),
    case(
        "attention",
        _attention(3, 3),
        _attention_constants(3, 3),
        {"Wq.1 Wk.1 Wv.1 bq.0 bk.0 bv.0 Wo.0": 3},
        x=(2, 5, 8),
    ),
    case(
        "attention of grouped queries",
        _attention(4, 2),
        _attention_constants(4, 2),
        {"Wq.1 Wk.1 Wv.1 bq.0 bk.0 bv.0 Wo.0": 2},
        x=(2, 5, 8),
    ),
    _fused(True),
    _fused(False),
    dense(
        "maxout over parts of channels",
        [node("Reshape", ["h", "apart"], ["r"]), node("ReduceMax", ["r"], ["a"], axes=[2], keepdims=0)],
        {"apart": _ints(0, 4, 2)},
        {"W1.1 W2.0": 4},
        taken=4,
    ),
    dense(
        "Softmax over parts of channels",
        [
            node("Reshape", ["h", "apart"], ["r"]),
            node("Softmax", ["r"], ["s"], axis=1),
            node("Reshape", ["s", "back"], ["a"]),
        ],
        {"apart": _ints(0, 4, 2), "back": _ints(-1, 8)},
        {"W1.1 W2.0": 2},
    ),
    dense(
        "sizes that have no factor in common",
        [node("Reshape", ["h", "s"], ["a"])],
        {"s": _ints(2, 12)},
        {},
        {"W1.1": "takes it apart or puts it together"},
        taken=12,
    ),
    dense(
        "rows and columns put together and apart",
        [node("Reshape", ["h", "one"], ["r"]), node("Relu", ["r"], ["s"]), node("Reshape", ["s", "two"], ["a"])],
        {"one": _ints(-1), "two": _ints(3, 8)},
        {"W1.1 W2.0": 8},
    ),
    dense(
        "Reshape of opset 9 with the size in a Constant",
        [
            node("Constant", [], ["s"], value=onnx.numpy_helper.from_array(_ints(3, 2, 4))),
            node("Reshape", ["h", "s"], ["r"]),
            node("Constant", [], ["t"], value=onnx.numpy_helper.from_array(_ints(0, 8))),
            node("Reshape", ["r", "t"], ["a"]),
        ],
        {},
        {"W1.1 W2.0": 2},
        opset=9,
    ),
]


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_reshaping(case: Case, runtime: Runtime) -> None:
    case.holds(runtime)


@settings(max_examples=200)
@given(st.lists(st.integers(1, 6), max_size=5), st.data())
def test_parts_cover_both_shapes(sizes: list[int], data: st.DataObject) -> None:
    """Each part has as many elements before as after, and where there are factors, every axis is a product of them."""
    total = int(np.prod(sizes, dtype=np.int64))
    after: list[int] = []
    left = total
    while left > 1:
        after.append(data.draw(st.sampled_from([d for d in range(2, left + 1) if left % d == 0])))
        left //= after[-1]
    found = list(parts(tuple(sizes), tuple(after)))
    assert [axis for part in found for axis in part.before] == list(range(len(sizes)))
    assert [axis for part in found for axis in part.after] == list(range(len(after)))
    for part in found:
        assert np.prod([sizes[axis] for axis in part.before]) == np.prod([after[axis] for axis in part.after])
        for axes, spans, shape in ((part.before, part.of_before, sizes), (part.after, part.of_after, after)):
            if part.factors:
                products = [int(np.prod([part.factors[f] for f in span])) for span in spans]
                assert products == [shape[axis] for axis in axes]
