"""What the documents show must work."""

import json
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from benchmarks.frontier.report import END, START, readme_table
from graphshrink.calibration.engine import Calibration
from graphshrink.calibration.samples import held
from graphshrink.encodings.rules import RULES
from graphshrink.onnx_io.load import load
from graphshrink.onnx_io.runtime import Runtime
from graphshrink.passing.base import Changed, Context, Skipped
from tests.models import ROOT, normal, saved, two_layers

DOCUMENTS = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").glob("*.md"))]


def python_blocks(path: Path) -> list[str]:
    return re.findall(r"```python\n(.*?)```", path.read_text(), flags=re.DOTALL)


def test_the_pass_in_the_docs_works(tmp_path: Path) -> None:
    (example,) = python_blocks(ROOT / "docs" / "passes.md")
    names: dict[str, Any] = {"__name__": "example"}
    exec(compile(example, "docs/passes.md", "exec"), names)
    result = names["Round"](step=0.5).run(load(saved(two_layers(), tmp_path)), Context())
    assert set(result.layers) == {"W1", "W2"}
    assert all(isinstance(outcome, Changed) and 0 < outcome.weight_error < 0.2 for outcome in result.layers.values())


def test_the_pass_that_is_calibrated_in_the_docs_works(tmp_path: Path) -> None:
    """With every input it changes nothing that is seen; with half of the first layer's it makes up for the rest."""
    (example,) = python_blocks(ROOT / "docs" / "calibration.md")
    names: dict[str, Any] = {"__name__": "example"}
    exec(compile(example, "docs/calibration.md", "exec"), names)
    path = saved(two_layers(), tmp_path)
    inputs = normal(400, 32) * np.repeat(np.array([1, 1e-3], np.float32), 16)
    with Runtime() as runtime:
        calibration = Calibration(held([{"x": row[None]} for row in inputs], "made"), runtime)
        graph = load(path)
        result = names["FewerInputs"](share=0.5).run(graph, Context(calibration=calibration))
    assert [outcome.detail for outcome in result.layers.values()] == ["16 of 32 inputs", "32 of 64 inputs"]
    new, old = graph.constant("W1"), load(path).constant("W1")
    assert new is not None and old is not None
    assert np.abs(inputs @ new.array - inputs @ old.array).max() < 0.05  # of outputs around 4
    unseen = names["FewerInputs"]().run(load(path), Context())
    assert all(isinstance(outcome, Skipped) for outcome in unseen.layers.values())


def test_options_in_the_readme_exist() -> None:
    done = subprocess.run(
        [sys.executable, "-m", "graphshrink", "--help"], capture_output=True, text=True, cwd=ROOT, check=True
    )
    options = set(re.findall(r"--[a-z][a-z-]+", (ROOT / "README.md").read_text())) - {"--help"}
    assert options - set(re.findall(r"--[a-z][a-z-]+", done.stdout)) == set()


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: path.name)
def test_links_lead_somewhere(document: Path) -> None:
    for target in re.findall(r"\]\(([^)#]+)\)", document.read_text()):
        assert (document.parent / target).exists(), target


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: path.name)
def test_scripts_that_are_named_exist(document: Path) -> None:
    for script in re.findall(r"`(scripts/\w+|\.ci/run)", document.read_text()):
        assert (ROOT / script).is_file(), script


def test_the_readme_shows_what_was_measured() -> None:
    rows = json.loads((ROOT / "benchmarks/results/mnist.json").read_text())["rows"]
    measured = {
        (row["model"], row["bits"]): (row["bytes"], row["bytes_after"], row["gzip_bytes_after"])
        for row in rows
        if row["samples"] == "drawn digits" and row["encoding"] == "fast"
    }
    _, _, rest = (ROOT / "README.md").read_text().partition("<!-- table: mnist -->")
    lines = [line.strip("| ").split(" | ") for line in rest.partition("<!-- end -->")[0].strip().splitlines()[2:]]
    shown = {(c[0], int(c[1])): tuple(int(c[i].replace(",", "")) for i in (2, 3, 6)) for c in lines}
    assert shown == measured


def test_the_readme_shows_the_frontier_that_was_measured() -> None:
    results = ROOT / "benchmarks/results/frontier.json"
    _, marked, rest = (ROOT / "README.md").read_text().partition(START)
    shown = rest.partition(END)[0].rstrip("\n") if marked else None
    assert shown == (readme_table(json.loads(results.read_text())) if results.exists() else None)


def test_the_format_lists_the_operators_of_decode_subgraphs() -> None:
    text = (ROOT / "docs" / "format.md").read_text(encoding="utf-8")
    listed = text.partition("and of the operators ")[2].partition("alone, in the forms below")[0]
    assert set(re.findall(r"`(\w+)`", listed)) == set(RULES)
