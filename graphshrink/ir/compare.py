"""Whether two graphs are the same model, wherever their constants are kept.

An initializer and a Constant operator with the same elements are the same, and an encoding may raise the IR version;
everything else must agree: operators in their order with names and attributes, inputs, outputs and declarations, nested
graphs and functions, documentation and metadata.
"""

from collections.abc import Iterator, Mapping
from typing import Any, cast

import numpy as np

from graphshrink.ir.basis import SpectralData
from graphshrink.ir.graph import Function, Graph, Header, constant_of
from graphshrink.ir.operator import Attribute, Operator
from graphshrink.ir.tensor import SparseTensor, StringData, Tensor
from graphshrink.ir.types import Array, ValueInfo
from graphshrink.ir.weight import constants

_CHUNK = 16 << 20


def difference(a: Graph, b: Graph) -> str | None:
    """The first thing in which two models differ, or None."""
    return next(_differences(a, b), None)


def interface_difference(a: Graph, b: Graph) -> str | None:
    """The first thing in which two models differ as seen from outside, or None; the IR version does not count."""
    mine, theirs = _interface(a), _interface(b)
    return next((what for what in mine if mine[what] != theirs[what]), None)


def _interface(graph: Graph) -> dict[str, object]:
    header = graph.header or Header()
    # Below IR version 4 all initializers had to be listed as inputs; nobody gives them.
    listed = dict(constants(graph)) if (header.ir_version or 0) < 4 else {}
    return {
        "inputs": _own_inputs(graph, listed),
        "outputs": graph.outputs,
        "operator sets": graph.opsets,
        "name, documentation or metadata": (graph.name, graph.doc, graph.metadata, _statements(header)),
    }


def _differences(a: Graph, b: Graph) -> Iterator[str]:
    pairs = [("", a, b)]
    if (a.header is None) != (b.header is None):
        yield "one of them is no main graph"
    if a.header is not None and b.header is not None:
        if not all(map(_same_function, a.header.functions, b.header.functions)) or _rest(a.header) != _rest(b.header):
            yield "what the model says beside its graph differs"
            return
        pairs += [(f"{f.name}()", f.body, g.body) for f, g in zip(a.header.functions, b.header.functions, strict=True)]
        for mine, theirs in zip(a.header.training, b.header.training, strict=True):
            for first, then in ((mine.initialization, theirs.initialization), (mine.algorithm, theirs.algorithm)):
                if first is not None and then is not None:
                    pairs.append(("training", first, then))
    while pairs:
        path, left, right = pairs.pop()
        yield from (f"{path or 'the graph'}: {problem}" for problem in _scope_differences(left, right))
        for one, other in zip(_plain_operators(left), _plain_operators(right), strict=False):
            if one.attributes and other.attributes:
                twins = dict(other.subgraphs())
                bodies = ((label, body) for label, body in one.subgraphs() if label in twins)
                pairs.extend((f"{path}/{one.op_type}/{label}", body, twins[label]) for label, body in bodies)


def _rest(header: Header) -> tuple[Any, ...]:
    """What a header says, apart from graphs and functions (compared by themselves) and the IR version."""
    parts = [
        (t.initialization is None, t.algorithm is None, t.initialization_binding, t.update_binding)
        for t in header.training
    ]
    return (
        *_statements(header),
        *(len(header.functions), parts),
    )


def _statements(header: Header) -> tuple[Any, ...]:
    return (
        *(header.producer_name, header.producer_version, header.domain, header.model_version, header.doc),
        *(header.metadata, header.configuration),
    )


def _same_function(a: Function, b: Function) -> bool:
    same_defaults = _same_attributes({d.name: d for d in a.defaults}, {d.name: d for d in b.defaults})
    return same_defaults and (
        (a.key, a.inputs, a.outputs, a.attributes, a.doc, a.metadata)
        == (b.key, b.inputs, b.outputs, b.attributes, b.doc, b.metadata)
    )


def _scope_differences(a: Graph, b: Graph) -> Iterator[str]:
    mine, theirs = dict(constants(a)), dict(constants(b))
    # Below IR version 4 an encoded weight leaves the inputs, so inputs that are initializers are not counted.
    if _own_inputs(a, mine) != _own_inputs(b, theirs):
        yield "the inputs differ"
    if a.outputs != b.outputs:
        yield "the outputs differ"
    if dict(a.value_info) != dict(b.value_info):
        yield "the declarations of inner values differ"
    if (a.name, a.doc, a.metadata, a.opsets, a.annotations) != (b.name, b.doc, b.metadata, b.opsets, b.annotations):
        yield "name, documentation, metadata, operator sets or annotations differ"
    if mine.keys() != theirs.keys():
        yield f"constants differ: {sorted(mine.keys() ^ theirs.keys())[:3]}"
    for name in mine:
        if name in theirs and not same_tensor(mine[name], theirs[name]):
            yield f"constant {name!r} has other elements"
    left_sparse, right_sparse = _sparse(a), _sparse(b)
    if len(left_sparse) != len(right_sparse) or not all(map(_same_value, left_sparse, right_sparse)):
        yield "the sparse initializers differ"
    left, right = _plain_operators(a), _plain_operators(b)
    if len(left) != len(right):
        yield f"{len(left)} operators became {len(right)}"
    for one, other in zip(left, right, strict=False):
        if not _same_operator(one, other):
            yield f"{one.op_type} {one.name or ''!r} with outputs {list(one.outputs)} differs"


def _own_inputs(graph: Graph, held: Mapping[str, Tensor]) -> list[ValueInfo]:
    return [info for info in graph.inputs if info.name not in held]


def _sparse(graph: Graph) -> list[SparseTensor]:
    return [value.constant for value in graph.initializers() if isinstance(value.constant, SparseTensor)]


def _plain_operators(graph: Graph) -> list[Operator]:
    return [operator for _, operator in graph.operators() if constant_of(operator) is None]


def same_tensor(a: Tensor, b: Tensor) -> bool:
    """Same type, shape and bits; those of coefficients and basis, where both tensors are declared so."""
    if (a.elem_type, a.dims) != (b.elem_type, b.dims):
        return False
    if isinstance(a.data, StringData) or isinstance(b.data, StringData):
        return a.data == b.data
    if isinstance(a.data, SpectralData) and isinstance(b.data, SpectralData):
        return _same_array(a.data.coefficients, b.data.coefficients) and _same_array(a.data.basis, b.data.basis)
    return a.data is b.data or _same_bytes(a.buffer, b.buffer)


def _same_array(a: Array, b: Array) -> bool:
    return a.shape == b.shape and _same_bytes(a.data, b.data)


def _same_bytes(a: bytes | memoryview, b: bytes | memoryview) -> bool:
    """Chunk by chunk, so that mapped files need not be in memory as a whole."""
    left, right = np.frombuffer(a, np.uint8), np.frombuffer(b, np.uint8)
    return left.size == right.size and all(
        left[at : at + _CHUNK].tobytes() == right[at : at + _CHUNK].tobytes() for at in range(0, left.size, _CHUNK)
    )


def _same_operator(a: Operator, b: Operator) -> bool:
    return (
        (a.kind, a.inputs, a.outputs, a.name, a.overload) == (b.kind, b.inputs, b.outputs, b.name, b.overload)
        and (a.doc, a.metadata, a.devices) == (b.doc, b.metadata, b.devices)
        and _same_attributes(a.attributes, b.attributes)
    )


def _same_attributes(a: Mapping[str, Attribute], b: Mapping[str, Attribute]) -> bool:
    return a.keys() == b.keys() and all(
        (a[name].type, a[name].reference, a[name].doc) == (b[name].type, b[name].reference, b[name].doc)
        and _same_value(a[name].value, b[name].value)
        for name in a
    )


def _same_value(a: object, b: object) -> bool:
    if isinstance(a, Tensor) and isinstance(b, Tensor):
        return same_tensor(a, b)
    if isinstance(a, SparseTensor) and isinstance(b, SparseTensor):
        return a.dims == b.dims and _same_value(a.values, b.values) and _same_value(a.indices, b.indices)
    if isinstance(a, tuple) and isinstance(b, tuple):
        left, right = cast("tuple[object, ...]", a), cast("tuple[object, ...]", b)
        return len(left) == len(right) and all(map(_same_value, left, right))
    if isinstance(a, float) and isinstance(b, float):
        return repr(a) == repr(b)  # tells -0.0 from 0.0, and finds NaN equal
    return (isinstance(a, Graph) and isinstance(b, Graph)) or bool(a == b)  # bodies are compared as scopes
