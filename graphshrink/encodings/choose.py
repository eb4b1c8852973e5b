"""Choosing how each weight is stored, and putting the decode subgraphs into the graph.

The choice is made by bytes, the decode subgraph with its names included, and never by a clock. Nothing is ever stored in more bytes than
plain.
"""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Final, Literal, TypeAlias, get_args

from graphshrink.encodings.base import Builder, Encoded, Encoding, fresh_names
from graphshrink.encodings.codebook import Codebook
from graphshrink.encodings.size import tensor_bytes, total_bytes
from graphshrink.errors import UsageError
from graphshrink.ir import edit
from graphshrink.ir.graph import Graph, constant_of
from graphshrink.ir.tensor import Tensor
from graphshrink.ir.types import Array
from graphshrink.ir.weight import Weight

Policy: TypeAlias = Literal["plain", "fast", "small"]

ENCODINGS: Final[tuple[Encoding, ...]] = (Codebook(),)
"""Every way to store a weight other than plain."""

# The encodings that each policy may use: `fast` those that cost little at load, `small` all.
_POLICIES: Final[Mapping[Policy, tuple[Encoding, ...]]] = {"plain": (), "fast": ENCODINGS, "small": ENCODINGS}


@dataclass(frozen=True, slots=True)
class Stored:
    """How one weight is stored.

    Attributes:
        label: the weight.
        encoding: name of the encoding, or "plain".
        plain_bytes: what it would take in the file plainly.
        stored_bytes: what it takes, decode subgraph included; parts shared by several weights are not counted here.
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


def best_encoding(array: Array, policy: Policy, opset: int) -> Encoded | None:
    """The smallest encoded form of a tensor, or None where plain is smallest."""
    candidates = [e.encode(array) for e in _POLICIES[policy] if opset >= e.min_opset]
    sized = [(size, index, c) for index, c in enumerate(candidates) if c is not None and (size := encoded_bytes(c, opset)) < array.nbytes]
    return min(sized)[2] if sized else None


def encoded_bytes(encoded: Encoded, opset: int, output: str = "gs00000") -> int:
    """Bytes of an encoded tensor with its decode subgraph in a file, without what equal ones share."""
    builder = _dry_run(encoded, opset, output)
    tensors = [t for t in builder.tensors if t.name not in builder.shared]
    operators = [o for o in builder.operators if o.outputs[0] not in builder.shared]
    return total_bytes(tensors, operators)


def _dry_run(encoded: Encoded, opset: int, output: str) -> Builder:
    builder = Builder((f"gs{number:03}" for number in range(1000)), opset)
    encoded.emit(builder, output)
    return builder


def encode_graph(graph: Graph, chosen: Iterable[Weight], policy: Policy) -> list[Stored]:
    """Replace weights by their decode subgraphs where that saves bytes.

    Args:
        graph: a main graph; changed in place.
        chosen: weights of this graph that may be encoded, in file order.
        policy: which encodings may be used.

    Returns:
        How each of them is stored now.
    """
    plans = [_plan(weight, policy) for weight in chosen]
    names = fresh_names(graph)
    stored: list[Stored] = []
    for scope in {id(plan.weight.graph): plan.weight.graph for plan in plans}.values():
        here = [plan for plan in plans if plan.weight.graph is scope]
        stored += _encode_scope(graph, scope, here, names)
    return stored


@dataclass(frozen=True, slots=True)
class _Plan:
    weight: Weight
    encoded: Encoded | None
    bytes: int
    plain: int

    def stored(self, parts: tuple[Tensor, ...] | None) -> Stored:
        """`parts` are the constants of the encoded form, None where the weight stays plain."""
        if parts is None or self.encoded is None:
            return Stored(self.weight.label, "plain", self.plain, self.plain, (self.weight.tensor,))
        return Stored(self.weight.label, self.encoded.encoding, self.plain, self.bytes, parts)


def _plan(weight: Weight, policy: Policy) -> _Plan:
    opset = weight.graph.opset
    encoded = best_encoding(weight.array, policy, opset) if policy != "plain" else None
    size = encoded_bytes(encoded, opset, weight.name) if encoded is not None else 0
    return _Plan(weight, encoded, size, tensor_bytes(weight.tensor))


def _encode_scope(graph: Graph, scope: Graph, plans: list[_Plan], names: Iterator[str]) -> list[Stored]:
    """Encode the weights of one scope, unless what they share costs more than they save together."""
    root = scope.root
    inline = root.header is None or (root.header.ir_version or 0) < 4
    builder = Builder(names, scope.opset, inline)
    wanted = [plan for plan in plans if plan.encoded is not None and plan.bytes < plan.plain]
    while wanted:
        trial = Builder((f"gs{number:03}" for number in range(100_000)), builder.opset, inline)
        for plan in wanted:
            assert plan.encoded is not None
            plan.encoded.emit(trial, plan.weight.name)
        if total_bytes(trial.tensors, trial.operators) < sum(plan.plain for plan in wanted):
            break
        wanted.remove(min(wanted, key=lambda plan: plan.plain - plan.bytes))
    parts = {id(plan): _replace(scope, plan, builder) for plan in wanted}
    edit.add_operators(scope, builder.operators, 0)
    return [plan.stored(parts.get(id(plan))) for plan in plans]


def _replace(scope: Graph, plan: _Plan, builder: Builder) -> tuple[Tensor, ...]:
    """Take the plain constant out and put the constants of its encoded form, which are returned, in the same place."""
    name, first, started = plan.weight.name, len(builder.tensors), len(builder.operators)
    assert plan.encoded is not None
    plan.encoded.emit(builder, name)
    parts = builder.tensors[first:]
    home = scope.producer(name)
    for tensor in parts:
        edit.add_initializer(scope, tensor, before=name if home is None else None)
    if home is None:
        edit.remove_initializer(scope, name)
    else:
        edit.remove_operators(scope, [home])
    inline = (constant_of(operator) for operator in builder.operators[started:])
    return (*parts, *(tensor for tensor in inline if tensor is not None))
