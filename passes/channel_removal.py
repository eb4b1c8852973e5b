"""channel-removal: channels, neurons, heads, recurrent units go, whatever couples them; the rest makes up for them."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import ClassVar, Final, Self

import numpy as np

from graphshrink.calibration.engine import Calibration
from graphshrink.calibration.observing import Observed
from graphshrink.errors import JudgeError, UsageError
from graphshrink.ir import edit
from graphshrink.ir.graph import Graph
from graphshrink.ir.types import Array
from graphshrink.ir.weight import weights
from graphshrink.ops import why_not_a_weight
from graphshrink.ops.coupling.analysis import Couplings, Group, analyse
from graphshrink.ops.coupling.base import Site
from graphshrink.ops.coupling.cutting import Gone, remove
from graphshrink.ops.coupling.surgery import Cut
from graphshrink.ops.lookup import Lookup
from graphshrink.passes._channel_choice import Chosen, Problems, Ranker, choose, suitable
from graphshrink.passes._channel_costs import Cost, cost_of
from graphshrink.passes._channel_exact import prepared
from graphshrink.passes._channel_latency import Table, Timed, timed
from graphshrink.passes._channel_proof import Proof
from graphshrink.passes._channel_relevance import relevances
from graphshrink.passes._channel_repair import repaired
from graphshrink.passes._channel_report import report
from graphshrink.passes._layer_importance import importances
from graphshrink.passes._layer_plan import Plan
from graphshrink.passes._layer_states import named_states
from graphshrink.passes._layerwise import attempted, cannot_be_fitted, planned, replaced
from graphshrink.passing.base import Context, Pass, PassResult, Skipped
from graphshrink.solvers.channel_order import Order

_CRITERIA: Final = ("auto", "energy", "greedy", "group-lasso", "l1", "l2", "lasso", "lrp", "obs")
_COSTS: Final = ("macs", "params", "bytes", "macs+params", "latency")
_GENTLER: Final = 0.75
_LEAST: Final = 0.02
_ROUNDING: Final = 1e-9
_NAMED: Final = 3  # groups that are named where the ratio cannot be reached
_OLDEST: Final = 9  # opset, from which there is a Where
_NOT_RUN: Final = "nothing is run, so that shapes are not known (--no-verify)"


@dataclass(frozen=True)
class ChannelRemoval(Pass):
    """Remove whole channels, so that the model stays dense and runs faster, and fit the other weights once more.

    Channels are ordered by what all layers that take them lose when they make up for it by least squares, as in ZipLM
    (Kurtic et al. 2023, arXiv:2302.04089); how many each group loses is an integer program, as in SPDY (Frantar &
    Alistarh 2022, arXiv:2201.13096). Layers are fitted as in He et al. 2017, arXiv:1707.06168.

    Given:  Conv (64 of 3x3) -> Relu -> Conv (128 of 64x3x3)
    Result: Conv (40 of 3x3) -> Relu -> Conv (128 of 40x3x3)

    1. What is coupled goes together: residual sums, concatenations, depthwise convolutions, normalisations, attention
       heads, both directions of an LSTM, tied weights. What cannot go says why.
    2. Inputs and outputs of the model keep their shapes.
    3. Before anything is fitted, the smaller model is run beside the original with zeros in place of the channels that
       are gone, and has to give the same. Channels for which it does not, stay.
    4. Without sample inputs channels go by the norm of their weights, and nothing is fitted.

    Attributes:
        ratio: the share of what the model costs that is to go, 0 to 1.
        of: what it costs: "macs", "params", "bytes" of weights, "macs+params" for the ratio of both, or
            "latency" of its products.
        criterion: what channels are chosen by: "l1" or "l2" norms of weights, "energy" of what they add, "greedy"
            (ThiNet), "lasso", "group-lasso", "lrp" (relevance), "obs", or "auto" for obs.
        table: file of latencies; what it does not hold is measured and added.
        repair: whether the weights that are left are fitted once more.
        multiple: channels that are left divide by it; 0 for what suits each group: with convolutions the
            largest of 16, 8 and 4 of which it has four; without, 8 in groups of 64 and more, 4 from 32 on, else 1.
        damping: added to the diagonal of each layer's Gram matrix, relative to its mean, 0 to 1; with 0 the fit is
            plain least squares.
    """

    name: ClassVar[str] = "channel-removal"
    buys: ClassVar[str] = "MACs"
    as_one: ClassVar[bool] = True
    ratio: float = 0.3
    of: str = "macs"
    criterion: str = "auto"
    table: str = ""
    repair: bool = True
    multiple: int = 0
    damping: float = 0.05

    def __post_init__(self) -> None:
        limits = {
            f"ratio={self.ratio} is outside 0 to 1": 0 <= self.ratio < 1,
            f"of={self.of!r} is none of {', '.join(_COSTS)}": self.of in _COSTS,
            f"criterion={self.criterion!r} is none of {', '.join(_CRITERIA)}": self.criterion in _CRITERIA,
            "of=latency needs table=FILE, where latencies are kept": self.of != "latency" or bool(self.table),
            f"multiple={self.multiple} is outside 0 to 256": 0 <= self.multiple <= 256,
            f"damping={self.damping} is outside 0 to 1": 0 <= self.damping <= 1,
        }
        if broken := [text for text, holds in limits.items() if not holds]:
            raise UsageError(f"channel-removal: {broken[0]}")

    def gentler(self) -> Self | None:
        """Three quarters of what was to go."""
        milder = self.ratio * _GENTLER
        return replace(self, ratio=milder) if milder >= _LEAST else None

    def run(self, graph: Graph, context: Context) -> PassResult:
        """Remove channels from the main graph."""
        layers, result = context.layers(graph, self)
        calibration = context.calibration
        if calibration is None or graph.opset < _OLDEST:
            reason = _NOT_RUN if calibration is None else f"opset {graph.opset} is older than {_OLDEST}"
            result.layers |= {layer.weight.label: Skipped(reason) for layer in layers}
            return result
        try:
            observed = calibration.observed(graph)
        except JudgeError as e:
            result.layers |= {layer.weight.label: Skipped(f"its shape is not known: {e}") for layer in layers}
            return result
        couplings = analyse(graph, observed.shapes, observed.known, self.frozen(graph, context))
        return _Run(self, context, calibration, result, couplings, observed).run()

    def frozen(self, graph: Graph, context: Context) -> dict[str, str]:
        """Weights that are to be left alone, and why."""
        frozen: dict[str, str] = {}
        for weight in weights(graph):
            if weight.graph is not graph or why_not_a_weight(weight) is not None:
                continue
            reason = context.selection.refuses(weight)
            if reason is None and context.settings(self, weight) is None:
                reason = "a layer rule says so"
            if reason is None and not np.isfinite(weight.array).all():
                reason = "holds NaN or infinity, which no norm ranks"
            if reason is not None:
                frozen[weight.name] = reason
        return frozen


@dataclass(slots=True)
class _Run:
    """One run of the pass over a graph."""

    settings: ChannelRemoval
    context: Context
    calibration: Calibration
    result: PassResult
    couplings: Couplings
    observed: Observed

    @property
    def graph(self) -> Graph:
        """That is being changed."""
        return self.couplings.graph

    def run(self) -> PassResult:
        """Remove what costs nothing, then choose, remove, prove, repair."""
        before = self.graph.copy()
        wholes = [cost.whole for cost in self._costs(self._groups)]
        self._remove_for_nothing()
        groups = self._groups
        costs = self._costs(groups)
        chosen = self._chosen(groups, costs, [whole * (1 - self.settings.ratio) for whole in wholes])
        gone, broken = self._proven(chosen.gone)
        wide = self.graph.copy()
        cut = remove(self.couplings, gone) if gone else Cut({})
        said = self._repair(wide, cut) if gone and self.settings.repair and not self.calibration.random else {}
        shares = [1 - len(gone.get(group, ())) / group.size for group in groups]
        report(self.result, before, self.graph, self.couplings, gone, broken, said)
        self._say(
            [1 - cost.of(shares) / whole if whole else 0.0 for cost, whole in zip(costs, wholes, strict=True)], chosen
        )
        return self.result

    @property
    def _groups(self) -> list[Group]:
        return [group for group in self.couplings.groups if group.reason is None and group.size > 1]

    def _costs(self, groups: list[Group]) -> list[Cost]:
        """What the model costs, as a function of what groups keep."""
        if self.settings.of != "latency":
            return [cost_of(self.couplings, groups, of) for of in self.settings.of.split("+")]
        table = Table(Path(self.settings.table))

        def timing(site: Site, halves: Mapping[tuple[str, int], int], share: float) -> Timed | None:
            self.context.progress("channel-removal: latencies", 0, 1)
            return timed(site, halves, share, self.observed.dtypes, table, self.calibration)

        found = cost_of(self.couplings, groups, "latency", timing)
        table.save()
        return [found]

    def _remove_for_nothing(self) -> None:
        """Channels that the outputs do not depend on, or that are copies of others."""
        old = {weight.name: weight.tensor for weight in weights(self.graph) if weight.graph is self.graph}
        with named_states(self.graph):
            exact = prepared(self._groups, self.couplings, self._plans(self.graph), self.calibration)
        if not exact:
            return
        gone, broken = self._proven({group: np.array(found.gone) for group, found in exact.items()})
        if broken:  # without them it is another model; a bug, which is said
            for name, tensor in old.items():
                if self.graph.constant(name) is not tensor:
                    edit.set_constant(self.graph, name, tensor)
            self.result.kept.append("channels that seem to be unused, constant, or copies stay: a proof failed (a bug)")
            return
        remove(self.couplings, gone)
        for group, found in exact.items():
            counts = {"unused": found.unused, "constant": found.constant, "copies": found.copies}
            said = ", ".join(f"{len(channels)} {kind}" for kind, channels in counts.items() if channels)
            title = self.graph.original_name(group.title)
            self.result.graph.append(f"{said} of {group.size} channels of '{title}', at no cost")
        observed = self.calibration.observed(self.graph)
        frozen = self.settings.frozen(self.graph, self.context)
        self.couplings, self.observed = analyse(self.graph, observed.shapes, observed.known, frozen), observed

    def _proven(self, gone: Gone) -> tuple[dict[Group, Array], list[Group]]:
        """What of it can be removed, and the groups for which that is not so."""
        self.context.progress("channel-removal: proof", 0, 1)
        proof = Proof(self.couplings, self.observed, self.calibration)
        left, broken = proof.proven(gone)
        if left:
            self.result.graph.append(f"proof: outputs differ by {proof.difference:.1e} from those with zeros instead")
        return left, broken

    def _say(self, went: list[float], chosen: Chosen) -> None:
        ratio, names = self.settings.ratio, self.settings.of.split("+")
        said = " and ".join(f"{part:.1%} of {of}" for part, of in zip(went, names, strict=True))
        if self.result.graph:
            self.result.graph.append(f"{said} removed, {ratio:.1%} asked for")
        if ratio == 0 or (chosen.feasible and min(went) >= ratio - _ROUNDING):
            return
        held = sorted((g for g in self.couplings.groups if g.reason is not None), key=lambda g: -g.size)[:_NAMED]
        why = "; ".join(f"{g.size} channels of '{g.title}': {g.reason}" for g in held)
        self.result.missed.append(f"ratio={ratio} of {self.settings.of} cannot be reached: {said} went ({why})")

    def _chosen(self, groups: list[Group], costs: list[Cost], budgets: list[float]) -> Chosen:
        """The channels that are to go."""
        if self.settings.ratio == 0 or not groups:
            return Chosen({}, feasible=self.settings.ratio == 0)
        if self.calibration.random:
            ranker = Ranker(self.couplings, {}, None, "l2" if self.settings.criterion != "l1" else "l1")
            return self._choose(groups, costs, budgets, ranker)
        with named_states(self.graph), Problems() as problems:
            plans = self._plans(self.graph)
            important = importances(self.calibration, self.graph, plans.values())
            with self.calibration.sequential(self.graph.copy()) as sequential:
                for place, plan in enumerate(plans.values()):
                    self.context.progress("channel-removal: statistics", place, len(plans))
                    if self._fits(plan):
                        weighed = important.get(plan.weight.label)
                        problems.add(plan, sequential, self.context.seed, self.settings.damping, weighed)
            criterion = "obs" if self.settings.criterion == "auto" else self.settings.criterion
            known = relevances(self.couplings, groups, self.calibration) if criterion == "lrp" else {}
            return self._choose(groups, costs, budgets, Ranker(self.couplings, plans, problems, criterion, known))

    def _choose(self, groups: list[Group], costs: list[Cost], budgets: list[float], ranker: Ranker) -> Chosen:
        orders: list[Order] = []
        for place, group in enumerate(groups):
            self.context.progress("channel-removal: orders", place, len(groups))
            orders.append(ranker.order(group))
        multiples = [self.settings.multiple or suitable(group, self.couplings) for group in groups]
        return choose(groups, orders, costs, budgets, multiples)

    def _fits(self, plan: Plan) -> bool:
        """Whether the Gram matrix of a layer is not too large."""
        groups, inputs, _ = plan.affine.matrix(plan.weight.tensor.array).shape
        return bool(8 * groups * (inputs + 1) ** 2 <= self.calibration.row_memory)

    def _plans(self, graph: Graph) -> dict[str, Plan]:
        """Layers of a graph that can be fitted, by name of their weight, in the order in which they run."""
        layers, aside = self.context.layers(graph, self.settings)
        fit = [layer for layer in layers if cannot_be_fitted(layer.weight) is None and layer.weight.graph is graph]
        found = (plan for plan, _ in planned(self.settings, graph, fit, self.context, aside))
        return {plan.weight.name: plan for plan in found if not isinstance(plan.affine.form, Lookup)}

    def _repair(self, before: Graph, cut: Cut) -> dict[str, str]:
        """Fit layer after layer; what is to be said of each, by name of its weight."""
        said: dict[str, str] = {}
        with named_states(self.graph), named_states(before):
            was, now = self._plans(before), self._plans(self.graph)
            both = [(was[name], plan) for name, plan in now.items() if name in was and self._fits(plan)]
            coming = [(then.values, plan.values) for then, plan in both]
            with self.calibration.sequential(self.graph, before, coming) as sequential:
                for place, (then, plan) in enumerate(both):
                    self.context.progress("channel-removal: repair", place, len(both))
                    seed, damping = self.context.seed, self.settings.damping
                    found = attempted(plan, lambda: repaired(plan, then, cut, sequential, seed, damping))  # noqa: B023
                    if isinstance(found, str):
                        continue
                    replaced(plan, found.stored, found.bias)
                    said[plan.weight.name] = f"residual {found.before:.2%} -> {found.after:.2%}"
        return said
