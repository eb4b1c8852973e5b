"""The user's own metric: a function that scores a model on the user's own data, from `--metric file.py:function`.

    def accuracy(model) -> float:              # larger is better
        hits = [model({"input": image})["logits"].argmax() == label for image, label in items()]
        return sum(hits) / len(hits)

`model(feeds)` runs the model in the judges' process, within its limits, and gives the outputs by name; `model.path` is
its file, for code that runs it by itself.
"""

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final, TypeAlias

import numpy as np

from graphshrink.errors import UsageError
from graphshrink.ir.types import Array, TensorSpec
from graphshrink.onnx_io.runtime import Runtime, Session
from graphshrink.user_code import function_name, function_of, guarded, imported

_CURE: Final = "correct the metric"


@dataclass(frozen=True, slots=True)
class RunningModel:
    """A model to be scored.

    Attributes:
        path: its file.
        session: where it runs.
    """

    path: Path
    session: Session

    @property
    def inputs(self) -> tuple[TensorSpec, ...]:
        """What has to be fed."""
        return self.session.inputs

    def __call__(self, feeds: Mapping[str, Array]) -> dict[str, Array]:
        """Run the model once; gives all outputs by name.

        Raises:
            GraphshrinkError: the model does not take the feeds, or does not run.
        """
        return self.session.run({name: np.asarray(value) for name, value in feeds.items()})


ScoreFunction: TypeAlias = Callable[[RunningModel], float]


@dataclass(frozen=True, slots=True)
class Metric:
    """A score, and how far it may fall.

    Attributes:
        name: for reports.
        function: gives the score; larger is better.
        max_drop: how far the result's score may lie below the original's; None for no bound.
    """

    name: str
    function: ScoreFunction
    max_drop: float | None = None

    def score(self, runtime: Runtime, path: Path) -> float:
        """The score of a model file.

        Raises:
            UsageError: the function fails, or gives no finite number.
            JudgeError: the model does not run.
        """
        with runtime.open(path) as session, guarded(self.name, _CURE, UsageError):
            score = float(self.function(RunningModel(path, session)))
        if not math.isfinite(score):
            raise UsageError(f"{self.name}: scores {path.name} {score}; give a finite number, the larger the better")
        return score


def metric_from(given: str | ScoreFunction, max_drop: float | None) -> Metric:
    """A metric from `file.py:function`, or from a function.

    Raises:
        UsageError: the file cannot be run, or has no such function.
    """
    if not isinstance(given, str):
        return Metric(getattr(given, "__name__", "metric"), given, max_drop)
    name = function_name(given)
    if name is None:
        raise UsageError(f"--metric {given!r}: write it like file.py:function")
    with imported(name.path, _CURE, UsageError) as module:
        found: ScoreFunction = function_of(module, name, UsageError)
    return Metric(name.place, found, max_drop)
