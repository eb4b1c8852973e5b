"""Choosing how each weight is stored.

The choice is made by bytes, the decode subgraph with its names included, and never by a clock. Nothing is ever stored
in more bytes than plain.
"""

from collections.abc import Collection, Hashable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Final, Literal, TypeAlias, get_args

from graphshrink.encodings.base import Builder, Encoded, Encoding, FreshNames
from graphshrink.encodings.codebook import Codebook, CodebookEncoded
from graphshrink.encodings.evaluate import cost_of_decoding
from graphshrink.encodings.grid import Grid
from graphshrink.encodings.grouped import Grouped
from graphshrink.encodings.half import Half, HalfBfloat16
from graphshrink.encodings.huffman import Huffman
from graphshrink.encodings.pairs import Pairs, PairsEncoded
from graphshrink.encodings.quantised import quantise
from graphshrink.encodings.size import function_bytes, operator_bytes, tensor_bytes, total_bytes
from graphshrink.encodings.sparse import Sparse
from graphshrink.encodings.spectral import SpectralEncoded
from graphshrink.errors import UsageError
from graphshrink.ir.basis import SpectralData
from graphshrink.ir.graph import Function
from graphshrink.ir.tensor import ELEM_TYPES, T, Tensor
from graphshrink.ir.types import Array
from graphshrink.ir.weight import Weight

Policy: TypeAlias = Literal["plain", "fast", "small", "quantised"]

_FAST: Final[tuple[Encoding, ...]] = (Pairs(), Codebook(), Grid(), Half(), HalfBfloat16())

ENCODINGS: Final[tuple[Encoding, ...]] = (*_FAST, Huffman(), Grouped(), Sparse())
"""Every way to store a weight by itself other than plain; quantised depends on its use, shared on other weights,
spectral on what a pass has declared."""

# The encodings that each policy may use: `fast` those that cost little at load, `small` all, `quantised` those of
# `fast` where a weight has no quantised form.
_POLICIES: Final[Mapping[Policy, tuple[Encoding, ...]]] = {
    "plain": (),
    "fast": _FAST,
    "small": ENCODINGS,
    "quantised": _FAST,
}

MOST_GROWTH: Final = 200
"""How many times as large as what it is stored in a weight may be; what is read may grow a little more (`evaluate`)."""

_RECURRENT: Final = ("LSTM", "GRU", "RNN")
_NAMES: Final = 60  # more than any decode subgraph needs where functions may be called

# Element types that can be encoded, with the opset since when operators that move data take them.
_TYPES: Final[Mapping[int, int]] = {T.FLOAT: 1, T.DOUBLE: 1, T.FLOAT16: 1, T.BFLOAT16: 13}


@dataclass(frozen=True, slots=True)
class Storage:
    """How weights are to be stored.

    Attributes:
        policy: which encodings may be used.
        extra: further ones, of plug-ins.
        portable: no functions of the model, for runtimes that know none.
        load_memory: bytes that weights and what they are computed from may take while a model is loaded, or None.
    """

    policy: Policy = "fast"
    extra: tuple[Encoding, ...] = ()
    portable: bool = False
    load_memory: int | None = None

    @property
    def encodings(self) -> tuple[Encoding, ...]:
        """Those that may be used; none of a plug-in where everything is to be plain."""
        known = _POLICIES[self.policy]
        if self.portable:  # OpenVINO does not fold tables of pairs
            known = tuple(encoding for encoding in known if not isinstance(encoding, Pairs))
        return known if self.policy == "plain" else (*known, *self.extra)


def policy_named(name: str) -> Policy:
    """Raises: UsageError, if there is no such policy."""
    for policy in get_args(Policy):
        if name == policy:
            return name  # type: ignore[return-value]
    raise UsageError(f"--encoding {name!r}: there is no such policy; use one of {', '.join(get_args(Policy))}")


def movable(elem_type: int, opset: int) -> bool:
    """Whether weights of a type can be encoded."""
    return elem_type in _TYPES and opset >= _TYPES[elem_type]


def candidates(array: Array, storage: Storage, opset: int) -> list[Encoded]:
    """The encoded forms of a tensor, whatever they save."""
    if not movable(ELEM_TYPES.get(array.dtype, T.UNDEFINED), opset):
        return []
    forms = (encoding.encode(array) for encoding in storage.encodings if opset >= encoding.min_opset)
    found = [encoded for encoded in forms if encoded is not None]
    paired = any(isinstance(encoded, PairsEncoded) for encoded in found)
    return [encoded for encoded in found if not (paired and _is_slower(encoded))]


def forms_of(tensor: Tensor, storage: Storage, opset: int) -> list[Encoded]:
    """The encoded forms of a tensor, and those of the coefficients that it is declared to be, whatever they save."""
    found = candidates(tensor.array, storage, opset)
    if not isinstance(tensor.data, SpectralData):
        return found
    inner = candidates(tensor.data.coefficients, storage, opset)
    return [*found, *(SpectralEncoded(tensor.dims, form, tensor.data) for form in inner)]


def _is_slower(encoded: Encoded) -> bool:
    """Whether pairs take as many bits a weight and half the time."""
    return isinstance(encoded, CodebookEncoded) and len(encoded.entries) == 1


def best_encoding(array: Array, policy: Policy, opset: int, extra: Sequence[Encoding] = ()) -> Encoded | None:
    """The smallest encoded form of a tensor by itself, or None where plain is smallest."""
    sized = [
        (size, index, candidate)
        for index, candidate in enumerate(candidates(array, Storage(policy, tuple(extra)), opset))
        if (size := encoded_bytes(candidate, opset)) < array.nbytes
    ]
    return min(sized)[2] if sized else None


def encoded_bytes(encoded: Encoded, opset: int, output: str = "gs00000") -> int:
    """Bytes of an encoded tensor with its decode subgraph in a file, without the tables that equal ones share."""
    builder = Builder(FreshNames(number=100), opset, functions={})
    encoded.emit(builder, output)
    return own_bytes(builder)


def plain_bytes(weight: Weight, builder: Builder) -> int:
    """Bytes that a weight takes plainly, as an initializer wherever it is read as one the next time."""
    home = weight.graph.producer(weight.name)
    if home is None or not builder.constants_inline:
        return tensor_bytes(weight.tensor)
    return operator_bytes(replace(weight.graph.operator(home), name=None))


def own_bytes(builder: Builder, tensors_from: int = 0, operators_from: int = 0) -> int:
    """Bytes of what a builder has collected, without tables that other weights can share and functions."""
    tensors = [t for t in builder.tensors[tensors_from:] if t.name not in builder.shared]
    operators = [o for o in builder.operators[operators_from:] if o.outputs[0] not in builder.shared]
    return total_bytes(tensors, operators)


def all_bytes(builder: Builder) -> int:
    """Bytes of all that a builder has collected, functions included."""
    functions = sum(map(function_bytes, (builder.functions or {}).values()))
    return total_bytes(builder.tensors, builder.operators) + functions


@dataclass(frozen=True, slots=True)
class Plan:
    """A weight in an encoded form that fits it, and what that saves before shared tables are paid for."""

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


def _is_spectral(plan: Plan) -> bool:
    return isinstance(plan.encoded, SpectralEncoded)


def _saves(plans: Sequence[Plan], at: int) -> int:
    """What the plan at a place saves; plain comes after the last."""
    return plans[at].saves if at < len(plans) else 0


@dataclass(slots=True)
class Chooser:
    """Chooses among the encoded forms of the weights of one scope.

    Attributes:
        builder: that the subgraphs are to be added to; it is only looked at.
        storage: how weights are to be stored.
        room: bytes that decoding may take beside the weights themselves, or None.
        plans: for each weight all that save something, the best first.
    """

    builder: Builder
    storage: Storage
    room: int | None = None
    plans: dict[str, list[Plan]] = field(default_factory=lambda: dict[str, list[Plan]]())
    _shared: dict[frozenset[Hashable], int] = field(default_factory=lambda: dict[frozenset[Hashable], int]())

    def choose(self, chosen: Sequence[Weight]) -> dict[str, Plan]:
        """The plans to follow, by the label of the weight."""
        possible = {weight.label: self._plans(weight, len(chosen)) for weight in chosen}
        room = self.room
        while True:
            self.plans, self.room = {label: list(plans) for label, plans in possible.items()}, room
            found = self._settle(len(chosen))
            # What is not stored in its basis is read back without one: it must not have had a say.
            given_up = {
                label for label, plans in possible.items() if any(map(_is_spectral, plans))
                and not (label in found and _is_spectral(found[label]))
            }  # fmt: skip
            if not given_up:
                return found
            for label in given_up:
                possible[label] = [plan for plan in possible[label] if not _is_spectral(plan)]

    def _settle(self, weights: int) -> dict[str, Plan]:
        self._drop_groups(weights)
        if self.room is not None:
            self.room = self._keep_to(self.room)
        best = [plans[0] for plans in self.plans.values() if plans]
        return {plan.weight.label: plan for plan in self._worthwhile(best)}

    def _plans(self, weight: Weight, weights: int) -> list[Plan]:
        plans: list[Plan] = []
        plain = plain_bytes(weight, self.builder)
        fused = quantise(weight, self.builder.opset) if self.storage.policy == "quantised" else None
        storage = replace(self.storage, policy="fast") if self._wants_constants(weight) else self.storage
        forms = forms_of(weight.tensor, storage, self.builder.opset) if fused is None else [fused]
        for encoded in forms:
            plan = self.plan(weight, encoded, weights)
            if weight.tensor.nbytes <= MOST_GROWTH * (plain - plan.saves):  # a reader could not tell it from a bomb
                plans.append(plan)
        return sorted((plan for plan in plans if plan.saves > 0), key=lambda plan: -plan.saves)

    def _wants_constants(self, weight: Weight) -> bool:
        """Whether a runtime that folds only what `fast` needs would refuse the weight (OpenVINO's recurrent layers)."""
        return (
            self.storage.portable
            and self.storage.policy == "small"
            and any(use.operator.is_a(*_RECURRENT) for use in weight.uses)
        )

    def plan(self, weight: Weight, encoded: Encoded, weights: int) -> Plan:
        """The plan to store a weight, one of so many, in a certain form."""
        trial = self._trial(weights)
        plan = Plan(weight, encoded, 0)
        plan.emit(trial)
        return replace(plan, saves=plain_bytes(weight, trial) - own_bytes(trial))

    def _drop_groups(self, weights: int) -> None:
        """Give up tables and functions, as long as the file becomes smaller when their users take their next best.

        One group of users at a time, whose next best may need others or may not; all that call functions together; or
        everything.
        """
        while True:
            best = [plans[0] for plans in self.plans.values() if plans]
            groups = {plan.encoded.tables: plan for plan in best}
            calling = frozenset(tables for tables, plan in groups.items() if self._calls(plan, weights))
            known = {plan.encoded.tables: plan for plans in self.plans.values() for plan in plans}
            new = {t for t, plan in known.items() if t not in groups and self._shared_bytes([plan], weights)}
            alone = [frozenset((tables,)) for tables in groups]
            ways = dict.fromkeys((*alone, *(one | new for one in alone), calling, frozenset(known)))
            sizes = {gone: self._size(self._without(gone), weights) for gone in ways}
            smallest = min(sizes, key=lambda gone: sizes[gone])
            if sizes[smallest] >= self._size(best, weights):
                return
            for label, plans in self.plans.items():
                self.plans[label] = [plan for plan in plans if plan.encoded.tables not in smallest]

    def _without(self, gone: Collection[Hashable]) -> list[Plan]:
        """The best plans that do without some tables."""
        firsts = (next((p for p in plans if p.encoded.tables not in gone), None) for plans in self.plans.values())
        return [plan for plan in firsts if plan is not None]

    def _size(self, plans: Sequence[Plan], weights: int) -> int:
        """How much larger than plain a file is with these plans."""
        return self._shared_bytes(plans, weights) - sum(plan.saves for plan in plans)

    def _keep_to(self, room: int) -> int:
        """Give weights cheaper forms until all fit: first where most is gained for a byte in the file.

        Returns:
            What is left of the room.
        """
        costs = {
            label: [cost_of_decoding(plan.encoded, self.builder.opset).bytes for plan in plans] + [0]
            for label, plans in self.plans.items()
        }
        taken = sum(each[0] for each in costs.values())
        while taken > room:
            steps = [
                ((costs[label][0] - costs[label][at]) / max(1, plans[0].saves - _saves(plans, at)), at, label)
                for label, plans in self.plans.items()
                for at in range(1, len(plans) + 1)
                if costs[label][at] < costs[label][0]
            ]
            _, at, label = max(steps)
            taken -= costs[label][0] - costs[label][at]
            self.plans[label], costs[label] = self.plans[label][at:], costs[label][at:]
        return room - taken

    def _shared_bytes(self, plans: Iterable[Plan], weights: int) -> int:
        """Bytes of the tables and functions that plans need, each once."""
        groups = {plan.encoded.tables: plan for plan in plans}
        key = frozenset(groups)
        if key not in self._shared:
            trial = self._trial(weights)
            for plan in groups.values():
                plan.emit(trial)
            self._shared[key] = all_bytes(trial) - own_bytes(trial)
        return self._shared[key]

    def _calls(self, plan: Plan, weights: int) -> bool:
        """Whether a plan calls functions."""
        trial = self._trial(weights)
        plan.emit(trial)
        return bool(trial.functions)

    def _worthwhile(self, plans: list[Plan]) -> list[Plan]:
        """Those plans that together save more than the tables that they share cost."""
        groups: dict[Hashable, list[Plan]] = {}
        for plan in plans:
            groups.setdefault(plan.encoded.tables, []).append(plan)
        for tables in list(groups):
            kept = sorted(groups.pop(tables), key=lambda plan: -plan.saves)
            others = [group[0] for group in groups.values()]
            cost = self._shared_bytes([kept[0], *others], len(plans)) - self._shared_bytes(others, len(plans))
            while kept and cost >= sum(plan.saves for plan in kept):
                del kept[-max(1, len(kept) // 16) :]  # the weights that save least
            if kept:
                groups[tables] = kept
        wanted = [plan for group in groups.values() for plan in group]
        return wanted if self._size(wanted, len(plans)) < 0 else []

    def _trial(self, weights: int) -> Builder:
        """An empty builder that gives names no shorter than the given one will for that many weights."""
        names = self.builder.names
        last = names.number + _NAMES * weights if isinstance(names, FreshNames) else 0
        functions = None if self.builder.functions is None else dict[str, Function]()
        return Builder(
            FreshNames(number=10 ** (len(str(last)) - 1)), self.builder.opset, self.builder.constants_inline, functions
        )
