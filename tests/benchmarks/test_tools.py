"""The tools that need no extra are run here; the others have to be installed, so that only their table is tested."""

import json
from pathlib import Path

import numpy as np
import pytest
from onnx import helper

from benchmarks.corpus.base import runner
from benchmarks.tools import TOOLS, tool_named
from benchmarks.tools.base import Tool, lifted
from graphshrink.ir.types import Array
from tests.models import normal, saved, two_layers

WIDTH = 512  # so that weights outweigh the graph
RUNNABLE = [tool for tool in TOOLS if set(tool.packages) <= {"graphshrink"}]


def test_names_are_their_own() -> None:
    assert [tool_named(tool.name) for tool in TOOLS] == list(TOOLS)


@pytest.mark.parametrize("tool", TOOLS, ids=lambda tool: tool.name)
def test_settings_are_plain_and_their_own(tool: Tool) -> None:
    texts = [json.dumps(dict(setting), sort_keys=True) for setting in tool.settings]
    assert len(set(texts)) == len(texts) > 0


def test_tools_without_extras_are_there() -> None:
    assert {tool.name for tool in RUNNABLE} == {
        "graphshrink",
        "graphshrink-fitted",
        "ort-dynamic",
        "ort-static",
        "fp16-ort",
    }
    assert [tool.missing() for tool in RUNNABLE] == [None] * len(RUNNABLE)


def test_what_is_not_installed_is_named() -> None:
    absent = Tool("x", "", tool_named("fp16-ort").compress, ({"a": 1},), packages=("onnx", "no-such-package"))
    assert absent.missing() == "no-such-package not installed (the extra `peers`)"
    assert absent.versions()["no-such-package"] is None


@pytest.mark.parametrize("tool", RUNNABLE, ids=lambda tool: tool.name)
def test_every_setting_gives_a_smaller_model_that_runs(tool: Tool, tmp_path: Path) -> None:
    model = saved(two_layers(width=WIDTH), tmp_path)
    feeds = [{"x": normal(1, 32, seed=seed)} for seed in range(20)]
    expected = outputs(model)
    for index, setting in enumerate(tool.settings):
        out = tmp_path / str(index) / "model.onnx"
        out.parent.mkdir()
        tool.compress(model, out, feeds if tool.calibrated else [], setting)
        assert out.stat().st_size < model.stat().st_size, setting
        found = outputs(out)
        # Rough: 3 bits, a bound of 0.7, and few of many random weights are among the settings; noise would give 1.
        gives_most = "sparsify" in str(setting.get("passes")) or setting.get("encoding") == "small"
        most = 0.9 if gives_most else 0.4
        assert np.linalg.norm(found - expected) < most * np.linalg.norm(expected), setting


def outputs(model: Path) -> Array:
    run = runner(model)
    return np.concatenate([run({"x": normal(1, 32, seed=seed)})["y"] for seed in range(100, 120)])


def test_weights_in_nodes_become_initializers(tmp_path: Path) -> None:
    model = two_layers()
    expected = outputs(saved(model, tmp_path))
    for tensor in list(model.graph.initializer):
        model.graph.node.insert(0, helper.make_node("Constant", [], [tensor.name], value=tensor))
        model.graph.initializer.remove(tensor)
    found = lifted(model)
    assert [node.op_type for node in found.graph.node] == ["MatMul", "Relu", "MatMul"]
    np.testing.assert_array_equal(outputs(saved(found, tmp_path)), expected)
