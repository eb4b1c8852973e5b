"""What every model of the corpus offers: its file, inputs to calibrate with, and items to be scored on.

Items come in three sets that share none: `calibration` (inputs alone, which tools may fit to), `development` (settings
are chosen on it) and `test` (scored once for each result). A score is a mean over items of what each item is worth, so
that two models are compared item by item; `compare` gives the difference with its 95 % interval.
"""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, TypeAlias

import numpy as np
import numpy.typing as npt
import onnxruntime as ort

from graphshrink.ir.types import Array

Split: TypeAlias = Literal["development", "test"]
Floats: TypeAlias = npt.NDArray[np.float64]
Run: TypeAlias = Callable[[Mapping[str, Array]], dict[str, Array]]
"""Runs a model on one feed; gives its outputs by name."""


@dataclass(frozen=True, slots=True)
class Score:
    """What a model is worth on some items.

    Attributes:
        metric: its name, such as "accuracy"; larger is better.
        values: (n,) what each item counts, in the order of the items; the score is their weighted mean.
        weights: (n,) how much each item counts; all alike if not given.
    """

    metric: str
    values: Floats
    weights: Floats | None = None

    @property
    def value(self) -> float:
        """The score."""
        return float(np.average(self.values, weights=self.weights))

    @property
    def n(self) -> int:
        """How many items."""
        return len(self.values)


@dataclass(frozen=True, slots=True)
class Difference:
    """How much better one model scores than another on the same items, with its 95 % interval."""

    value: float
    low: float
    high: float


@dataclass(frozen=True, slots=True)
class Task:
    """One model and its data.

    Attributes:
        name: of the model.
        about: what it is, for tables.
        model: gives the file, fetching it if need be; raises FetchError.
        calibration: gives so many inputs at most, for tools to fit to.
        score: runs the items of a set through a model and scores the outputs.
        shipped: whether model and data are in the repository, so that no network is needed.
    """

    name: str
    about: str
    model: Callable[[], Path]
    calibration: Callable[[int], Sequence[Mapping[str, Array]]]
    score: Callable[[Run, Split], Score]
    shipped: bool = False


def runner(model: Path) -> Run:
    """Run a model file in this process, with one thread."""
    options: Any = ort.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    options.log_severity_level = 3
    session = ort.InferenceSession(str(model), options, providers=["CPUExecutionProvider"])
    names = [output.name for output in session.get_outputs()]

    def run(feeds: Mapping[str, Array]) -> dict[str, Array]:
        outputs: Any = session.run(None, dict(feeds))
        return dict(zip(names, outputs, strict=True))

    return run


def score(task: Task, model: Path, split: Split) -> Score:
    """The score of a model file on one of the sets."""
    return task.score(runner(model), split)


def compare(original: Score, other: Score, *, seed: int = 0, draws: int = 2000) -> Difference:
    """The paired difference of two scores: other minus original, with a bootstrap interval over items."""
    if original.n != other.n:
        raise ValueError(f"scores of {original.n} and {other.n} items cannot be paired")
    weights = np.ones(original.n) if original.weights is None else original.weights
    products = weights * (other.values - original.values)
    chosen = np.random.default_rng(seed).integers(0, original.n, (draws, original.n))
    means = products[chosen].sum(axis=1) / weights[chosen].sum(axis=1)
    low, high = np.quantile(means, (0.025, 0.975))
    value = float(products.sum() / weights.sum())
    return (
        Difference(value, float(low), float(high)) if math.isfinite(value) else Difference(value, -math.inf, math.inf)
    )
