"""What a result has to pass beside its output error: the user's metric, latency, memory, time."""

import json
import sys
import textwrap
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper

import graphshrink
from graphshrink.compiler import run as compiler_run
from graphshrink.errors import UsageError
from graphshrink.metrics.latency import Latency, compare_latency
from tests import commands
from tests.models import DIGITS, LENET, model_of, normal, saved, two_layers

linux_only = pytest.mark.skipif(sys.platform != "linux", reason="limits of memory are Linux's")

# Scores a model of `two_layers`: 1 minus the distance of its output from that of the plain weights.
METRIC = textwrap.dedent(
    """
    import numpy as np

    X = np.random.default_rng(7).standard_normal((4, 32)).astype(np.float32)
    FIRST = []

    def score(model):
        y = model({"x": X})["y"]
        FIRST.append(y)
        return 1 - np.linalg.norm(y - FIRST[0]) / np.linalg.norm(FIRST[0])

    def broken(model):
        raise ValueError("no labels")

    def nothing(model):
        return float("nan")

    def leaves(model):
        raise SystemExit(0)
    """
)


def samples(count: int = 10) -> list[dict[str, Any]]:
    return [{"x": normal(1, 32, seed=seed)} for seed in range(count)]


def distance(model: Any) -> float:
    """Minus the output's distance from that of the plain weights."""
    x = normal(4, 32, seed=99)
    expected = np.maximum(x @ normal(32, 64), 0) @ normal(64, 10, seed=1)
    return -float(np.linalg.norm(model({"x": x})["y"] - expected) / np.linalg.norm(expected))


def test_a_metric_is_reported() -> None:
    compiled = graphshrink.compile(two_layers(), "weight-sharing{bits=4}", calibration=samples(), metric=distance)
    found = compiled.report["verification"]["metric"]
    assert found["name"] == "distance" and found["max_drop"] is None
    assert found["original"] == pytest.approx(0.0, abs=1e-6)
    assert found["drop"] == pytest.approx(found["original"] - found["result"])
    assert 0.05 < found["drop"] < 0.5
    assert compiled.report["passes"][0]["metric_drop"] == pytest.approx(found["drop"], rel=1e-3)


def test_a_metric_that_falls_too_far_takes_part_in_backing_off() -> None:
    free = graphshrink.compile(two_layers(), "weight-sharing{bits=4}", calibration=samples(), max_error=0.5)
    held = graphshrink.compile(
        two_layers(), "weight-sharing{bits=4}", calibration=samples(), max_error=0.5, metric=distance, max_drop=0.03
    )
    assert not free.report["passes"][0]["backed_off"]
    assert held.report["passes"][0]["backed_off"] and not held.missed
    assert 0 < held.report["verification"]["metric"]["drop"] <= 0.03


def test_a_bound_that_nothing_meets_rolls_back_and_is_missed() -> None:
    compiled = graphshrink.compile(
        two_layers(), "weight-sharing{bits=4}", calibration=samples(), metric=distance, max_drop=0.0
    )
    assert compiled.missed and "metric" in compiled.missed[0]
    assert compiled.report["verification"]["metric"]["drop"] <= 0


def test_the_metric_of_a_file_on_the_command_line(tmp_path: Path) -> None:
    source, out, report = saved(two_layers(), tmp_path), tmp_path / "out.onnx", tmp_path / "r.json"
    (tmp_path / "m.py").write_text(METRIC)
    asked = ("-p", "weight-sharing{bits=4}", "--metric", f"{tmp_path / 'm.py'}:score", "--max-drop", "0.03")
    done = commands.graphshrink(source, out, *asked, "--report", report)
    assert done.returncode == 0, done.stderr
    assert json.loads(report.read_text())["verification"]["metric"]["drop"] <= 0.03
    assert not (tmp_path / "__pycache__").exists()


@pytest.mark.parametrize("name", ["m.py:broken", "m.py:nothing", "m.py:leaves", "m.py:missing", "n.py:score", "m.py"])
def test_a_broken_metric_is_the_users_to_mend(tmp_path: Path, name: str) -> None:
    source, out = saved(two_layers(), tmp_path), tmp_path / "out.onnx"
    (tmp_path / "m.py").write_text(METRIC)
    done = commands.graphshrink(source, out, "--metric", tmp_path / name, "--quiet")
    assert (done.returncode, len(done.stderr.splitlines())) == (2, 1), done.stderr
    assert not out.exists()


@pytest.mark.parametrize(
    "options",
    [
        {"max_drop": 0.1},
        {"metric": distance, "max_drop": -0.1},
        {"metric": distance, "max_drop": float("nan")},
        {"metric": distance, "verify": False},
        {"require_faster": True, "verify": False},
        {"max_error": 0.1, "verify": False},
    ],
)
def test_options_that_contradict_each_other(options: dict[str, Any]) -> None:
    with pytest.raises(UsageError):
        graphshrink.compile(two_layers(), "none", **options)


# ---- latency


def paced(seconds: list[float]) -> Any:
    """A timer that gives these times in turn, for ever."""
    state = {"turn": -1}

    def timer(runs: int) -> list[float]:
        state["turn"] += 1
        return [seconds[state["turn"] % len(seconds)]] * runs

    return timer


def test_latency_is_the_median_ratio_and_noise_is_no_slowness() -> None:
    found = compare_latency(paced([1e-3]), paced([1e-3]), paced([2e-3]))
    assert (found.ratio, found.plain, found.spread) == (2.0, 1.0, (1.0, 1.0))
    assert found.slower
    assert not compare_latency(paced([1e-3]), paced([1e-3]), paced([5e-4])).slower
    noisy = compare_latency(paced([1e-3]), paced([9e-4, 1e-3, 1.2e-3]), paced([1.1e-3]))
    assert noisy.spread == pytest.approx((0.9, 1.2)) and not noisy.slower


@pytest.mark.parametrize(("ratio", "slower"), [(0.5, False), (1.02, False), (1.5, True)])
def test_a_slower_result_is_written_and_missed(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, ratio: float, slower: bool
) -> None:
    def measured(*timers: object) -> Latency:
        assert len(timers) == 3
        return Latency(1.0, ratio, ratio, 1.0, (0.95, 1.05))

    monkeypatch.setattr(compiler_run, "compare_latency", measured)
    compiled = graphshrink.compile(two_layers(), calibration=samples(), require_faster=True)
    assert bool(compiled.missed) == slower
    assert compiled.report["latency"]["slower"] == slower
    compiled.save(tmp_path / "out.onnx")


def test_latency_is_really_measured() -> None:
    compiled = graphshrink.compile(LENET, "none", calibration=DIGITS, require_faster=True)
    found = compiled.report["latency"]
    assert 0 < found["before"] < 1 and found["ratio"] > 0
    assert found["spread"][0] <= found["plain"] <= found["spread"][1]


# ---- memory and time


@linux_only
def test_the_main_process_keeps_to_its_memory_or_gives_up(tmp_path: Path) -> None:
    source, out = saved(two_layers(width=1 << 20), tmp_path), tmp_path / "out.onnx"  # 176 MB
    low = commands.graphshrink(source, out, "--max-memory", "120MB", "--jobs", "1", "--quiet")
    assert (low.returncode, len(low.stderr.splitlines())) == (1, 1), low.stderr
    assert "--max-memory" in low.stderr and not out.exists()
    enough = commands.graphshrink(source, out, "--max-memory", "2GB", "--jobs", "1")
    assert enough.returncode == 0, enough.stderr


@linux_only
def test_a_model_that_fills_the_memory_is_an_ordinary_error(tmp_path: Path) -> None:
    size = helper.make_tensor("size", TensorProto.INT64, [1], [1 << 33])
    nodes = [
        helper.make_node("Shape", ["x"], ["s"]),
        helper.make_node("Mul", ["s", "size"], ["n"]),
        helper.make_node("ConstantOfShape", ["n"], ["c"]),
        helper.make_node("ReduceSum", ["c"], ["y"], keepdims=0),
    ]
    model = model_of(nodes, {}, {"x": [1]}, {"y": []})
    model.graph.initializer.append(size)
    done = commands.graphshrink(saved(model, tmp_path), tmp_path / "out.onnx", "--quiet")
    assert (done.returncode, len(done.stderr.splitlines())) == (1, 1), done.stderr


def test_a_model_that_runs_for_ever_is_an_ordinary_error(tmp_path: Path) -> None:
    body = helper.make_graph(
        [helper.make_node("Identity", ["c"], ["d"]), helper.make_node("Add", ["v", "v"], ["w"])],
        "body",
        [
            helper.make_tensor_value_info("i", TensorProto.INT64, []),
            helper.make_tensor_value_info("c", TensorProto.BOOL, []),
            helper.make_tensor_value_info("v", TensorProto.FLOAT, [1]),
        ],
        [
            helper.make_tensor_value_info("d", TensorProto.BOOL, []),
            helper.make_tensor_value_info("w", TensorProto.FLOAT, [1]),
        ],
    )
    model = model_of([helper.make_node("Loop", ["trips", "", "x"], ["y"], body=body)], {}, {"x": [1]}, {"y": [1]})
    model.graph.initializer.append(helper.make_tensor("trips", TensorProto.INT64, [], [1 << 60]))
    path = tmp_path / "model.onnx"
    onnx.save(model, path)
    done = commands.graphshrink(path, tmp_path / "out.onnx", "--time-limit", "2", "--quiet")
    assert (done.returncode, len(done.stderr.splitlines())) == (1, 1), done.stderr
    assert "out of time" in done.stderr


@pytest.mark.parametrize(
    ("option", "value"),
    [("--max-memory", "much"), ("--max-memory", "0"), ("--worker-memory", "-1"), ("--time-limit", "0")],
)
def test_limits_that_cannot_be_meant(tmp_path: Path, option: str, value: str) -> None:
    done = commands.graphshrink(LENET, tmp_path / "out.onnx", f"{option}={value}")
    assert done.returncode == 2, done.stderr


def test_decoding_keeps_to_the_memory_that_loading_may_take() -> None:
    """Less memory, cheaper forms and a larger file; and what cannot be kept is said."""

    def small(load_memory: int | None) -> tuple[int, int, list[str]]:
        compiled = graphshrink.compile(
            LENET, "weight-sharing{bits=4}", encoding="small", load_memory=load_memory, verify=False
        )
        taken = sum(layer["load_bytes"] for layer in compiled.report["layers"])
        return compiled.report["output"]["bytes"], taken, compiled.missed

    plain = 4 * 431_080  # the weights and biases that may be encoded
    free, most, missed = small(None)
    assert not missed
    assert small(plain + most) == (free, most, [])
    some, less, missed = small(plain + most // 2)
    assert free < some < plain
    assert less <= most // 2
    assert not missed
    none, nothing, missed = small(plain - 1)
    assert none > plain
    assert nothing == 0
    assert len(missed) == 1
