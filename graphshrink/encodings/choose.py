"""Choosing how each weight is stored, and putting the decode subgraphs into the graph.

The choice is made by bytes, the decode subgraph with its names included, and never by a clock. Nothing is ever stored
in more bytes than plain.
"""

from collections.abc import Collection, Hashable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Final, Literal, TypeAlias, get_args

from graphshrink.encodings.base import Builder, Encoded, Encoding, FreshNames, fresh_names
from graphshrink.encodings.codebook import Codebook
from graphshrink.encodings.half import Half, HalfBfloat16
from graphshrink.encodings.shared import MIN_OPSET, SharedEncoded, repeats
from graphshrink.encodings.size import tensor_bytes, total_bytes
from graphshrink.errors import UsageError
from graphshrink.ir import edit
from graphshrink.ir.graph import Graph, constant_of
from graphshrink.ir.tensor import ELEM_TYPES, T, Tensor
from graphshrink.ir.types import Array
from graphshrink.ir.weight import Weight

Policy: TypeAlias = Literal["plain", "fast", "small"]

ENCODINGS: Final[tuple[Encoding, ...]] = (Codebook(), Half(), HalfBfloat16())
"""Every way to store a weight other than plain, by itself; see shared.py for weights that repeat others."""

# The encodings that each policy may use: `fast` those that cost little at load, `small` all.
_POLICIES: Final[Mapping[Policy, tuple[Encoding, ...]]] = {"plain": (), "fast": ENCODINGS, "small": ENCODINGS}

_NAMES: Final = 60  # more than any decode subgraph needs

# Element types that can be encoded, with the opset since when operators that move data take them.
_TYPES: Final[Mapping[int, int]] = {T.FLOAT: 1, T.DOUBLE: 1, T.FLOAT16: 1, T.BFLOAT16: 13}


@dataclass(frozen=True, slots=True)
class Stored:
    """How one weight is stored.

    Attributes:
        label: the weight.
        encoding: name of the encoding, or "plain".
        plain_bytes: what it would take in the file plainly.
        stored_bytes: what it takes, decode subgraph included; tables shared by several weights are not counted here.
        parts: the constants it is stored as.
    """

    label: str
    encoding: str
    plain_bytes: int
    stored_bytes: int
    parts: tuple[Tensor, ...]


def policy_named(name: str) -> Policy:
    """Raises: UsageError, if there is no such policy."""
    for policy in get_args(Policy):
        if name == policy:
            return name  # type: ignore[return-value]
    raise UsageError(f"--encoding {name!r}: there is no such policy; use one of {', '.join(get_args(Policy))}")


def best_encoding(array: Array, policy: Policy, opset: int, extra: Sequence[Encoding] = ()) -> Encoded | None:
    """The smallest encoded form of a tensor, or None where plain is smallest."""
    if not _movable(ELEM_TYPES.get(array.dtype, T.UNDEFINED), opset):
        return None
    candidates = [e.encode(array) for e in _allowed(policy, extra) if opset >= e.min_opset]
    sized = [
        (size, index, candidate)
        for index, candidate in enumerate(candidates)
        if candidate is not None and (size := encoded_bytes(candidate, opset)) < array.nbytes
    ]
    return min(sized)[2] if sized else None


def _movable(elem_type: int, opset: int) -> bool:
    """Whether weights of this type can be encoded."""
    return elem_type in _TYPES and opset >= _TYPES[elem_type]


def _allowed(policy: Policy, extra: Sequence[Encoding]) -> tuple[Encoding, ...]:
    """The encodings that a policy may use, those of plug-ins included, except where everything is to be plain."""
    return _POLICIES[policy] if policy == "plain" else (*_POLICIES[policy], *extra)


def encoded_bytes(encoded: Encoded, opset: int, output: str = "gs00000") -> int:
    """Bytes of an encoded tensor with its decode subgraph in a file, without the tables that equal ones share."""
    builder = Builder(FreshNames(number=100), opset)
    encoded.emit(builder, output)
    return _own_bytes(builder)


def _own_bytes(builder: Builder, tensors_from: int = 0, operators_from: int = 0) -> int:
    tensors = [t for t in builder.tensors[tensors_from:] if t.name not in builder.shared]
    operators = [o for o in builder.operators[operators_from:] if o.outputs[0] not in builder.shared]
    return total_bytes(tensors, operators)


def encode_graph(
    graph: Graph, chosen: Iterable[Weight], policy: Policy, extra: Sequence[Encoding] = ()
) -> list[Stored]:
    """Replace weights by their decode subgraphs where that saves bytes.

    Args:
        graph: a main graph; changed in place.
        chosen: weights of this graph that may be encoded, in file order.
        policy: which encodings may be used.
        extra: further ones, of plug-ins.

    Returns:
        How each of them is stored now.
    """
    scopes: dict[int, list[Weight]] = {}
    for weight in chosen:
        scopes.setdefault(id(weight.graph), []).append(weight)
    names = fresh_names(graph)
    return [
        stored
        for weights in scopes.values()
        for stored in _encode_scope(weights[0].graph, weights, policy, names, extra)
    ]


@dataclass(frozen=True, slots=True)
class _Plan:
    """A weight that an encoding fits, and what that would save before tables shared with others are paid for."""

    weight: Weight
    encoded: Encoded
    saves: int

    def emit(self, builder: Builder) -> None:
        """Add the decode subgraph."""
        weight = self.weight
        self.encoded.emit(builder, weight.name)
        home = weight.graph.producer(weight.name)
        said = None if home is None else weight.graph.operator(home)
        doc = weight.tensor.doc if said is None or said.doc is None else said.doc
        builder.describe(doc, weight.tensor.metadata or (() if said is None else said.metadata))


def _encode_scope(
    scope: Graph, chosen: Sequence[Weight], policy: Policy, names: FreshNames, extra: Sequence[Encoding]
) -> list[Stored]:
    root = scope.root
    # Function bodies have no initializers; below IR version 4 each would have to be an input.
    builder = Builder(names, scope.opset, root.header is None or (root.header.ir_version or 0) < 4)
    worthwhile = {plan.weight.label: plan for plan in _worthwhile(_plans(chosen, policy, builder, extra), builder)}
    plans = {label: plan for label, plan in worthwhile.items() if _can_be_emitted(plan, worthwhile, builder)}
    stored: list[Stored] = []
    for weight in chosen:
        plan, plain = plans.get(weight.label), tensor_bytes(weight.tensor)
        if plan is None:
            stored.append(Stored(weight.label, "plain", plain, plain, (weight.tensor,)))
        else:
            size, parts = _replace(scope, plan, builder)
            stored.append(Stored(weight.label, plan.encoded.encoding, plain, size, parts))
    edit.add_operators(scope, builder.operators, 0)
    return stored


def _can_be_emitted(plan: _Plan, plans: Collection[str], builder: Builder) -> bool:
    encoded = plan.encoded
    return not isinstance(encoded, SharedEncoded) or encoded.can_refer(plans, inline=builder.constants_inline)


def _plans(chosen: Sequence[Weight], policy: Policy, builder: Builder, extra: Sequence[Encoding]) -> list[_Plan]:
    plans: list[_Plan] = []
    shared = _shared(chosen, policy, builder.opset)
    for weight in chosen:
        encoded = shared.get(weight.label) or best_encoding(weight.array, policy, builder.opset, extra)
        if encoded is not None:
            plan = _Plan(weight, encoded, 0)
            trial = _trial(builder, len(chosen))
            plan.emit(trial)
            plans.append(replace(plan, saves=tensor_bytes(weight.tensor) - _own_bytes(trial)))
    return [plan for plan in plans if plan.saves > 0]


def _shared(chosen: Sequence[Weight], policy: Policy, opset: int) -> dict[str, SharedEncoded]:
    if policy == "plain" or opset < MIN_OPSET:
        return {}
    return repeats(weight for weight in chosen if _movable(weight.tensor.elem_type, opset))


def _trial(builder: Builder, weights: int) -> Builder:
    """An empty builder that gives names no shorter than the given one will for that many weights."""
    last = builder.names.number + _NAMES * weights
    names = replace(builder.names, number=10 ** (len(str(last)) - 1))
    return Builder(names, builder.opset, builder.constants_inline)


def _worthwhile(plans: list[_Plan], builder: Builder) -> list[_Plan]:
    """Those plans that together save more than the tables that they share cost."""
    wanted: list[_Plan] = []
    alike: dict[Hashable, list[_Plan]] = {}
    for plan in plans:
        alike.setdefault(plan.encoded.tables, []).append(plan)
    for group in alike.values():
        kept = sorted(group, key=lambda plan: -plan.saves)
        while kept and not _pays(kept, builder, len(plans)):
            del kept[-max(1, len(kept) // 16) :]  # the weights that save least
        wanted += kept
    return wanted


def _pays(plans: Iterable[_Plan], builder: Builder, count: int) -> bool:
    trial = _trial(builder, count)
    plain = 0
    for plan in plans:
        plan.emit(trial)
        plain += tensor_bytes(plan.weight.tensor)
    return total_bytes(trial.tensors, trial.operators) < plain


def _replace(scope: Graph, plan: _Plan, builder: Builder) -> tuple[int, tuple[Tensor, ...]]:
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
    return _own_bytes(builder, first, started), (*parts, *(tensor for tensor in inline if tensor is not None))
