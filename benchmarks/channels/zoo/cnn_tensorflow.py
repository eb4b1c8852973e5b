"""A CNN as tf2onnx writes Keras models: images with channels last, padding apart, Squeeze and MatMul at the end."""

import math
from typing import Final

import onnx

from benchmarks.channels.zoo.layers import conv, conv_norm, identity, linear
from benchmarks.channels.zoo.maker import BATCH, Maker
from benchmarks.channels.zoo.norms import folded, settled

_CLASSES: Final = 20


def keras_separable() -> onnx.ModelProto:
    """Xception's blocks (arXiv 1610.02357) in small, with a gate: Transpose to channels first and back around what
    Keras computes with channels last; TensorFlow's uneven padding by Pad; Relu6 as Relu and Min; depthwise then 1x1
    Conv; a gate of channels through ReduceMean, MatMul, Reshape to (n, 1, 1, c); the mean by ReduceMean, Squeeze."""
    m = Maker("keras_separable")
    image = m.input("input_1", BATCH, 48, 48, 3)
    x = m.op("Transpose", image, perm=[0, 3, 1, 2])
    with m.scope("conv1"):
        x, width = _relu6(m, _padded_conv(m, x, 3, 24)), 24
    for index, outputs in enumerate((48, 96)):
        with m.scope("block", index):
            x = _block(m, x, width, outputs)
        width = outputs
    last = m.op("ReduceMean", m.op("Transpose", x, perm=[0, 2, 3, 1]), axes=[1, 2], keepdims=1)
    with m.scope("predictions"):
        logits = linear(m, m.op("Squeeze", last, m.ints(1, 2)), width, _CLASSES, gain=2)
    m.output(m.op("Softmax", logits, axis=-1), "predictions", BATCH, _CLASSES)
    return folded(settled(m.model()))


def _relu6(m: Maker, x: str) -> str:
    return m.op("Min", m.op("Relu", x), m.scalar(6))


def _padded_conv(m: Maker, x: str, inputs: int, outputs: int) -> str:
    """3x3, stride 2: SAME pads even sizes at the end alone."""
    x = m.op("Pad", x, m.ints(0, 0, 0, 0, 0, 0, 1, 1), m.scalar(0), mode="constant")
    return conv(m, x, inputs, outputs, 3, stride=2, pad=0)


def _separable(m: Maker, x: str, inputs: int, outputs: int) -> str:
    y = conv(m, x, inputs, inputs, 3, groups=inputs, bias=False, gain=1)
    return conv_norm(m, y, inputs, outputs, act=identity)


def _block(m: Maker, x: str, width: int, outputs: int) -> str:
    with m.scope("shortcut"):
        short = conv_norm(m, x, width, outputs, stride=2, act=identity)
    with m.scope("sepconv1"):
        y = _relu6(m, _separable(m, x, width, outputs))
    with m.scope("sepconv2"):
        y = _separable(m, y, outputs, outputs)
    y = m.op("MaxPool", y, kernel_shape=[3, 3], pads=[0, 0, 1, 1], strides=[2, 2])
    with m.scope("gate"):
        y = _gated(m, y, outputs)
    return m.op("Add", y, short)


def _gated(m: Maker, x: str, channels: int) -> str:
    last = m.op("Transpose", x, perm=[0, 2, 3, 1])
    y = m.op("ReduceMean", last, axes=[1, 2], keepdims=0)
    with m.scope("dense1"):
        y = m.op("Relu", linear(m, y, channels, channels // 4, gain=2))
    with m.scope("dense2"):
        y = m.op("Sigmoid", linear(m, y, channels // 4, channels, gain=math.sqrt(2)))
    y = m.op("Mul", last, m.reshape(y, -1, 1, 1, channels))
    return m.op("Transpose", y, perm=[0, 3, 1, 2])
