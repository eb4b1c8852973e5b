"""weight-sharing over a graph: bits for tensors, tensors by themselves, and layers fitted one after the other."""

import time
from dataclasses import dataclass, replace
from typing import Final, Generic, NamedTuple, TypeVar

from graphshrink.calibration.sequential import Sequential
from graphshrink.ir import edit
from graphshrink.ir.graph import Graph
from graphshrink.ir.types import Array
from graphshrink.ops import output_axis
from graphshrink.ops.lookup import Lookup
from graphshrink.passes._layer_importance import IMPORTANCES, importances
from graphshrink.passes._layer_moments import layer_moments
from graphshrink.passes._layer_plan import Plan
from graphshrink.passes._layer_states import named_states
from graphshrink.passes._layerwise import attempted, difference, no_samples, planned, put
from graphshrink.passes._weight_sharing_bits import Level, Tried, curve, shared_out, within
from graphshrink.passes._weight_sharing_books import Wanted, coded
from graphshrink.passes._weight_sharing_fit import Assignment, Task, fitted, task
from graphshrink.passes._weight_sharing_grouping import Grouping, already, choose
from graphshrink.passes._weight_sharing_nearest import clustered
from graphshrink.passes._weight_sharing_pooled import pooled
from graphshrink.passing.base import Changed, Context, Layer, Outcome, Pass, PassResult, Skipped

_TRIAL_REFIT: Final = 16  # entries up to which a fit is refined to see what bits cost: beyond, it gains little
_BOUND: Final = 0.1  # to share out where the user gives none
_MARGIN: Final = 0.9  # of the bound is shared out, as in the manager
_TOO_MUCH: Final = "with few bits it would harm more than it saves, under the bound"


@dataclass(frozen=True, slots=True)
class Choice:
    """What a layer is to get.

    Attributes:
        wanted: its codebooks.
        granularity: "auto", "model", "tensor", "channel", or a number of channels.
        assignment: "nearest" or "compensated".
        damping: see `weight_sharing`.
        importance: "gradient" or "uniform".
        part: by what the bound is divided for this layer; None where its bits are given.
    """

    wanted: Wanted
    granularity: str
    assignment: Assignment
    damping: float
    importance: str
    part: int | None

    @property
    def uses_samples(self) -> bool:
        """Whether anything but the weights themselves matters."""
        return self.wanted.kind != "kmeans" or self.assignment != "nearest"


P = TypeVar("P", bound=Pass)


class Chosen(NamedTuple, Generic[P]):
    """A layer, and what it is to get."""

    layer: Layer[P]
    choice: Choice

    @property
    def label(self) -> str:
        """Of its weight."""
        return self.layer.weight.label

    @property
    def grouping(self) -> Grouping | Skipped:
        """How to divide its weights."""
        weight = self.layer.weight
        wanted = self.choice.wanted
        return choose(weight.array, output_axis(weight), self.choice.granularity, wanted.bits, wanted.most)

    def detail(self, grouping: Grouping) -> str:
        """For reports."""
        wanted = self.choice.wanted
        kind = "" if wanted.kind == "kmeans" else f", {wanted.kind}"
        label = grouping.label if wanted.given is None else "the codebook of several layers"
        return f"{wanted.bits} bits, {label}{kind}"

    def with_bits(self, bits: int) -> "Chosen[P]":
        """The same with a number of bits."""
        return self._replace(choice=replace(self.choice, wanted=replace(self.choice.wanted, bits=bits)))

    def with_entries(self, entries: tuple[float, ...]) -> "Chosen[P]":
        """The same with a codebook that is given."""
        return self._replace(choice=replace(self.choice, wanted=replace(self.choice.wanted, given=entries)))


class Run(Generic[P]):
    """One run of the pass.

    Args:
        step: the pass.
        graph: changed in place.
        context: of the pass.
        result: where outcomes go.
        most_bytes: that all tensors whose bits are to be chosen may take together; 0 for a bound on their error.
    """

    def __init__(self, step: P, graph: Graph, context: Context, result: PassResult, most_bytes: int = 0) -> None:
        self._step = step
        self._graph = graph
        self._context = context
        self._result = result
        self._most_bytes = most_bytes
        self._reasons: dict[str, str] = {}  # why layers that should be fitted are not
        self._important: dict[str, Array] = {}

    def share(self, chosen: list[Chosen[P]]) -> None:
        """Give every layer what it is to get."""
        chosen = _with_common_books(chosen)
        if not any(one.choice.uses_samples or one.choice.part for one in chosen):
            self._alone(chosen)
            return
        with named_states(self._graph):
            plans = self._plans(chosen)
            self._weigh(chosen, plans)
            chosen = self._with_bits(chosen, plans)
            fits = {one.label: one for one in chosen if one.label in plans and one.choice.uses_samples}
            before = self._graph.copy()
            self._alone([one for one in chosen if one.label not in fits])
            if fits:
                self._fit([(plans[label], fits[label]) for label in plans if label in fits], before)

    def _plans(self, chosen: list[Chosen[P]]) -> dict[str, Plan]:
        """Layers whose inputs on the samples matter and can be seen, in the order in which they run."""
        asked = [one.layer for one in chosen if one.choice.uses_samples or one.choice.part is not None]
        reason = no_samples(self._context.calibration)
        if reason is not None:
            self._reasons |= {layer.weight.label: reason for layer in asked}
            return {}
        refused = PassResult()
        found = planned(self._step, self._graph, asked, self._context, refused)
        self._reasons |= {label: one.reason for label, one in refused.layers.items() if isinstance(one, Skipped)}
        tables = [plan.weight.label for plan, _ in found if isinstance(plan.affine.form, Lookup)]
        self._reasons |= dict.fromkeys(tables, "a table, of which rows are looked up")
        return {plan.weight.label: plan for plan, _ in found if plan.weight.label not in tables}

    def _weigh(self, chosen: list[Chosen[P]], plans: dict[str, Plan]) -> None:
        """Work out how much the outputs of layers count."""
        calibration = self._context.calibration
        weighted = [one.label for one in chosen if one.choice.importance == IMPORTANCES[0]]
        if calibration is not None:
            self._important = importances(
                calibration, self._graph, [plans[label] for label in weighted if label in plans]
            )

    # ---- layers by themselves

    def _alone(self, chosen: list[Chosen[P]]) -> None:
        """Give weights the nearest of their values, whatever they are multiplied with."""
        for one, (outcome, array) in zip(chosen, self._context.map(self._step.name, _shared, chosen), strict=True):
            reason = self._reasons.get(one.label) if one.choice.uses_samples else None
            if isinstance(outcome, Changed) and reason is not None:
                outcome = replace(outcome, detail=f"{outcome.detail}, not fitted: {reason}")
            self._result.layers[one.label] = outcome
            if array is not None:
                weight = one.layer.weight
                edit.set_constant(weight.graph, weight.name, weight.tensor.with_array(array))

    # ---- layer after layer

    def _fit(self, layers: list[tuple[Plan, Chosen[P]]], before: Graph) -> None:
        with self._sequential([plan for plan, _ in layers], before) as sequential:
            for place, (plan, one) in enumerate(layers):
                self._context.progress(self._step.name, place, len(layers))
                started = time.perf_counter()
                found = self._task(sequential, plan, one)
                if isinstance(found, Skipped):
                    self._result.layers[one.label] = found
                elif isinstance(found, str):
                    self._reasons[one.label] = found
                    self._alone([one])
                else:
                    self._put(found, one, started)

    def _put(self, found: Task, one: Chosen[P], started: float) -> None:
        answer = fitted(found, one.choice.wanted, one.choice.assignment)
        how = f", {one.choice.assignment}" if one.choice.assignment != "nearest" else ""
        detail = f"{one.detail(found.grouping)}{how}, residual {answer.residual:.2%}"
        put(self._result, found.plan, answer.stored, answer.bias, detail, time.perf_counter() - started)

    def _task(self, sequential: Sequential, plan: Plan, one: Chosen[P]) -> Task | Skipped | str:
        """A layer's problem; or why it stays as it is; or why it cannot be fitted.

        Raises:
            CalibrationError: what the layer is fed is not finite.
        """
        grouping = one.grouping
        if isinstance(grouping, Skipped):
            return grouping
        seed, damping, important = self._context.seed, one.choice.damping, self._important.get(one.label)
        return attempted(plan, lambda: task(plan, layer_moments(plan, sequential, seed), grouping, damping, important))

    def _sequential(self, plans: list[Plan], reference: Graph | None = None) -> Sequential:
        calibration = self._context.calibration
        assert calibration is not None
        coming = [(plan.values, plan.values) for plan in plans]
        return calibration.sequential(self._graph, reference, coming)

    # ---- bits

    def _with_bits(self, chosen: list[Chosen[P]], plans: dict[str, Plan]) -> list[Chosen[P]]:
        """The layers that are to be changed, with a number of bits each."""
        asked = {one.label: one for one in chosen if one.choice.part is not None}
        if not asked:
            return chosen
        bound = _BOUND if self._context.max_error is None else self._context.max_error
        budget = (_MARGIN * bound) ** 2
        curves = self._curves(asked, plans, budget / len(asked))
        sizes = [asked[label].layer.weight.tensor.nbytes for label in curves]
        pairs = list(zip(sizes, curves.values(), strict=True))
        shared = within(pairs, self._most_bytes) if self._most_bytes else shared_out(pairs, budget)
        given = dict(zip(curves, shared.bits, strict=True))
        if shared.missed:
            self._result.missed.append(shared.missed)
        for label, bits in given.items():
            if bits is None:
                self._result.layers[label] = Skipped(_TOO_MUCH)
        return [
            one if one.label not in asked else one.with_bits(given[one.label] or 0)
            for one in chosen
            if one.label not in asked or given.get(one.label) is not None
        ]

    def _curves(self, asked: dict[str, Chosen[P]], plans: dict[str, Plan], share: float) -> dict[str, list[Level]]:
        """What bits would cost each layer; those that stay as they are whatever the bits go into the result."""
        found: dict[str, list[Level] | Skipped] = {}
        seen = [plan for label, plan in plans.items() if label in asked]
        if seen:
            with self._sequential(seen) as sequential:
                for place, plan in enumerate(seen):
                    self._context.progress(f"{self._step.name}: bits", place, len(seen))
                    problem = self._task(sequential, plan, asked[plan.weight.label])
                    if isinstance(problem, str):
                        self._reasons[plan.weight.label] = problem
                    else:
                        found[plan.weight.label] = self._levels(asked[plan.weight.label], problem, share)
        for label, one in asked.items():
            if label not in found:
                found[label] = self._levels(one, one.grouping, share)
        self._result.layers |= {label: levels for label, levels in found.items() if isinstance(levels, Skipped)}
        return {label: levels for label in asked if not isinstance(levels := found[label], Skipped)}

    def _levels(self, one: Chosen[P], problem: Task | Grouping | Skipped, share: float) -> list[Level] | Skipped:
        """By the error of its outputs where that is known, else by that of its weights."""
        if isinstance(problem, Skipped):
            return problem
        choice, array = one.choice, one.layer.weight.array
        stricter = float(choice.part or 1) ** 2

        def attempt(bits: int) -> Tried:
            if isinstance(problem, Task):
                answer = fitted(problem, replace(choice.wanted, bits=bits), choice.assignment, refit=_TRIAL_REFIT)
                return Tried(answer.stored, stricter * answer.residual**2)
            outcome, stored = _shared(one.with_bits(bits))
            error = outcome.weight_error if isinstance(outcome, Changed) else 0.0
            return Tried(array if stored is None else stored, stricter * error**2)

        grouping = problem.grouping if isinstance(problem, Task) else problem
        least = 2 if choice.wanted.kind in ("grid", "soft") else 1
        return curve(grouping, least, choice.wanted.streams, attempt, share)


def _with_common_books(chosen: list[Chosen[P]]) -> list[Chosen[P]]:
    """Layers of granularity "model" that want the same, with the entries of one codebook."""
    together: dict[tuple[Wanted, str], list[Chosen[P]]] = {}
    for one in chosen:
        if one.choice.granularity == "model" and not isinstance(one.grouping, Skipped):
            together.setdefault((one.choice.wanted, one.layer.weight.array.dtype.str), []).append(one)
    given = {
        one.label: pooled([other.layer.weight.array for other in group], wanted)
        for (wanted, _), group in together.items()
        for one in group[:1]
    }
    first = {one.label: group[0].label for group in together.values() for one in group}
    return [one if one.label not in first else one.with_entries(given[first[one.label]]) for one in chosen]


def _shared(one: Chosen[P]) -> tuple[Outcome, Array | None]:
    """What becomes of one weight by itself, and its new values if they change."""
    started = time.perf_counter()
    array, wanted, grouping = one.layer.weight.array, one.choice.wanted, one.grouping
    if isinstance(grouping, Skipped):
        return grouping, None
    rows = grouping.rows(array)
    if wanted.given is None and wanted.kind in ("kmeans", "weighted"):  # nothing is known of how much a weight matters
        found = clustered(rows, 1 << wanted.bits)
        if found is None:
            return already(grouping, wanted.bits), None
        new, error = found
    else:
        new = coded(rows, wanted)
        error = difference(rows, new)
    stored = grouping.array(new, array.shape)
    return Changed(one.detail(grouping), error, time.perf_counter() - started), stored
