"""Whether two graphs are the same model, wherever their constants are kept.

An initializer and a Constant operator with the same elements are the same; everything else must agree: operators in their order with names
and attributes, inputs, outputs and declarations, nested graphs and functions.
"""

from collections.abc import Iterator, Mapping
from typing import Any

from graphshrink.ir.graph import Graph, constant_of
from graphshrink.ir.operator import Attribute, Operator
from graphshrink.ir.tensor import SparseTensor, StringData, Tensor
from graphshrink.ir.weight import constants


def difference(a: Graph, b: Graph) -> str | None:
    """The first thing in which two models differ, or None."""
    return next(_differences(a, b), None)


def _differences(a: Graph, b: Graph) -> Iterator[str]:
    pairs = [("", a, b)]
    if a.header is not None and b.header is not None:
        if [f.key for f in a.header.functions] != [f.key for f in b.header.functions]:
            yield "the functions differ"
            return
        pairs += [(f"{f.name}()", f.body, g.body) for f, g in zip(a.header.functions, b.header.functions, strict=True)]
    while pairs:
        path, left, right = pairs.pop()
        yield from (f"{path or 'the graph'}: {problem}" for problem in _scope_differences(left, right))
        for one, other in zip(_plain_operators(left), _plain_operators(right), strict=False):
            bodies = zip(one.subgraphs(), other.subgraphs(), strict=False)
            pairs.extend((f"{path}/{one.op_type}/{label}", body, twin) for (label, body), (_, twin) in bodies)


def _scope_differences(a: Graph, b: Graph) -> Iterator[str]:
    # Below IR version 4 an encoded weight leaves the inputs, so inputs that are initializers are not counted.
    if [i for i in a.inputs if i.name not in dict(constants(a))] != [
        i for i in b.inputs if i.name not in dict(constants(b))
    ]:
        yield "the inputs differ"
    if a.outputs != b.outputs:
        yield "the outputs differ"
    mine, theirs = dict(constants(a)), dict(constants(b))
    if mine.keys() != theirs.keys():
        yield f"constants differ: {sorted(mine.keys() ^ theirs.keys())[:3]}"
    for name in mine.keys() & theirs.keys():
        if not same_tensor(mine[name], theirs[name]):
            yield f"constant {name!r} has other elements"
    left, right = _plain_operators(a), _plain_operators(b)
    if len(left) != len(right):
        yield f"{len(left)} operators became {len(right)}"
    for one, other in zip(left, right, strict=False):
        if not _same_operator(one, other):
            yield f"{one.op_type} {one.name or ''!r} with outputs {list(one.outputs)} differs"


def _plain_operators(graph: Graph) -> list[Operator]:
    return [operator for _, operator in graph.operators() if constant_of(operator) is None]


def same_tensor(a: Tensor, b: Tensor) -> bool:
    """Same type, shape and bits."""
    if (a.elem_type, a.dims) != (b.elem_type, b.dims):
        return False
    if isinstance(a.data, StringData) or isinstance(b.data, StringData):
        return a.data == b.data
    return a.data is b.data or memoryview(a.buffer) == memoryview(b.buffer)


def _same_operator(a: Operator, b: Operator) -> bool:
    same_head = (a.kind, a.inputs, a.outputs, a.name, a.overload) == (b.kind, b.inputs, b.outputs, b.name, b.overload)
    return same_head and _same_attributes(a.attributes, b.attributes)


def _same_attributes(a: Mapping[str, Attribute], b: Mapping[str, Attribute]) -> bool:
    return a.keys() == b.keys() and all(
        a[name].type == b[name].type
        and a[name].reference == b[name].reference
        and _same_value(a[name].value, b[name].value)
        for name in a
    )


def _same_value(a: Any, b: Any) -> bool:
    if isinstance(a, Tensor) and isinstance(b, Tensor):
        return same_tensor(a, b)
    if isinstance(a, SparseTensor) and isinstance(b, SparseTensor):
        return a.dims == b.dims and _same_value(a.values, b.values) and _same_value(a.indices, b.indices)
    if isinstance(a, tuple) and isinstance(b, tuple):
        return len(a) == len(b) and all(map(_same_value, a, b))
    if isinstance(a, float) and isinstance(b, float):
        return a == b or (a != a and b != b)
    return isinstance(a, Graph) and isinstance(b, Graph) or bool(a == b)  # bodies are compared as scopes
