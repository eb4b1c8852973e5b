"""Residual networks: ResNet-18, ResNeXt, ConvNeXt. On 64 x 64 pixels, where the originals see 224, and narrower."""

import math

import numpy as np
import onnx

from benchmarks.channels.zoo.layers import (
    RELU,
    SWISH,
    channel_norm,
    classifier,
    conv,
    conv_norm,
    gelu,
    gemm,
    identity,
    layer_norm,
    linear,
)
from benchmarks.channels.zoo.maker import BATCH, Maker
from benchmarks.channels.zoo.norms import folded, settled

_CLASSES = 100
_BRANCH = 0.5  # scale of what a residual branch adds, so that sums do not grow


def _stem(m: Maker, width: int) -> str:
    with m.scope("conv1"):
        x = conv_norm(m, m.input("input", BATCH, 3, 64, 64), 3, width, 7, stride=2)
    return m.op("MaxPool", x, ceil_mode=0, kernel_shape=[3, 3], pads=[1, 1, 1, 1], strides=[2, 2])


def _shortcut(m: Maker, x: str, width: int, outputs: int, stride: int) -> str:
    if width == outputs and stride == 1:
        return x
    with m.scope("downsample"):
        return conv_norm(m, x, width, outputs, stride=stride, act=identity)


# ---- ResNet-18 (arXiv 1512.03385)


def resnet18() -> onnx.ModelProto:
    """Half as wide: two 3x3 Conv a block, BatchNormalization kept, 1x1 Conv on the shortcut where sizes change."""
    m = Maker("resnet18")
    x, width = _stem(m, 32), 32
    for stage in range(4):
        for index in range(2):
            with m.scope(f"layer{stage + 1}", index):
                stride = 2 if stage and not index else 1
                x = _basic(m, x, width, 32 << stage, stride)
            width = 32 << stage
    m.output(classifier(m, x, width, _CLASSES), "logits", BATCH, _CLASSES)
    return settled(m.model())


def _basic(m: Maker, x: str, width: int, outputs: int, stride: int) -> str:
    with m.scope("conv1"):
        y = conv_norm(m, x, width, outputs, 3, stride=stride)
    with m.scope("conv2"):
        y = conv_norm(m, y, outputs, outputs, 3, act=identity, scale=_BRANCH)
    return m.op("Relu", m.op("Add", y, _shortcut(m, x, width, outputs, stride)))


# ---- ResNeXt (arXiv 1611.05431)


def resnext() -> onnx.ModelProto:
    """A quarter as wide, blocks 2-2-2-2: bottlenecks around a Conv of 8 groups; normalisation folded into Conv."""
    m = Maker("resnext", constant_nodes=True)
    x, width = _stem(m, 16), 16
    for stage in range(4):
        for index in range(2):
            with m.scope(f"layer{stage + 1}", index):
                stride = 2 if stage and not index else 1
                x = _bottleneck(m, x, width, 32 << stage, 64 << stage, stride)
            width = 64 << stage
    m.output(classifier(m, x, width, _CLASSES), "logits", BATCH, _CLASSES)
    return folded(settled(m.model()))


def _bottleneck(m: Maker, x: str, width: int, middle: int, outputs: int, stride: int) -> str:
    with m.scope("conv1"):
        y = conv_norm(m, x, width, middle)
    with m.scope("conv2"):
        y = conv_norm(m, y, middle, middle, 3, stride=stride, groups=8)
    with m.scope("conv3"):
        y = conv_norm(m, y, middle, outputs, act=identity, scale=_BRANCH)
    return m.op("Relu", m.op("Add", y, _shortcut(m, x, width, outputs, stride)))


# ---- ConvNeXt (arXiv 2201.03545)

_WIDTHS = (24, 48, 96, 192)
_DEPTHS = (2, 2, 4, 2)


def convnext() -> onnx.ModelProto:
    """A quarter as wide, blocks 2-2-4-2, as its authors' code is traced: LayerNorm decomposed, over axis 1 between
    stages and over the last axis in blocks; the scale of a layer multiplied before the Transpose back."""
    return _convnext("convnext", fused=False)


def convnext_fused() -> onnx.ModelProto:
    """The same as torchvision's code: LayerNormalization everywhere between Transposes, the scale as (C, 1, 1)."""
    return _convnext("convnext_fused", fused=True)


def _convnext(name: str, *, fused: bool) -> onnx.ModelProto:
    m = Maker(name, constant_nodes=not fused)
    x, width = m.input("input", BATCH, 3, 64, 64), 3
    for stage, (outputs, depth) in enumerate(zip(_WIDTHS, _DEPTHS, strict=True)):
        with m.scope("downsample", stage):
            x = _downsampled(m, x, width, outputs, first=stage == 0, fused=fused)
        for index in range(depth):
            with m.scope("stages", stage, index):
                x = _convnext_block(m, x, outputs, fused=fused)
        width = outputs
    with m.scope("head"):
        x = _norm_2d(m, m.op("GlobalAveragePool", x), width, fused=fused)
        logits = gemm(m, m.op("Flatten", x, axis=1), width, _CLASSES)
    m.output(logits, "logits", BATCH, _CLASSES)
    return m.model()


def _norm_2d(m: Maker, x: str, channels: int, *, fused: bool) -> str:
    if not fused:
        return channel_norm(m, x, channels)
    y = layer_norm(m, m.op("Transpose", x, perm=[0, 2, 3, 1]), channels, fused=True)
    return m.op("Transpose", y, perm=[0, 3, 1, 2])


def _downsampled(m: Maker, x: str, width: int, outputs: int, *, first: bool, fused: bool) -> str:
    if first:
        x = conv(m, x, width, outputs, 4, stride=4, pad=0, gain=1)
        return _norm_2d(m, x, outputs, fused=fused)
    return conv(m, _norm_2d(m, x, width, fused=fused), width, outputs, 2, stride=2, pad=0, gain=1)


def _convnext_block(m: Maker, x: str, width: int, *, fused: bool) -> str:
    with m.scope("dwconv"):
        y = conv(m, x, width, width, 7, groups=width, gain=1)
    y = layer_norm(m, m.op("Transpose", y, perm=[0, 2, 3, 1]), width, fused=fused)
    with m.scope("pwconv1"):
        y = gelu(m, linear(m, y, width, 4 * width, gain=RELU))
    with m.scope("pwconv2"):
        y = linear(m, y, 4 * width, width, gain=SWISH)
    shape = (width, 1, 1) if fused else (width,)
    scale = m.weight("gamma", 0.5 * np.exp(m.rng.normal(0, math.log(1.5), shape)))
    if fused:
        y = m.op("Mul", scale, m.op("Transpose", y, perm=[0, 3, 1, 2]))
    else:
        y = m.op("Transpose", m.op("Mul", scale, y), perm=[0, 3, 1, 2])
    return m.op("Add", x, y)
