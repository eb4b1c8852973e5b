"""Operators that compute every element from those at the same place."""

from typing import Final

from graphshrink.ops.coupling.base import Links, Site

NAMES: Final = (
    *("Abs", "Acos", "Acosh", "Add", "And", "Asin", "Asinh", "Atan", "Atanh", "BitShift", "BitwiseAnd", "BitwiseNot"),
    *("BitwiseOr", "BitwiseXor", "Cast", "CastLike", "Ceil", "Celu", "Clip", "Cos", "Cosh", "Div", "Elu", "Equal"),
    *("Erf", "Exp", "Floor", "Gelu", "Greater", "GreaterOrEqual", "HardSigmoid", "HardSwish", "Identity", "IsInf"),
    *("IsNaN", "LeakyRelu", "Less", "LessOrEqual", "Log", "Max", "Mean", "Min", "Mish", "Mod", "Mul", "Neg", "Not"),
    *("Or", "PRelu", "Pow", "Reciprocal", "Relu", "Round", "Selu", "Shrink", "Sigmoid", "Sign", "Sin", "Sinh"),
    *("Softplus", "Softsign", "Sqrt", "Sub", "Sum", "Swish", "Tan", "Tanh", "ThresholdedRelu", "Where", "Xor"),
)

_SCALARS: Final = ("CastLike", "Clip")  # which inputs but the first are numbers, or only lend their type


def couple(site: Site, links: Links) -> None:
    """Shapes are broadcast: axes align from the last, and one of size 1 stands at every place."""
    inputs = 1 if site.operator.op_type in _SCALARS else len(site.inputs)
    for index in range(inputs):
        if site.has_input(index):
            aligned(site, links, index, 0)


def aligned(site: Site, links: Links, index: int, output: int) -> None:
    """Join an input with an output that it is broadcast to."""
    shape, made = site.input_shape(index), site.output_shape(output)
    for axis in range(-len(shape), 0):
        if shape[axis] == made[axis]:
            links.join(site.input(index, axis), site.output(output, axis))


def dropout(site: Site, links: Links) -> None:
    """At inference, the input itself, and a mask of it."""
    for output in range(len(site.outputs)):
        if site.has_output(output):
            aligned(site, links, 0, output)


def quantised(site: Site, links: Links) -> None:
    """QuantizeLinear and DequantizeLinear: one scale, or one for each index along an axis, or blocks of such."""
    aligned(site, links, 0, 0)
    shape = site.input_shape(0)
    for index in (1, 2):
        if not site.has_input(index) or site.input_shape(index) in ((), (1,)):
            continue
        if len(site.input_shape(index)) != 1:
            site.hold_all(links, f"{site.title} scales blocks")
            return
        axis = site.operator.integer("axis", 1)
        if site.input_shape(index)[0] == shape[axis]:
            links.join(site.input(index, 0), site.input(0, axis))
