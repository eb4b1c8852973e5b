"""Runs each step once, in a process of its own and within limits, and keeps what came of it.

A step has a folder with `outcome.json` and what it made, named by the SHA-256 of all that its outcome depends on: its
arguments, the files it reads, the versions of the packages it uses, and the code it runs. Failures are kept too, unless
somebody stopped the process.
"""

import hashlib
import json
import shutil
import signal
import sys
import tempfile
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any, Final

from benchmarks.frontier.steps import shortened
from benchmarks.measuring import Limits, Watched, watch

_OUTCOME: Final = "outcome.json"
_MADE: Final = "made"
_STOPPED: Final = (-signal.SIGTERM, -signal.SIGINT, -signal.SIGHUP)  # by somebody: says nothing of the step


@dataclass(frozen=True, slots=True)
class Step:
    """One thing to do.

    Attributes:
        name: of the function in `steps`.
        label: for people.
        folder: where its outcome is kept, within the store.
        arguments: that the function gets, and that its outcome depends on.
        files: arguments that are paths; the outcome depends on what is in the files, so that belongs to `depends`.
        depends: what else the outcome depends on.
        makes: whether it makes a model; the function gets its path as `out`.
    """

    name: str
    label: str
    folder: str
    arguments: Mapping[str, Any]
    files: Mapping[str, str]
    depends: Mapping[str, Any]
    makes: bool = False

    @property
    def key(self) -> str:
        """SHA-256 of all that matters."""
        content = json.dumps([self.name, self.arguments, sorted(self.files), self.depends], sort_keys=True)
        return hashlib.sha256(content.encode()).hexdigest()


@dataclass(frozen=True, slots=True)
class Outcome:
    """What came of a step: a value, or the reason why there is none.

    Attributes:
        seconds: of the whole process.
        peak_bytes: the most memory of the process and of its largest child, added.
        made: the model that it made.
    """

    value: Mapping[str, Any] | None
    failure: str | None
    seconds: float
    peak_bytes: int
    made: Path | None = None


@dataclass(slots=True)
class Store:
    """Outcomes in a folder.

    Attributes:
        folder: of all outcomes.
        limits: of a step.
        retry: whether to try once more what failed.
    """

    folder: Path
    limits: Limits
    retry: bool = False
    _retried: set[str] = field(default_factory=set[str])

    def known(self, step: Step) -> Outcome | None:
        """The outcome of a step that was run before, or None."""
        place = self._place(step)
        if not (place / _OUTCOME).exists():
            return None
        outcome = Outcome(**json.loads((place / _OUTCOME).read_text(encoding="utf-8"))["outcome"])
        if outcome.failure is not None:
            return None if self.retry and step.key not in self._retried else outcome
        made = place / _MADE / "model.onnx" if step.makes else None
        return None if made is not None and not made.exists() else replace(outcome, made=made)

    def run(self, step: Step) -> Outcome:
        """The outcome of a step, which is run now unless it was run before."""
        known = self.known(step)
        if known is not None:
            return known
        self._retried.add(step.key)
        place = self._place(step)
        place.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=place.parent, prefix=".running-") as scratch:
            partial = Path(scratch, "step")
            (partial / _MADE).mkdir(parents=True)
            outcome, watched = self._attempt(step, partial)
            if watched.code in _STOPPED:
                return outcome
            kept = {"step": _described(step), "outcome": asdict(outcome)}
            (partial / _OUTCOME).write_text(json.dumps(kept, indent=1), encoding="utf-8")
            shutil.rmtree(place, ignore_errors=True)
            partial.replace(place)
        again = self.known(step)
        assert again is not None  # it was written just now
        return again

    def _attempt(self, step: Step, folder: Path) -> tuple[Outcome, Watched]:
        answer = folder / "answer.json"
        out = {"out": str(folder / _MADE / "model.onnx")} if step.makes else {}
        arguments = json.dumps({**step.arguments, **step.files, **out})
        command = [sys.executable, "-m", "benchmarks.frontier.steps", step.name, arguments, str(answer)]
        watched = watch(command, self.limits)
        there = answer.exists() and watched.code == 0
        said: dict[str, Any] = json.loads(answer.read_text(encoding="utf-8")) if there else {}
        failure = said.get("failure") if there else reason(watched, self.limits)
        answer.unlink(missing_ok=True)
        peak = watched.main.resident + watched.worker.resident
        return Outcome(said.get("value"), failure, watched.seconds, peak), watched

    def _place(self, step: Step) -> Path:
        return self.folder / step.folder / f"{step.name}-{step.key[:16]}"


def _described(step: Step) -> dict[str, Any]:
    return {"label": step.label, "key": step.key, "arguments": dict(step.arguments), "depends": dict(step.depends)}


def reason(watched: Watched, limits: Limits) -> str:
    """Why a process gave no answer."""
    if watched.late:
        return f"no result within {limits.seconds:g} s"
    if watched.code < 0:
        return f"its process was ended by {signal.Signals(-watched.code).name}"
    lines = [line.strip() for line in watched.errors.splitlines() if line.strip()]
    return shortened(f"its process ended with {watched.code}: {lines[-1] if lines else 'it said nothing'}")
