"""Where an activation does not care: thresholds beyond which its result is the same, or as good as the same.

Relu:  below 0 the result is 0        Clip(0, 6):  and above 6 it is 6        Tanh:  beyond 3 it is within 0.005 of 1
"""

import math
from collections.abc import Callable, Mapping
from typing import Final, NamedTuple

from graphshrink.ir.graph import Graph
from graphshrink.ir.operator import AttributeType, Operator
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
    """Activations that exporters write as two branches and their product: x * sigmoid(x), and GELU by Erf or Tanh."""
    kinds = {user.op_type for user in users}
    if kinds == {"Sigmoid", "Mul"} and _multiplies(graph, value, users, "Sigmoid"):
        return "x * Sigmoid(x)", Saturation(low=-_SWISH)
    if kinds == {"HardSigmoid", "Mul"} and _multiplies(graph, value, users, "HardSigmoid"):
        gate = next(user for user in users if user.op_type == "HardSigmoid")
        return "x * HardSigmoid(x)", Saturation(low=_hard_sigmoid(graph, gate).low)
    if kinds in ({"Div", "Mul"}, {"Mul"}) and _reaches_erf(graph, users):
        return "GELU", Saturation(low=-_GELU)
    return None


def _multiplies(graph: Graph, value: str, users: list[Operator], gate: str) -> bool:
    product = next(user for user in users if user.op_type == "Mul")
    gates = {user.outputs[0] for user in users if user.op_type == gate}
    return len(users) == 2 and set(product.inputs) == {value, *gates}


def _reaches_erf(graph: Graph, users: list[Operator]) -> bool:
    """Whether Erf(x / sqrt(2)) is what one of two branches leads to."""
    if len(users) != 2:
        return False
    following = [
        graph.operator(use.operator) for user in users for use in graph.uses(user.outputs[0]) if use.input >= 0
    ]
    return any(operator.is_a("Erf") for operator in following)


# ---- single operators


def _clip(graph: Graph, operator: Operator) -> Saturation:
    def bound(index: int, name: str, default: float) -> float:
        if len(operator.inputs) > index and operator.inputs[index]:
            tensor = graph.constant(operator.inputs[index])
            return default if tensor is None or tensor.size != 1 else _one(tensor.array)
        return _number(operator, name, default)

    return Saturation(bound(1, "min", -math.inf), bound(2, "max", math.inf))


def _hard_sigmoid(graph: Graph, operator: Operator) -> Saturation:
    slope, middle = _number(operator, "alpha", 0.2), _number(operator, "beta", 0.5)
    return Saturation(-middle / slope, (1.0 - middle) / slope) if slope > 0 else Saturation()


def _thresholded(graph: Graph, operator: Operator) -> Saturation:
    return Saturation(low=_number(operator, "alpha", 1.0))


def _always(low: float = -math.inf, high: float = math.inf) -> Callable[[Graph, Operator], Saturation]:
    return lambda graph, operator: Saturation(low, high)


_RULES: Final[Mapping[str, Callable[[Graph, Operator], Saturation]]] = {
    "Celu": _always(-_EXP),
    "Clip": _clip,
    "Elu": _always(-_EXP),
    "Gelu": _always(-_GELU),
    "HardSigmoid": _hard_sigmoid,
    "HardSwish": _always(-3.0),
    "LeakyRelu": _always(),
    "Mish": _always(-_SWISH),
    "PRelu": _always(),
    "Relu": _always(0.0),
    "Selu": _always(-_EXP),
    "Sigmoid": _always(-_SIGMOID, _SIGMOID),
    "Softplus": _always(-_EXP),
    "Swish": _always(-_SWISH),
    "Tanh": _always(-_TANH, _TANH),
    "ThresholdedRelu": _thresholded,
}


def _number(operator: Operator, name: str, default: float) -> float:
    attribute = operator.attributes.get(name)
    if attribute is None or attribute.type is not AttributeType.FLOAT or not isinstance(attribute.value, float):
        return default
    return attribute.value


def _one(array: Array) -> float:
    return float(array.reshape(-1)[0])
