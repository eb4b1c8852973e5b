"""sparsify: the weights that matter least become zero, and those that are left make up for them."""

import re
import time
from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import partial
from typing import ClassVar, Final, Self

import numpy as np

from graphshrink.calibration.engine import Calibration
from graphshrink.calibration.sequential import Sequential
from graphshrink.encodings import Policy
from graphshrink.errors import UsageError
from graphshrink.ir.graph import Graph
from graphshrink.ir.types import Array
from graphshrink.ir.weight import Weight
from graphshrink.ops.lookup import Lookup
from graphshrink.passes._layer_importance import IMPORTANCES, importances
from graphshrink.passes._layer_plan import Plan
from graphshrink.passes._layer_states import named_states
from graphshrink.passes._layerwise import attempted, cannot_be_fitted, planned, put, to_fit_to
from graphshrink.passes._sparsify_problem import Answer, problem
from graphshrink.passes._sparsify_ranking import Wish, settled
from graphshrink.passing.base import Context, Pass, PassResult, Skipped
from graphshrink.passing.rules import settings_for
from graphshrink.solvers.allocation import Curve, allocate
from graphshrink.solvers.quadratic import Piece

_SALIENCIES: Final = ("auto", "magnitude", "obd", "obs", "sparsegpt")
_PATTERN: Final = re.compile(r"([1-9]\d{0,2}):([1-9]\d{0,2})")
_BLOCK: Final = re.compile(r"([1-9]\d{0,2})x([1-9]\d{0,2})")
_BOUND: Final = 0.1  # to split over the layers where the user gives none
_MARGIN: Final = 0.9  # of the bound is split, as in the manager
_LEAST: Final = 1e-3  # target error; below it hardly a weight can go
_STEP: Final = 2.0  # by which the target error falls when a layer is to harm less
_DENSER: Final = 1.5
_FLOOR: Final = 0.1  # of the overall density that every layer keeps at least

_ALL_NEEDED: Final = "all of its weights are needed"


@dataclass(frozen=True)
class Sparsify(Pass):
    """Remove the weights that the outputs on sample inputs miss least, and fit those that are left once more.

    Optimal brain surgeon (Hassibi & Stork 1992) for every output of every layer, as in Frantar & Alistarh 2022,
    arXiv:2208.11580; SparseGPT (2023), arXiv:2301.00774, where layers are too wide for it.

    Given:  y = x @ W + b      W dense
    Result: y = x @ W' + b'    W' with exact zeros, and the rest of it such that y is as near as it can be

    1. Which weights go is decided for all layers together, by the error that each of them makes of its layer's outputs.
    2. What is left is the least-squares solution for these zeros, bias included, for the inputs that the layers before
       now give, and the outputs that the layer gave in the model as it was.
    3. Weights of inputs that the samples never show are zero.
    4. An error of an output counts as much as it changes what the model gives: the gradients of the outputs say how
       much, where they can be worked out.
    5. A layer whose inputs or outputs do not divide by the pattern or the block stays as it is.

    Attributes:
        density: share of the weights of all layers to keep, 0 to 1; 0 goes by target_error.
        target_error: by how much each layer's removed weights may change its outputs, relative to these, 0 to 1; 0
            splits the model's bound.
        saliency: what weights are chosen by: "magnitude", "obd", "obs", "sparsegpt", or "auto" for obs or, in wide
            layers, sparsegpt.
        allocation: "global" for layers of different density where that costs less, or "uniform".
        pattern: such as "2:4", two of every four neighbouring inputs; leave density out.
        block: inputs x outputs that go as a whole, such as "8x1".
        mode: "sequential" for the inputs that the layers before now give, or "independent" for those of the original.
        refit: whether the weights that are left are fitted once more; obs always does so.
        damping: added to the diagonal of each layer's Gram matrix, relative to its mean, 0 to 1; with 0 the fit is
            plain least squares.
        importance: of the outputs of a layer: "gradient", by how much the model's outputs depend on them, or "uniform".
    """

    name: ClassVar[str] = "sparsify"
    buys: ClassVar[str] = "disk"
    density: float = 0.0
    target_error: float = 0.0
    saliency: str = "auto"
    allocation: str = "global"
    pattern: str = ""
    block: str = "1x1"
    mode: str = "sequential"
    refit: bool = True
    damping: float = 0.01
    importance: str = "gradient"

    def __post_init__(self) -> None:
        among, block = _numbers(_PATTERN, self.pattern), _numbers(_BLOCK, self.block)
        limits = {
            f"density={self.density} is outside 0 to 1": 0 <= self.density <= 1,
            f"target_error={self.target_error} is outside 0 to 1": 0 <= self.target_error <= 1,
            "density and target_error exclude each other": not (self.density and self.target_error),
            f"saliency={self.saliency!r} is none of {', '.join(_SALIENCIES)}": self.saliency in _SALIENCIES,
            f"allocation={self.allocation!r} is none of global, uniform": self.allocation in ("global", "uniform"),
            f"mode={self.mode!r} is none of sequential, independent": self.mode in ("sequential", "independent"),
            f"importance={self.importance!r} is none of gradient, uniform": self.importance in IMPORTANCES,
            f"damping={self.damping} is outside 0 to 1": 0 <= self.damping <= 1,
            f"pattern={self.pattern!r} is not like 2:4": not self.pattern
            or (among is not None and among[0] < among[1]),
            f"block={self.block!r} is not like 8x1": block is not None,
            "pattern says what stays; leave density, target_error and block out": not self.pattern
            or (not self.density and not self.target_error and block == (1, 1)),
        }
        if broken := [text for text, holds in limits.items() if not holds]:
            raise UsageError(f"sparsify: {broken[0]}")

    def refuses(self, weight: Weight, policy: Policy) -> str | None:
        """Weights that are empty, filled with one value, or not finite."""
        return cannot_be_fitted(weight)

    def gentler(self) -> Self | None:
        """Half the error, or half as many weights again; there is no other pattern."""
        if self.pattern:
            return None
        if self.density:
            return replace(self, density=self.density * _DENSER) if self.density * _DENSER < 1 else None
        softer = (self.target_error or _MARGIN * _BOUND) / _STEP
        return replace(self, target_error=softer) if softer >= _LEAST else None

    @property
    def wish(self) -> Wish:
        """What zeros are to look like, and how they are chosen."""
        piece = Piece(*(_numbers(_BLOCK, self.block) or (1, 1)))
        return Wish(piece, _numbers(_PATTERN, self.pattern), self.saliency, self.refit)

    def run(self, graph: Graph, context: Context) -> PassResult:
        """Thin out every layer that can be, in the order in which they run."""
        return _run(self, graph, context)


def _numbers(pattern: re.Pattern[str], text: str) -> tuple[int, int] | None:
    match = pattern.fullmatch(text)
    return None if match is None else (int(match[1]), int(match[2]))


def _run(settings: Sparsify, graph: Graph, context: Context) -> PassResult:
    layers, result = context.layers(graph, settings)
    calibration = to_fit_to(context, layers, result)
    if calibration is None:
        return result
    with named_states(graph):
        todo = [one for one in planned(settings, graph, layers, context, result) if _divides(*one, calibration, result)]
        wishes = {layer.weight.label: own.wish for layer, own in todo}
        wishes = settled(wishes, {layer.weight.label: _shape(layer) for layer, _ in todo})
        weighted = [layer for layer, own in todo if own.importance == IMPORTANCES[0] and own.saliency != "magnitude"]
        important = importances(calibration, graph, weighted)
        _Run(settings, graph, context, calibration, result, todo, wishes, important).run()
    return result


def _divides(layer: Plan, settings: Sparsify, calibration: Calibration, result: PassResult) -> bool:
    """Whether a layer can be worked on; else the result says why not."""
    groups, inputs, outputs = _shape(layer)
    reason = settings.wish.why_not(inputs, outputs)
    memory = 8 * groups * (inputs + 1) ** 2
    if reason is None and memory > calibration.row_memory and not isinstance(layer.affine.form, Lookup):
        reason = f"its Gram matrix would take {memory >> 20:,} MB"
    if reason is not None:
        result.layers[layer.weight.label] = Skipped(reason)
    return reason is None


def _shape(layer: Plan) -> tuple[int, int, int]:
    groups, inputs, outputs = layer.affine.matrix(layer.weight.tensor.array).shape
    return groups, inputs, outputs


@dataclass(frozen=True, slots=True)
class _Run:
    """One run of the pass over a graph."""

    settings: Sparsify
    graph: Graph
    context: Context
    calibration: Calibration
    result: PassResult
    todo: list[tuple[Plan, Sparsify]]
    wishes: Mapping[str, Wish]
    important: Mapping[str, Array]

    def run(self) -> None:
        """Thin out layer after layer."""
        densities = self._densities()
        seen = self.graph if self.settings.mode == "sequential" else self.graph.copy()
        with self._beside(seen) as sequential:
            for place, (layer, own) in enumerate(self.todo):
                self.context.progress(Sparsify.name, place, len(self.todo))
                started = time.perf_counter()
                answer = attempted(layer, partial(self._thinned, sequential, layer, own, densities))
                if isinstance(answer, str):
                    self.result.layers[layer.weight.label] = Skipped(answer)
                else:
                    seconds = time.perf_counter() - started
                    put(self.result, layer, answer.stored, answer.bias, _detail(answer), seconds)

    def _thinned(
        self, sequential: Sequential, layer: Plan, own: Sparsify, densities: Mapping[str, float]
    ) -> Answer | str:
        """A layer's new weights; or why it stays as it is."""
        weight = layer.weight
        made = problem(layer, sequential, self.context.seed, own.damping, self.important.get(weight.label))
        order = made.ranking(self.wishes[weight.label])
        if own.pattern:
            removed = 0.0
        elif own.density:
            removed = weight.tensor.size * (1 - densities[weight.label])
        else:
            removed = order.curve().within(self._target(own) ** 2 * made.energy)
        answer = made.answer(order.weights(round(removed / own.wish.piece.size)))
        if not answer.is_finite:
            return "its new weights are too large for their type"
        return answer if np.count_nonzero(answer.stored) < np.count_nonzero(weight.array) else _ALL_NEEDED

    def _target(self, own: Sparsify) -> float:
        """The error that a layer may make: errors of different layers add up as squares."""
        bound = _MARGIN * (_BOUND if self.context.max_error is None else self.context.max_error)
        return own.target_error or float(bound / len(self.todo) ** 0.5)

    def _densities(self) -> dict[str, float]:
        """The density of every layer: its own, where a rule gives it one, else its share of the overall one."""
        bases = {layer.weight.label: self._base(layer.weight) for layer, _ in self.todo}
        shared = [layer for layer, _ in self.todo if bases[layer.weight.label].density == self.settings.density]
        found = {label: base.density for label, base in bases.items()} | self._allocated(shared)
        # A layer that did too much harm gets milder settings, by so much more than it had.
        return {
            layer.weight.label: min(1.0, found[layer.weight.label] * own.density / base.density)
            for layer, own in self.todo
            if (base := bases[layer.weight.label]).density
        }

    def _base(self, weight: Weight) -> Sparsify:
        """The settings of a layer before any became milder."""
        return settings_for(self.settings, weight, self.context.rules) or self.settings

    def _allocated(self, shared: list[Plan]) -> dict[str, float]:
        """The densities of layers that have one overall density, by a look at the model as it is."""
        density = self.settings.density
        if not density or density == 1 or self.settings.allocation == "uniform" or len(shared) < 2:
            return {}
        curves: dict[str, Curve] = {}
        with self._beside(self.graph.copy()) as sequential:
            for place, layer in enumerate(shared):
                self.context.progress(f"{Sparsify.name}, allocation", place, len(shared))
                curve = attempted(layer, partial(self._curve, sequential, layer))
                if not isinstance(curve, str):
                    curves[layer.weight.label] = curve
        sizes = {layer.weight.label: layer.weight.tensor.size for layer in shared if layer.weight.label in curves}
        most = [size * (1 - _FLOOR * density) for size in sizes.values()]
        removed = allocate([curves[label] for label in sizes], sum(sizes.values()) * (1 - density), most)
        return {label: 1 - gone / size for (label, size), gone in zip(sizes.items(), removed, strict=True)}

    def _curve(self, sequential: Sequential, layer: Plan) -> Curve | str:
        """What removals cost a layer, relative to its outputs."""
        label = layer.weight.label
        made = problem(layer, sequential, self.context.seed, self.settings.damping, self.important.get(label))
        removed, cost = made.ranking(self.wishes[label]).curve()
        return Curve(removed, cost / made.energy) if made.energy > 0 else "its outputs are zero"

    def _beside(self, seen: Graph) -> Sequential:
        return self.calibration.sequential(seen, coming=[(layer.values, layer.values) for layer, _ in self.todo])


def _detail(answer: Answer) -> str:
    size = answer.stored.size
    left = np.count_nonzero(answer.stored) / size
    return f"{left:.2%} of {size:,} left, residual {answer.residual:.2%}{answer.remark}"
