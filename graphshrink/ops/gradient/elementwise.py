"""Gradients of operators that compute every element from those at the same place."""

import math
from collections.abc import Callable, Mapping
from typing import Final

from graphshrink.ops.gradient.base import Node, Rule, Writer, narrowed

_ROOT: Final = math.sqrt(2.0)
_TWO_BY_ROOT_PI: Final = 2.0 / math.sqrt(math.pi)


def passed(writer: Writer, node: Node, gradient: str) -> dict[int, str]:
    """Identity, Dropout at inference."""
    return {0: gradient}


def cast(writer: Writer, node: Node, gradient: str) -> dict[int, str]:
    """Between floating types."""
    return {0: writer.add("CastLike", gradient, node.x)} if writer.graph.opset >= _CAST_LIKE else {}


_CAST_LIKE: Final = 15


def added(writer: Writer, node: Node, gradient: str) -> dict[int, str]:
    """Add, Sum."""
    return {i: _to(writer, node, i, gradient) for i in range(len(node.operator.inputs)) if node.moves(i)}


def averaged(writer: Writer, node: Node, gradient: str) -> dict[int, str]:
    """Mean of several values."""
    share = writer.number(1.0 / len(node.operator.inputs), node.dtype)
    return added(writer, node, writer.add("Mul", gradient, share))


def subtracted(writer: Writer, node: Node, gradient: str) -> dict[int, str]:
    """Sub."""
    found = {0: _to(writer, node, 0, gradient)} if node.moves(0) else {}
    return found | ({1: _to(writer, node, 1, writer.add("Neg", gradient))} if node.moves(1) else {})


def multiplied(writer: Writer, node: Node, gradient: str) -> dict[int, str]:
    """Mul."""
    a, b = node.operator.inputs
    parts = ((0, b), (1, a))
    return {i: _to(writer, node, i, writer.add("Mul", gradient, other)) for i, other in parts if node.moves(i)}


def divided(writer: Writer, node: Node, gradient: str) -> dict[int, str]:
    """Div."""
    by = writer.add("Div", gradient, node.operator.inputs[1])
    found = {0: _to(writer, node, 0, by)} if node.moves(0) else {}
    if node.moves(1):
        found[1] = _to(writer, node, 1, writer.add("Neg", writer.add("Mul", by, node.y)))
    return found


def raised(writer: Writer, node: Node, gradient: str) -> dict[int, str]:
    """Pow with an exponent that is constant: p * x**(p - 1)."""
    if not node.moves(0) or node.moves(1):
        return {}
    exponent = writer.add("CastLike", node.operator.inputs[1], node.x) if writer.graph.opset >= _CAST_LIKE else ""
    if not exponent:
        return {}
    lower = writer.add("Pow", node.x, writer.add("Sub", exponent, writer.number(1.0, node.dtype)))
    return {0: _to(writer, node, 0, writer.add("Mul", gradient, writer.add("Mul", exponent, lower)))}


def extreme(writer: Writer, node: Node, gradient: str) -> dict[int, str]:
    """Max, Min: to the operands that are equal to it."""
    zero = writer.number(0.0, node.dtype)
    found: dict[int, str] = {}
    for index, name in enumerate(node.operator.inputs):
        if node.moves(index):
            part = writer.add("Where", writer.add("Equal", name, node.y), gradient, zero)
            found[index] = _to(writer, node, index, part)
    return found


def chosen(writer: Writer, node: Node, gradient: str) -> dict[int, str]:
    """Where."""
    zero, condition = writer.number(0.0, node.dtype), node.x
    parts = {1: (gradient, zero), 2: (zero, gradient)}
    return {
        i: _to(writer, node, i, writer.add("Where", condition, *both)) for i, both in parts.items() if node.moves(i)
    }


def sloped(writer: Writer, node: Node, gradient: str) -> dict[int, str]:
    """PRelu with slopes that are constant."""
    if node.moves(1):
        return {}
    below = writer.add("Mul", gradient, node.operator.inputs[1])
    return {0: _where_positive(writer, node, gradient, below)}


def _to(writer: Writer, node: Node, index: int, gradient: str) -> str:
    return narrowed(writer, gradient, node.shape(index), node.shapes[node.y], node.operator.inputs[index])


# ---- functions of one value: (writer, operator) -> name of the derivative


def _where_positive(writer: Writer, node: Node, above: str, below: str) -> str:
    return writer.add("Where", writer.add("Greater", node.x, writer.number(0.0, node.dtype)), above, below)


def _relu(writer: Writer, node: Node) -> str:
    return _where_positive(writer, node, writer.number(1.0, node.dtype), writer.number(0.0, node.dtype))


def _leaky(writer: Writer, node: Node) -> str:
    slope = writer.number(node.operator.real("alpha", 0.01), node.dtype)
    return _where_positive(writer, node, writer.number(1.0, node.dtype), slope)


def _elu(writer: Writer, node: Node) -> str:
    alpha = writer.number(node.operator.real("alpha", 1.0), node.dtype)
    return _where_positive(writer, node, writer.number(1.0, node.dtype), writer.add("Add", node.y, alpha))


def _clip(writer: Writer, node: Node) -> str:
    same = writer.add("Equal", node.x, node.y)
    return writer.add("Where", same, writer.number(1.0, node.dtype), writer.number(0.0, node.dtype))


def _sigmoid_of(writer: Writer, node: Node, made: str) -> str:
    return writer.add("Mul", made, writer.add("Sub", writer.number(1.0, node.dtype), made))


def _sigmoid(writer: Writer, node: Node) -> str:
    return _sigmoid_of(writer, node, node.y)


def _tanh(writer: Writer, node: Node) -> str:
    return writer.add("Sub", writer.number(1.0, node.dtype), writer.add("Mul", node.y, node.y))


def _exp(writer: Writer, node: Node) -> str:
    return node.y


def _log(writer: Writer, node: Node) -> str:
    return writer.add("Reciprocal", node.x)


def _sqrt(writer: Writer, node: Node) -> str:
    return writer.add("Div", writer.number(0.5, node.dtype), node.y)


def _reciprocal(writer: Writer, node: Node) -> str:
    return writer.add("Neg", writer.add("Mul", node.y, node.y))


def _neg(writer: Writer, node: Node) -> str:
    return writer.number(-1.0, node.dtype)


def _abs(writer: Writer, node: Node) -> str:
    return writer.add("Sign", node.x)


def _erf(writer: Writer, node: Node) -> str:
    bell = writer.add("Exp", writer.add("Neg", writer.add("Mul", node.x, node.x)))
    return writer.add("Mul", bell, writer.number(_TWO_BY_ROOT_PI, node.dtype))


def _softplus(writer: Writer, node: Node) -> str:
    return writer.add("Sigmoid", node.x)


def _inside(writer: Writer, node: Node, slope: float) -> str:
    """A slope where the result is between 0 and 1."""
    zero, one = writer.number(0.0, node.dtype), writer.number(1.0, node.dtype)
    inside = writer.add("And", writer.add("Greater", node.y, zero), writer.add("Less", node.y, one))
    return writer.add("Where", inside, writer.number(slope, node.dtype), zero)


def _hard_sigmoid(writer: Writer, node: Node) -> str:
    return _inside(writer, node, node.operator.real("alpha", 0.2))


def _hard_swish(writer: Writer, node: Node) -> str:
    """Of x * clip(x / 6 + 1/2): (2 x + 3) / 6 between -3 and 3."""
    third, half = writer.number(1 / 3, node.dtype), writer.number(0.5, node.dtype)
    between = writer.add("Add", writer.add("Mul", node.x, third), half)
    zero, one, three = (writer.number(value, node.dtype) for value in (0.0, 1.0, 3.0))
    outside = _where_positive(writer, node, one, zero)
    return writer.add("Where", writer.add("Less", writer.add("Abs", node.x), three), between, outside)


def _gelu(writer: Writer, node: Node) -> str:
    """Phi(x) + x phi(x); that of the approximation by tanh is so near that it is taken for the same."""
    half, one = writer.number(0.5, node.dtype), writer.number(1.0, node.dtype)
    scaled = writer.add("Div", node.x, writer.number(_ROOT, node.dtype))
    below = writer.add("Mul", half, writer.add("Add", one, writer.add("Erf", scaled)))
    bell = writer.add("Exp", writer.add("Neg", writer.add("Mul", scaled, scaled)))
    density = writer.add("Mul", bell, writer.number(_TWO_BY_ROOT_PI / (2 * _ROOT), node.dtype))
    return writer.add("Add", below, writer.add("Mul", node.x, density))


def _swish(writer: Writer, node: Node) -> str:
    """Of x s(a x): s + a x s (1 - s)."""
    alpha = writer.number(node.operator.real("alpha", 1.0), node.dtype)
    scaled = writer.add("Mul", node.x, alpha)
    made = writer.add("Sigmoid", scaled)
    return writer.add("Add", made, writer.add("Mul", scaled, _sigmoid_of(writer, node, made)))


def _by_derivative(derivative: Callable[[Writer, Node], str]) -> Rule:
    def rule(writer: Writer, node: Node, gradient: str) -> dict[int, str]:
        return {0: writer.add("Mul", gradient, derivative(writer, node))}

    return rule


_DERIVATIVES: Final[Mapping[str, Callable[[Writer, Node], str]]] = {
    "Abs": _abs,
    "Clip": _clip,
    "Elu": _elu,
    "Erf": _erf,
    "Exp": _exp,
    "Gelu": _gelu,
    "HardSigmoid": _hard_sigmoid,
    "HardSwish": _hard_swish,
    "LeakyRelu": _leaky,
    "Log": _log,
    "Neg": _neg,
    "Reciprocal": _reciprocal,
    "Relu": _relu,
    "Sigmoid": _sigmoid,
    "Softplus": _softplus,
    "Sqrt": _sqrt,
    "Swish": _swish,
    "Tanh": _tanh,
}

RULES: Final[Mapping[str, Rule]] = {
    **{name: _by_derivative(derivative) for name, derivative in _DERIVATIVES.items()},
    "Add": added,
    "Cast": cast,
    "Div": divided,
    "Dropout": passed,
    "Identity": passed,
    "Max": extreme,
    "Mean": averaged,
    "Min": extreme,
    "Mul": multiplied,
    "PRelu": sloped,
    "Pow": raised,
    "Sub": subtracted,
    "Sum": added,
    "Where": chosen,
}
