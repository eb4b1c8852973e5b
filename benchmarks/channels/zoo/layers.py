"""Layers that several architectures have, in the forms that exporters give them.

Weights are normal numbers of variance gain^2 / fan-in: gain sqrt 2 keeps the scale behind a Relu (He), 1 that of values
around zero (LeCun).
"""

import math
from collections.abc import Callable
from typing import Final, TypeAlias

import numpy as np

from benchmarks.channels.zoo.maker import Maker

Function: TypeAlias = Callable[[Maker, str], str]
"""An activation function: writes its operators behind a value."""

RELU: Final = math.sqrt(2)
"""The gain behind a Relu."""
SWISH: Final = 1.68
"""The gain behind Swish, GELU, and the like."""
EPSILON: Final = 1e-5


# ---- linear layers


def conv(
    m: Maker,
    x: str,
    inputs: int,
    outputs: int,
    kernel: int = 1,
    *,
    stride: int = 1,
    dilation: int = 1,
    groups: int = 1,
    pad: int | None = None,
    bias: bool = True,
    gain: float = RELU,
) -> str:
    """A square Conv, padded to keep the size unless told."""
    fan_in = inputs // groups * kernel**2
    operands = [m.normal("weight", outputs, inputs // groups, kernel, kernel, scale=gain / math.sqrt(fan_in))]
    operands += [m.normal("bias", outputs, scale=0.1)] if bias else []
    pads = [dilation * (kernel // 2) if pad is None else pad] * 4
    return m.op(
        "Conv",
        x,
        *operands,
        dilations=[dilation] * 2,
        group=groups,
        kernel_shape=[kernel] * 2,
        pads=pads,
        strides=[stride] * 2,
    )


def conv_1d(
    m: Maker,
    x: str,
    inputs: int,
    outputs: int,
    kernel: int = 1,
    *,
    dilation: int = 1,
    groups: int = 1,
    pad: int | None = None,
    bias: bool = True,
    gain: float = RELU,
) -> str:
    """A Conv over one axis, padded to keep the size unless told."""
    fan_in = inputs // groups * kernel
    operands = [m.normal("weight", outputs, inputs // groups, kernel, scale=gain / math.sqrt(fan_in))]
    operands += [m.normal("bias", outputs, scale=0.1)] if bias else []
    pads = [dilation * (kernel // 2) if pad is None else pad] * 2
    return m.op("Conv", x, *operands, dilations=[dilation], group=groups, kernel_shape=[kernel], pads=pads, strides=[1])


def conv_transpose(
    m: Maker,
    x: str,
    inputs: int,
    outputs: int,
    kernel: int,
    *,
    stride: int,
    pad: int = 0,
    bias: bool = True,
    gain: float = RELU,
) -> str:
    """Upsampling by a square ConvTranspose."""
    fan_in = inputs * (kernel / stride) ** 2
    operands = [m.normal("weight", inputs, outputs, kernel, kernel, scale=gain / math.sqrt(fan_in))]
    operands += [m.normal("bias", outputs, scale=0.1)] if bias else []
    return m.op("ConvTranspose", x, *operands, kernel_shape=[kernel] * 2, pads=[pad] * 4, strides=[stride] * 2)


def gemm(m: Maker, x: str, inputs: int, outputs: int, *, gain: float = 1.0) -> str:
    """A linear layer on rows, as exporters of torch write nn.Linear."""
    weight = m.normal("weight", outputs, inputs, scale=gain / math.sqrt(inputs))
    return m.op("Gemm", x, weight, m.normal("bias", outputs, scale=0.1), alpha=1.0, beta=1.0, transB=1)


def linear(m: Maker, x: str, inputs: int, outputs: int, *, bias: bool = True, gain: float = 1.0) -> str:
    """A linear layer on the last of several axes: MatMul, Add with the bias first, as exporters of torch write it."""
    y = m.op("MatMul", x, m.normal("weight", inputs, outputs, scale=gain / math.sqrt(inputs)))
    return m.op("Add", m.normal("bias", outputs, scale=0.1), y) if bias else y


# ---- normalisation


def batch_norm(m: Maker, x: str, channels: int, *, scale: float = 1.0) -> str:
    """A BatchNormalization; its statistics are for `norms.settled` to fill in."""
    operands = [
        m.uniform("bn.weight", channels, low=0.7 * scale, high=1.3 * scale),
        m.normal("bn.bias", channels, scale=0.2 * scale),
        m.weight("bn.running_mean", np.zeros(channels)),
        m.weight("bn.running_var", np.ones(channels)),
    ]
    return m.op("BatchNormalization", x, *operands, epsilon=EPSILON, momentum=0.9)


def layer_norm(m: Maker, x: str, width: int, *, fused: bool) -> str:
    """Over the last axis: one operator, or the nine of exporters below opset 17."""
    weight = m.uniform("norm.weight", width, low=0.7, high=1.3)
    bias = m.normal("norm.bias", width, scale=0.1)
    if fused:
        return m.op("LayerNormalization", x, weight, bias, axis=-1, epsilon=EPSILON)
    return m.op("Add", m.op("Mul", _standardised(m, x, -1), weight), bias)


def channel_norm(m: Maker, x: str, channels: int) -> str:
    """A decomposed LayerNorm over axis 1, as ConvNeXt's own code has it."""
    weight = m.uniform("norm.weight", channels, 1, 1, low=0.7, high=1.3)
    bias = m.normal("norm.bias", channels, 1, 1, scale=0.1)
    return m.op("Add", m.op("Mul", weight, _standardised(m, x, 1)), bias)


def _standardised(m: Maker, x: str, axis: int) -> str:
    centred = m.op("Sub", x, m.op("ReduceMean", x, axes=[axis], keepdims=1))
    variance = m.op("ReduceMean", m.op("Pow", centred, m.scalar(2)), axes=[axis], keepdims=1)
    return m.op("Div", centred, m.op("Sqrt", m.op("Add", variance, m.scalar(EPSILON))))


# ---- activation functions


def relu(m: Maker, x: str) -> str:
    return m.op("Relu", x)


def relu6(m: Maker, x: str) -> str:
    return m.op("Clip", x, m.scalar(0), m.scalar(6))


def silu(m: Maker, x: str) -> str:
    return m.op("Mul", x, m.op("Sigmoid", x))


def gelu(m: Maker, x: str) -> str:
    """With Erf, as exporters below opset 20 write it."""
    erf = m.op("Erf", m.op("Div", x, m.scalar(math.sqrt(2))))
    return m.op("Mul", m.op("Mul", x, m.op("Add", erf, m.scalar(1))), m.scalar(0.5))


def gelu_tanh(m: Maker, x: str) -> str:
    """The approximation of GPT-2: x / 2 (1 + tanh(sqrt(2 / pi) (x + .044715 x^3)))."""
    half = m.op("Mul", x, m.scalar(0.5))
    cube = m.op("Mul", m.op("Pow", x, m.scalar(3)), m.scalar(0.044715))
    inner = m.op("Mul", m.op("Add", x, cube), m.scalar(math.sqrt(2 / math.pi)))
    return m.op("Mul", half, m.op("Add", m.op("Tanh", inner), m.scalar(1)))


def identity(_: Maker, x: str) -> str:
    return x


# ---- blocks


def conv_norm(
    m: Maker,
    x: str,
    inputs: int,
    outputs: int,
    kernel: int = 1,
    *,
    stride: int = 1,
    groups: int = 1,
    act: Function = relu,
    scale: float = 1.0,
) -> str:
    """Conv, BatchNormalization of outputs of that scale, activation."""
    y = conv(m, x, inputs, outputs, kernel, stride=stride, groups=groups, bias=False)
    return act(m, batch_norm(m, y, outputs, scale=scale))


def classifier(m: Maker, x: str, channels: int, classes: int, *, gain: float = RELU) -> str:
    """Pool, Flatten, Gemm."""
    flat = m.op("Flatten", m.op("GlobalAveragePool", x), axis=1)
    with m.scope("fc"):
        return gemm(m, flat, channels, classes, gain=gain)


def attention(m: Maker, query: str, key_turned: str, value: str, size: int, bias: str | None = None) -> str:
    """softmax(q k' / sqrt(size) + bias) v of heads in axis 1; the key comes turned."""
    scores = m.op("Div", m.op("MatMul", query, key_turned), m.scalar(math.sqrt(size)))
    scores = scores if bias is None else m.op("Add", scores, bias)
    return m.op("MatMul", m.op("Softmax", scores, axis=-1), value)


def expanded(m: Maker, x: str, *sizes: int | str) -> str:
    """Expand as torch's tracing exporter writes x.expand(n, -1, -1): each -1 becomes a 1 on the way."""
    wanted = m.op("Reshape", m.shape(*sizes), m.ints(-1))
    ones = m.filled(m.op("Shape", wanted), 1)
    kept = m.op("Equal", wanted, m.op("Mul", ones, m.index(-1)))
    return m.op("Expand", x, m.op("Where", kept, ones, wanted))
