"""A CNN between QuantizeLinear and DequantizeLinear, as static quantisation by ONNX Runtime leaves it."""

import math

import numpy as np
import onnx

from benchmarks.channels.zoo.layers import RELU
from benchmarks.channels.zoo.maker import BATCH, Maker

_CLASSES = 10
_RANGE = 4.0  # of activations, of order one
_SCALE = 2 * _RANGE / 255


def qdq_cnn() -> onnx.ModelProto:
    """Six Conv, one of them depthwise, a residual sum, and a Gemm: int8 weights with a scale for each output channel,
    int32 biases, uint8 activations with one scale."""
    m = Maker("qdq_cnn")
    x = _requantised(m, m.input("input", BATCH, 3, 32, 32))
    with m.scope("conv1"):
        x = _conv(m, x, 3, 24, stride=2)
    with m.scope("conv2"):
        y = _conv(m, x, 24, 24)
    with m.scope("conv3"):
        y = _conv(m, y, 24, 24, gain=0.5, act=False)
    x = _requantised(m, m.op("Add", y, x))
    with m.scope("depthwise"):
        x = _conv(m, x, 24, 24, groups=24)
    with m.scope("pointwise"):
        x = _conv(m, x, 24, 48, kernel=1)
    with m.scope("conv4"):
        x = _conv(m, x, 48, 64, stride=2)
    x = m.op("Flatten", _requantised(m, m.op("GlobalAveragePool", x)), axis=1)
    with m.scope("fc"):
        weight, bias = _weights(m, (_CLASSES, 64), 64, RELU)
        x = _requantised(m, m.op("Gemm", x, weight, bias, transB=1))
    m.output(x, "logits", BATCH, _CLASSES)
    return m.model()


def _zero(m: Maker, scale: str, kind: type[np.generic], count: int | None, middle: int = 0) -> list[str]:
    shape = () if count is None else (count,)
    return [scale, m.weight("zero_point", np.full(shape, middle, kind))]


def _requantised(m: Maker, x: str) -> str:
    """Through uint8 and back."""
    scale = m.scalar(_SCALE)
    point = _zero(m, scale, np.uint8, None, 128)
    return m.op("DequantizeLinear", m.op("QuantizeLinear", x, *point), *point)


def _weights(m: Maker, shape: tuple[int, ...], fan_in: int, gain: float) -> tuple[str, str]:
    """An int8 weight with a scale a row, and an int32 bias with the product of both scales; dequantised."""
    rows = m.rng.normal(0, gain / math.sqrt(fan_in), shape)
    scales = np.abs(rows).reshape(shape[0], -1).max(axis=1) / 127
    integers = np.rint(rows / scales.reshape(-1, *[1] * (len(shape) - 1))).astype(np.int8)
    scale = m.weight("weight_scale", scales)
    weight = m.op(
        "DequantizeLinear", m.weight("weight_quantized", integers), *_zero(m, scale, np.int8, shape[0]), axis=0
    )
    bias = np.rint(m.rng.normal(0, 0.1, shape[0]) / (scales * _SCALE)).astype(np.int32)
    scale = m.weight("bias_scale", scales * _SCALE)
    bias_name = m.weight("bias_quantized", bias)
    return weight, m.op("DequantizeLinear", bias_name, *_zero(m, scale, np.int32, shape[0]), axis=0)


def _conv(
    m: Maker,
    x: str,
    inputs: int,
    outputs: int,
    *,
    kernel: int = 3,
    stride: int = 1,
    groups: int = 1,
    gain: float = RELU,
    act: bool = True,
) -> str:
    each = inputs // groups
    weight, bias = _weights(m, (outputs, each, kernel, kernel), each * kernel**2, gain)
    pads = [kernel // 2] * 4
    y = m.op("Conv", x, weight, bias, group=groups, kernel_shape=[kernel] * 2, pads=pads, strides=[stride] * 2)
    return _requantised(m, m.op("Relu", y) if act else y)
