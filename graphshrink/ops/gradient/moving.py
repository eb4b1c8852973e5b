"""Gradients of operators that move elements, and leave them as they are."""

from collections.abc import Mapping, Sequence
from typing import Final

import numpy as np

from graphshrink.ops.gradient.base import Node, Rule, Writer, count_of, narrowed


def moved(writer: Writer, node: Node, gradient: str) -> dict[int, str]:
    """Reshape, Flatten, Squeeze, Unsqueeze."""
    return {0: writer.like(gradient, node.x)}


def transposed(writer: Writer, node: Node, gradient: str) -> dict[int, str]:
    """Transpose."""
    order = node.operator.integers("perm") or tuple(reversed(range(len(node.shape(0)))))
    return {0: writer.add("Transpose", gradient, perm=tuple(map(int, np.argsort(order))))}


def concatenated(writer: Writer, node: Node, gradient: str) -> dict[int, str]:
    """Concat: each operand its part."""
    axis = node.operator.integer("axis", 1)
    found: dict[int, str] = {}
    start = 0
    for index in range(len(node.operator.inputs)):
        size = node.shape(index)[axis]
        if node.moves(index):
            bounds = [writer.integers(n) for n in (start, start + size, axis)]
            found[index] = writer.add("Slice", gradient, *bounds)
        start += size
    return found


def sliced(writer: Writer, node: Node, gradient: str) -> dict[int, str]:
    """Slice by steps of one: zeros around."""
    starts, axes, steps = (node.constant(index) for index in (1, 3, 4))
    if starts is None or (node.has(3) and axes is None) or (node.has(4) and (steps is None or (steps != 1).any())):
        return {}
    x, y = node.shape(0), node.shapes[node.y]
    before = [0] * len(x)
    for axis, start in zip(range(len(starts)) if axes is None else axes.tolist(), starts.tolist(), strict=True):
        size = x[axis]
        before[axis] = min(max(start + size if start < 0 else start, 0), size)
    after = [size - first - left for size, first, left in zip(x, before, y, strict=True)]
    return {0: _padded(writer, node, gradient, before, after)}


def gathered(writer: Writer, node: Node, gradient: str) -> dict[int, str]:
    """Gather of one index."""
    index = node.constant(1)
    if index is None or index.size != 1 or index.ndim > 1:
        return {}
    axis, x = node.operator.integer("axis", 0), node.shape(0)
    axis, at = axis % len(x), int(index.reshape(-1)[0]) % x[axis]
    part = gradient if index.ndim else writer.add("Unsqueeze", gradient, writer.integers(axis))
    before, after = [0] * len(x), [0] * len(x)
    before[axis], after[axis] = at, x[axis] - 1 - at
    return {0: _padded(writer, node, part, before, after)}


def padded(writer: Writer, node: Node, gradient: str) -> dict[int, str]:
    """Pad with a constant, by a known number of places: without them."""
    pads, x = node.constant(1), node.shape(0)
    if node.text("mode", b"constant") != b"constant" or pads is None or node.has(3) or (pads < 0).any():
        return {}
    axes = [axis for axis in range(len(x)) if pads[axis] or pads[axis + len(x)]]
    if not axes:
        return {0: gradient}
    starts = [int(pads[axis]) for axis in axes]
    ends = [start + x[axis] for start, axis in zip(starts, axes, strict=True)]
    return {0: writer.add("Slice", gradient, *(writer.integers(*numbers) for numbers in (starts, ends, axes)))}


def split(writer: Writer, node: Node, gradient: str) -> dict[int, str]:
    """Split, from the gradient of all pieces together."""
    return {0: gradient}


def expanded(writer: Writer, node: Node, gradient: str) -> dict[int, str]:
    """Expand."""
    return {0: narrowed(writer, gradient, node.shape(0), node.shapes[node.y], node.x)}


def resized(writer: Writer, node: Node, gradient: str) -> dict[int, str]:
    """Resize and Upsample to the nearest by whole factors: the sum of the places that each one was copied to."""
    x, y = node.shape(0), node.shapes[node.y]
    whole = len(x) == len(y) > 2 and x[:2] == y[:2] and all(b % a == 0 for a, b in zip(x, y, strict=True))
    if node.text("mode", b"nearest") != b"nearest" or not whole or not _copies_blocks(node):
        return {}
    factors = tuple(b // a for a, b in zip(x[2:], y[2:], strict=True))
    mean = writer.add("AveragePool", gradient, kernel_shape=factors, strides=factors)
    return {0: writer.add("Mul", mean, writer.number(count_of(factors, range(len(factors))), node.dtype))}


def _copies_blocks(node: Node) -> bool:
    """Whether every place is copied to a block of its own, the n-th to the n-th."""
    how = node.text("coordinate_transformation_mode", b"half_pixel")
    near = node.text("nearest_mode", b"round_prefer_floor")
    return node.operator.op_type == "Upsample" or (how, near[:5]) in (
        (b"asymmetric", b"floor"),
        (b"half_pixel", b"round"),
    )


def _padded(writer: Writer, node: Node, gradient: str, before: Sequence[int], after: Sequence[int]) -> str:
    if not any(before) and not any(after):
        return gradient
    return writer.add("Pad", gradient, writer.integers(*before, *after), writer.number(0.0, node.dtype))


RULES: Final[Mapping[str, Rule]] = {
    "Concat": concatenated,
    "Expand": expanded,
    "Flatten": moved,
    "Gather": gathered,
    "Pad": padded,
    "Reshape": moved,
    "Resize": resized,
    "Slice": sliced,
    "Split": split,
    "Squeeze": moved,
    "Transpose": transposed,
    "Unsqueeze": moved,
    "Upsample": resized,
}
