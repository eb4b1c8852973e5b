"""Convolutions, and what stands between them: normalisation and pooling."""

from typing import Any

import numpy as np

from tests.random_graphs.dense import back, computed_in
from tests.random_graphs.maker import HALF, Maker, Scope, Shape, Value
from tests.random_graphs.weights import weight


def conv(maker: Maker, scope: Scope, x: Value) -> Value:
    """Plain, grouped, depthwise and 1x1, with strides, padding and dilations."""
    n, channels, *space = x.shape
    kind = maker.pick("plain", "1x1", "grouped", "depthwise")
    groups = {"depthwise": channels, "grouped": _divisor(maker, channels)}.get(kind, 1)
    out_channels = groups * maker.integer(1, 2) if groups > 1 else maker.width()
    kernel = [1 if kind == "1x1" else maker.integer(1, min(3, size)) for size in space]
    pad, stride = maker.integer(0, 1), maker.integer(1, 2)
    dilation = 2 if maker.chance(4) and all(2 * k - 1 <= size for k, size in zip(kernel, space, strict=True)) else 1
    name, dtype = computed_in(maker, scope, x.name, HALF)
    held = weight(maker, scope, (out_channels, channels // groups, *kernel), dtype)
    attributes: dict[str, Any] = {"kernel_shape": kernel} if maker.chance() else {}
    if groups > 1 or maker.chance():
        attributes["group"] = groups
    rank = len(space)
    attributes |= {"pads": [pad] * 2 * rank, "strides": [stride] * rank, "dilations": [dilation] * rank}
    out = maker.node(scope, "Conv", [name, held, _bias(maker, scope, out_channels, dtype)], **attributes)
    maker.features.add(f"Conv: {kind}")
    sizes = [(s + 2 * pad - dilation * (k - 1) - 1) // stride + 1 for s, k in zip(space, kernel, strict=True)]
    return back(maker, scope, out, dtype, (n, out_channels, *sizes))


def conv_transpose(maker: Maker, scope: Scope, x: Value) -> Value:
    n, channels, *space = x.shape
    groups, each = _divisor(maker, channels), maker.integer(1, 4)
    kernel, stride = [maker.integer(1, 3) for _ in space], maker.integer(1, 2)
    name, dtype = computed_in(maker, scope, x.name, HALF)
    held = weight(maker, scope, (channels, each, *kernel), dtype)
    bias = _bias(maker, scope, groups * each, dtype)
    out = maker.node(scope, "ConvTranspose", [name, held, bias], group=groups, strides=[stride] * len(space))
    sizes = [(size - 1) * stride + k for size, k in zip(space, kernel, strict=True)]
    return back(maker, scope, out, dtype, (n, groups * each, *sizes))


def _divisor(maker: Maker, number: int) -> int:
    return int(maker.pick(*(d for d in range(1, number + 1) if number % d == 0)))


def _bias(maker: Maker, scope: Scope, channels: int, dtype: np.dtype[Any]) -> str:
    return maker.constant(scope, maker.fill((channels,), dtype)) if maker.chance() else ""


def batch_normalization(maker: Maker, scope: Scope, x: Value) -> Value:
    shape: Shape = (x.shape[1],)
    scale, bias, mean = (maker.constant(scope, maker.fill(shape)) for _ in range(3))
    variance = maker.constant(scope, np.abs(maker.fill(shape)) + np.float32(0.5))
    return Value(maker.node(scope, "BatchNormalization", [x.name, scale, bias, mean, variance], epsilon=1e-3), x.shape)


def instance_normalization(maker: Maker, scope: Scope, x: Value) -> Value:
    scale, bias = (maker.constant(scope, maker.fill((x.shape[1],))) for _ in range(2))
    return Value(maker.node(scope, "InstanceNormalization", [x.name, scale, bias], epsilon=0.1), x.shape)


def pool(maker: Maker, scope: Scope, x: Value) -> Value:
    n, channels, *space = x.shape
    kind = maker.pick("MaxPool", "AveragePool", "GlobalAveragePool", "GlobalMaxPool")
    if kind.startswith("Global"):
        return Value(maker.node(scope, kind, [x.name]), (n, channels, *(1 for _ in space)))
    kernel = [min(2, size) for size in space]
    out = maker.node(scope, kind, [x.name], kernel_shape=kernel, strides=kernel)
    return Value(out, (n, channels, *((s - k) // k + 1 for s, k in zip(space, kernel, strict=True))))
