"""Operators that move elements about along their axes, in the forms that different operator sets give them."""

from typing import Any, Final

import numpy as np
import pytest

from graphshrink.ir.types import Array
from graphshrink.onnx_io.runtime import Runtime
from tests.removing import Case, case, dense, images, node

_SPLITS: Final[tuple[tuple[int, dict[str, Any]], ...]] = (
    (9, {}),
    (11, {"split": [4, 4]}),
    (13, {}),
    (18, {"num_outputs": 2}),
)
"""Opsets, and how they say into what is split."""

_IDS: Final = np.array([[0, 3, 2], [5, 1, 3]])


def _ints(*values: int, dtype: type = np.int64) -> Array:
    return np.array(values, dtype)


CASES: Final[list[Case]] = [
    dense(
        "Transpose",
        [
            node("Transpose", ["h"], ["t"], perm=[2, 0, 1]),
            node("Relu", ["t"], ["r"]),
            node("Transpose", ["r"], ["a"], perm=[1, 2, 0]),
        ],
        x=(2, 3, 5),
    ),
    case(
        "Transpose without perm",
        [node("MatMul", ["x", "W1"], ["h"]), node("Transpose", ["h"], ["t"]), node("MatMul", ["W2", "t"], ["y"])],
        {"W1": (5, 8), "W2": (4, 8)},
        {"W1.1 W2.1": 8},
        x=(3, 5),
    ),
    case(
        "weight behind a Transpose",
        [
            node("Transpose", ["V"], ["W"], perm=[1, 0]),
            node("MatMul", ["x", "W"], ["h"]),
            node("MatMul", ["h", "W2"], ["y"]),
        ],
        {"V": (8, 5), "W2": (8, 4)},
        {"V.0 W2.0": 8},
        x=(3, 5),
    ),
    dense(
        "Squeeze and Unsqueeze",
        [node("Unsqueeze", ["h", "axes"], ["u"]), node("Relu", ["u"], ["r"]), node("Squeeze", ["r", "axes"], ["a"])],
        {"axes": _ints(1)},
        {"W1.1 W2.0": 8},
    ),
    dense(
        "Squeeze and Unsqueeze of opset 11",
        [node("Unsqueeze", ["h"], ["u"], axes=[0, 2]), node("Squeeze", ["u"], ["a"], axes=[0, 2])],
        opset=11,
    ),
    dense(
        "Squeeze of all axes of size 1",
        [node("Unsqueeze", ["h", "axes"], ["u"]), node("Squeeze", ["u"], ["a"])],
        {"axes": _ints(-2)},
        {"W1.1 W2.0": 8},
    ),
    dense("Concat", [node("Concat", ["h", "h"], ["a"], axis=1)], {}, {"W1.1 W2.0": 8}, taken=16),
    dense(
        "Concat of two layers and a constant",
        [node("MatMul", ["x", "V"], ["g"]), node("Concat", ["h", "c", "g"], ["a"], axis=-1)],
        {"V": (5, 6), "c": (3, 2)},
        {"W1.1 W2.0": 8, "V.1 W2.0": 6, "c.1 W2.0": 2},
        taken=16,
    ),
    dense(
        "Concat of a sum",
        [node("MatMul", ["x", "V"], ["g"]), node("Add", ["h", "g"], ["s"]), node("Concat", ["s", "g"], ["a"], axis=-1)],
        {"V": (5, 8)},
        {"W1.1 V.1 W2.0": 8},
        taken=16,
    ),
    dense(
        "Concat along another axis", [node("Concat", ["h", "c"], ["a"], axis=0)], {"c": (2, 8)}, {"W1.1 c.1 W2.0": 8}
    ),
    *(
        dense(
            f"Split, opset {opset}",
            [node("Split", ["h"], ["s", "t"], axis=1, **given), node("Mul", ["s", "t"], ["a"])],
            {},
            {"W1.1 W2.0": 4},
            taken=4,
            opset=opset,
        )
        for opset, given in _SPLITS
    ),
    dense(
        "Split of unequal parts, opset 11",
        [
            node("Split", ["h"], ["s", "t"], axis=1, split=[5, 3]),
            node("MatMul", ["t", "V"], ["u"]),
            node("Add", ["s", "u"], ["a"]),
        ],
        {"V": (3, 5)},
        {"W1.1 V.1 W2.0": 5, "W1.1 V.0": 3},
        taken=5,
        opset=11,
    ),
    dense(
        "Split by an input",
        [
            node("Split", ["h", "sizes"], ["s", "t"], axis=-1),
            node("MatMul", ["t", "V"], ["u"]),
            node("Add", ["s", "u"], ["a"]),
        ],
        {"V": (3, 5), "sizes": _ints(5, 3)},
        {"W1.1 V.1 W2.0": 5, "W1.1 V.0": 3},
        taken=5,
    ),
    dense(
        "Split of which a part is not used",
        [node("Split", ["h", "sizes"], ["a", "t"], axis=-1)],
        {"sizes": _ints(5, 3)},
        {"W1.1 W2.0": 5, "W1.1": 3},
        taken=5,
    ),
    dense(
        "Split along another axis",
        [node("Split", ["h", "sizes"], ["s", "t"], axis=0), node("Concat", ["t", "s"], ["a"], axis=0)],
        {"sizes": _ints(1, 2)},
        {"W1.1 W2.0": 8},
    ),
    dense(
        "Slice",
        [node("Slice", ["h", "starts", "ends", "axes"], ["a"])],
        {"starts": _ints(2), "ends": _ints(7), "axes": _ints(1)},
        {"W1.1": 3, "W1.1 W2.0": 5},
        taken=5,
    ),
    dense(
        "Slice from the end",
        [node("Slice", ["h", "starts", "ends", "axes"], ["a"])],
        {"starts": _ints(-5), "ends": _ints(2**63 - 1), "axes": _ints(-1)},
        {"W1.1": 3, "W1.1 W2.0": 5},
        taken=5,
    ),
    dense(
        "Slice with steps of 1, in int32",
        [node("Slice", ["h", "starts", "ends", "axes", "steps"], ["a"])],
        {
            "starts": _ints(0, 1, dtype=np.int32),
            "ends": _ints(3, 6, dtype=np.int32),
            "axes": _ints(0, 1, dtype=np.int32),
            "steps": _ints(1, 1, dtype=np.int32),
        },
        {"W1.1": 3, "W1.1 W2.0": 5},
        taken=5,
    ),
    dense(
        "Slice of all axes",
        [node("Slice", ["h", "starts", "ends"], ["a"])],
        {"starts": _ints(0, 3), "ends": _ints(3, 8)},
        {"W1.1": 3, "W1.1 W2.0": 5},
        taken=5,
    ),
    dense(
        "Slice of opset 9",
        [node("Slice", ["h"], ["a"], axes=[1], starts=[3], ends=[8])],
        {},
        {"W1.1": 3, "W1.1 W2.0": 5},
        taken=5,
        opset=9,
    ),
    dense(
        "Slice of opset 9 without axes",
        [node("Slice", ["h"], ["a"], starts=[0, 3], ends=[3, 8])],
        {},
        {"W1.1": 3, "W1.1 W2.0": 5},
        taken=5,
        opset=9,
    ),
    dense(
        "Slice backwards",
        [node("Slice", ["h", "starts", "ends", "axes", "steps"], ["a"])],
        {"starts": _ints(-1), "ends": _ints(-(2**63)), "axes": _ints(1), "steps": _ints(-1)},
        {},
        {"W1.1 W2.0": "Slice 'a' takes every -1th index"},
    ),
    dense(
        "Slice of every second place",
        [node("Slice", ["h", "starts", "ends", "axes", "steps"], ["a"])],
        {"starts": _ints(0), "ends": _ints(3), "axes": _ints(0), "steps": _ints(2)},
        {"W1.1 W2.0": 8},
    ),
    dense(
        "Gather of channels",
        [node("Gather", ["h", "order"], ["a"], axis=1)],
        {"order": _ints(7, 0, -3, 2)},
        {"W1.1": 4, "W1.1 W2.0": 4},
        taken=4,
    ),
    dense(
        "Gather of all channels in another order",
        [node("Gather", ["h", "order"], ["a"], axis=-1)],
        {"order": np.random.default_rng(0).permutation(8)},
        {"W1.1 W2.0": 8},
    ),
    dense(
        "Gather of one channel, twice",
        [node("Gather", ["h", "order"], ["a"], axis=1)],
        {"order": _ints(3, 3, 1, dtype=np.int32)},
        {"W1.1": 6, "W1.1 W2.0": 2},
        taken=3,
    ),
    dense(
        "Gather of places", [node("Gather", ["h", "first"], ["a"], axis=0)], {"first": np.array(1)}, {"W1.1 W2.0": 8}
    ),
    dense(
        "Gather of one channel",
        [
            node("Gather", ["h", "first"], ["g"], axis=1),
            node("Unsqueeze", ["g", "one"], ["u"]),
            node("Mul", ["h", "u"], ["a"]),
        ],
        {"first": np.array(1), "one": _ints(1)},
        {},
        {"W1.1 W2.0": "Gather 'g' takes some of it"},
    ),
    case(
        "embedding",
        [node("Gather", ["E", "ids"], ["e"]), node("Relu", ["e"], ["r"]), node("MatMul", ["r", "W"], ["y"])],
        {"E": (7, 8), "W": (8, 4)},
        {"E.1 W.0": 8},
        x={"ids": _IDS},
    ),
    case(
        "embeddings that are added up",
        [
            node("Gather", ["E", "ids"], ["e"]),
            node("Gather", ["P", "places"], ["p"]),
            node("Add", ["e", "p"], ["s"]),
            node("LayerNormalization", ["s", "gain"], ["n"]),
            node("MatMul", ["n", "W"], ["y"]),
        ],
        {"E": (7, 8), "P": (4, 8), "places": _ints(0, 1, 2), "gain": (8,), "W": (8, 4)},
        {"E.1 P.1 gain.0 W.0": 8},
        x={"ids": _IDS},
        opset=17,
    ),
    case(
        "embedding tied to the last layer",
        [
            node("Gather", ["E", "ids"], ["e"]),
            node("Relu", ["e"], ["r"]),
            node("Transpose", ["E"], ["T"], perm=[1, 0]),
            node("MatMul", ["r", "T"], ["y"]),
        ],
        {"E": (7, 8)},
        {"E.1": 8},
        {"E.0": "keeps its shape"},
        x={"ids": _IDS},
    ),
    images(
        "Pad of pixels", [node("Pad", ["h", "pads"], ["a"])], {"pads": _ints(0, 0, 1, 1, 0, 0, 1, 1)}, {"W1.0 W2.1": 8}
    ),
    images(
        "Pad of pixels by reflection",
        [node("Pad", ["h", "pads"], ["a"], mode="reflect")],
        {"pads": _ints(0, 0, 1, 1, 0, 0, 1, 1)},
        {"W1.0 W2.1": 8},
    ),
    images("Pad of opset 9", [node("Pad", ["h"], ["a"], pads=[0, 0, 1, 0, 0, 0, 0, 1])], opset=9),
    images(
        "Pad of channels with zeros, added to a wider layer",
        [node("Pad", ["h", "pads"], ["p"]), node("Conv", ["x", "V"], ["v"]), node("Add", ["p", "v"], ["a"])],
        {"pads": _ints(0, 1, 0, 0, 0, 3, 0, 0), "V": (12, 3, 1, 1)},
        {"W1.0 V.0 W2.1": 8, "V.0 W2.1": 4},
        taken=12,
    ),
    images(
        "Pad of channels with zeros, opset 9",
        [
            node("Pad", ["h"], ["p"], pads=[0, 2, 0, 0, 0, 0, 0, 0]),
            node("Conv", ["x", "V"], ["v"]),
            node("Add", ["p", "v"], ["a"]),
        ],
        {"V": (10, 3, 1, 1)},
        {"V.0 W2.1": 2, "W1.0 V.0 W2.1": 8},
        taken=10,
        opset=9,
    ),
    images(
        "Pad of some axes",
        [
            node("Pad", ["h", "pads", "", "axes"], ["p"]),
            node("Conv", ["x", "V"], ["v"]),
            node("Add", ["p", "v"], ["a"]),
        ],
        {"pads": _ints(1, 1), "axes": _ints(-3), "V": (10, 3, 1, 1)},
        {"V.0 W2.1": 2, "W1.0 V.0 W2.1": 8},
        taken=10,
        opset=18,
    ),
    images(
        "Pad of channels with ones",
        [node("Pad", ["h", "pads", "one"], ["a"])],
        {"pads": _ints(0, 0, 0, 0, 0, 2, 0, 0), "one": np.array(1, np.float32)},
        {},
        {"W1.0": "Pad 'a' changes the size of this axis"},
        taken=10,
    ),
    images(
        "Resize by scales",
        [node("Resize", ["h", "", "scales"], ["a"], mode="nearest")],
        {"scales": np.array([1, 1, 2, 2], np.float32)},
        {"W1.0 W2.1": 8},
    ),
    images(
        "Resize by scales, opset 10",
        [node("Resize", ["h", "scales"], ["a"], mode="linear")],
        {"scales": np.array([1, 1, 2, 2], np.float32)},
        {"W1.0 W2.1": 8},
        opset=10,
    ),
    images(
        "Resize to sizes",
        [node("Resize", ["h", "", "", "sizes"], ["a"], mode="linear")],
        {"sizes": _ints(2, 8, 9, 7)},
        {"W1.0 W2.1": 8},
    ),
    images(
        "Resize to sizes of some axes",
        [node("Resize", ["h", "", "", "sizes"], ["a"], axes=[-2, -1])],
        {"sizes": _ints(9, 7)},
        {"W1.0 W2.1": 8},
        opset=18,
    ),
    images(
        "Resize to sizes of named axes, channels too",
        [node("Resize", ["h", "", "", "sizes"], ["a"], axes=[-3, -2, -1])],
        {"sizes": _ints(8, 9, 7)},
        {"W1.0 W2.1": 8},
        opset=18,
    ),
    images(
        "Upsample",
        [node("Upsample", ["h", "scales"], ["a"], mode="nearest")],
        {"scales": np.array([1, 1, 2, 2], np.float32)},
        {"W1.0 W2.1": 8},
        opset=9,
    ),
    *(
        images(
            f"DepthToSpace {mode}",
            [node("DepthToSpace", ["h"], ["a"], blocksize=2, mode=mode)],
            {},
            {"W1.0 W2.1": 2},
            taken=2,
        )
        for mode in ("DCR", "CRD")
    ),
    images("SpaceToDepth", [node("SpaceToDepth", ["h"], ["a"], blocksize=2)], {}, {"W1.0 W2.1": 8}, taken=32),
    images(
        "SpaceToDepth and back",
        [
            node("SpaceToDepth", ["h"], ["s"], blocksize=2),
            node("Relu", ["s"], ["r"]),
            node("DepthToSpace", ["r"], ["a"], blocksize=2),
        ],
    ),
    dense("Tile", [node("Tile", ["h", "times"], ["a"])], {"times": _ints(2, 3)}, {"W1.1 W2.0": 8}, taken=24),
    dense("Tile of another axis", [node("Tile", ["h", "times"], ["a"])], {"times": _ints(2, 1)}, {"W1.1 W2.0": 8}),
]


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_moving(case: Case, runtime: Runtime) -> None:
    case.holds(runtime)
