"""Weights for layers: constants of their own, shared with others, or behind operators that move and retype them."""

import math
from collections.abc import Callable, Mapping
from typing import Any, Final

import numpy as np
from hypothesis import strategies as st

from tests.random_graphs.maker import BFLOAT, DOUBLE, FLOAT, HALF, Maker, Scope, Shape

_Form = Callable[[Maker, Scope, Shape, np.dtype[Any]], str]


def weight(maker: Maker, scope: Scope, shape: Shape, dtype: np.dtype[Any] = FLOAT) -> str:
    """The name of a constant value of this shape and type."""
    if maker.chance():
        tied = _tied(maker, scope, shape, dtype)
        if tied is not None:
            return tied
    form = maker.pick("direct", "direct", *FORMS)
    maker.features.add(f"weight: {form}")
    return FORMS[form](maker, scope, shape, dtype)


def _tied(maker: Maker, scope: Scope, shape: Shape, dtype: np.dtype[Any]) -> str | None:
    """A constant that is in use already, as it is or transposed."""
    alike = [held for held in scope.held if held.dtype == dtype and held.shape in (shape, shape[::-1])]
    if not alike:
        return None
    held = maker.pick(*alike)
    if held.shape == shape:
        maker.features.add("weight: tied")
        return str(held.name)
    maker.features.add("weight: tied through Transpose")
    return maker.node(scope, "Transpose", [held.name])


def _direct(maker: Maker, scope: Scope, shape: Shape, dtype: np.dtype[Any]) -> str:
    return maker.constant(scope, maker.fill(shape, dtype))


def _identity(maker: Maker, scope: Scope, shape: Shape, dtype: np.dtype[Any]) -> str:
    return maker.node(scope, "Identity", [_direct(maker, scope, shape, dtype)])


def _transposed(maker: Maker, scope: Scope, shape: Shape, dtype: np.dtype[Any]) -> str:
    order = list(maker.draw(st.permutations(range(len(shape)))))
    stored = [0] * len(shape)
    for place, axis in enumerate(order):
        stored[axis] = shape[place]
    return maker.node(scope, "Transpose", [_direct(maker, scope, tuple(stored), dtype)], perm=order)


def _reshaped(maker: Maker, scope: Scope, shape: Shape, dtype: np.dtype[Any]) -> str:
    size = math.prod(shape)
    if size == 0:  # a 0 among the sizes that Reshape is told means "as it was"
        return _direct(maker, scope, shape, dtype)
    stored = maker.pick((size,), (1, size), (size, 1), (*shape, 1))
    return maker.node(scope, "Reshape", [_direct(maker, scope, stored, dtype), maker.plain(scope, shape)])


def _squeezed(maker: Maker, scope: Scope, shape: Shape, dtype: np.dtype[Any]) -> str:
    axis = maker.integer(0, len(shape))
    held = _direct(maker, scope, (*shape[:axis], 1, *shape[axis:]), dtype)
    if maker.opset < 13:
        return maker.node(scope, "Squeeze", [held], axes=[axis])
    return maker.node(scope, "Squeeze", [held, maker.plain(scope, [axis])])


def _sliced(maker: Maker, scope: Scope, shape: Shape, dtype: np.dtype[Any]) -> str:
    axis, before, after = maker.integer(0, len(shape) - 1), maker.integer(0, 2), maker.integer(0, 2)
    stored = (*shape[:axis], shape[axis] + before + after, *shape[axis + 1 :])
    held = _direct(maker, scope, stored, dtype)
    cut = ([before], [before + shape[axis]], [axis])
    if maker.opset < 10:
        return maker.node(scope, "Slice", [held], starts=cut[0], ends=cut[1], axes=cut[2])
    return maker.node(scope, "Slice", [held, *(maker.plain(scope, part) for part in cut)])


def _joined(maker: Maker, scope: Scope, shape: Shape, dtype: np.dtype[Any]) -> str:
    axis = maker.integer(0, len(shape) - 1)
    first = maker.integer(0, shape[axis])  # one part may be empty
    parts = [(*shape[:axis], size, *shape[axis + 1 :]) for size in (first, shape[axis] - first)]
    return maker.node(scope, "Concat", [_direct(maker, scope, part, dtype) for part in parts], axis=axis)


def _split(maker: Maker, scope: Scope, shape: Shape, dtype: np.dtype[Any]) -> str:
    axis, other = maker.integer(0, len(shape) - 1), maker.integer(1, 2)
    held = _direct(maker, scope, (*shape[:axis], shape[axis] + other, *shape[axis + 1 :]), dtype)
    sizes = [shape[axis], other]
    if maker.opset < 13:
        return maker.nodes(scope, "Split", [held], 2, axis=axis, split=sizes)[0]
    return maker.nodes(scope, "Split", [held, maker.plain(scope, sizes)], 2, axis=axis)[0]


def _retyped(maker: Maker, scope: Scope, shape: Shape, dtype: np.dtype[Any]) -> str:
    """Stored in another floating type."""
    others = [HALF, DOUBLE, FLOAT, *([BFLOAT] if maker.opset >= 13 else [])]
    stored = maker.pick(*(other for other in others if other != dtype))
    maker.features.add(f"stored as {stored}")
    return maker.cast(scope, _direct(maker, scope, shape, stored), dtype)


FORMS: Final[Mapping[str, _Form]] = {
    "direct": _direct,
    "Identity": _identity,
    "Transpose": _transposed,
    "Reshape": _reshaped,
    "Squeeze": _squeezed,
    "Slice": _sliced,
    "Concat": _joined,
    "Split": _split,
    "Cast": _retyped,
}
"""How a weight can reach its layer."""
