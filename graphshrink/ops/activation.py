"""Where an activation does not care: thresholds beyond which its result is the same, or as good as the same.

Relu:  below 0 the result is 0        Clip(0, 6):  and above 6 it is 6        Tanh:  beyond 3 it is within 0.005 of 1
"""

import math
from collections.abc import Callable, Mapping
from typing import Final, NamedTuple

from graphshrink.ir.graph import Graph
from graphshrink.ir.operator import Operator
from graphshrink.ir.types import Array


class Saturation(NamedTuple):
    """An activation is flat below `low` and above `high`; infinite where it is not."""

    low: float = -math.inf
    high: float = math.inf


_SIGMOID: Final = 6.0  # within 0.0025 of 0 and of 1
_TANH: Final = 3.0  # within 0.005 of -1 and of 1
_EXP: Final = 6.0  # exp(-6) is 0.0025
_SWISH: Final = 6.0  # within 0.015 of 0, where the function itself is as steep as 1 elsewhere
_GELU: Final = 3.0  # within 0.004 of 0


def saturation(graph: Graph, value: str) -> tuple[str, Saturation] | None:
    """The activation that is the only thing to become of a value, by name, and where it is flat; None if none is."""
    uses = graph.uses(value)
    if not uses or any(info.name == value for info in graph.outputs) or any(use.input < 0 for use in uses):
        return None
    users = [graph.operator(use.operator) for use in uses]
    if len(users) == 1:
        rule = _RULES.get(users[0].op_type) if users[0].kind[0] == "" and uses[0].input == 0 else None
        return None if rule is None else (users[0].op_type, rule(graph, users[0]))
    return _of_several(graph, value, users)


def _of_several(graph: Graph, value: str, users: list[Operator]) -> tuple[str, Saturation] | None:
    """Activations that exporters write as two branches and their product: x * sigmoid(x), and GELU by Erf."""
    kinds = {user.op_type for user in users}
    if kinds == {"Sigmoid", "Mul"} and _multiplies(graph, value, users, "Sigmoid"):
        return "x * Sigmoid(x)", Saturation(low=-_SWISH)
    if kinds == {"HardSigmoid", "Mul"} and _multiplies(graph, value, users, "HardSigmoid"):
        gate = next(user for user in users if user.op_type == "HardSigmoid")
        return "x * HardSigmoid(x)", Saturation(low=_hard_sigmoid(graph, gate).low)
    if len(users) == 2 and kinds in ({"Div", "Mul"}, {"Mul"}) and _is_gelu(graph, value, users):
        return "GELU", Saturation(low=-_GELU)
    return None


def _multiplies(graph: Graph, value: str, users: list[Operator], gate: str) -> bool:
    product = next(user for user in users if user.op_type == "Mul")
    gates = {user.outputs[0] for user in users if user.op_type == gate}
    return len(users) == 2 and set(product.inputs) == {value, *gates}


def _is_gelu(graph: Graph, value: str, users: list[Operator]) -> bool:
    """Whether x, or a multiple of it, is multiplied by 1 + Erf(a multiple of x), and nothing else comes of either."""
    for gate, other in (users, users[::-1]):
        erf = _only(graph, gate.outputs[0])
        plus = None if erf is None or not erf.is_a("Erf") else _only(graph, erf.outputs[0])
        if plus is None or not plus.is_a("Add"):
            continue
        product = _only(graph, plus.outputs[0])
        if product is None or not product.is_a("Mul"):
            continue
        scaled = _only(graph, other.outputs[0])
        if product is other or (scaled is product and value not in product.inputs):
            return True
    return False


def _only(graph: Graph, value: str) -> Operator | None:
    """The operator that is alone in using a value."""
    uses = graph.uses(value)
    if len(uses) != 1 or uses[0].input < 0 or any(info.name == value for info in graph.outputs):
        return None
    return graph.operator(uses[0].operator)


# ---- single operators


def _clip(graph: Graph, operator: Operator) -> Saturation:
    def bound(index: int, name: str, default: float) -> float:
        if len(operator.inputs) > index and operator.inputs[index]:
            tensor = graph.constant(operator.inputs[index])
            return default if tensor is None or tensor.size != 1 else _one(tensor.array)
        return operator.real(name, default)

    return Saturation(bound(1, "min", -math.inf), bound(2, "max", math.inf))


def _hard_sigmoid(graph: Graph, operator: Operator) -> Saturation:
    slope, middle = operator.real("alpha", 0.2), operator.real("beta", 0.5)
    return Saturation(-middle / slope, (1.0 - middle) / slope) if slope > 0 else Saturation()


def _thresholded(graph: Graph, operator: Operator) -> Saturation:
    return Saturation(low=operator.real("alpha", 1.0))


def _celu(graph: Graph, operator: Operator) -> Saturation:
    width = abs(operator.real("alpha", 1.0))
    return Saturation(low=-width * (_EXP + math.log(max(width / 2.0, 1.0))))


def _exponential(alpha: float, gamma: float = 1.0) -> Callable[[Graph, Operator], Saturation]:
    """Gamma * alpha * (exp(x) - 1) where x is negative; the defaults of both are given."""

    def rule(graph: Graph, operator: Operator) -> Saturation:
        height = abs(operator.real("alpha", alpha) * operator.real("gamma", gamma))
        return Saturation(low=-_EXP - math.log(max(height / 2.0, 1.0)))  # within 0.005

    return rule


def _swish(graph: Graph, operator: Operator) -> Saturation:
    slope = operator.real("alpha", 1.0)
    return Saturation(low=-_SWISH / slope) if slope > 0 else Saturation()


def _always(low: float = -math.inf, high: float = math.inf) -> Callable[[Graph, Operator], Saturation]:
    return lambda graph, operator: Saturation(low, high)


_RULES: Final[Mapping[str, Callable[[Graph, Operator], Saturation]]] = {
    "Celu": _celu,
    "Clip": _clip,
    "Elu": _exponential(1.0),
    "Gelu": _always(-_GELU),
    "HardSigmoid": _hard_sigmoid,
    "HardSwish": _always(-3.0),
    "LeakyRelu": _always(),
    "Mish": _always(-_SWISH),
    "PRelu": _always(),
    "Relu": _always(0.0),
    "Selu": _exponential(1.67326, 1.0507),
    "Sigmoid": _always(-_SIGMOID, _SIGMOID),
    "Softplus": _always(-_EXP),
    "Swish": _swish,
    "Tanh": _always(-_TANH, _TANH),
    "ThresholdedRelu": _thresholded,
}


def _one(array: Array) -> float:
    return float(array.reshape(-1)[0])
