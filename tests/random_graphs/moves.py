"""What carries no weights: activations, residuals, concatenations, other shapes."""

import math
from typing import Final

import numpy as np
from hypothesis import strategies as st

from tests.random_graphs.maker import Maker, Scope, Value

_ACTIVATIONS: Final = ("Relu", "Sigmoid", "Tanh", "LeakyRelu", "Elu", "Softplus", "Identity", "Neg")


def activation(maker: Maker, scope: Scope, x: Value) -> Value:
    if maker.chance(6):
        return Value(maker.node(scope, "Softmax", [x.name], axis=len(x.shape) - 1), x.shape)
    return Value(maker.node(scope, maker.pick(*_ACTIVATIONS), [x.name]), x.shape)


def clip(maker: Maker, scope: Scope, x: Value) -> Value:
    """With an optional input left out, once the operator has such."""
    if maker.opset < 11:
        return Value(maker.node(scope, "Clip", [x.name], max=4.0), x.shape)
    return Value(maker.node(scope, "Clip", [x.name, "", maker.plain(scope, 4, np.float32)]), x.shape)


def arithmetic(maker: Maker, scope: Scope, x: Value) -> Value:
    """With a constant that is spread over some axes; also a slope."""
    shape = tuple(1 if maker.chance(3) else size for size in x.shape)
    op_type = maker.pick("Add", "Mul", "PRelu")
    return Value(maker.node(scope, op_type, [x.name, maker.constant(scope, maker.fill(shape))]), x.shape)


def residual(maker: Maker, scope: Scope, x: Value) -> Value:
    other = maker.pick(*(value for value in scope.values if value.shape == x.shape))
    return Value(maker.node(scope, maker.pick("Add", "Sub"), [x.name, other.name]), x.shape)


def concat(maker: Maker, scope: Scope, x: Value) -> Value:
    """With values, or with a constant, that agree on all other axes."""
    axis = maker.integer(0, len(x.shape) - 1)

    def rest(value: Value) -> tuple[int, ...]:
        return (*value.shape[:axis], *value.shape[axis + 1 :])

    others = [v for v in scope.values if len(v.shape) == len(x.shape) and rest(v) == rest(x)]
    if maker.chance(3):
        extra = maker.integer(0, 2)  # may be empty
        shape = (*x.shape[:axis], extra, *x.shape[axis + 1 :])
        other = Value(maker.constant(scope, maker.fill(shape)), shape)
    else:
        other = maker.pick(*others)
    size = x.shape[axis] + other.shape[axis]
    shape = (*x.shape[:axis], size, *x.shape[axis + 1 :])
    return Value(maker.node(scope, "Concat", [x.name, other.name], axis=axis), shape)


def flatten(maker: Maker, scope: Scope, x: Value) -> Value:
    axis = maker.integer(1, len(x.shape) - 1)
    shape = (math.prod(x.shape[:axis]), math.prod(x.shape[axis:]))
    return Value(maker.node(scope, "Flatten", [x.name], axis=axis), shape)


def reshape(maker: Maker, scope: Scope, x: Value) -> Value:
    """To rank 2, 3 or 4."""
    left, shape = math.prod(x.shape), list[int]()
    for _ in range(maker.integer(1, 3)):
        shape.append(int(maker.pick(*(d for d in range(1, min(left, 24) + 1) if left % d == 0))))
        left //= shape[-1]
    shape.append(left)
    return Value(maker.node(scope, "Reshape", [x.name, maker.plain(scope, shape)]), tuple(shape))


def transpose(maker: Maker, scope: Scope, x: Value) -> Value:
    order = list(maker.draw(st.permutations(range(len(x.shape)))))
    return Value(maker.node(scope, "Transpose", [x.name], perm=order), tuple(x.shape[axis] for axis in order))


def lengthen(maker: Maker, scope: Scope, x: Value) -> Value:
    """One axis more, for values that lost theirs."""
    shape = (*x.shape, 1)
    return Value(maker.node(scope, "Reshape", [x.name, maker.plain(scope, shape)]), shape)
