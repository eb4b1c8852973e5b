"""The parts of the benchmark that measure nothing: what rows become, and what judges them."""

import json
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from onnx import checker

from benchmarks.channels import accuracy, coverage, grouping, latency, peers
from benchmarks.channels.__main__ import main
from benchmarks.channels.models import MODELS
from benchmarks.channels.picture import draw, drawable, places
from benchmarks.channels.zoo import ZOO
from benchmarks.channels.zoo.wheel import WHEEL
from benchmarks.measuring import Limits, Request
from benchmarks.net_trim.inputs import SOURCES
from benchmarks.rows import measured, merged
from graphshrink.calibration.engine import Calibration
from graphshrink.calibration.samples import held
from graphshrink.onnx_io.load import load
from graphshrink.onnx_io.runtime import Runtime
from graphshrink.ops.coupling.analysis import Group, analyse
from tests.models import normal, two_layers

ASKED = Request("channels", short=False, into=None)
LIMITS = Limits(seconds=60, memory=8 << 30)


def covered(name: str = "net", **other: Any) -> dict[str, Any]:
    row: dict[str, Any] = {
        "model": name,
        "kind": "zoo",
        "seconds": 1.0,
        "missed": [],
        "bugs": [],
        "groups": 10,
        "removable": 9,
        "blocked": {"Reshape 'r' takes it apart": 1},
        "proof": 1e-7,
        "invalid": None,
        "params": 0.45,
        "macs": 0.5,
    }
    return row | other


def scored(ratio: float, method: str, points: float) -> dict[str, Any]:
    ends = {"value": points / 100, "low": points / 100 - 0.01, "high": points / 100 + 0.01}
    return {"ratio": ratio, "method": method, "score": 0.9 + points / 100, "difference": ends} | {
        "macs": ratio + 0.01,
        "params": ratio,
        "seconds": 2.0,
    }


def judged(name: str, points: float) -> dict[str, Any]:
    settings = [scored(0.3, "default", points), scored(0.3, "l1 without repair", -20.0)]
    return {"model": name, "metric": "accuracy", "score": 0.9, "n": 6000, "settings": settings}


def timed(multiple: int, speedup: float) -> dict[str, Any]:
    shares = {"macs": 0.5, "params": 0.4}
    times = {"before": 2e-3, "after": 1e-3, "speedup": speedup, "plain": 1.0, "spread": [0.98, 1.02]}
    return {"multiple": multiple, **shares, **times}


def cells(table: str, line: int) -> list[str]:
    return [cell.strip() for cell in table.splitlines()[2 + line].strip("| ").split(" | ")]


def double(x: int) -> dict[str, Any]:
    return {"x": 2 * x}


def fail() -> dict[str, Any]:
    raise ValueError("no good")


# ---- models and rows


def test_every_model_is_there_once() -> None:
    assert {*ZOO, *WHEEL} < set(MODELS)
    assert sum(source.kind == "real" for source in MODELS.values()) == len(SOURCES)
    assert [name for name, source in MODELS.items() if name != source.name] == []
    assert not MODELS["testmodels.lstm"].random
    assert MODELS["lstm"].random


def test_a_row_comes_from_another_process() -> None:
    row = measured(double, LIMITS, x=21)
    assert row["x"] == 42
    assert measured(fail, LIMITS) == {"failure": "its process ended with 1: ValueError: no good"}


def test_new_rows_take_the_place_of_old_ones() -> None:
    known = [{"model": "a", "is": 1}, {"model": "gone", "is": 1}, {"model": "c", "is": 1}]
    new = [{"model": "c", "is": 2}, {"model": "b", "is": 2}]
    found = merged(known, new, ["a", "b", "c"])
    assert [(row["model"], row["is"]) for row in found] == [("a", 1), ("b", 2), ("c", 2), ("gone", 1)]


# ---- coverage


def group(reason: str | None) -> Group:
    return Group(8, {}, reason, "w")


def test_groups_that_the_interface_holds_do_not_count() -> None:
    held_back = ["an output of the model keeps its shape", "an input of the model keeps its shape"]
    found = coverage.counted(map(group, [None, None, "Foo is not known", *held_back, "Foo is not known"]))
    assert found == {"groups": 4, "removable": 2, "blocked": {"Foo is not known": 2}}


def test_the_reasons_that_do_not_count_are_those_of_the_analysis() -> None:
    graph = load(two_layers())
    with Runtime() as runtime:
        calibration = Calibration(held([{"x": normal(1, 32, seed=0)}], "one"), runtime, random=True)
        observed = calibration.observed(graph)
        groups = analyse(graph, observed.shapes, observed.known).groups
        assert coverage.counted(groups) == {"groups": 1, "removable": 1, "blocked": {}}
        assert len(groups) > 1
        assert coverage.why_invalid(graph, graph, calibration.samples[0], runtime) is None
        other = load(two_layers(width=48))
        assert coverage.why_invalid(graph, other, calibration.samples[0], runtime) is None  # inside, all may differ
    costs = coverage.costs(graph, observed.shapes)
    assert coverage.costs(other, observed.shapes)["params"] != costs["params"] > 0
    assert costs["macs"] > 0


def test_the_proof_is_what_the_pass_says() -> None:
    assert coverage.proof(["proof: outputs differ by 1.2e-07 from those with zeros instead", "x: 3 left"]) == 1.2e-7
    assert coverage.proof(["50.0% of macs removed"]) is None


def test_a_model_of_each_kind_in_the_coverage_table() -> None:
    rows = [
        covered(),
        covered("bad", kind="real", invalid="the checker: no", params=0.39, removable=8, proof=None),
        {"model": "late", "kind": "zoo", "failure": "no result within 900 s"},
    ]
    table = coverage.shown(rows)
    assert cells(table, 0)[:8] == ["net", "zoo", "yes", "45.0%", "50.0%", "1.0e-07", "10", "90.0%"]
    assert cells(table, 1)[:8] == [
        *("bad", "trained", "the checker: no", "39.0% MISSED", "50.0%", "-", "10", "80.0% MISSED"),
    ]
    assert cells(table, 0)[8] == "Reshape 'r' takes it apart (1 x)"
    assert cells(table, 2)[:4] == ["late", "zoo", "no result within 900 s", "-"]


def test_coverage_is_judged_by_all_models() -> None:
    many = [covered(str(i)) for i in range(19)]
    assert [line.rpartition("; ")[2] for line in coverage.verdict(ASKED, many).splitlines()[:4]] == ["met"] * 4
    one_loses_less = coverage.verdict(ASKED, [*many, covered("less", params=0.1)]).splitlines()
    assert one_loses_less[1] == "bar 40% of parameters and of MACs gone: 19 of 20, 19 asked for; met"
    one_failed = coverage.verdict(ASKED, [*many, {"model": "late", "kind": "zoo", "failure": "late"}]).splitlines()
    assert [line.rpartition("; ")[2] for line in one_failed[:4]] == ["MISSED", "met", "MISSED", "MISSED"]
    assert coverage.verdict(ASKED, [covered(bugs=["(a bug)"])]).splitlines()[0].endswith("MISSED")
    assert one_failed[4] == "the proof's largest error: 1.0e-07, of 19 models"


# ---- accuracy


def test_a_task_of_each_kind_in_the_accuracy_table() -> None:
    failed = {"ratio": 0.3, "method": "l1 without repair", "failure": "no"}
    half_done = judged("resnet-20", -2.0)
    half_done["settings"][1] = failed
    table = accuracy.shown([judged("lenet-5", -0.5), half_done, {"model": "magika", "failure": "not fetched"}])
    assert cells(table, 0) == [
        *("lenet-5", "accuracy 0.9000", "6,000", "30%", "31.0%", "30.0%"),
        *("-0.50", "-1.50 to +0.50", "-20.00", "-21.00 to -19.00", "2"),
    ]
    assert cells(table, 1)[6:10] == ["-2.00 MISSED", "-3.00 to -1.00", "no", "-"]
    assert cells(table, 2)[:2] == ["magika", "not fetched"]


def test_accuracy_is_judged_where_there_is_a_bar() -> None:
    rows = [judged("lenet-5", -0.5), judged("resnet-20", -2.0), judged("magika", -50.0)]
    first, second = accuracy.verdict(ASKED, rows).splitlines()
    assert first == "bar at most 1 point down at 30% fewer MACs: 1 of 2; MISSED"
    assert second == "at least the score of l1 without repair: 2 of 3 settings"


def test_the_picture_has_a_chart_for_each_model(tmp_path: Path) -> None:
    pytest.importorskip("matplotlib")
    rows = [judged("lenet-5", -0.5), {"model": "magika", "failure": "not fetched"}]
    draw(rows, tmp_path / "a.svg")
    draw(rows, tmp_path / "b.svg")
    text = (tmp_path / "a.svg").read_text(encoding="utf-8")
    assert "lenet-5: accuracy 0.900" in text
    assert "magika" not in text
    assert (tmp_path / "b.svg").read_text(encoding="utf-8") == text


def test_places_in_the_picture() -> None:
    row = judged("lenet-5", -0.5)
    assert drawable([row, {"model": "magika", "failure": "not fetched"}]) == [row]
    assert places(row, "default") == [pytest.approx((31.0, -0.5, -1.5, 0.5))]


# ---- latency and grouping


def test_latency_is_judged_where_there_is_a_bar() -> None:
    rows: list[dict[str, Any]] = [
        {"model": "vgg_like", "settings": [timed(0, 1.9), timed(16, 1.1)]},
        {"model": "mlp20", "settings": [timed(0, 1.7)]},
        {"model": "vit", "settings": [timed(0, 1.0), {"multiple": 4, "failure": "no"}]},
    ]
    assert latency.verdict(ASKED, rows) == "bar 1.8 times as fast at 50% of the MACs: 1 of 2; MISSED"
    table = latency.shown(rows)
    assert cells(table, 0) == [
        *("vgg_like", "default", "50.0%", "40.0%", "2.000", "1.000", "1.90", "1.000", "0.980 to 1.020"),
    ]
    assert [cells(table, line)[6] for line in range(5)] == ["1.90", "1.10", "1.70 MISSED", "1.00", "-"]


def test_chains_are_models_with_what_couples_channels() -> None:
    model = grouping.chain(100)
    checker.check_model(model, full_check=True)
    kinds = {node.op_type for node in model.graph.node}
    assert kinds == {"Conv", "BatchNormalization", "Relu", "Add", "Concat"}
    assert 100 <= len(model.graph.node) < 120
    assert grouping.chain(30).SerializeToString() == grouping.chain(30).SerializeToString()


def test_the_slowest_repeat_is_judged() -> None:
    row = {"model": "chain", "operators": 10_000, "groups": 1_500, "seconds": [9.0, 10.5], "observing_seconds": 1.0}
    assert cells(grouping.shown([row]), 0) == ["chain", "10,000", "1,500", "10.50 MISSED", "1.00"]
    assert grouping.verdict(ASKED, [row]).endswith("MISSED")
    assert grouping.verdict(ASKED, [{"model": "chain", "failure": "no"}]).endswith("MISSED")


# ---- peers


def test_the_error_is_of_the_worst_output_over_all_samples() -> None:
    one, two = np.array([3.0, 4.0]), np.array([[0.0], [0.0]])
    expected = [{"y": one, "z": one, "i": np.array([1])}, {"y": two, "z": one, "i": np.array([1])}]
    found = [{"y": one, "z": 1.5 * one, "i": np.array([7])}, {"y": two, "z": 1.5 * one, "i": np.array([7])}]
    assert peers.error(expected, found) == pytest.approx(0.5)
    assert peers.error(expected, expected) == 0


def test_peers_are_counted_where_they_get_through() -> None:
    better: dict[str, Any] = {"tool": "onnxsim", "macs": 0.3, "error": 0.5, "ours_macs": 0.31, "ours": 0.25}
    rows: list[dict[str, Any]] = [
        {"model": "a", "settings": [better, {"tool": "Torch-Pruning", "failure": "it | fell"}]},
        {"model": "b", "settings": [better | {"ours": 1.0}]},
    ]
    assert peers.verdict(ASKED, rows).splitlines() == [
        "onnxsim: 2 of 2 models; channel-removal has the lower error on 1 of them",
        "Torch-Pruning: 0 of 1 models; channel-removal has the lower error on 0 of them",
    ]
    table = peers.shown(rows)
    assert cells(table, 0) == ["a", "onnxsim", "30.0%", "0.5000", "31.0%", "0.2500", "0.50"]
    assert cells(table, 1)[2] == "it \\| fell"


# ---- the command


def result(path: Path) -> Mapping[str, Any]:
    found: Mapping[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    return found


def test_other_parts_stay_in_the_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    into = tmp_path / "channels.json"
    into.write_text(json.dumps({"coverage": [covered("spirals")], "other": 1}), encoding="utf-8")
    command = ["channels", "--short", "--json", str(into), "--parts", "grouping"]
    monkeypatch.setattr(sys, "argv", command)
    main()
    found = result(into)
    assert found["coverage"] == [covered("spirals")]
    assert found["grouping"][0]["operators"] >= 200
    assert "other" not in found
    text = into.with_suffix(".md").read_text(encoding="utf-8")
    assert [line for line in text.splitlines() if line.startswith("## ")] == ["## Coverage", "## Grouping"]
