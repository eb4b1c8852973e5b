"""Model-local functions that hold weights, are given weights, and are called more than once."""

from typing import Final

from onnx import helper

from tests.random_graphs.maker import Maker, Scope, Value
from tests.random_graphs.weights import weight

DOMAIN: Final = "graphshrink.test"


def call(maker: Maker, scope: Scope, x: Value) -> Value:
    """A new function: x, and for some a weight (c, width) from the caller; called once, or twice in a row."""
    c, width = x.shape[-1], maker.width()
    given, twice = maker.chance(), maker.chance()
    a, b = maker.fresh("a"), maker.fresh("b")
    inner = scope.inner("function", [Value(a, x.shape)])
    out = Value(a, x.shape)
    if given:
        out = Value(maker.node(inner, "MatMul", [a, b]), (*x.shape[:-1], width))
        inner.values.append(out)
    for _ in range(maker.integer(1, 2)):
        out = maker.step(maker, inner)
    name = maker.fresh("Layer")
    function = helper.make_function(
        DOMAIN,
        name,
        [a, b] if given else [a],
        [out.name],
        inner.nodes,
        [helper.make_opsetid("", maker.opset), *([helper.make_opsetid(DOMAIN, 1)] if maker.functions else [])],
    )
    maker.functions.append(function)

    def called(argument: str) -> str:
        inputs = [argument, weight(maker, scope, (c, width))] if given else [argument]
        return maker.nodes(scope, name, inputs, 1, domain=DOMAIN)[0]

    result = called(x.name)
    if twice:
        again = called(x.name)
        maker.features.add("function called twice")
        result = maker.node(scope, "Add", [result, again])
    return Value(result, out.shape)
