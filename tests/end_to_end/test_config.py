"""Configuration files: what they say is done, flags win over them, and a saved one repeats the run."""

import json
from pathlib import Path
from typing import Any

import pytest

from graphshrink.passes.weight_sharing import WeightSharing
from tests.commands import graphshrink
from tests.models import DIGITS, LENET

TOML = f"""
calibration = "{DIGITS}"
samples = 20
max-error = 0.5
passes = ["weight-sharing"]

[weight-sharing]
bits = 3
[weight-sharing.operators.Conv]
bits = 4
[weight-sharing.layers."fc2.*"]
skip = true
[weight-sharing.layers.conv2]
bits = 7
"""
YAML = f"""
calibration: {DIGITS}
samples: 20
max-error: 0.5
passes: weight-sharing
weight-sharing:
  bits: 3
  operators: {{Conv: {{bits: 4}}}}
  layers:
    fc2.*: {{skip: true}}
    conv2: {{bits: 7}}
"""


def run(tmp_path: Path, *arguments: object) -> dict[str, Any]:
    report = tmp_path / "report.json"
    done = graphshrink(LENET, tmp_path / "out.onnx", "--report", report, *arguments)
    assert done.returncode == 0, done.stderr
    found: dict[str, Any] = json.loads(report.read_text())
    return found


def bits(report: dict[str, Any]) -> dict[str, str]:
    layers = report["passes"][0]["layers"]
    return {
        name: outcome["detail"].partition(",")[0] if "detail" in outcome else outcome["reason"]
        for name, outcome in layers.items()
        if name.endswith("weight")
    }


@pytest.mark.parametrize(("name", "text"), [("c.toml", TOML), ("c.yaml", YAML)])
def test_names_win_over_types_and_types_over_all(tmp_path: Path, name: str, text: str) -> None:
    config = tmp_path / name
    config.write_text(text)
    report = run(tmp_path, "--config", config)
    assert bits(report) == {
        "conv1.weight": "4 bits",
        "conv2.weight": "7 bits",
        "fc1.weight": "3 bits",
        "fc2.weight": "a layer rule says so",
    }
    assert (report["options"]["samples"], report["options"]["max_error"]) == (20, 0.5)


def test_flags_win_over_the_file_and_the_specification_over_its_sections(tmp_path: Path) -> None:
    config = tmp_path / "c.toml"
    config.write_text(TOML)
    report = run(tmp_path, f"--config={config}", "--samples", "10", "-p", "weight-sharing{bits=8}")
    assert report["options"]["samples"] == 10
    assert report["options"]["passes"] == [{"name": "weight-sharing", **vars(WeightSharing(bits=8))}]
    assert bits(report)["fc1.weight"] == "8 bits"


def test_a_section_wins_over_the_default_pass(tmp_path: Path) -> None:
    config = tmp_path / "c.toml"
    config.write_text("[weight-sharing]\nbits = 6\n")
    assert bits(run(tmp_path, "--config", config))["fc1.weight"] == "6 bits"
    assert bits(run(tmp_path))["fc1.weight"] == "8 bits"


@pytest.mark.parametrize("name", ["saved.toml", "saved.yaml"])
def test_a_saved_file_repeats_the_run(tmp_path: Path, name: str) -> None:
    config, kept = tmp_path / "c.toml", tmp_path / name
    config.write_text(TOML)
    first = run(tmp_path, "--config", config, "--seed", "3", "--exclude", "Gemm", "--save-config", kept)
    again = run(tmp_path, "--config", kept)
    assert again["options"] == first["options"]
    assert again["output"]["sha256"] == first["output"]["sha256"]
    assert first["options"]["seed"] == 3 and bits(first)["fc1.weight"] == "excluded"


@pytest.mark.parametrize(
    "text",
    [
        "sampels = 3",
        "samples = 'many'",
        "samples = [1, 2]",
        "samples = ",
        "[weight-shairng]\nbits = 4",
        "[weight-sharing]\nbit = 4",
        "[weight-sharing]\nbits = 9",
        "[weight-sharing]\nbits = 'four'",
        "[weight-sharing.operators.Conv]\nbits = 9",
        "[weight-sharing.operators]\nConv = 4",
        "[weight-sharing.operators.Cnv]\nbits = 4",
        "[weight-sharing.layers.'nothing*']\nbits = 4",
        "[weight-sharing.layers.fc1]\nskip = true\nbits = 4",
        "[weight-sharing.layers.fc1]\nskip = 'yes'",
        "weight-sharing = 4",
        "config = 'other.toml'",
    ],
)
def test_mistakes_are_usage_errors_of_one_line(tmp_path: Path, text: str) -> None:
    config = tmp_path / "c.toml"
    config.write_text(text)
    done = graphshrink(LENET, tmp_path / "out.onnx", "--config", config, "--quiet")
    assert done.returncode == 2, done.stderr
    assert len(done.stderr.splitlines()) == 1, done.stderr
    assert not (tmp_path / "out.onnx").exists()


def test_a_file_is_only_read_when_it_is_named(tmp_path: Path) -> None:
    for name in ("graphshrink.toml", "graphshrink.yaml", ".graphshrink.toml", "pyproject.toml"):
        (tmp_path / name).write_text("samples = 'broken'")
    done = graphshrink(LENET, "out.onnx", "-p", "none", cwd=tmp_path)
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize("config", ["missing.toml", "."])
def test_a_file_that_cannot_be_read(tmp_path: Path, config: str) -> None:
    done = graphshrink(LENET, tmp_path / "out.onnx", "--config", tmp_path / config)
    assert done.returncode == 2
