"""Which steps a model and its tools need, in order, and the row of the results that comes of them."""

import hashlib
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np

from benchmarks.corpus.base import Score, Split, Task, compare
from benchmarks.frontier.choose import Tried, choose
from benchmarks.frontier.code import digest_of_modules, digest_of_sources, digest_of_task
from benchmarks.frontier.progress import Progress
from benchmarks.frontier.steps import CALIBRATION
from benchmarks.frontier.store import Outcome, Step, Store
from benchmarks.tools.base import Setting, Tool, version_of

_STEPS: Final = "benchmarks/frontier/steps.py"
_MEASURING: Final = ("graphshrink.metrics.latency", "benchmarks.corpus.base")
_RUNNING: Final = ("onnxruntime", "numpy", "zstandard")


def count(tools: Sequence[Tool]) -> Counter[str]:
    """How many steps of each kind a model needs at most."""
    runnable = [tool for tool in tools if tool.missing() is None]
    settings = sum(len(tool.settings) for tool in runnable)
    of_tools: Counter[str] = Counter(compress=settings, score=settings + len(runnable), measure=len(runnable))
    return of_tools + Counter(score=2, measure=1)  # the original's


@dataclass(frozen=True, slots=True)
class _Model:
    """A model file, and the SHA-256 of what is in it."""

    path: Path
    sha256: str
    label: str


@dataclass(frozen=True, slots=True)
class _Scores:
    """Of the original."""

    development: Score
    test: Score


@dataclass(frozen=True, slots=True)
class Bench:
    """One model and what is done with it.

    Attributes:
        task: the model and its data.
        tasks: the module that knows the task.
        store: where outcomes are kept.
        progress: gets a line for each step.
    """

    task: Task
    tasks: str
    store: Store
    progress: Progress

    def row(self, tools: Sequence[Tool]) -> dict[str, Any]:
        """The model's part of the results; raises FetchError when there is no model."""
        path = self.task.model()
        original = _Model(path, hashlib.sha256(path.read_bytes()).hexdigest(), "original")
        development, test = (self._score(original, "original", split) for split in ("development", "test"))
        row: dict[str, Any] = {
            "model": self.task.name,
            "about": self.task.about,
            "sha256": original.sha256,
            "bytes": path.stat().st_size,
        }
        failure = development.failure or test.failure
        if failure is not None:
            self.progress.skip(count(tools) - Counter(score=2))
            return {**row, "failure": f"the original: {failure}"}
        scores = _Scores(_as_score(development), _as_score(test))
        return {
            **row,
            "metric": scores.test.metric,
            "development": _summary(scores.development),
            "test": _summary(scores.test),
            **_measured(self._measure(original, original, "original")),
            "tools": [self._tool(tool, original, scores) for tool in tools],
        }

    def _tool(self, tool: Tool, original: _Model, scores: _Scores) -> dict[str, Any]:
        row: dict[str, Any] = {"tool": tool.name, "about": tool.about, "versions": tool.versions()}
        missing = tool.missing()
        if missing is not None:
            return {**row, "settings": [], "failure": missing}
        made: list[_Model | None] = []
        settings: list[dict[str, Any]] = []
        for setting in tool.settings:
            model, entry = self._try(tool, setting, original, scores.development)
            made.append(model)
            settings.append(entry)
        row |= {"settings": settings}
        tried = [
            None if "failure" in entry else Tried(entry["bytes"], entry["development"]["score"]) for entry in settings
        ]
        choice = choose(tried, scores.development.value)
        chosen = None if choice is None else made[choice.index]
        if choice is None or chosen is None:
            self.progress.skip(Counter(score=1, measure=1))
            return {**row, "failure": f"no setting gives a model that can be scored; {settings[0]['failure']}"}
        row |= {"chosen": choice.index, "meets_bar": choice.meets_bar, "bytes": settings[choice.index]["bytes"]}
        test = self._score(chosen, tool.name, "test")
        if test.failure is not None:
            self.progress.skip(Counter(measure=1))
            return {**row, "failure": f"on test items: {test.failure}"}
        score = _as_score(test)
        return {
            **row,
            "test": _summary(score),
            "difference": asdict(compare(scores.test, score)),
            **_measured(self._measure(original, chosen, tool.name)),
        }

    def _try(
        self, tool: Tool, setting: Setting, original: _Model, before: Score
    ) -> tuple[_Model | None, dict[str, Any]]:
        """Compress with one setting, and score on development items."""
        done = self._compress(tool, setting, original)
        entry: dict[str, Any] = {"setting": dict(setting), "peak_bytes": done.peak_bytes}
        if done.value is None or done.made is None:
            self.progress.skip(Counter(score=1))
            return None, {**entry, "failure": f"compressing: {done.failure}"}
        entry |= {"bytes": done.value["bytes"], "seconds": done.value["seconds"]}
        model = _Model(done.made, done.value["sha256"], _described(setting))
        scored = self._score(model, tool.name, "development")
        if scored.failure is not None:
            return None, {**entry, "failure": f"running: {scored.failure}"}
        score = _as_score(scored)
        return model, {**entry, "development": _summary(score), "difference": asdict(compare(before, score))}

    # ---- steps

    def _compress(self, tool: Tool, setting: Setting, original: _Model) -> Outcome:
        sources = digest_of_sources(_STEPS, *tool.sources)
        depends: dict[str, Any] = {
            "model": original.sha256,
            "versions": tool.versions(),
            "sources": sources,
            "tool": _code_of(tool),
        }
        if tool.calibrated:
            depends |= {"task": digest_of_task(self.task, self.tasks), "samples": CALIBRATION}
        return self._run(
            Step(
                "compress",
                f"{self.task.name}, {tool.name}, {_described(setting)}",
                f"{self.task.name}/{tool.name}",
                {"tasks": self.tasks, "task": self.task.name, "tool": tool.name, "setting": dict(setting)},
                {"source": str(original.path)},
                depends,
                makes=True,
            )
        )

    def _score(self, model: _Model, of: str, split: Split) -> Outcome:
        return self._run(
            Step(
                "score",
                f"{self.task.name}, {of}, {model.label} on {split} items",
                f"{self.task.name}/{of}",
                {"tasks": self.tasks, "task": self.task.name, "split": split},
                {"model": str(model.path)},
                self._running(model),
            )
        )

    def _measure(self, original: _Model, model: _Model, of: str) -> Outcome:
        return self._run(
            Step(
                "measure",
                f"{self.task.name}, {of}, {model.label}: time and packed size",
                f"{self.task.name}/{of}",
                {"tasks": self.tasks, "task": self.task.name},
                {"original": str(original.path), "model": str(model.path)},
                {**self._running(model), "original": original.sha256, "measuring": digest_of_modules(*_MEASURING)},
            )
        )

    def _running(self, model: _Model) -> dict[str, Any]:
        """What any step that runs a model depends on."""
        return {
            "model": model.sha256,
            "task": digest_of_task(self.task, self.tasks),
            "steps": digest_of_sources(_STEPS),
            "versions": {name: version_of(name) for name in _RUNNING},
        }

    def _run(self, step: Step) -> Outcome:
        was_known = self.store.known(step) is not None
        outcome = self.store.run(step)
        self.progress.done(step, outcome, was_known=was_known)
        return outcome


def _code_of(tool: Tool) -> list[str]:
    """The tool's function, and the code that it stands on."""
    return [tool.compress.__qualname__, digest_of_modules(tool.compress.__module__)]


def _described(setting: Setting) -> str:
    return ", ".join(f"{name}={value}" for name, value in setting.items())


def _as_score(outcome: Outcome) -> Score:
    assert outcome.value is not None
    weights = outcome.value["weights"]
    return Score(
        outcome.value["metric"],
        np.array(outcome.value["values"], np.float64),
        None if weights is None else np.array(weights, np.float64),
    )


def _summary(score: Score) -> dict[str, Any]:
    return {"score": score.value, "n": score.n}


def _measured(outcome: Outcome) -> Mapping[str, Any]:
    """What was measured; a failure costs only these columns."""
    return {"not_measured": outcome.failure} if outcome.value is None else outcome.value
