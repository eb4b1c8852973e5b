"""Networks that use weights or features twice: one head for all levels of a pyramid, two towers that meet."""

import math
from typing import Final

import onnx

from benchmarks.channels.zoo.layers import RELU, batch_norm, conv, conv_norm, gemm, identity
from benchmarks.channels.zoo.maker import BATCH, INT64, Maker
from benchmarks.channels.zoo.norms import folded, settled

_WIDTHS: Final = (24, 48, 96)
_PYRAMID: Final = 32
_ANCHORS: Final = 3
_CLASSES: Final = 8


def retina_net() -> onnx.ModelProto:
    """RetinaNet (arXiv 1708.02002) in small, on 64 x 64 pixels: a feature pyramid (1x1 Conv, Resize, Add), whose
    levels all go through the same Conv layers: every weight of the heads has three users."""
    m = Maker("retina_net", constant_nodes=True)
    x, width = m.input("input", BATCH, 3, 64, 64), 3
    with m.scope("stem"):
        x, width = conv_norm(m, x, width, 16, 3, stride=2), 16
    features: list[str] = []
    for index, outputs in enumerate(_WIDTHS):
        with m.scope("body", index):
            x = conv_norm(m, x, width, outputs, 3, stride=2)
            y = conv_norm(m, x, outputs, outputs, 3, act=identity, scale=0.5)
            x, width = m.op("Relu", m.op("Add", x, y)), outputs
        features.append(x)
    with m.scope("fpn"):
        levels = _pyramid(m, features)
    for name, each in (("boxes", 4), ("scores", _CLASSES)):
        with m.scope(name):
            rows = _shared_head(m, levels, each)
        rows = m.op("Sigmoid", rows) if name == "scores" else rows
        m.output(rows, name, BATCH, _ANCHORS * (64 + 16 + 4), each)
    return folded(settled(m.model()))


def _pyramid(m: Maker, features: list[str]) -> list[str]:
    """From coarse to fine: the level above, twice as large, is added; a 3x3 Conv smooths each sum."""
    levels: list[str] = []
    above = ""
    for index, (x, width) in reversed(list(enumerate(zip(features, _WIDTHS, strict=True)))):
        with m.scope("inner", index):
            y = conv(m, x, width, _PYRAMID)
        if above:
            size = m.slice(m.op("Shape", y), 0, 2, 4)
            sizes = m.op("Concat", m.slice(m.op("Shape", above), 0, 0, 2), size, axis=0)
            mode = {"coordinate_transformation_mode": "asymmetric", "mode": "nearest", "nearest_mode": "floor"}
            y = m.op("Add", y, m.op("Resize", above, "", "", sizes, **mode))
        above = y
        with m.scope("layer", index):
            levels.append(conv(m, y, _PYRAMID, _PYRAMID, 3, gain=1))
    return levels[::-1]


def _shared_head(m: Maker, levels: list[str], each: int) -> str:
    """Two Conv, Relu, then a Conv to the anchors' rows (n, anchors of all levels, each)."""
    weights: list[tuple[str, str]] = []
    for outputs in (_PYRAMID, _PYRAMID, _ANCHORS * each):
        scale = RELU / math.sqrt(9 * _PYRAMID)
        weight = m.normal("weight", outputs, _PYRAMID, 3, 3, scale=scale)
        weights.append((weight, m.normal("bias", outputs, scale=0.1)))
    rows: list[str] = []
    for x in levels:
        for index, (weight, bias) in enumerate(weights):
            x = m.op("Relu", x) if index else x
            x = m.op("Conv", x, weight, bias, kernel_shape=[3, 3], pads=[1, 1, 1, 1])
        batch, height, width = (m.size(x, axis) for axis in (0, 2, 3))
        y = m.op("Transpose", m.reshape(x, batch, -1, each, height, width), perm=[0, 3, 4, 1, 2])
        rows.append(m.reshape(y, batch, -1, each))
    return m.op("Concat", *rows, axis=1)


def two_towers() -> onnx.ModelProto:
    """CLIP's shape (arXiv 2103.00020) in small: a CNN for images and a bag of words for texts, both projected to 48
    normalised numbers, whose product is the output: (images, texts)."""
    m = Maker("two_towers")
    words, width, joint = 200, 64, 48
    with m.scope("visual"):
        x, inputs = m.input("image", BATCH, 3, 32, 32), 3
        for index, outputs in enumerate((24, 48, 96)):
            with m.scope(index):
                x, inputs = conv_norm(m, x, inputs, outputs, 3, stride=2), outputs
        x = m.op("Flatten", m.op("GlobalAveragePool", x), axis=1)
        with m.scope("proj"):
            image = _normalised(m, batch_norm(m, gemm(m, x, inputs, joint), joint))
    with m.scope("text"):
        m.typical("texts", 5)
        ids = m.input("text", "texts", 10, kind=INT64, below=words)
        y = m.op("Gather", m.normal("embedding", words, width), ids)
        y = m.op("ReduceMean", y, axes=[1], keepdims=0)
        with m.scope("fc"):
            y = m.op("Relu", gemm(m, y, width, 128, gain=3))
        with m.scope("proj"):
            text = _normalised(m, gemm(m, y, 128, joint, gain=RELU))
    scores = m.op("MatMul", image, m.op("Transpose", text, perm=[1, 0]))
    m.output(m.op("Mul", scores, m.scalar(5)), "similarity", BATCH, "texts")
    return settled(m.model())


def _normalised(m: Maker, x: str) -> str:
    return m.op("Div", x, m.op("ReduceL2", x, axes=[-1], keepdims=1))
