"""What the manager asks after every pass: how far is this graph from the original?"""

import math
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Final

from graphshrink.calibration.samples import Samples
from graphshrink.ir.graph import Graph
from graphshrink.onnx_io.runtime import Runtime
from graphshrink.onnx_io.temporary import written
from graphshrink.passing.scoring import Metric
from graphshrink.verify import Original, Verdict, some

_ROUNDING: Final = 1e-12  # a drop of 0.01 as a difference of two scores


@dataclass(frozen=True, slots=True)
class Scores:
    """The user's metric on both models; `original` is what it gives for the original."""

    metric: Metric
    original: float

    def drop(self, runtime: Runtime, path: Path) -> float:
        """How far the score of a model lies below the original's; below zero where it is better."""
        return self.original - self.metric.score(runtime, path)

    def as_dict(self, drop: float) -> dict[str, Any]:
        """For the report, with the drop of the result."""
        metric = {"name": self.metric.name, "max_drop": self.metric.max_drop}
        return {**metric, "original": self.original, "result": self.original - drop, "drop": drop}


@dataclass(frozen=True, slots=True)
class Measured:
    """What was measured of a graph: the worst output error, and the drop of the user's metric, if there is one."""

    error: float
    drop: float | None = None


@dataclass(frozen=True, slots=True)
class Judge:
    """Judges graphs by their outputs on held-out samples, and by the user's metric.

    Attributes:
        original: the model to compare with.
        fit: samples that passes may fit to.
        held_out: samples that only judge.
        bound: the largest error allowed; None when errors are reported and bound nothing.
        scores: the user's metric, if there is one.
        random: whether the samples were made up.
        description: where the samples came from.
    """

    original: Original
    fit: Samples
    held_out: Samples
    bound: float | None
    random: bool = False
    description: str = ""
    scores: Scores | None = None

    def measure(self, graph: Graph) -> Measured:
        """Look at a graph with its weights plain, on the held-out samples.

        Raises:
            JudgeError: the graph does not run.
        """
        with written(graph) as path:
            error = self.original.compare(path, self.held_out).worst
            if self.scores is None or not self.allows_error(error):  # a metric may take long: not for what is bad
                return Measured(error)
            return Measured(error, self.scores.drop(self.original.runtime, path))

    def probing(self, count: int) -> "Judge":
        """The same judge with a few of the held-out samples and no metric, for looking at many graphs."""
        return replace(self, held_out=some(self.held_out, count), scores=None)

    def verdicts(self, path: Path) -> tuple[Verdict, Verdict]:
        """A written model on the samples to fit and on those held out."""
        held_out = self.original.compare(path, self.held_out)
        return (held_out if self.fit is self.held_out else self.original.compare(path, self.fit)), held_out

    def allows(self, measured: Measured) -> bool:
        """Whether the error is finite and within its bound, and so is the drop of the metric."""
        return self.allows_error(measured.error) and self.allows_drop(measured.drop)

    def allows_error(self, error: float) -> bool:
        """Whether an error is finite and within the bound."""
        return math.isfinite(error) and (self.bound is None or error <= self.bound)

    def allows_drop(self, drop: float | None) -> bool:
        """Whether the user's metric falls no further than it may."""
        most = None if self.scores is None else self.scores.metric.max_drop
        return drop is None or most is None or drop <= most + _ROUNDING

    def complaint(self, measured: Measured) -> str:
        """What is wrong with something that is not allowed."""
        if not self.allows_error(measured.error):
            bound = "no number" if self.bound is None else f"above the bound {self.bound:g} (--max-error)"
            return f"output error {measured.error:.3g} is {bound}"
        most = None if self.scores is None else self.scores.metric.max_drop
        return f"the metric falls by {measured.drop:.6g}, more than {most:g} (--max-drop)"
