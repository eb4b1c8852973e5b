"""Passes that fit layers on a whole model, without the manager that would take settings back: measured as they are."""

import time
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, Final, Self, TypeAlias

import numpy as np
from numpy.typing import NDArray

from graphshrink.calibration.engine import Calibration
from graphshrink.calibration.samples import Samples, held
from graphshrink.encodings import Storage
from graphshrink.ir.graph import Graph
from graphshrink.ir.tensor import FLOATING
from graphshrink.ir.types import Feeds
from graphshrink.ir.weight import weights
from graphshrink.onnx_io.external import model_files
from graphshrink.onnx_io.load import load
from graphshrink.onnx_io.runtime import Limits
from graphshrink.onnx_io.temporary import written
from graphshrink.passing.base import Changed, Context, Pass, PassResult, Selection, Skipped
from graphshrink.passing.pipeline import run_passes
from graphshrink.passing.rules import By, LayerRule
from graphshrink.verify import Original, Verdict

Own: TypeAlias = Mapping[str, Mapping[str, Any]]
"""Options of single layers, by name."""

_ALIKE: Final[Own] = {}
_NO_MATRIX: Final = "is no "  # weight matrix, kernel, product: what passes say of other constants


@dataclass(frozen=True, slots=True)
class Trimmed:
    """What the pass made of a model.

    Attributes:
        graph: the model as it is now.
        result: what the pass says of each layer.
        seconds: wall time of the pass.
    """

    graph: Graph
    result: PassResult
    seconds: float

    @property
    def solved(self) -> list[str]:
        """Labels of the weights that were solved for; biases, which go with them, are left out."""
        outcomes = self.result.layers.items()
        return [label for label, outcome in outcomes if isinstance(outcome, Changed) and outcome.part_of is None]

    @property
    def skipped(self) -> dict[str, str]:
        """Why weights were left alone, by label."""
        return {label: each.reason for label, each in self.result.layers.items() if isinstance(each, Skipped)}


class Bench:
    """A model, running beside what is made of it.

    Args:
        model: its file.
        fit: inputs that may be fitted to.
        held_out: inputs on which outputs are compared.
    """

    def __init__(self, model: Path, fit: Sequence[Feeds], held_out: Sequence[Feeds]) -> None:
        self.graph = load(model)
        self._fit = held(fit, "to fit to")
        self._held_out = held(held_out, "held out")
        self._runtime = Limits().runtime(model_files(self.graph, model))
        self._original = Original(self._runtime, model)

    def trim(
        self, settings: Pass, include: tuple[str, ...] = (), layers: Own = _ALIKE, storage: Storage | None = None
    ) -> Trimmed:
        """Run the pass.

        Args:
            settings: of all layers.
            include: patterns of the layers that are meant; empty for all.
            layers: other options for some of them, by name.
            storage: how weights will be stored; by default as the command does it.
        """
        rules = tuple(LayerRule(settings.name, By.NAME, name, options) for name, options in layers.items())
        started = time.perf_counter()
        context = Context(storage or Storage(), Selection(include), rules, calibration=self.calibration)
        graph, [record] = run_passes(self.graph, [settings], context, judge=None)
        return Trimmed(graph, record.result, time.perf_counter() - started)

    @property
    def calibration(self) -> Calibration:
        """Activations on the inputs that may be fitted to."""
        return Calibration(self._fit, self._runtime)

    def compare(self, graph: Graph, samples: Samples | None = None) -> Verdict:
        """Outputs beside the original's, on the held-out inputs if no others are given."""
        with written(graph) as path:
            return self._original.compare(path, self._held_out if samples is None else samples)

    def on_fitted(self, graph: Graph) -> Verdict:
        """Outputs beside the original's on the inputs that were fitted to: what settings may be chosen by."""
        return self.compare(graph, self._fit)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self._original.close()
        self._runtime.close()


def one_each(name: str, inputs: NDArray[np.generic]) -> list[Feeds]:
    """Feeds of one row each."""
    return [{name: inputs[i : i + 1]} for i in range(len(inputs))]


def nonzeros(graph: Graph, labels: Sequence[str]) -> dict[str, tuple[int, int]]:
    """Non-zero and all elements of some weights, by label."""
    wanted = set(labels)
    return {w.label: (int(np.count_nonzero(w.array)), w.tensor.size) for w in weights(graph) if w.label in wanted}


def left_alone(graph: Graph, trimmed: Trimmed) -> dict[str, Any]:
    """Weights that something is multiplied with, those of them that were left alone, and why, by share; and the rest.

    Biases, factors for channels, masks, and other constants that are no matrix of a product are no weights here,
    however many there are: there is nothing that a pass could do with them.
    """
    sizes = {w.label: w.tensor.size for w in weights(graph) if w.tensor.elem_type in FLOATING}
    counts: Counter[str] = Counter()
    for label, why in trimmed.skipped.items():
        if _NO_MATRIX not in why:
            counts[why] += sizes.get(label, 0)
    whole = sum(counts.values()) + sum(sizes.get(label, 0) for label in trimmed.solved)
    reasons = {why: count / max(whole, 1) for why, count in counts.most_common() if count > 0}
    others = sum(sizes.values()) - whole
    return {"weights": whole, "others": others, "skipped": sum(reasons.values()), "reasons": reasons}
