"""Weights in a basis, from a plug-in pass to the file and back."""

from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import helper

import graphshrink
from graphshrink.errors import InternalError
from graphshrink.passing import products
from graphshrink.report.inspection import inspect_model
from tests import commands
from tests.models import DIGITS, LENET, ROOT, model_of, normal, saved
from tests.runners import OPTIMISED, run

PLUGIN = ROOT / "tests/frequencies.py"


def _none(k: int) -> float:
    return 0.01


def convolution() -> onnx.ModelProto:
    """Kernels of 3 by 3 and a cosine transform of them: k is 9."""
    nodes = [helper.make_node("Conv", ["x", "W"], ["y"])]
    return model_of(nodes, {"W": normal(64, 32, 3, 3)}, {"x": [1, 32, 6, 6]}, {"y": [1, 64, 4, 4]})


def compiled(model: Any, encoding: str = "fast", **options: Any) -> graphshrink.Compiled:
    return graphshrink.compile(model, "frequencies", encoding=encoding, plugins=[PLUGIN], **options)


@pytest.mark.parametrize("encoding", ["fast", "small"])
def test_a_pass_that_declares_a_basis(encoding: str, tmp_path: Path) -> None:
    result = compiled(convolution(), encoding)
    result.save(tmp_path / "o.onnx")
    [layer] = result.report["layers"]
    assert layer["encoding"] == "spectral"
    assert 0 < layer["entropy_bits"] < layer["bits"] < 8
    assert layer["load_bytes"] >= 64 * 32 * 9 * 4
    [found] = inspect_model(tmp_path / "o.onnx", [])["layers"]
    for key in ("encoding", "entropy_bits", "load_bytes", "load_seconds"):
        assert found[key] == layer[key]

    again = graphshrink.compile(tmp_path / "o.onnx", "none", encoding=encoding)
    again.save(tmp_path / "again.onnx")
    assert (tmp_path / "again.onnx").read_bytes() == (tmp_path / "o.onnx").read_bytes()

    done = commands.graphshrink("expand", tmp_path / "o.onnx", tmp_path / "plain.onnx")
    assert done.returncode == 0, done.stderr
    plain = onnx.load(tmp_path / "plain.onnx")
    assert [node.op_type for node in plain.graph.node] == ["Conv"]
    x = normal(1, 32, 6, 6)
    for optimised in OPTIMISED:
        wanted = run(plain, {"x": x}, optimised=optimised)["y"]
        found_y = run(onnx.load(tmp_path / "o.onnx"), {"x": x}, optimised=optimised)["y"]
        np.testing.assert_allclose(found_y, wanted, rtol=0, atol=1e-5 * np.abs(wanted).max())


def test_a_real_model() -> None:
    result = compiled(LENET, "small", calibration=DIGITS, max_error=1.0)
    assert "spectral" in {layer["encoding"] for layer in result.report["layers"]}


def test_weights_that_the_runtime_adds_up_otherwise_are_found(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(products, "most_ulps", _none)
    with pytest.raises(InternalError, match="W"):
        compiled(saved(convolution(), tmp_path))
