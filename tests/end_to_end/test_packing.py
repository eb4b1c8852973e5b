"""pack through the command: models that other tools clustered, halved or copied shrink, and compute the same."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import helper

from tests.commands import graphshrink
from tests.models import model_of, normal, saved
from tests.runners import OPTIMISED, run


def prepared() -> onnx.ModelProto:
    """One layer clustered to 16 values, one kept in half precision, one as it is, and that one again."""
    rng = np.random.default_rng(0)
    clustered = rng.standard_normal(16).astype(np.float32)[rng.integers(0, 16, (64, 64))]
    half = normal(64, 64, seed=1).astype(np.float16).astype(np.float32)
    held = {"clustered": clustered, "half": half, "dense": normal(64, 64), "again": normal(64, 64)}
    names = ["x", "h1", "h2", "h3", "y"]
    nodes = [helper.make_node("MatMul", [names[i], name], [names[i + 1]]) for i, name in enumerate(held)]
    return model_of(nodes, dict(held), {"x": ["n", 64]}, {"y": ["n", 64]})


def packed(source: Path, out: Path, *arguments: object) -> dict[str, Any]:
    report = out.with_suffix(".json")
    done = graphshrink(source, out, "--passes", "pack", "--report", report, *arguments)
    assert done.returncode == 0, done.stderr
    found: dict[str, Any] = json.loads(report.read_text())
    return found


def test_what_is_there_already_is_used(tmp_path: Path) -> None:
    source, out = saved(prepared(), tmp_path), tmp_path / "small.onnx"
    report = packed(source, out)
    wanted = {"clustered": "codebook", "half": "half", "dense": "plain", "again": "shared"}
    assert {layer["label"]: layer["encoding"] for layer in report["layers"]} == wanted
    (entry,) = report["passes"]
    assert {
        label: outcome.get("detail", "plain").partition(",")[0] for label, outcome in entry["layers"].items()
    } == wanted
    assert entry["error"] is None  # nothing changed
    assert report["verification"]["held_out"]["error"] < 1e-6
    assert out.stat().st_size < source.stat().st_size * (1 / 8 + 1 / 2 + 1 + 0.1) / 4
    onnx.checker.check_model(str(out), full_check=True)
    x = normal(3, 64)
    for optimised in OPTIMISED:
        before = run(prepared(), {"x": x}, optimised=optimised)["y"]
        np.testing.assert_array_equal(run(onnx.load(out), {"x": x}, optimised=optimised)["y"], before)


def test_packing_again_gives_the_same_bytes_and_expanding_the_model(tmp_path: Path) -> None:
    source = saved(prepared(), tmp_path)
    first, second, plain = tmp_path / "1.onnx", tmp_path / "2.onnx", tmp_path / "3.onnx"
    packed(source, first)
    packed(first, second)
    assert first.read_bytes() == second.read_bytes()
    assert graphshrink("expand", first, plain).returncode == 0
    assert plain.read_bytes() == source.read_bytes()
    shown = json.loads(graphshrink("inspect", first, "--json").stdout)
    found = {layer["label"]: layer["encoding"] for layer in shown["layers"]}
    assert found == {"clustered": "codebook", "half": "half", "dense": "plain", "again": "shared"}


@pytest.mark.parametrize(("flag", "value"), [("--exclude", "half"), ("--exclude", "dense"), ("--include", "clustered")])
def test_what_is_not_selected_stays(flag: str, value: str, tmp_path: Path) -> None:
    report = packed(saved(prepared(), tmp_path), tmp_path / "small.onnx", flag, value)
    encodings = {layer["label"]: layer["encoding"] for layer in report["layers"]}
    assert (
        encodings
        == {
            "half": {"clustered": "codebook", "half": "plain", "dense": "plain", "again": "shared"},
            "dense": {"clustered": "codebook", "half": "half", "dense": "plain", "again": "plain"},
            "clustered": {"clustered": "codebook", "half": "plain", "dense": "plain", "again": "plain"},
        }[value]
    )


def test_it_is_listed() -> None:
    assert "pack" in graphshrink("--list-passes").stdout
