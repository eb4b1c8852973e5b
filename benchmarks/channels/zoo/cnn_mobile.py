"""Networks for phones: inverted residuals, squeeze-and-excitation, channels that are split and shuffled.

Blocks, their order, and their widths are those of the originals; images have 64 x 64 pixels instead of 224, and there
are 100 classes.
"""

from collections.abc import Iterable
from typing import NamedTuple

import onnx

from benchmarks.channels.zoo.layers import (
    RELU,
    Function,
    batch_norm,
    classifier,
    conv,
    conv_norm,
    gemm,
    identity,
    relu,
    relu6,
    silu,
)
from benchmarks.channels.zoo.maker import BATCH, Maker
from benchmarks.channels.zoo.norms import folded, settled

_PIXELS = 64
_CLASSES = 100
_BRANCH = 0.5  # scale of what a residual branch adds, so that sums do not grow


class _Stage(NamedTuple):
    kernel: int
    expand: int
    outputs: int
    repeats: int
    stride: int


def _image(m: Maker, pixels: int = _PIXELS) -> str:
    return m.input("input", BATCH, 3, pixels, pixels)


def _logits(m: Maker, y: str) -> onnx.ModelProto:
    m.output(y, "logits", BATCH, _CLASSES)
    return settled(m.model())


# ---- MobileNetV2 (arXiv 1801.04381)


_V2 = (
    _Stage(3, 1, 16, 1, 1),
    _Stage(3, 6, 24, 2, 2),
    _Stage(3, 6, 32, 3, 2),
    _Stage(3, 6, 64, 4, 2),
    _Stage(3, 6, 96, 3, 1),
    _Stage(3, 6, 160, 3, 2),
    _Stage(3, 6, 320, 1, 1),
)


def mobilenet_v2() -> onnx.ModelProto:
    """BatchNormalization kept, Relu6 as Clip, depthwise Conv, linear bottlenecks added."""
    m = Maker("mobilenet_v2")
    with m.scope("features"):
        with m.scope("stem"):
            x = conv_norm(m, _image(m), 3, 32, 3, stride=2, act=relu6)
        width = 32
        for index, (stage, stride) in enumerate(_unrolled(_V2)):
            with m.scope(index):
                x = _inverted_residual(m, x, width, stage, stride)
            width = stage.outputs
        with m.scope("head"):
            x = conv_norm(m, x, width, 1280, act=relu6)
    return _logits(m, classifier(m, x, 1280, _CLASSES))


def _unrolled(stages: Iterable[_Stage]) -> list[tuple[_Stage, int]]:
    return [(stage, stage.stride if index == 0 else 1) for stage in stages for index in range(stage.repeats)]


def _inverted_residual(m: Maker, x: str, width: int, stage: _Stage, stride: int) -> str:
    wide = width * stage.expand
    added = stride == 1 and width == stage.outputs
    y = x
    if stage.expand != 1:
        with m.scope("expand"):
            y = conv_norm(m, y, width, wide, act=relu6)
    with m.scope("depthwise"):
        y = conv_norm(m, y, wide, wide, stage.kernel, stride=stride, groups=wide, act=relu6)
    with m.scope("project"):
        y = conv_norm(m, y, wide, stage.outputs, act=identity, scale=_BRANCH if added else 1)
    return m.op("Add", x, y) if added else y


# ---- MobileNetV3-Small (arXiv 1905.02244)


class _V3Block(NamedTuple):
    kernel: int
    wide: int
    outputs: int
    excited: bool
    swish: bool
    stride: int


_V3 = (
    _V3Block(3, 16, 16, True, False, 2),
    _V3Block(3, 72, 24, False, False, 2),
    _V3Block(3, 88, 24, False, False, 1),
    _V3Block(5, 96, 40, True, True, 2),
    _V3Block(5, 240, 40, True, True, 1),
    _V3Block(5, 240, 40, True, True, 1),
    _V3Block(5, 120, 48, True, True, 1),
    _V3Block(5, 144, 48, True, True, 1),
    _V3Block(5, 288, 96, True, True, 2),
    _V3Block(5, 576, 96, True, True, 1),
    _V3Block(5, 576, 96, True, True, 1),
)


def mobilenet_v3_small() -> onnx.ModelProto:
    """Squeeze-and-excitation; HardSwish is x Clip(x + 3) / 6, HardSigmoid the same without x."""
    return _mobilenet_v3("mobilenet_v3_small", _hard_swish, _hard_sigmoid)


def mobilenet_v3_small_fused() -> onnx.ModelProto:
    """The same as torch writes it from opset 14 on: HardSwish, HardSigmoid, normalisation folded into Conv."""
    model = _mobilenet_v3(
        "mobilenet_v3_small_fused",
        lambda m, x: m.op("HardSwish", x),
        lambda m, x: m.op("HardSigmoid", x, alpha=1 / 6),
    )
    return folded(model)


def _hard_sigmoid(m: Maker, x: str) -> str:
    return m.op("Div", m.op("Clip", m.op("Add", x, m.scalar(3)), m.scalar(0), m.scalar(6)), m.scalar(6))


def _hard_swish(m: Maker, x: str) -> str:
    clipped = m.op("Clip", m.op("Add", x, m.scalar(3)), m.scalar(0), m.scalar(6))
    return m.op("Div", m.op("Mul", x, clipped), m.scalar(6))


def _mobilenet_v3(name: str, swish: Function, sigmoid: Function) -> onnx.ModelProto:
    m = Maker(name)
    with m.scope("features", "0"):
        x = conv_norm(m, _image(m), 3, 16, 3, stride=2, act=swish)
    width = 16
    for index, block in enumerate(_V3, start=1):
        with m.scope("features", index):
            x = _v3_block(m, x, width, block, swish if block.swish else relu, sigmoid)
        width = block.outputs
    with m.scope("features", len(_V3) + 1):
        x = conv_norm(m, x, width, 576, act=swish)
    x = m.op("Flatten", m.op("GlobalAveragePool", x), axis=1)
    with m.scope("classifier", "0"):
        x = swish(m, gemm(m, x, 576, 1024, gain=2))
    with m.scope("classifier", "3"):
        return _logits(m, gemm(m, x, 1024, _CLASSES, gain=2))


def _v3_block(m: Maker, x: str, width: int, block: _V3Block, act: Function, sigmoid: Function) -> str:
    wide, added = block.wide, block.stride == 1 and width == block.outputs
    y = x
    if wide != width:
        with m.scope("expand"):
            y = conv_norm(m, y, width, wide, act=act)
    with m.scope("depthwise"):
        y = conv_norm(m, y, wide, wide, block.kernel, stride=block.stride, groups=wide, act=act)
    if block.excited:
        with m.scope("se"):
            y = excited(m, y, wide, max(8, wide // 4), relu, sigmoid)
    with m.scope("project"):
        y = conv_norm(m, y, wide, block.outputs, act=identity, scale=_BRANCH if added else 1)
    return m.op("Add", y, x) if added else y


def excited(m: Maker, x: str, channels: int, squeezed: int, act: Function, gate: Function) -> str:
    """Squeeze-and-excitation: channels times a gate that depends on all their means."""
    y = m.op("GlobalAveragePool", x)
    with m.scope("fc1"):
        y = act(m, conv(m, y, channels, squeezed, gain=2))
    with m.scope("fc2"):
        y = gate(m, conv(m, y, squeezed, channels))
    return m.op("Mul", y, x)


# ---- EfficientNet-B0 (arXiv 1905.11946)


_B0 = (
    _Stage(3, 1, 16, 1, 1),
    _Stage(3, 6, 24, 2, 2),
    _Stage(5, 6, 40, 2, 2),
    _Stage(3, 6, 80, 3, 2),
    _Stage(5, 6, 112, 3, 1),
    _Stage(5, 6, 192, 4, 2),
    _Stage(3, 6, 320, 1, 1),
)


def efficientnet_b0() -> onnx.ModelProto:
    """Swish as Sigmoid and Mul also inside squeeze-and-excitation, which means by ReduceMean (timm)."""
    m = Maker("efficientnet_b0")
    with m.scope("stem"):
        x = conv_norm(m, _image(m), 3, 32, 3, stride=2, act=silu)
    width = 32
    for index, (stage, stride) in enumerate(_unrolled(_B0)):
        with m.scope("blocks", index):
            x = _mbconv(m, x, width, stage, stride)
        width = stage.outputs
    with m.scope("head"):
        x = conv_norm(m, x, width, 1280, act=silu)
    return _logits(m, classifier(m, x, 1280, _CLASSES))


def _mbconv(m: Maker, x: str, width: int, stage: _Stage, stride: int) -> str:
    wide, added = width * stage.expand, stride == 1 and width == stage.outputs
    y = x
    if wide != width:
        with m.scope("expand"):
            y = conv_norm(m, y, width, wide, act=silu)
    with m.scope("depthwise"):
        y = conv_norm(m, y, wide, wide, stage.kernel, stride=stride, groups=wide, act=silu)
    with m.scope("se"):
        pooled = m.op("ReduceMean", y, axes=[2, 3], keepdims=1)
        with m.scope("reduce"):
            gate = silu(m, conv(m, pooled, wide, max(4, width // 4), gain=2))
        with m.scope("expand"):
            y = m.op("Mul", y, m.op("Sigmoid", conv(m, gate, max(4, width // 4), wide)))
    with m.scope("project"):
        y = conv_norm(m, y, wide, stage.outputs, act=identity, scale=_BRANCH if added else 1)
    return m.op("Add", y, x) if added else y


# ---- ShuffleNetV2 (arXiv 1807.11164)


def shufflenet_v2() -> onnx.ModelProto:
    """x0.5, as wide as the original: channels are split in halves, joined and shuffled by a 5-axis Transpose."""
    m = Maker("shufflenet_v2", constant_nodes=True)
    with m.scope("conv1"):
        x = conv_norm(m, _image(m), 3, 24, 3, stride=2)
    x = m.op("MaxPool", x, kernel_shape=[3, 3], pads=[1, 1, 1, 1], strides=[2, 2])
    width = 24
    for stage, (outputs, repeats) in enumerate(((48, 4), (96, 8), (192, 4)), start=2):
        for index in range(repeats):
            with m.scope(f"stage{stage}", index):
                x = _shuffle_unit(m, x, width, outputs, stride=2 if index == 0 else 1)
            width = outputs
    with m.scope("conv5"):
        x = conv_norm(m, x, width, 512)
    x = m.op("ReduceMean", x, axes=[2, 3], keepdims=0)
    with m.scope("fc"):
        return _logits(m, gemm(m, x, 512, _CLASSES, gain=RELU))


def _shuffle_unit(m: Maker, x: str, width: int, outputs: int, *, stride: int) -> str:
    half = outputs // 2
    if stride == 1:
        left, x = m.several("Split", 2, x, m.ints(half, half), axis=1)
        width = half
    else:
        with m.scope("branch1"):
            y = conv(m, x, width, width, 3, stride=2, groups=width, bias=False, gain=1)
            left = conv_norm(m, batch_norm(m, y, width), width, half)
    with m.scope("branch2"):
        y = conv_norm(m, x, width, half)
        y = batch_norm(m, conv(m, y, half, half, 3, stride=stride, groups=half, bias=False), half)
        y = conv_norm(m, y, half, half)
    return channel_shuffle(m, m.op("Concat", left, y, axis=1), outputs, 2)


def channel_shuffle(m: Maker, x: str, channels: int, groups: int) -> str:
    """Reshape, Transpose, Reshape, with all sizes but the channels computed in the graph, as torch traces it."""
    batch, height, width = (m.size(x, axis) for axis in (0, 2, 3))
    y = m.reshape(x, batch, groups, channels // groups, height, width)
    return m.reshape(m.op("Transpose", y, perm=[0, 2, 1, 3, 4]), batch, -1, height, width)
