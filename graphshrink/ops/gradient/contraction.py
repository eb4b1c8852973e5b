"""Gradients of products with weights, and of activations with each other."""

from collections.abc import Mapping
from typing import Final

from graphshrink.ops.gradient.base import Node, Rule, Writer, narrowed


def convolution(writer: Writer, node: Node, gradient: str) -> dict[int, str]:
    """Conv: the transposed convolution with the same kernel."""
    operator, x, y, w = node.operator, node.shape(0), node.shapes[node.y], node.shape(1)
    axes = len(w) - 2
    strides, dilations = _steps(node, axes)
    pads = operator.integers("pads") or (0,) * (2 * axes)
    if node.text("auto_pad", b"NOTSET") not in (b"NOTSET", b"VALID") or len(x) < 3 or node.moves(1):
        return {}
    spans = [(y[2 + a] - 1) * strides[a] + dilations[a] * (w[2 + a] - 1) + 1 for a in range(axes)]
    extra = tuple(x[2 + a] - spans[a] + pads[a] + pads[a + axes] for a in range(axes))
    if any(not 0 <= e < max(s, d) for e, s, d in zip(extra, strides, dilations, strict=True)):
        return {}
    back = writer.add(
        "ConvTranspose", gradient, operator.inputs[1], strides=strides, dilations=dilations, pads=pads,
        group=operator.integer("group", 1), output_padding=extra,
    )  # fmt: skip
    return {0: back}


def transposed_convolution(writer: Writer, node: Node, gradient: str) -> dict[int, str]:
    """ConvTranspose: the convolution with the same kernel."""
    operator = node.operator
    axes = len(node.shape(1)) - 2
    strides, dilations = _steps(node, axes)
    pads = operator.integers("pads") or (0,) * (2 * axes)
    given = node.text("auto_pad", b"NOTSET") not in (b"NOTSET", b"VALID") or "output_shape" in operator.attributes
    if given or node.moves(1):
        return {}
    back = writer.add(
        "Conv", gradient, operator.inputs[1], strides=strides, dilations=dilations, pads=pads,
        group=operator.integer("group", 1),
    )  # fmt: skip
    return {0: back}


def _steps(node: Node, axes: int) -> tuple[tuple[int, ...], tuple[int, ...]]:
    strides, dilations = (node.operator.integers(name) or (1,) * axes for name in ("strides", "dilations"))
    return strides, dilations


def gemm(writer: Writer, node: Node, gradient: str) -> dict[int, str]:
    """Gemm: alpha * A B + beta * C."""
    operator = node.operator
    if operator.integer("transA", 0) or node.moves(1):
        return {}
    alpha, beta = operator.real("alpha", 1.0), operator.real("beta", 1.0)
    turned = 0 if operator.integer("transB", 0) else 1
    found: dict[int, str] = {}
    if node.moves(0):
        found[0] = writer.add("Gemm", gradient, operator.inputs[1], alpha=alpha, transB=turned)
    if node.moves(2):
        part = writer.add("Mul", gradient, writer.number(beta, node.dtype))
        found[2] = narrowed(writer, part, node.shape(2), node.shapes[node.y], operator.inputs[2])
    return found


def matmul(writer: Writer, node: Node, gradient: str) -> dict[int, str]:
    """MatMul, stacks of matrices too."""
    a, b = node.operator.inputs
    if min(len(node.shape(0)), len(node.shape(1))) < 2:
        return {}
    made = node.shapes[node.y]
    found: dict[int, str] = {}
    if node.moves(0):
        part = writer.add("MatMul", gradient, _turned(writer, b, len(node.shape(1))))
        found[0] = narrowed(writer, part, node.shape(0), (*made[:-1], node.shape(0)[-1]), a)
    if node.moves(1):
        part = writer.add("MatMul", _turned(writer, a, len(node.shape(0))), gradient)
        found[1] = narrowed(writer, part, node.shape(1), (*made[:-2], *node.shape(1)[-2:]), b)
    return found


def _turned(writer: Writer, name: str, rank: int) -> str:
    return writer.add("Transpose", name, perm=(*range(rank - 2), rank - 1, rank - 2))


RULES: Final[Mapping[str, Rule]] = {
    "Conv": convolution,
    "ConvTranspose": transposed_convolution,
    "Gemm": gemm,
    "MatMul": matmul,
}
