"""What decode subgraphs may consist of: a few standard operators in NumPy, in the forms in which they are used.

A form that none uses gives None, and the subgraph is an ordinary part of the model.
"""

import math
from collections.abc import Callable, Mapping
from typing import Any, Final, NamedTuple, TypeAlias

import numpy as np

from graphshrink.encodings.grid import multiply
from graphshrink.encodings.quantised import dequantize_linear
from graphshrink.encodings.spectral import multiply as multiply_by_basis
from graphshrink.ir.operator import Operator
from graphshrink.ir.tensor import DTYPES, T, Tensor
from graphshrink.ir.types import Array

Results: TypeAlias = tuple[Array, ...]

_INT32: Final = np.dtype(np.int32)
_INT64: Final = np.dtype(np.int64)


Computes: TypeAlias = Callable[[Operator, list[Array]], Array | None]
Sizes: TypeAlias = Callable[[Operator, list[Array]], int]


class Rule(NamedTuple):
    """How an operator computes, None for a form that no decode subgraph uses; and the bytes it takes at most."""

    compute: Callable[[Operator, list[Array]], Results | None]
    bytes: Sizes


def _single(
    compute: Callable[[Operator, list[Array]], Array | None], size: Callable[[Operator, list[Array]], int]
) -> Rule:
    """The rule of an operator with one output."""

    def results(operator: Operator, inputs: list[Array]) -> Results | None:
        result = compute(operator, inputs)
        return None if result is None else (result,)

    return Rule(results, size)


def _sub(operator: Operator, inputs: list[Array]) -> Array | None:
    return np.subtract(*inputs) if len(inputs) == 2 and {array.dtype for array in inputs} == {_INT32} else None


def _mul(operator: Operator, inputs: list[Array]) -> Array | None:
    """Of indices, and of the steps of a grid by their scale."""
    if len(inputs) == 2 and {array.dtype for array in inputs} == {_INT32}:
        return np.multiply(*inputs)
    return multiply(operator, inputs)


def _add(operator: Operator, inputs: list[Array]) -> Results | None:
    if len(inputs) != 2 or inputs[0].dtype != inputs[1].dtype or inputs[0].dtype not in (_INT32, _INT64):
        return None
    return (inputs[0] + inputs[1],)


def _where(operator: Operator, inputs: list[Array]) -> Results | None:
    if len(inputs) != 3 or [array.dtype for array in inputs] != [np.dtype(bool), _INT32, _INT32]:
        return None
    return (np.where(*inputs),)


_BYTES: Final = (np.dtype(np.uint8), np.dtype(np.int8))
_SHORT: Final = (DTYPES[T.FLOAT16], DTYPES[T.BFLOAT16])

# What decode subgraphs cast to, and from which types.
_CASTS: Final[Mapping[int, tuple[np.dtype[Any], ...]]] = {
    T.BOOL: (_INT32,),
    T.INT32: (np.dtype(np.uint8), np.dtype(bool), _INT64),
    T.FLOAT16: _BYTES,
    T.FLOAT: (*_BYTES, *_SHORT),
    T.DOUBLE: (*_BYTES, *_SHORT, DTYPES[T.FLOAT]),
}
_FILLED: Final = (T.INT32, T.FLOAT16, T.FLOAT, T.DOUBLE)
_FLOATS: Final = (T.FLOAT, T.DOUBLE)


def _cast(operator: Operator, inputs: list[Array]) -> Results | None:
    to = operator.integer("to", 0)
    if inputs[0].dtype not in _CASTS.get(to, ()):
        return None
    with np.errstate(invalid="ignore"):
        if to in _FLOATS and np.isnan(inputs[0]).any():  # runtimes do not agree on what becomes of it
            return None
    return (inputs[0].astype(DTYPES[to]),)


def _concat(operator: Operator, inputs: list[Array]) -> Results | None:
    return (np.concatenate(inputs, axis=operator.integer("axis", 0)),)


def _constant_of_shape(operator: Operator, inputs: list[Array]) -> Results | None:
    value = operator.attributes["value"].value if "value" in operator.attributes else None
    if not isinstance(value, Tensor) or value.dims != (1,) or value.elem_type not in _FILLED or not _indices(inputs[0]):
        return None
    return (np.full(tuple(map(int, inputs[0])), value.array[0], value.array.dtype),)


def _cumsum(operator: Operator, inputs: list[Array]) -> Results | None:
    if inputs[0].dtype != _INT32 or inputs[0].ndim != 1 or inputs[1].shape != () or operator.integer("reverse", 0):
        return None
    sums: Array = np.cumsum(inputs[0], dtype=np.int32)
    return (sums - inputs[0] if operator.integer("exclusive", 0) else sums,)


def _expand(operator: Operator, inputs: list[Array]) -> Results | None:
    if len(inputs) != 2 or inputs[0].dtype != _INT32 or not _indices(inputs[1]):
        return None
    wanted = np.broadcast_shapes(inputs[0].shape, tuple(map(int, inputs[1])))
    return (np.ascontiguousarray(np.broadcast_to(inputs[0], wanted)),)


def _flatten(operator: Operator, inputs: list[Array]) -> Results | None:
    return None if operator.attributes or inputs[0].ndim < 1 else (inputs[0].reshape(len(inputs[0]), -1),)


def _gather(operator: Operator, inputs: list[Array]) -> Results | None:
    if len(inputs) != 2 or inputs[1].dtype != _INT32:
        return None
    return (np.take(inputs[0], inputs[1], axis=operator.integer("axis", 0)),)


def _not(operator: Operator, inputs: list[Array]) -> Results | None:
    return (np.logical_not(inputs[0]),) if inputs[0].dtype == np.dtype(bool) else None


def _reduce_sum(operator: Operator, inputs: list[Array]) -> Results | None:
    axes = operator.integers("axes") or tuple(map(int, inputs[1].reshape(-1)[:2] if len(inputs) == 2 else ()))
    if len(axes) != 1 or inputs[0].dtype != _INT32:
        return None
    sums: Array = np.asarray(np.sum(inputs[0], axis=axes[0], keepdims=True, dtype=np.int32))
    return (sums,)


def _reshape(operator: Operator, inputs: list[Array]) -> Results | None:
    if len(inputs) != 2 or not _indices(inputs[1]):
        return None
    wanted = list(map(int, inputs[1]))
    if min(wanted, default=0) < -1:
        return None
    shape = [inputs[0].shape[axis] if length == 0 else length for axis, length in enumerate(wanted)]
    return (inputs[0].reshape(tuple(shape)),)


def _scatter(operator: Operator, inputs: list[Array]) -> Results | None:
    data, places, updates = inputs
    how = operator.attributes["reduction"].value if "reduction" in operator.attributes else b"none"
    if data.ndim != 1 or places.dtype != _INT32 or updates.dtype != data.dtype or operator.integer("axis", 0):
        return None
    result = data.copy()
    if how == b"add" and data.dtype == _INT32:
        np.add.at(result, places, updates)
    elif how == b"none":
        result[places] = updates
    else:
        return None
    return (result,)


def _shape(operator: Operator, inputs: list[Array]) -> Results | None:
    return None if operator.attributes else (np.array(inputs[0].shape, np.int64),)


def _slice(operator: Operator, inputs: list[Array]) -> Results | None:
    if not all(map(_indices, inputs[1:])):
        return None
    stated = (operator.integers(name) or () for name in ("starts", "ends", "axes"))
    starts, ends, *rest = (tuple(map(int, part)) for part in inputs[1:]) if len(inputs) > 1 else stated
    axes = rest[0] if rest else tuple(range(len(starts)))
    sensible = min((*starts, *axes), default=-1) >= 0 and min(ends, default=-2) >= -1 and len(rest) < 2
    if not sensible or not len(starts) == len(ends) == len(axes):
        return None
    cut = [slice(None)] * inputs[0].ndim
    for axis, start, end in zip(axes, starts, ends, strict=True):
        cut[axis] = slice(start, end)
    return (inputs[0][tuple(cut)],)


def _split(operator: Operator, inputs: list[Array]) -> Results | None:
    if len(inputs) != 1 or operator.integers("split") is not None:
        return None
    return tuple(np.split(inputs[0], len(operator.outputs), axis=operator.integer("axis", 0)))


def _transpose(operator: Operator, inputs: list[Array]) -> Results | None:
    order = operator.integers("perm")
    return None if order is None else (np.ascontiguousarray(inputs[0].transpose(order)),)


def _indices(array: Array) -> bool:
    """Whether an array can be a shape, or bounds."""
    return array.dtype == _INT64 and array.ndim == 1


# ---- bytes that operators take at most


def _broadcast(operator: Operator, inputs: list[Array]) -> int:
    shape: tuple[int, ...] = np.broadcast_shapes(*(array.shape for array in inputs))
    return math.prod(shape) * 8


def _nothing(operator: Operator, inputs: list[Array]) -> int:
    return 0


def _the_same(operator: Operator, inputs: list[Array]) -> int:
    return inputs[0].nbytes


def _all_of_them(operator: Operator, inputs: list[Array]) -> int:
    return sum(array.nbytes for array in inputs)


def _eight_bytes_each(operator: Operator, inputs: list[Array]) -> int:
    return 8 * inputs[0].size


def _gathered(operator: Operator, inputs: list[Array]) -> int:
    rows = inputs[0].shape[operator.integer("axis", 0)]
    each: int = inputs[0].nbytes // max(1, rows)
    return each * inputs[-1].size


def _dequantized(operator: Operator, inputs: list[Array]) -> int:
    return 3 * 4 * inputs[0].size  # with the steps, and the scale repeated


def _shaped(operator: Operator, inputs: list[Array]) -> int:
    return 8 * math.prod(map(int, inputs[0].reshape(-1)))


def _expanded(operator: Operator, inputs: list[Array]) -> int:
    shape: tuple[int, ...] = np.broadcast_shapes(inputs[0].shape, tuple(map(int, inputs[-1].reshape(-1))))
    return 8 * math.prod(shape)


def _rank(operator: Operator, inputs: list[Array]) -> int:
    return 8 * inputs[0].ndim


RULES: Final[Mapping[str, Rule]] = {
    "Add": Rule(_add, _broadcast),
    "Cast": Rule(_cast, _eight_bytes_each),
    "Concat": Rule(_concat, _all_of_them),
    "ConstantOfShape": Rule(_constant_of_shape, _shaped),
    "CumSum": Rule(_cumsum, _the_same),
    "Expand": Rule(_expand, _expanded),
    "Flatten": Rule(_flatten, _nothing),
    "Gather": Rule(_gather, _gathered),
    "DequantizeLinear": _single(dequantize_linear, _dequantized),
    "MatMul": _single(multiply_by_basis, _all_of_them),
    "Mul": _single(_mul, _broadcast),
    "Not": Rule(_not, _the_same),
    "ReduceSum": Rule(_reduce_sum, _the_same),
    "Reshape": Rule(_reshape, _nothing),
    "ScatterElements": Rule(_scatter, _the_same),
    "Shape": Rule(_shape, _rank),
    "Slice": Rule(_slice, _nothing),
    "Split": Rule(_split, _nothing),
    "Sub": _single(_sub, _broadcast),
    "Transpose": Rule(_transpose, _the_same),
    "Where": Rule(_where, _broadcast),
}
