"""Putting decode subgraphs into a graph, in the place of the weights that they compute."""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final

from graphshrink.encodings.base import FUNCTIONS, Builder, fresh_names
from graphshrink.encodings.choose import Chooser, Plan, Storage, own_bytes, plain_bytes
from graphshrink.encodings.shared import share
from graphshrink.ir import edit
from graphshrink.ir.graph import Function, Graph, constant_of
from graphshrink.ir.tensor import Tensor
from graphshrink.ir.weight import Weight

_CONSTANTS_SINCE: Final = 4  # IR version: before, every initializer has to be an input
_FUNCTIONS_SINCE: Final = 8  # IR version


@dataclass(frozen=True, slots=True)
class Stored:
    """How one weight is stored.

    Attributes:
        label: the weight.
        encoding: name of the encoding, or "plain".
        plain_bytes: what it would take in the file plainly.
        stored_bytes: what it takes, decode subgraph included; tables and functions that several weights share are not
            counted here.
        parts: the constants it is stored as.
    """

    label: str
    encoding: str
    plain_bytes: int
    stored_bytes: int
    parts: tuple[Tensor, ...]


def encode_graph(graph: Graph, chosen: Iterable[Weight], storage: Storage) -> list[Stored]:
    """Replace weights by their decode subgraphs where that saves bytes.

    Args:
        graph: a main graph; changed in place. Its IR version may rise to what functions need.
        chosen: weights of this graph that may be encoded, in file order.
        storage: how they are to be stored.

    Returns:
        How each of them is stored now.
    """
    scopes: dict[int, list[Weight]] = {}
    for weight in chosen:
        scopes.setdefault(id(weight.graph), []).append(weight)
    names = fresh_names(graph)
    room = None
    if storage.load_memory is not None:
        room = max(
            0, storage.load_memory - sum(weight.tensor.nbytes for weights in scopes.values() for weight in weights)
        )
    functions = None if storage.portable or not _may_have_functions(graph) else dict[str, Function]()
    stored: list[Stored] = []
    for weights in scopes.values():
        scope = weights[0].graph
        header = scope.root.header
        # Function bodies have no initializers, and import no domain of ours.
        inline = header is None or (header.ir_version or 0) < _CONSTANTS_SINCE
        builder = Builder(names, scope.opset, inline, None if header is None else functions)
        chooser = Chooser(builder, storage, room)
        plans = share(chooser, weights)
        room = chooser.room
        stored += [_stored(weight, plans.get(weight.label), builder) for weight in weights]
        edit.add_operators(scope, builder.operators, 0)
    if functions and graph.header is not None:
        edit.add_functions(graph, list(functions.values()), FUNCTIONS)
        graph.header.ir_version = max(graph.header.ir_version or 0, _FUNCTIONS_SINCE)
    return stored


def _may_have_functions(graph: Graph) -> bool:
    """Whether functions of ours can be added: not where they would change what an old file means, or clash."""
    header = graph.header
    if header is None or (header.ir_version or 0) < _CONSTANTS_SINCE:
        return False
    return all(domain != FUNCTIONS for domain, _ in graph.opsets)


def _stored(weight: Weight, plan: Plan | None, builder: Builder) -> Stored:
    """Follow a plan, or leave the weight as it is."""
    plain = plain_bytes(weight, builder)
    if plan is None:
        return Stored(weight.label, "plain", plain, plain, (weight.tensor,))
    size, parts = _replace(weight.graph, plan, builder)
    return Stored(weight.label, plan.encoded.encoding, plain, size, parts)


def _replace(scope: Graph, plan: Plan, builder: Builder) -> tuple[int, tuple[Tensor, ...]]:
    """Put the encoded form in the place of the plain constant; returns the bytes of its own, and its constants."""
    name, first, started = plan.weight.name, len(builder.tensors), len(builder.operators)
    plan.emit(builder)
    parts = builder.tensors[first:]
    home = scope.producer(name)
    for tensor in parts:
        edit.add_initializer(scope, tensor, before=name if home is None else None)
    if home is None:
        edit.remove_initializer(scope, name)
    else:
        edit.remove_operators(scope, [home])
    inline = (constant_of(operator) for operator in builder.operators[started:])
    return own_bytes(builder, first, started), (*parts, *(tensor for tensor in inline if tensor is not None))
