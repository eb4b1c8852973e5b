"""Which channels go: in each group the order, over all groups how many."""

import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Final, NamedTuple, Self

import numpy as np

from graphshrink.calibration.sequential import Sequential
from graphshrink.errors import CalibrationError
from graphshrink.ir.types import Array
from graphshrink.ops.coupling.analysis import Couplings, Group
from graphshrink.passes._channel_costs import Cost
from graphshrink.passes._channel_members import Taker, makers, takers
from graphshrink.passes._layer_moments import layer_moments
from graphshrink.passes._layer_plan import Plan
from graphshrink.passes._layerwise import attempted
from graphshrink.passes._sparsify_problem import damped
from graphshrink.solvers import channel_allocation as allocation
from graphshrink.solvers.channel_order import CRITERIA, ChannelGroup, Consumer, Order, channel_order, repaired_costs

_MULTIPLES: Final = (16, 8, 4)  # channels that ONNX Runtime's blocked convolutions take at once, or half of them
_STEPS: Final = 4  # of a multiple, that a group has at least
_CONVOLUTIONS: Final = frozenset({"Conv", "ConvTranspose"})
_ROUNDING: Final = 1e-9
_LEVELS: Final = 32  # numbers of channels that a group may be left with
_LEAST: Final = 16  # one channel in so many stays, at least
_GAP: Final = 0.01  # of the predicted error, by which a better allocation may be missed


class Chosen(NamedTuple):
    """What is to go.

    Attributes:
        gone: channels, by group.
        feasible: whether as much goes as was asked for.
    """

    gone: dict[Group, Array]
    feasible: bool


class _Kept(NamedTuple):
    """The problem of a layer: where its matrices are, the energy of its outputs, and its weights."""

    path: Path
    energy: float
    weights: Array


class Problems:
    """The least-squares problems of layers, kept on disk until the groups whose channels they take are ordered."""

    def __init__(self) -> None:
        self._folder = tempfile.TemporaryDirectory(prefix="graphshrink-")
        self._kept: dict[str, _Kept] = {}

    def add(
        self, plan: Plan, sequential: Sequential, seed: int, damping: float, importance: Array | None = None
    ) -> str | None:
        """Go through the samples for a layer; returns why it cannot be judged, or None.

        `importance` (groups, M) is what errors of its outputs are multiplied with; without it they count alike.
        """
        made = attempted(plan, lambda: layer_moments(plan, sequential, seed))
        if isinstance(made, str):
            return made
        factors = np.ones(made.energy.shape) if importance is None else np.broadcast_to(importance, made.energy.shape)
        quadratic = damped(made, damping).times(factors)
        path = Path(self._folder.name, f"{len(self._kept)}.npz")
        try:
            np.savez(path, hessian=quadratic.hessian, cross=quadratic.cross)
        except OSError as e:
            cure = "let TMPDIR name a folder with more room"
            raise CalibrationError(f"statistics cannot be kept ({e.strerror or e}); {cure}") from e
        self._kept[plan.weight.name] = _Kept(
            path, float(np.sum(made.energy * factors**2)), made.weights * factors[:, None, :]
        )
        return None

    def consumer(self, taker: Taker) -> Consumer | None:
        """A layer as the solvers see it."""
        kept = self._kept.get(taker.plan.weight.name)
        if kept is None:
            return None
        with np.load(kept.path) as file:
            hessian, cross = file["hessian"], file["cross"]
        return Consumer(hessian, cross, kept.weights, kept.energy, taker.owner)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._folder.cleanup()


@dataclass(frozen=True, slots=True)
class Ranker:
    """Orders the channels of groups.

    Attributes:
        couplings: of the graph.
        plans: layers that could be fitted, by name of their weight.
        problems: of those layers; None where there are no samples to go by.
        criterion: as in `CRITERIA`, or "lrp".
        relevance: of channels, for the latter.
    """

    couplings: Couplings
    plans: Mapping[str, Plan]
    problems: Problems | None
    criterion: str
    relevance: Mapping[Group, Array] = field(default_factory=lambda: dict[Group, Array]())

    def order(self, group: Group) -> Order:
        """Channels in the order in which they go, and what that costs."""
        weights = makers(group, self.couplings, self.couplings.graph)
        found = [] if self.problems is None else [self.problems.consumer(taker) for taker in takers(group, self.plans)]
        consumers = [consumer for consumer in found if consumer is not None]
        channels = ChannelGroup(group.size, consumers, weights)
        if consumers and group in self.relevance:
            removed = np.argsort(self.relevance[group], kind="stable")
            return Order(removed, repaired_costs(consumers, removed))
        if consumers:
            return channel_order(channels, self.criterion if self.criterion in CRITERIA else "l2")
        removed = CRITERIA["l2"](channels)
        energy = sum((np.square(w).sum(axis=1) for w in weights), start=np.zeros(group.size))
        total = float(energy.sum())
        return Order(removed, np.cumsum(energy[removed]) / total if total > 0 else np.zeros(group.size))


def suitable(group: Group, couplings: Couplings) -> int:
    """What numbers of channels should divide by where nothing else is asked for.

    With convolutions, the largest multiple that ONNX Runtime likes of which a group has some; otherwise what leaves
    matrices aligned.
    """
    size = group.size
    if not any(
        (name, 1) in group.blocks
        for site in couplings.sites.values()
        if site.operator.op_type in _CONVOLUTIONS and site.operator.is_a(site.operator.op_type)
        for name in (site.operator.inputs[0], site.operator.outputs[0])
    ):
        return 8 if size >= 64 else 4 if size >= 32 else 1
    return next((multiple for multiple in _MULTIPLES if size >= _STEPS * multiple), 1)


def choose(
    groups: Sequence[Group],
    orders: Sequence[Order],
    costs: Sequence[Cost],
    budgets: Sequence[float],
    multiples: Sequence[int],
) -> Chosen:
    """The channels to remove, so that each cost is within its budget at the least predicted error.

    Args:
        groups: that may lose channels.
        orders: of their channels.
        costs: what is to be made less; one, or two.
        budgets: how much each may be.
        multiples: numbers of channels that are left of each group are to divide by them.
    """
    levels = [_levels(group.size, multiple) for group, multiple in zip(groups, multiples, strict=True)]
    errors = [_errors(order, found, group.size) for group, order, found in zip(groups, orders, levels, strict=True)]
    choices = [allocation.Group(found, error) for found, error in zip(levels, errors, strict=True)]
    chosen, feasible = _allocated(choices, list(zip(costs, budgets, strict=True)))
    kept = [int(choice.levels[at]) for choice, at in zip(choices, chosen, strict=True)]
    gone = {
        group: order.removed[: group.size - left]
        for group, order, left in zip(groups, orders, kept, strict=True)
        if left < group.size
    }
    return Chosen(gone, feasible)


def _allocated(groups: Sequence[allocation.Group], costs: Sequence[tuple[Cost, float]]) -> tuple[Array, bool]:
    """Which level of each group, and whether that is low enough.

    Of several costs one is met after the other, in either order: from the levels that the one before left downwards.
    Of two of which one cannot be met the other alone counts: everything at its lowest would take far more of it.
    """
    lowest = [int(group.levels[-1]) / int(group.levels[0]) for group in groups]
    met = [(cost, budget) for cost, budget in costs if cost.of(lowest) <= budget + _ROUNDING * cost.whole]
    counting = met or costs
    found = [_in_turn(groups, order) for order in (counting, counting[::-1])[: len(counting)]]

    def error(answer: tuple[Array, bool]) -> tuple[bool, float]:
        chosen, feasible = answer
        return not feasible, sum(float(group.cost[at]) for group, at in zip(groups, chosen, strict=True))

    chosen, feasible = min(found, key=error)
    return chosen, feasible and len(met) == len(costs)


def _in_turn(groups: Sequence[allocation.Group], costs: Sequence[tuple[Cost, float]]) -> tuple[Array, bool]:
    start, met = np.zeros(len(groups), np.intp), True
    for cost, budget in costs:
        whole = [int(group.levels[0]) for group in groups]
        left = [allocation.Group(g.levels[at:], g.cost[at:]) for g, at in zip(groups, start, strict=True)]
        # Shares are of what a group is left with.
        shares = [int(g.levels[0]) / size for g, size in zip(left, whole, strict=True)]
        layers = [allocation.Layer(v * _share(a, shares) * _share(b, shares), a, b) for (a, b), v in cost.terms.items()]
        answer = allocation.allocate_channels(left, layers, budget, gap=_GAP)
        start = start + np.array(answer.chosen, np.intp)
        met = met and answer.feasible
    return start, met


def _share(group: int | None, shares: Sequence[float]) -> float:
    return 1.0 if group is None else shares[group]


def _levels(size: int, multiple: int) -> Array:
    """Numbers of channels that a group may be left with, falling from all of them."""
    step = max(multiple, -(-size // _LEVELS) // multiple * multiple)
    least = max(1, size // _LEAST)
    kept = [size, *range((size - 1) // step * step, 0, -step)]
    found = [number for number in kept if number >= least]
    return np.array(found)


def _errors(order: Order, levels: Array, size: int) -> Array:
    costs = np.concatenate([[0.0], order.cost])
    return np.maximum.accumulate(np.maximum(costs[size - levels], 0.0))
