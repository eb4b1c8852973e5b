"""Networks without branches: VGG-like, a 20-layer MLP, AlexNet with its LRN, PRelu, group normalisation."""

from itertools import pairwise

import numpy as np
import onnx

from benchmarks.channels.zoo.layers import (
    EPSILON,
    RELU,
    batch_norm,
    classifier,
    conv,
    conv_norm,
    gemm,
    identity,
)
from benchmarks.channels.zoo.maker import BATCH, Maker
from benchmarks.channels.zoo.norms import settled

_CLASSES = 10


def vgg_like() -> onnx.ModelProto:
    """Eight times Conv, BatchNormalization, Relu with 64 to 256 channels on 32 x 32 pixels, then Flatten, two Gemm."""
    m = Maker("vgg_like")
    x, width = m.input("input", BATCH, 3, 32, 32), 3
    for index, outputs in enumerate((64, 64, 128, 128, 256, 256, 256, 256)):
        with m.scope("features", index):
            x = conv_norm(m, x, width, outputs, 3)
        width = outputs
        if index % 2:
            x = m.op("MaxPool", x, kernel_shape=[2, 2], strides=[2, 2])
    x = m.op("Flatten", x, axis=1)
    with m.scope("classifier", 0):
        x = m.op("Relu", gemm(m, x, width * 4, 256, gain=RELU))
    with m.scope("classifier", 1):
        m.output(gemm(m, x, 256, _CLASSES, gain=RELU), "logits", BATCH, _CLASSES)
    return settled(m.model())


def mlp20() -> onnx.ModelProto:
    """Twenty linear layers of width 512 with Relu between."""
    m = Maker("mlp20")
    x, widths = m.input("input", BATCH, 256), [256, *[512] * 19, _CLASSES]
    for index, (inputs, outputs) in enumerate(pairwise(widths)):
        with m.scope("layers", index):
            x = gemm(m, x if index == 0 else m.op("Relu", x), inputs, outputs, gain=RELU if index else 1)
    m.output(x, "logits", BATCH, _CLASSES)
    return m.model()


def alexnet() -> onnx.ModelProto:
    """A quarter as wide, on 67 x 67 pixels: LRN, Conv in two groups, Dropout left in, Reshape to rows, Softmax."""
    m = Maker("alexnet")
    x = m.input("input", BATCH, 3, 67, 67)
    layers = ((3, 24, 11, 4, 1), (24, 64, 5, 1, 2), (64, 96, 3, 1, 1), (96, 96, 3, 1, 2), (96, 64, 3, 1, 2))
    for index, (inputs, outputs, kernel, stride, groups) in enumerate(layers):
        pad = 0 if index == 0 else None
        with m.scope(f"conv{index + 1}"):
            x = m.op("Relu", conv(m, x, inputs, outputs, kernel, stride=stride, groups=groups, pad=pad))
        if index < 2:
            x = m.op("LRN", x, alpha=1e-4, beta=0.75, bias=1.0, size=5)
        if index in (0, 4):
            x = m.op("MaxPool", x, kernel_shape=[3, 3], strides=[2, 2])
    x = m.reshape(x, -1, 64 * 3 * 3)
    for index, (inputs, outputs) in enumerate(((64 * 9, 256), (256, 256))):
        with m.scope(f"fc{index + 6}"):
            x = m.several("Dropout", 2, m.op("Relu", gemm(m, x, inputs, outputs, gain=RELU)))[0]
    with m.scope("fc8"):
        m.output(m.op("Softmax", gemm(m, x, 256, _CLASSES, gain=RELU), axis=1), "prob", BATCH, _CLASSES)
    return m.model()


def prelu_net() -> onnx.ModelProto:
    """A face embedder of ArcFace's kind: a PRelu slope for each channel, normalisation before the Conv, a last
    normalisation of rows, and Flatten of 4 x 4 pixels."""
    m = Maker("prelu_net")
    with m.scope("stem"):
        x = conv_norm(m, m.input("input", BATCH, 3, 32, 32), 3, 24, 3, act=identity)
        x, width = _prelu(m, x, 24), 24
    for index, outputs in enumerate((24, 48, 96)):
        with m.scope("body", index):
            y = conv(m, batch_norm(m, x, width), width, outputs, 3, bias=False, gain=1)
            y = conv(m, _prelu(m, y, outputs), outputs, outputs, 3, stride=2, bias=False, gain=0.8)
            with m.scope("shortcut"):
                short = conv_norm(m, x, width, outputs, stride=2, act=identity)
            x = m.op("Add", batch_norm(m, y, outputs), short)
        width = outputs
    x = m.op("Flatten", batch_norm(m, x, width), axis=1)
    with m.scope("fc"):
        x = batch_norm(m, gemm(m, x, width * 16, 64), 64)
    m.output(x, "embedding", BATCH, 64)
    return settled(m.model())


def _prelu(m: Maker, x: str, channels: int) -> str:
    return m.op("PRelu", x, m.uniform("slope", channels, 1, 1, low=0.05, high=0.4))


def group_norm() -> onnx.ModelProto:
    """A residual net with 8 groups, normalised as torch writes it: Reshape to groups, InstanceNormalization, Reshape
    to the shape before, Mul, Add."""
    return _group_normed("group_norm", fused=False)


def group_norm_fused() -> onnx.ModelProto:
    """The same with the operator GroupNormalization, which takes a scale for each channel from opset 21 on."""
    return _group_normed("group_norm_fused", fused=True)


def _group_normed(name: str, *, fused: bool) -> onnx.ModelProto:
    m = Maker(name, opset=21 if fused else 17, constant_nodes=not fused)
    with m.scope("stem"):
        x = conv(m, m.input("input", BATCH, 3, 32, 32), 3, 32, 3, bias=False)
        x, width = m.op("Relu", _normed(m, x, 32, fused=fused)), 32
    for index, outputs in enumerate((32, 64, 128)):
        with m.scope("layer", index):
            stride = 2 if index else 1
            y = conv(m, x, width, outputs, 3, stride=stride, bias=False)
            y = m.op("Relu", _normed(m, y, outputs, fused=fused))
            y = _normed(m, conv(m, y, outputs, outputs, 3, bias=False), outputs, fused=fused)
            if width != outputs:
                with m.scope("shortcut"):
                    x = _normed(m, conv(m, x, width, outputs, stride=stride, bias=False), outputs, fused=fused)
            x = m.op("Relu", m.op("Add", y, x))
        width = outputs
    m.output(classifier(m, x, width, _CLASSES), "logits", BATCH, _CLASSES)
    return m.model()


def _normed(m: Maker, x: str, channels: int, groups: int = 8, *, fused: bool) -> str:
    scale, shift = m.rng.uniform(0.7, 1.3, channels), m.rng.normal(0, 0.1, channels)
    shape = (channels,) if fused else (channels, 1, 1)
    weight, bias = (m.weight(f"gn.{part}", row.reshape(shape)) for part, row in (("weight", scale), ("bias", shift)))
    if fused:
        return m.op("GroupNormalization", x, weight, bias, num_groups=groups, epsilon=EPSILON)
    y = m.reshape(x, 0, groups, -1)
    ones, zeros = m.weight("ones", np.ones(groups)), m.weight("zeros", np.zeros(groups))
    y = m.op("InstanceNormalization", y, ones, zeros, epsilon=EPSILON)
    y = m.op("Reshape", y, m.op("Shape", x))
    return m.op("Add", m.op("Mul", y, weight), bias)
