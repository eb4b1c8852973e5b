"""Gradients of pooling, reductions and normalisations."""

import math
from collections.abc import Mapping, Sequence
from typing import Final

import numpy as np

from graphshrink.ops.gradient.base import Node, Rule, Writer, count_of


def _axes(node: Node) -> tuple[int, ...] | None:
    """What a reduction reduces; None where that is not known."""
    rank = len(node.shape(0))
    axes = node.integers("axes", 1)
    if axes is None and not node.has(1):
        return () if node.operator.integer("noop_with_empty_axes", 0) else tuple(range(rank))
    return None if axes is None else tuple(axis % rank for axis in axes)


def _places(node: Node) -> tuple[int, ...]:
    return tuple(range(2, len(node.shape(0))))


def summed(writer: Writer, node: Node, gradient: str) -> dict[int, str]:
    """ReduceSum: to every element what the sum gets."""
    axes = _axes(node)
    if not axes:
        return {0: gradient} if axes == () else {}
    return {0: _back(writer, node, gradient, axes)}


def averaged(writer: Writer, node: Node, gradient: str) -> dict[int, str]:
    """ReduceMean."""
    axes = _axes(node)
    if not axes:
        return {0: gradient} if axes == () else {}
    return {0: _share(writer, node, _back(writer, node, gradient, axes), axes)}


def pooled_whole(writer: Writer, node: Node, gradient: str) -> dict[int, str]:
    """GlobalAveragePool."""
    return {0: _share(writer, node, writer.spread(gradient, node.x), _places(node))}


def largest(writer: Writer, node: Node, gradient: str) -> dict[int, str]:
    """ReduceMax, ReduceMin, GlobalMaxPool: to all elements that are equal to it."""
    axes = _places(node) if node.operator.op_type == "GlobalMaxPool" else _axes(node)
    if not axes:
        return {0: gradient} if axes == () else {}
    most = _back(writer, node, node.y, axes)
    spread = _back(writer, node, gradient, axes)
    return {0: writer.add("Where", writer.add("Equal", node.x, most), spread, writer.number(0.0, node.dtype))}


def _back(writer: Writer, node: Node, name: str, axes: Sequence[int]) -> str:
    """A reduced value beside every element that it came from."""
    if len(node.shapes[node.y]) != len(node.shape(0)):
        name = writer.add("Unsqueeze", name, writer.integers(*axes))
    return writer.spread(name, node.x)


def _share(writer: Writer, node: Node, gradient: str, axes: Sequence[int]) -> str:
    return writer.add("Div", gradient, writer.number(count_of(node.shape(0), axes), node.dtype))


# ---- windows


def max_pooled(writer: Writer, node: Node, gradient: str) -> dict[int, str]:
    """MaxPool: to the largest of each window; where one is the largest of several windows, it gets one's."""
    operator = node.operator
    given = {name: operator.integers(name) for name in ("strides", "pads")}
    how = {name: numbers for name, numbers in given.items() if numbers is not None}
    odd = "dilations" in operator.attributes or operator.integer("storage_order", 0)
    if node.text("auto_pad", b"NOTSET") != b"NOTSET" or odd:
        return {}
    kernel = operator.integers("kernel_shape") or ()
    ceil = {"ceil_mode": 1} if operator.integer("ceil_mode", 0) else {}
    _, places = writer.several(2, "MaxPool", node.x, kernel_shape=kernel, **how, **ceil)
    shape = writer.add("Shape", node.x)
    return {0: writer.add("MaxUnpool", gradient, places, shape, kernel_shape=kernel, **how)}


def average_pooled(writer: Writer, node: Node, gradient: str) -> dict[int, str]:
    """AveragePool: to every place of a window its share, as if windows had the same number of places everywhere."""
    operator, x, y = node.operator, node.shape(0), node.shapes[node.y]
    kernel = operator.integers("kernel_shape") or ()
    axes, channels = len(kernel), x[1]
    strides = operator.integers("strides") or (1,) * axes
    pads = operator.integers("pads") or (0,) * (2 * axes)
    extra = tuple(x[2 + a] - (y[2 + a] - 1) * strides[a] - kernel[a] + pads[a] + pads[a + axes] for a in range(axes))
    odd = node.text("auto_pad", b"NOTSET") != b"NOTSET" or "dilations" in operator.attributes
    if odd or any(not 0 <= e < s for e, s in zip(extra, strides, strict=True)):
        return {}
    share = writer.constant(np.full((channels, 1, *kernel), 1 / math.prod(kernel), node.dtype))
    back = writer.add(
        "ConvTranspose", gradient, share, strides=strides, pads=pads, group=channels, output_padding=extra
    )
    return {0: back}


# ---- normalisations


def batch_normalised(writer: Writer, node: Node, gradient: str) -> dict[int, str]:
    """BatchNormalization at inference: a factor for each channel."""
    scale, variance = (node.constant(index) for index in (1, 4))
    if scale is None or variance is None or any(node.operator.outputs[1:]):
        return {}
    factor = scale / np.sqrt(variance.astype(np.float64) + node.operator.real("epsilon", 1e-5))
    shaped = factor.reshape(-1, *(1 for _ in _places(node))).astype(node.dtype)
    return {0: writer.add("Mul", gradient, writer.constant(shaped))}


def layer_normalised(writer: Writer, node: Node, gradient: str) -> dict[int, str]:
    """LayerNormalization: over all axes from one on."""
    if any(node.operator.outputs[1:]) or node.moves(1):
        return {}
    rank = len(node.shape(0))
    axes = tuple(range(node.operator.integer("axis", -1) % rank, rank))
    return {0: _normalised(writer, node, writer.add("Mul", gradient, node.operator.inputs[1]), axes)}


def instance_normalised(writer: Writer, node: Node, gradient: str) -> dict[int, str]:
    """InstanceNormalization: over the places of a channel."""
    scale = node.constant(1)
    if scale is None:
        return {}
    shaped = writer.constant(scale.reshape(-1, *(1 for _ in _places(node))))
    return {0: _normalised(writer, node, writer.add("Mul", gradient, shaped), _places(node))}


def _normalised(writer: Writer, node: Node, gradient: str, axes: Sequence[int]) -> str:
    """(g - mean(g) - z * mean(g z)) / deviation, with z the normalised value."""

    def mean(name: str) -> str:
        return _share(writer, node, writer.reduced("ReduceSum", name, axes), axes)

    centred = writer.add("Sub", node.x, mean(node.x))
    epsilon = writer.number(node.operator.real("epsilon", 1e-5), node.dtype)
    deviation = writer.add("Sqrt", writer.add("Add", mean(writer.add("Mul", centred, centred)), epsilon))
    z = writer.add("Div", centred, deviation)
    along = writer.add("Mul", z, mean(writer.add("Mul", gradient, z)))
    left = writer.add("Sub", writer.add("Sub", gradient, mean(gradient)), along)
    return writer.add("Div", left, deviation)


def softmax(writer: Writer, node: Node, gradient: str) -> dict[int, str]:
    """Softmax: y * (g - sum(g y))."""
    total = writer.reduced("ReduceSum", writer.add("Mul", gradient, node.y), (node.operator.integer("axis", -1),))
    return {0: writer.add("Mul", node.y, writer.add("Sub", gradient, total))}


def log_softmax(writer: Writer, node: Node, gradient: str) -> dict[int, str]:
    """LogSoftmax: g - exp(y) * sum(g)."""
    total = writer.reduced("ReduceSum", gradient, (node.operator.integer("axis", -1),))
    return {0: writer.add("Sub", gradient, writer.add("Mul", writer.add("Exp", node.y), total))}


RULES: Final[Mapping[str, Rule]] = {
    "AveragePool": average_pooled,
    "BatchNormalization": batch_normalised,
    "GlobalAveragePool": pooled_whole,
    "GlobalMaxPool": largest,
    "InstanceNormalization": instance_normalised,
    "LayerNormalization": layer_normalised,
    "LogSoftmax": log_softmax,
    "MaxPool": max_pooled,
    "ReduceMax": largest,
    "ReduceMean": averaged,
    "ReduceMin": largest,
    "ReduceSum": summed,
    "Softmax": softmax,
}
