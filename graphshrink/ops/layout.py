"""Which constants are weights, and along which axis their output channels lie."""

from collections.abc import Collection, Mapping
from typing import Final

import numpy as np

from graphshrink.ir.operator import Operator
from graphshrink.ir.tensor import FLOATING
from graphshrink.ir.weight import Weight, WeightUse
from graphshrink.ops.base import Rule
from graphshrink.ops.table import RULES

_PARAMETERS: Final[Mapping[str, Collection[int]]] = {
    "Add": (0, 1),
    "BatchNormalization": (1, 2, 3, 4),
    "Conv": (2,),
    "ConvTranspose": (2,),
    "Div": (0, 1),
    "GRU": (3,),
    "Gemm": (2,),
    "GroupNormalization": (1, 2),
    "InstanceNormalization": (1, 2),
    "LSTM": (3, 7),
    "LayerNormalization": (1, 2),
    "Mul": (0, 1),
    "PRelu": (1,),
    "RMSNormalization": (1,),
    "RNN": (3,),
    "Sub": (0, 1),
}
"""Inputs that runtimes take from wherever they come, once constants are folded: biases, scales, normalisation."""


def rule_of(operator: Operator) -> Rule | None:
    """What is known of an operator."""
    domain, op_type = operator.kind
    return RULES.get(op_type) if domain == "" else None


def why_not_a_weight(weight: Weight) -> str | None:
    """Why a constant must be left alone, or None if it is proven to be a plain weight.

    Whether it is finite is for the pass to check, since that reads all of it.
    """
    if weight.tensor.elem_type not in FLOATING:
        return "not of a floating type"
    if weight.exposed is not None:
        return weight.exposed
    if not weight.uses:
        return "nothing uses it"
    for use in weight.uses:
        if _axis_in_use(weight, use) is None:
            return f"input {use.index} of {use.operator.op_type} is no weight matrix"
    return None


def why_not_a_parameter(weight: Weight) -> str | None:
    """Why a constant must be stored plainly, or None if it is a weight, a bias, or a parameter of a normalisation.

    What is added may be a mask as well: values that are not finite stay as they are.
    """
    reason = why_not_a_weight(weight)
    if reason is None or weight.tensor.elem_type not in FLOATING or weight.exposed is not None or not weight.uses:
        return reason
    if not all(_axis_in_use(weight, use) is not None or _is_parameter(use) for use in weight.uses):
        return reason
    return None if np.isfinite(weight.array).all() else "holds NaN or infinity, which is stored exactly"


def _is_parameter(use: WeightUse) -> bool:
    return use.operator.kind[0] == "" and use.index in _PARAMETERS.get(use.operator.op_type, ())


def output_axis(weight: Weight) -> int | None:
    """The axis of a weight that numbers output channels, if its uses agree on one."""
    axes = {_axis_in_tensor(weight, use) for use in weight.uses}
    return axes.pop() if len(axes) == 1 else None


def _axis_in_use(weight: Weight, use: WeightUse) -> int | None:
    """The axis as the operator sees the weight."""
    rule = rule_of(use.operator)
    if rule is None:
        return None
    return rule.output_axis(use.operator, use.index, len(weight.tensor.dims) if not _reshaped(use) else 2)


def _reshaped(use: WeightUse) -> bool:
    return any(operator.op_type not in ("Identity", "Cast", "Transpose") for operator in use.via)


def _axis_in_tensor(weight: Weight, use: WeightUse) -> int | None:
    """The axis in the stored tensor: back through the transpositions on the way; None behind a reshape."""
    axis = _axis_in_use(weight, use)
    rank = len(weight.tensor.dims)
    if axis is None or not 0 <= axis < rank or _reshaped(use):
        return None
    for operator in reversed(use.via):
        if operator.op_type == "Transpose":
            order = operator.integers("perm") or tuple(reversed(range(rank)))
            if sorted(order) != list(range(rank)):  # a broken model
                return None
            axis = order[axis]
    return axis
