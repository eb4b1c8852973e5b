"""Rows of the results, from steps that only pretend to run."""

import json
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any
from unittest.mock import Mock

import pytest

from benchmarks.frontier import plan
from benchmarks.frontier.__main__ import merged, run
from benchmarks.frontier.plan import Bench, count
from benchmarks.frontier.progress import Progress
from benchmarks.frontier.store import Outcome, Step, Store
from benchmarks.measuring import Limits, Request
from benchmarks.tools.base import Setting, Tool
from graphshrink.ir.types import Feeds
from testmodels.fetching import FetchError
from tests.benchmarks.drawn_digits import task_named

TASKS = "tests.benchmarks.drawn_digits"
MEASURED = {"latency": {"ratio": 1.0, "plain_spread": [0.9, 1.1]}, "load": {"ratio": 1.0}, "packed_bytes": 1}
ANSWERS = 1000

Said = Mapping[str, Any] | str
"""A value, or why there is none."""


class Pretended(Store):
    """A store whose steps give what a function says."""

    def __init__(self, folder: Path, says: Callable[[Step], Said]) -> None:
        super().__init__(folder, Limits(1, 1))
        self.says = says
        self.ran: list[Step] = []

    def run(self, step: Step) -> Outcome:
        self.ran.append(step)
        said = self.says(step)
        made = self.folder / str(step.arguments["setting"]["bytes"]) if step.makes else None
        return Outcome(None, said, 2.0, 10, None) if isinstance(said, str) else Outcome(said, None, 2.0, 10, made)


def compress(model: Path, out: Path, feeds: Sequence[Feeds], setting: Setting) -> None:
    raise AssertionError("steps only pretend to run")


def tool(name: str, *settings: Setting, packages: tuple[str, ...] = ()) -> Tool:
    return Tool(name, "pretends", compress, settings, packages=packages)


def right(share: float) -> dict[str, Any]:
    wrong = round((1 - share) * ANSWERS)
    return {"metric": "accuracy", "values": [0.0] * wrong + [1.0] * (ANSWERS - wrong), "weights": None}


def says(step: Step, *, original: float = 0.9) -> Said:
    """A setting has the size `bytes`, and the score `score` on all items; where it `fails`, that step does."""
    if step.name == "measure":
        return MEASURED
    if step.name == "score":
        return right(float(step.depends["model"]) if step.label.split(", ")[1] != "original" else original)
    setting = step.arguments["setting"]
    if setting.get("fails") == "compress":
        return "ValueError: no"
    return {"bytes": setting["bytes"], "seconds": 1.0, "sha256": str(setting["score"])}


def row_of(
    tmp_path: Path, *tools: Tool, says: Callable[[Step], Said] = says
) -> tuple[dict[str, Any], Pretended, Progress]:
    store = Pretended(tmp_path, says)
    progress = Progress(count(tools), say=lambda line: None)
    return Bench(task_named("digit_cnn"), TASKS, store, progress).row(tools), store, progress


GENTLE = {"bytes": 900, "score": 0.9}
MIDDLE = {"bytes": 500, "score": 0.895}
HARSH = {"bytes": 100, "score": 0.5}


def test_the_smallest_within_the_bar_alone_meets_test_items(tmp_path: Path) -> None:
    row, store, progress = row_of(tmp_path, tool("t", GENTLE, MIDDLE, HARSH))
    (found,) = row["tools"]
    assert (found["chosen"], found["meets_bar"], found["bytes"]) == (1, True, 500)
    assert found["test"] == {"score": 0.895, "n": ANSWERS}
    assert found["difference"]["value"] == pytest.approx(-0.005)
    assert found["difference"]["low"] < -0.005 < found["difference"]["high"]
    tested = [step.depends["model"] for step in store.ran if step.arguments.get("split") == "test"]
    assert tested == [row["sha256"], "0.895"]
    assert [entry["development"]["score"] for entry in found["settings"]] == [0.9, 0.895, 0.5]
    assert progress.left.total() == 0
    assert len(store.ran) == count([tool("t", GENTLE, MIDDLE, HARSH)]).total()


def test_the_best_where_all_miss(tmp_path: Path) -> None:
    ((found,), *_) = [row["tools"] for row in row_of(tmp_path, tool("t", HARSH, {"bytes": 90, "score": 0.4}))[:1]]
    assert (found["chosen"], found["meets_bar"]) == (0, False)


def test_a_setting_that_fails_is_an_entry_with_its_reason(tmp_path: Path) -> None:
    row, _, progress = row_of(tmp_path, tool("t", {**GENTLE, "fails": "compress"}, MIDDLE))
    (found,) = row["tools"]
    assert found["settings"][0]["failure"] == "compressing: ValueError: no"
    assert found["chosen"] == 1
    assert progress.left.total() == 0


def test_a_model_that_does_not_run_is_an_entry_with_its_reason(tmp_path: Path) -> None:
    def broken(step: Step) -> Said:
        return "Fail: no" if step.name == "score" and step.depends["model"] == "0.9" else says(step)

    (found,) = row_of(tmp_path, tool("t", GENTLE, MIDDLE), says=broken)[0]["tools"]
    assert found["settings"][0]["failure"] == "running: Fail: no"
    assert found["settings"][0]["bytes"] == 900
    assert found["chosen"] == 1


def test_a_tool_whose_settings_all_fail_is_a_row_with_the_reason(tmp_path: Path) -> None:
    row, store, progress = row_of(tmp_path, tool("bad", {**GENTLE, "fails": "compress"}), tool("good", GENTLE))
    bad, good = row["tools"]
    assert "ValueError: no" in bad["failure"]
    assert "chosen" not in bad
    assert good["chosen"] == 0
    assert progress.left.total() == 0
    assert Counter(step.name for step in store.ran) == {"score": 4, "measure": 2, "compress": 2}


def test_a_failure_on_test_items_is_a_row_with_the_reason(tmp_path: Path) -> None:
    def late(step: Step) -> Said:
        wanted = step.arguments.get("split") == "test" and step.depends["model"] == "0.9"
        return "no result within 1 s" if wanted else says(step)

    row, _, progress = row_of(tmp_path, tool("t", GENTLE), says=late)
    assert row["tools"][0]["failure"] == "on test items: no result within 1 s"
    assert progress.left.total() == 0


def test_an_original_that_does_not_run_costs_only_its_row(tmp_path: Path) -> None:
    def broken(step: Step) -> Said:
        return "Fail: no" if step.name == "score" else says(step)

    row, store, progress = row_of(tmp_path, tool("t", GENTLE), says=broken)
    assert row["failure"] == "the original: Fail: no"
    assert len(store.ran) == 2
    assert progress.left.total() == 0


def test_a_tool_that_is_not_installed_is_a_row_with_the_reason(tmp_path: Path) -> None:
    row, store, progress = row_of(tmp_path, tool("t", GENTLE, packages=("no-such-package",)))
    (found,) = row["tools"]
    assert "no-such-package" in found["failure"]
    assert not any(step.name == "compress" for step in store.ran)
    assert progress.left.total() == 0


def test_times_that_could_not_be_measured_cost_only_their_columns(tmp_path: Path) -> None:
    def unmeasurable(step: Step) -> Said:
        return "Fail: no" if step.name == "measure" else says(step)

    (found,) = row_of(tmp_path, tool("t", GENTLE), says=unmeasurable)[0]["tools"]
    assert found["not_measured"] == "Fail: no"
    assert found["test"]["score"] == 0.9


def test_a_model_that_cannot_be_had_is_a_row_with_the_reason(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    def absent() -> Path:
        raise FetchError("no network")

    there = task_named("digit_cnn")
    tasks = [replace(there, name="gone", model=absent), there]
    written = tmp_path / "results.json"
    request = Request("frontier", short=True, into=written)
    rows = run(tasks, [tool("t", GENTLE)], Pretended(tmp_path, says), request, {})
    assert rows[0] == {"model": "gone", "about": there.about, "failure": "no network"}
    assert rows[1]["tools"][0]["chosen"] == 0
    assert json.loads(written.read_text())["models"] == rows
    assert "about 0 min left" in capsys.readouterr().out


@pytest.mark.parametrize("asked", ["version_of", "digest_of_sources", "digest_of_task"])
def test_what_a_score_depends_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, asked: str) -> None:
    before = [step.key for step in row_of(tmp_path, tool("t", GENTLE))[1].ran if step.name == "score"]
    assert before == [step.key for step in row_of(tmp_path, tool("t", GENTLE))[1].ran if step.name == "score"]
    monkeypatch.setattr(plan, asked, Mock(return_value="other"))
    after = [step.key for step in row_of(tmp_path, tool("t", GENTLE))[1].ran if step.name == "score"]
    assert len({*before, *after}) == len(before) + len(after)


def test_new_rows_stand_among_known_ones() -> None:
    known: list[dict[str, Any]] = [
        {"model": "a", "bytes": 1, "tools": [{"tool": "ort-static", "bytes": 5}, {"tool": "graphshrink", "bytes": 3}]},
        {"model": "b", "bytes": 2, "tools": []},
    ]
    new: list[dict[str, Any]] = [
        {"model": "a", "bytes": 9, "tools": [{"tool": "graphshrink", "bytes": 2}]},
        {"model": "c", "failure": "no"},
    ]
    found = merged(known, new)
    assert [row["model"] for row in found] == ["a", "b", "c"]
    assert found[0]["bytes"] == 9
    assert [(tool["tool"], tool["bytes"]) for tool in found[0]["tools"]] == [("graphshrink", 2), ("ort-static", 5)]
    assert found[1:] == [known[1], new[1]]
