"""Gemm, MatMul and Gather."""

from typing import Any

import numpy as np

from tests.random_graphs.maker import DOUBLE, FLOAT, HALF, Maker, Scope, Shape, Value
from tests.random_graphs.weights import weight


def computed_in(maker: Maker, scope: Scope, x: str, *types: np.dtype[Any]) -> tuple[str, np.dtype[Any]]:
    """The value in one of some types, most often as it is; and the type."""
    dtype = maker.pick(FLOAT, FLOAT, FLOAT, *types)
    if dtype == FLOAT:
        return x, FLOAT
    maker.features.add(f"computed in {dtype}")
    return maker.cast(scope, x, dtype), dtype


def multiplied_in(maker: Maker, scope: Scope, x: str) -> tuple[str, np.dtype[Any]]:
    """The value in the type of a MatMul.

    ONNX Runtime 1.32 crashes while it loads a Transpose that moves the first axis beside the last, a Cast to float64
    and a MatMul, one behind the other; so something stands between the last two.
    """
    name, dtype = computed_in(maker, scope, x, HALF, DOUBLE)
    return (maker.node(scope, "Neg", [name]) if dtype == DOUBLE else name), dtype


def back(maker: Maker, scope: Scope, name: str, dtype: np.dtype[Any], shape: Shape) -> Value:
    """A result as float32."""
    return Value(name if dtype == FLOAT else maker.cast(scope, name, FLOAT), shape)


def gemm(maker: Maker, scope: Scope, x: Value) -> Value:
    """The weight on either side, either way up; always back to (n, width)."""
    (n, c), width = x.shape, maker.width()
    name, dtype = computed_in(maker, scope, x.name, HALF, DOUBLE)
    left, flip, turn = maker.chance(3), maker.chance(), maker.chance(4)
    held = weight(maker, scope, (width, c) if flip != left else (c, width), dtype)
    maker.features.add(f"Gemm: weight is {'A' if left else 'B'}{', transposed' if flip else ''}")
    if turn:
        name = maker.node(scope, "Transpose", [name], perm=[1, 0])
    bias = _bias(maker, scope, left, n, width, dtype)
    scale = {"alpha": 0.5, "beta": 2.0} if maker.chance(4) else {}
    if not left:
        out = maker.node(scope, "Gemm", [name, held, bias], transA=int(turn), transB=int(flip), **scale)
    else:  # the weight is (width, c), or (c, width) and transposed; x is (n, c), or (c, n) when turned
        out = maker.node(scope, "Gemm", [held, name, bias], transA=int(flip), transB=int(not turn), **scale)
        out = maker.node(scope, "Transpose", [out], perm=[1, 0])
    return back(maker, scope, out, dtype, (n, width))


def _bias(maker: Maker, scope: Scope, left: bool, n: int, width: int, dtype: np.dtype[Any]) -> str:
    if maker.opset >= 11 and maker.chance(3):
        return ""
    shapes = [(width, 1), (1,), (width, n)] if left else [(width,), (1, width), (1,), (n, width)]
    return maker.constant(scope, maker.fill(maker.pick(*shapes), dtype))


def matmul(maker: Maker, scope: Scope, x: Value) -> Value:
    """Weights on the right of a value of any rank."""
    width = maker.width()
    name, dtype = multiplied_in(maker, scope, x.name)
    batched = len(x.shape) == 3 and maker.chance(3)
    shape = (x.shape[0], x.shape[2], width) if batched else (x.shape[-1], width)
    maker.features.add("MatMul: batch of weights" if batched else "MatMul: weight on the right")
    out = maker.node(scope, "MatMul", [name, weight(maker, scope, shape, dtype)])
    return back(maker, scope, out, dtype, (*x.shape[:-1], width))


def matmul_left(maker: Maker, scope: Scope, x: Value) -> Value:
    """Weights on the left."""
    height = maker.width()
    name, dtype = multiplied_in(maker, scope, x.name)
    batch = x.shape[:-2] if maker.chance(4) else ()
    out = maker.node(scope, "MatMul", [weight(maker, scope, (*batch, height, x.shape[-2]), dtype), name])
    maker.features.add("MatMul: weight on the left")
    return back(maker, scope, out, dtype, (*x.shape[:-2], height, x.shape[-1]))


def matmul_twice(maker: Maker, scope: Scope, x: Value) -> Value:
    """Two weights with the same elements, as in a model that was made deeper by copying layers."""
    c, width = x.shape[-1], maker.width()
    array = maker.fill((c, width))
    inner = maker.node(scope, "MatMul", [x.name, maker.constant(scope, array)])
    out = maker.node(scope, "MatMul", [inner, maker.constant(scope, array.reshape(width, c))])
    maker.features.add("weight: repeated")
    return Value(out, x.shape)


def matmul_vector(maker: Maker, scope: Scope, x: Value) -> Value:
    """A weight of rank 1."""
    out = maker.node(scope, "MatMul", [x.name, maker.constant(scope, maker.fill((x.shape[-1],)))])
    return Value(out, x.shape[:-1])


def matmul_sparse(maker: Maker, scope: Scope, x: Value) -> Value:
    """A sparse weight; shape inference knows sparse ones hardly anywhere else."""
    width = maker.width()
    held, shape = maker.sparse(scope, maker.fill((x.shape[-1], width))), (*x.shape[:-1], width)
    out = maker.node(scope, "MatMul", [x.name, held])
    return Value(maker.node(scope, "Reshape", [out, maker.plain(scope, shape)]), shape)


def matmul_empty(maker: Maker, scope: Scope, x: Value) -> Value:
    """Through no channels at all: two weights of size 0, and zeros added to x."""
    width = x.shape[-1]
    narrow = maker.node(scope, "MatMul", [x.name, weight(maker, scope, (width, 0))])
    zeros = maker.node(scope, "MatMul", [narrow, weight(maker, scope, (0, width))])
    maker.features.add("empty weight")
    return Value(maker.node(scope, "Add", [x.name, zeros]), x.shape)


def embedding(maker: Maker, scope: Scope, x: Value) -> Value:
    """Rows or columns of a weight, looked up by an input of indices; x is not used."""
    width = maker.width()
    ids = maker.pick(*maker.ids)
    dtype = maker.pick(FLOAT, FLOAT, HALF, DOUBLE)
    if maker.chance(3):
        held = weight(maker, scope, (width, maker.vocabulary), dtype)
        out = maker.node(scope, "Gather", [held, ids], axis=maker.pick(1, -1))
        maker.features.add("Gather: axis 1")
        return back(maker, scope, out, dtype, (width, *maker.ids[ids]))
    out = maker.node(scope, "Gather", [weight(maker, scope, (maker.vocabulary, width), dtype), ids])
    return back(maker, scope, out, dtype, (*maker.ids[ids], width))
