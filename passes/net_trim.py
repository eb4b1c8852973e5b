"""net-trim: every layer gets the sparsest weights with which it keeps its outputs on sample inputs."""

import math
import re
import time
from dataclasses import dataclass, replace
from typing import ClassVar, Final, Self, cast

import numpy as np

from graphshrink.calibration.engine import Calibration
from graphshrink.calibration.sequential import Sequential
from graphshrink.encodings import Policy
from graphshrink.errors import UsageError
from graphshrink.ir.graph import Graph
from graphshrink.ir.types import Array
from graphshrink.ir.weight import Weight
from graphshrink.ops.lookup import Lookup
from graphshrink.passes._layer_plan import Plan
from graphshrink.passes._layer_rows import Both, collected, wanted
from graphshrink.passes._layer_states import named_states
from graphshrink.passes._layerwise import attempted, cannot_be_fitted, planned, put, to_fit_to
from graphshrink.passes._net_trim_layer import Solved, solved
from graphshrink.passes._net_trim_noise import enough
from graphshrink.passes._net_trim_part import Sought
from graphshrink.passing.base import Context, Pass, PassResult, Skipped
from graphshrink.solvers.net_trim import Solver

_AUTO: Final = re.compile(r"auto(?:/([1-9]\d{0,3}))?")
_LEAST_PART: Final = 64  # of the bound, as its divisor
_BOUND: Final = 0.1  # to split over the layers where the user gives none
_MARGIN: Final = 0.9  # of the bound is split, as in the manager
_LEAST: Final = 1e-3  # epsilon; below it hardly a weight can go
_STEP: Final = 2.0  # by which epsilon falls when a layer is to harm less: a quarter of the squared error
_DENSER: Final = 1.5


@dataclass(frozen=True)
class NetTrim(Pass):
    """Solve each layer anew for the sparsest weights that keep its outputs on sample inputs.

    Net-Trim, Aghasi et al. 2016, arXiv:1611.05162: outputs that the activation lets pass are kept to within epsilon of
    what they were, outputs that it cuts off need only stay cut off, and of all such weights those with the least l1
    norm are taken.

    Given:  y = Relu(x @ W)      W dense
    Result: y = Relu(x @ W')     W' with exact zeros, and nearly the same y for inputs like the samples

    1. Thresholds of Relu, Clip, HardSwish and others say which outputs need only stay cut off; without them all outputs
       are kept. A batch normalisation or a residual sum before the activation is part of what is kept.
    2. A bias that belongs to the layer alone is solved for as well, and costs nothing.
    3. `cascade` solves layer after layer, each for the inputs that the layers before it now give; `parallel` takes the
       inputs as they were.
    4. A layer whose program is not solved, or needs all weights, stays as it is.

    Attributes:
        epsilon: bound on each layer's residual, relative to its outputs; "auto" splits the model's bound,
            "auto/2" half of it.
        density: share of each layer's weights to keep; 0 goes by epsilon.
        scheme: "cascade" or "parallel".
        gamma: by how much the squared error of the layers before may grow in a layer, 1 or more.
        kappa: by which the bound on the last layer is multiplied, above 0.
        solver: "auto", "cvxpy" or "admm".
        samples: rows of activations that a layer is fitted to, at most.
        refit: whether the weights that are left are fitted once more.
        thin: whether what that gains is spent on dropping more of them, as long as epsilon holds; needs refit.
    """

    name: ClassVar[str] = "net-trim"
    buys: ClassVar[str] = "disk"
    epsilon: str = "auto"
    density: float = 0.0
    scheme: str = "cascade"
    gamma: float = 1.1
    kappa: float = 1.0
    solver: str = "auto"
    samples: int = 5000
    refit: bool = True
    thin: bool = False

    def __post_init__(self) -> None:
        if _part(self.epsilon) is None and not 0 < _number(self.epsilon) <= 1:
            raise UsageError(
                f"net-trim: epsilon={self.epsilon!r} is neither auto, nor like auto/2, nor a number above 0 and up to 1"
            )
        limits = {
            f"density={self.density} is outside 0 to 1": 0 <= self.density <= 1,
            f"gamma={self.gamma} is below 1": self.gamma >= 1,
            f"kappa={self.kappa} is not above 0": self.kappa > 0,
            f"samples={self.samples} is below 1": self.samples >= 1,
            f"scheme={self.scheme!r} is none of cascade, parallel": self.scheme in ("cascade", "parallel"),
            f"gamma={self.gamma} is no number to multiply by": math.isfinite(self.gamma),
            f"kappa={self.kappa} is no number to multiply by": math.isfinite(self.kappa),
            "thin=true needs refit=true, after which weights are dropped": self.refit or not self.thin,
            "thin=true goes by epsilon; leave density out": not (self.thin and self.density),
            "solver=cvxpy goes by epsilon; leave density out": not (self.solver == "cvxpy" and self.density),
            f"solver={self.solver!r} is none of auto, cvxpy, admm": self.solver in ("auto", "cvxpy", "admm"),
        }
        if broken := [text for text, holds in limits.items() if not holds]:
            raise UsageError(f"net-trim: {broken[0]}")

    def refuses(self, weight: Weight, policy: Policy) -> str | None:
        """Weights that are empty, filled with one value, or not finite."""
        return cannot_be_fitted(weight)

    def gentler(self) -> Self | None:
        """Half the error, or half as many weights again."""
        if self.density:
            return replace(self, density=self.density * _DENSER) if self.density * _DENSER < 1 else None
        if (part := _part(self.epsilon)) is not None:
            return replace(self, epsilon=f"auto/{2 * part}") if part < _LEAST_PART else None
        softer = _number(self.epsilon) / _STEP
        return replace(self, epsilon=str(softer)) if softer >= _LEAST else None

    def run(self, graph: Graph, context: Context) -> PassResult:
        """Solve every layer that can be, in the order in which they run."""
        return _run(self, graph, context)


def _run(settings: NetTrim, graph: Graph, context: Context) -> PassResult:
    layers, result = context.layers(graph, settings)
    calibration = to_fit_to(context, layers, result)
    if calibration is None:
        return result
    with named_states(graph):
        _Run(settings, graph, context, calibration, result).solve(planned(settings, graph, layers, context, result))
    return result


def _part(epsilon: str) -> int | None:
    """By what the bound is divided before it is split over the layers; None where epsilon is a number of its own."""
    match = _AUTO.fullmatch(epsilon)
    return None if match is None else int(match[1] or 1)


def _number(text: str) -> float:
    try:
        return float(text)
    except ValueError:
        return math.nan


@dataclass(frozen=True, slots=True)
class _Run:
    """One run of the pass over a graph."""

    settings: NetTrim
    graph: Graph
    context: Context
    calibration: Calibration
    result: PassResult

    def solve(self, planned: list[tuple[Plan, NetTrim]]) -> None:
        """Solve layer after layer."""
        seen = self.graph if self.settings.scheme == "cascade" else self.graph.copy()
        coming = [(layer.values, layer.values) for layer, _ in planned]
        with self.calibration.sequential(seen, coming=coming) as sequential:
            for place, (layer, settings) in enumerate(planned):
                self.context.progress(NetTrim.name, place, len(planned))
                reason = self._solve(sequential, layer, settings, self._sought(settings, place + 1, len(planned)))
                if reason is not None:
                    self.result.layers[layer.weight.label] = Skipped(reason)

    def _solve(self, sequential: Sequential, layer: Plan, settings: NetTrim, sought: Sought) -> str | None:
        """Solve a layer; or say why not.

        Raises:
            CalibrationError: what the layer is fed is not finite.
        """
        started = time.perf_counter()
        answer = attempted(layer, lambda: self._answer(sequential, layer, settings, sought))
        if isinstance(answer, str):
            return answer
        self._put(layer, *answer, started)
        return None

    def _answer(
        self, sequential: Sequential, layer: Plan, settings: NetTrim, sought: Sought
    ) -> tuple[Solved, str] | str:
        """A layer's new weights, and a remark on its rows; or why there are none."""
        sampled = sequential.rows(*wanted(layer, layer, self.context.seed), settings.samples)
        if not sampled:
            return "it gets no rows from the samples"
        rows = collected(layer, layer, sampled)
        answer = solved(layer, self._enough(layer, rows), sought, self.context.workers)
        return answer if isinstance(answer, str) else (answer, _scarcity(rows))

    def _enough(self, layer: Plan, rows: Both) -> Both:
        if isinstance(layer.affine.form, Lookup):
            return rows
        return enough(rows, self.context.generator(layer.weight.label), self.calibration.row_memory)

    def _sought(self, settings: NetTrim, place: int, count: int) -> Sought:
        """What is asked of the layer at a place, counted from 1.

        Errors of different layers add up as squares. In a cascade each layer's residual holds those of the layers
        before it, so that it may be larger from layer to layer.
        """
        bound = _MARGIN * (_BOUND if self.context.max_error is None else self.context.max_error)
        share = place / count if self.settings.scheme == "cascade" else 1 / count
        part = _part(settings.epsilon)
        epsilon = _number(settings.epsilon) if part is None else bound * share**0.5 / part
        return Sought(
            epsilon,
            settings.density or None,
            settings.gamma,
            settings.kappa,
            cast("Solver", settings.solver),
            settings.refit,
            settings.thin,
        )

    def _put(self, layer: Plan, answer: Solved, remark: str, started: float) -> None:
        new = answer.stored.astype(layer.weight.tensor.array.dtype)
        put(self.result, layer, new, answer.bias, _detail(new, answer) + remark, time.perf_counter() - started)


def _detail(new: Array, answer: Solved) -> str:
    kept = f"{np.count_nonzero(new) / new.size:.2%} of {new.size:,} left, residual {answer.residual:.2%}"
    inputs, outputs = answer.unused
    unused = f", {inputs} inputs and {outputs} outputs unused" if inputs or outputs else ""
    unsolved = f", {answer.unsolved} groups not solved" if answer.unsolved else ""
    return f"{kept}, gap {answer.gap:.1e}{unused}{unsolved}"


def _scarcity(rows: Both) -> str:
    """A remark where there are so few rows that weights cannot be told by them."""
    _, count, width = rows.now.inputs.shape
    return f"; only {count:,} rows for {width:,} inputs" if count < width else ""
