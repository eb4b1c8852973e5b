import json
import signal
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from benchmarks.frontier import store as store_module
from benchmarks.frontier.store import Step, Store, reason
from benchmarks.measuring import Limits, Watched
from tests.models import TESTMODELS

LIMITS = Limits(120, 8 * 10**9)
STEP = Step(
    "score",
    "a score",
    "lenet-300-100/original",
    {"tasks": "tests.benchmarks.drawn_digits", "task": "lenet-300-100", "split": "test"},
    {"model": str(TESTMODELS / "lenet-300-100.onnx")},
    {"model": "its digest"},
)


class Processes:
    """Stands for the processes of steps: answers as it is told, and counts."""

    def __init__(self, answer: dict[str, Any] | None, code: int) -> None:
        self.answer = answer
        self.code = code
        self.count = 0

    def __call__(self, command: Sequence[str], _: Limits) -> Watched:
        self.count += 1
        arguments, answer = json.loads(command[4]), Path(command[5])
        if self.answer is None:
            return Watched(code=self.code)
        if "out" in arguments:
            Path(arguments["out"]).write_bytes(b"model")
        answer.write_text(json.dumps(self.answer))
        return Watched(seconds=2.0)


def processes(monkeypatch: pytest.MonkeyPatch, answer: dict[str, Any] | None, code: int = -signal.SIGSEGV) -> Processes:
    stand_in = Processes(answer, code)
    monkeypatch.setattr(store_module, "watch", stand_in)
    return stand_in


def test_a_step_runs_in_a_process_and_is_kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    outcome = Store(tmp_path, LIMITS).run(STEP)
    assert outcome.failure is None
    assert outcome.value is not None
    assert outcome.value["metric"] == "accuracy"
    assert len(outcome.value["values"]) == 50
    assert sum(outcome.value["values"]) > 25
    assert outcome.seconds > 0
    assert outcome.peak_bytes > 10**7
    never = processes(monkeypatch, {"value": {}})
    assert Store(tmp_path, LIMITS).run(STEP) == outcome
    assert never.count == 0


def test_what_fails_in_a_step_is_its_reason(tmp_path: Path) -> None:
    outcome = Store(tmp_path, LIMITS).run(replace(STEP, files={"model": str(tmp_path / "absent.onnx")}))
    assert outcome.value is None
    assert outcome.failure is not None
    assert outcome.failure.startswith("NoSuchFile: ")


@pytest.mark.parametrize(
    "other",
    [
        replace(STEP, name="measure"),
        replace(STEP, arguments={**STEP.arguments, "split": "development"}),
        replace(STEP, depends={"model": "another digest"}),
    ],
    ids=["step", "arguments", "what it depends on"],
)
def test_another_step_runs_anew(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, other: Step) -> None:
    ran, store = processes(monkeypatch, {"value": {}}), Store(tmp_path, LIMITS)
    store.run(STEP)
    store.run(other)
    assert ran.count == 2


def test_where_a_file_lies_does_not_matter(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    ran, store = processes(monkeypatch, {"value": {}}), Store(tmp_path, LIMITS)
    store.run(STEP)
    store.run(replace(STEP, files={"model": "elsewhere.onnx"}))
    assert ran.count == 1


def test_a_model_that_was_made_is_kept_too(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    ran, store = processes(monkeypatch, {"value": {}}), Store(tmp_path, LIMITS)
    step = replace(STEP, makes=True)
    made = store.run(step).made
    assert made is not None
    assert made.read_bytes() == b"model"
    made.unlink()
    assert store.known(step) is None
    store.run(step)
    assert ran.count == 2


def test_a_failure_is_kept_until_it_is_retried(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    crash = processes(monkeypatch, None)
    assert Store(tmp_path, LIMITS).run(STEP).failure == "its process was ended by SIGSEGV"
    assert Store(tmp_path, LIMITS).run(STEP).failure is not None
    assert crash.count == 1
    retrying = Store(tmp_path, LIMITS, retry=True)
    retrying.run(STEP)
    retrying.run(STEP)  # once more, not for ever
    assert crash.count == 2
    processes(monkeypatch, {"value": {"x": 1}})
    assert Store(tmp_path, LIMITS, retry=True).run(STEP).value == {"x": 1}


def test_a_process_that_somebody_stopped_says_nothing_of_its_step(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    processes(monkeypatch, None, -signal.SIGTERM)
    store = Store(tmp_path, LIMITS)
    assert store.run(STEP).failure == "its process was ended by SIGTERM"
    assert store.known(STEP) is None
    processes(monkeypatch, {"value": {"x": 1}})
    assert store.run(STEP).value == {"x": 1}


def test_a_run_that_was_broken_off_leaves_no_outcome(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupted(*_: object) -> Watched:
        raise KeyboardInterrupt

    monkeypatch.setattr(store_module, "watch", interrupted)
    store = Store(tmp_path, LIMITS)
    with pytest.raises(KeyboardInterrupt):
        store.run(STEP)
    assert store.known(STEP) is None
    assert [path for path in tmp_path.rglob("*") if path.is_file()] == []


@pytest.mark.parametrize(
    ("watched", "expected"),
    [
        (Watched(code=-9, late=True), "no result within 120 s"),
        (Watched(code=-6), "its process was ended by SIGABRT"),
        (Watched(code=1, errors="Traceback\n\nlast words\n\n"), "its process ended with 1: last words"),
    ],
    ids=["time", "crash", "end"],
)
def test_reasons(watched: Watched, expected: str) -> None:
    assert reason(watched, LIMITS) == expected
