"""If, Loop and Scan, whose bodies hold weights of their own and capture those of the graphs around them."""

import math

import numpy as np
from onnx import TensorProto

from tests.random_graphs.maker import Maker, Scope, Value, declared
from tests.random_graphs.weights import weight


def fill_body(maker: Maker, inner: Scope, x: Value, shape: tuple[int, ...]) -> Value:
    """Some layers, and at the end a value of a given shape that this body itself computes."""
    for _ in range(maker.integer(1, 2)):
        x = maker.step(maker, inner)
    return _settled(maker, inner, x, shape)


def _settled(maker: Maker, inner: Scope, x: Value, shape: tuple[int, ...]) -> Value:
    """A value of the wanted shape, by a further layer where that is not too large."""
    if x.shape == shape:
        return x
    size, wanted = math.prod(x.shape), math.prod(shape)
    if size * wanted > 5000:
        mean = maker.node(inner, "ReduceMean", [x.name], keepdims=0)
        zeros = maker.plain(inner, np.zeros(shape), np.float32)
        return Value(maker.node(inner, "Add", [mean, zeros]), shape)
    row = maker.node(inner, "Reshape", [x.name, maker.plain(inner, [1, size])])
    out = maker.node(inner, "MatMul", [row, weight(maker, inner, (size, wanted))])
    return Value(maker.node(inner, "Reshape", [out, maker.plain(inner, shape)]), shape)


def branch(maker: Maker, scope: Scope, x: Value) -> Value:
    """An If over an input, or in a function over a constant."""
    bodies = []
    for _ in range(2):
        inner = scope.inner("body", [])
        out = fill_body(maker, inner, x, x.shape)
        bodies.append(maker.graph(inner, [], [_own(maker, inner, out)]))
    if scope.isolated or maker.chance(4):
        flag = maker.plain(scope, maker.chance(), np.bool_)
    else:
        flag, maker.uses_flag = "flag", True
    return Value(maker.node(scope, "If", [flag], then_branch=bodies[0], else_branch=bodies[1]), x.shape)


def _own(maker: Maker, inner: Scope, x: Value) -> Value:
    """A value under a name of this body, which may not give out what is computed outside as it is."""
    return Value(maker.node(inner, "Identity", [x.name]), x.shape)


def loop(maker: Maker, scope: Scope, x: Value) -> Value:
    """A few rounds over one state, the layers of each round collected as well, or not."""
    state = Value(maker.fresh("v"), x.shape)
    step, more = maker.fresh("step"), maker.fresh("more")
    inner = scope.inner("body", [state])
    out = _own(maker, inner, fill_body(maker, inner, state, x.shape))
    again = maker.node(inner, "Identity", [more])
    collected = [_own(maker, inner, inner.values[-1])] if maker.chance() else []
    rounds = maker.integer(1, 3)
    inputs = [
        declared(step, (), TensorProto.INT64),
        declared(more, (), TensorProto.BOOL),
        declared(state.name, x.shape),
    ]
    body = maker.graph(inner, inputs, [Value(again, ()), out, *collected])
    body.output[0].type.tensor_type.elem_type = TensorProto.BOOL
    going = "" if maker.chance() else maker.plain(scope, True, np.bool_)
    names = maker.nodes(scope, "Loop", [maker.plain(scope, rounds), going, x.name], 1 + len(collected), body=body)
    if collected and maker.chance():
        return Value(names[1], (rounds, *collected[0].shape))
    return Value(names[0], x.shape)


def scan(maker: Maker, scope: Scope, x: Value) -> Value:
    """The layers of the body for every index along the first axis."""
    part = Value(maker.fresh("v"), x.shape[1:])
    inner = scope.inner("body", [part])
    out = _own(maker, inner, maker.step(maker, inner))
    body = maker.graph(inner, [declared(part.name, part.shape)], [out])
    name = maker.node(scope, "Scan", [x.name], body=body, num_scan_inputs=1)
    return Value(name, (x.shape[0], *out.shape))
