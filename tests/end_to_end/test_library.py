"""`graphshrink.compile` as people call it: from scripts, notebooks and stdin."""

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

import graphshrink
from graphshrink.ir.weight import weights
from tests.models import DIGITS, LENET, ROOT, model_of, normal, saved, two_layers


def test_public_names_are_frozen() -> None:
    assert sorted(graphshrink.__all__) == [
        "CalibrationError",
        "Changed",
        "Compiled",
        "Context",
        "Found",
        "Graph",
        "GraphshrinkError",
        "InternalError",
        "JudgeError",
        "ModelError",
        "Pass",
        "PassResult",
        "Skipped",
        "UsageError",
        "VerificationError",
        "compile",
        "emit",
        "load",
        "save",
    ]
    assert all(getattr(graphshrink, name) is not None for name in graphshrink.__all__)
    with pytest.raises(AttributeError):
        _ = graphshrink.nonsense


def test_compile_gives_model_report_and_file(tmp_path: Path) -> None:
    steps: list[tuple[str, int, int]] = []
    compiled = graphshrink.compile(
        LENET,
        "weight-sharing{bits=4}",
        calibration=DIGITS,
        progress=lambda stage, done, total: steps.append((stage, done, total)),
    )
    compiled.save(tmp_path / "o.onnx")
    assert onnx.load(tmp_path / "o.onnx") == compiled.model
    assert compiled.report["output"]["bytes"] == (tmp_path / "o.onnx").stat().st_size
    assert compiled.missed == []
    assert {"loading", "weight-sharing", "encoding", "verifying"} <= {stage for stage, _, _ in steps}
    assert all(0 <= done <= total for _, done, total in steps)


def test_a_model_in_memory_is_not_changed() -> None:
    model = two_layers()
    before = model.SerializeToString()
    compiled = graphshrink.compile(model, "weight-sharing{bits=4}", calibration=[{"x": normal(4, 32)}], max_error=1.0)
    assert model.SerializeToString() == before
    assert compiled.model.ByteSize() < model.ByteSize() / 3


def test_both_errors_are_reported_and_the_split_is_80_to_20() -> None:
    samples = [{"x": normal(1, 32, seed=seed)} for seed in range(50)]
    report = graphshrink.compile(two_layers(), "weight-sharing{bits=6}", calibration=samples).report
    assert (report["verification"]["fit"]["samples"], report["verification"]["held_out"]["samples"]) == (40, 10)
    assert report["verification"]["bound"] == 0.1


def test_random_inputs_bound_nothing_unless_asked() -> None:
    free = graphshrink.compile(two_layers(), "weight-sharing{bits=1}").report
    assert free["verification"]["random"] and free["verification"]["bound"] is None
    assert free["verification"]["held_out"]["error"] > 0.1
    assert any("random" in note for note in free["notes"])
    bound = graphshrink.compile(two_layers(), "weight-sharing{bits=1}", max_error=0.1).report
    assert bound["verification"]["held_out"]["error"] <= 0.1


def test_random_inputs_respect_what_the_graph_says_of_them() -> None:
    """Indices into an embedding of 50 rows are below 50, or ONNX Runtime would fail."""
    nodes = [helper.make_node("Gather", ["E", "ids"], ["y"])]
    graph = helper.make_graph(
        nodes,
        "g",
        [helper.make_tensor_value_info("ids", TensorProto.INT64, ["n", "t"])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, ["n", "t", 32])],
        [numpy_helper.from_array(normal(50, 32), "E")],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 13)], ir_version=8)
    report = graphshrink.compile(model, "weight-sharing{bits=4}").report
    assert 0 < report["verification"]["held_out"]["error"] < 0.3


def test_weights_of_ir_version_3_are_encoded_and_leave_the_inputs() -> None:
    inputs: dict[str, list[int | str]] = {"x": ["n", 32], "W": [32, 64]}
    nodes = [helper.make_node("MatMul", ["x", "W"], ["y"])]
    model = model_of(nodes, {"W": normal(32, 64)}, inputs, {"y": ["n", 64]}, opset=9, ir_version=3)
    compiled = graphshrink.compile(model, "weight-sharing{bits=2}")
    assert compiled.model.ir_version == 3
    assert [info.name for info in compiled.model.graph.input] == ["x"]
    assert any("no longer graph inputs" in note for note in compiled.report["notes"])
    assert compiled.model.ByteSize() < model.ByteSize() / 3


def test_symbolic_sizes_names_and_metadata_stay(tmp_path: Path) -> None:
    model = two_layers()
    model.doc_string = "kept"
    model.metadata_props.add(key="author", value="somebody")
    result = graphshrink.compile(saved(model, tmp_path), "weight-sharing{bits=4}").model
    assert result.graph.input == model.graph.input and result.graph.output == model.graph.output
    assert (result.doc_string, result.metadata_props) == ("kept", model.metadata_props)
    assert result.opset_import == model.opset_import and result.ir_version == model.ir_version


def test_several_passes_run_in_order_and_report_each() -> None:
    report = graphshrink.compile(two_layers(), "weight-sharing{bits=6}, weight-sharing{bits=2}").report
    assert [entry["options"]["bits"] for entry in report["passes"]] == [6, 2]
    first, last = report["passes"]
    assert first["bytes"] > last["bytes"] == report["output"]["bytes"]
    assert first["gzip_bytes"] > last["gzip_bytes"] == report["output"]["gzip_bytes"]
    assert first["parameters"] == last["parameters"] == 32 * 64 + 64 * 10
    assert first["macs"] == last["macs"] == 32 * 64 + 64 * 10
    assert all(outcome["seconds"] > 0 for outcome in first["layers"].values() if "detail" in outcome)
    assert first["error"] < last["error"]


def test_the_plain_policy_stores_plain_weights() -> None:
    compiled = graphshrink.compile(two_layers(), "weight-sharing{bits=2}", encoding="plain")
    assert [node.op_type for node in compiled.model.graph.node] == ["MatMul", "Relu", "MatMul"]
    assert all(len(np.unique(weight.array)) <= 64 * 4 for weight in weights(graphshrink.load(compiled.model)))


SCRIPT = f"""
import graphshrink
compiled = graphshrink.compile({str(LENET)!r}, "weight-sharing{{bits=4}}", calibration={str(DIGITS)!r})
compiled.save("out.onnx")
print(compiled.report["output"]["bytes"])
"""


@pytest.mark.parametrize("how", ["script without a main guard", "stdin"])
def test_works_from_scripts_and_stdin(tmp_path: Path, how: str) -> None:
    script = tmp_path / "script.py"
    script.write_text(SCRIPT)
    arguments, stdin = ([str(script)], None) if how != "stdin" else (["-"], SCRIPT)
    done = subprocess.run(
        [sys.executable, *arguments],
        input=stdin,
        capture_output=True,
        text=True,
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        check=False,
        timeout=60,
    )
    assert done.returncode == 0, done.stderr
    assert int(done.stdout) == (tmp_path / "out.onnx").stat().st_size


def test_outputs_that_say_nothing_verify_nothing() -> None:
    """NaN equals NaN, so a model that gives nothing else could pass any bound."""
    nodes = [
        helper.make_node("MatMul", ["x", "W"], ["h"]),
        helper.make_node("Abs", ["h"], ["a"]),
        helper.make_node("Neg", ["a"], ["b"]),
        helper.make_node("Log", ["b"], ["y"]),
    ]
    model = model_of(nodes, {"W": normal(32, 64)}, {"x": ["n", 32]}, {"y": ["n", 64]})
    with pytest.raises(graphshrink.VerificationError):
        graphshrink.compile(model, "weight-sharing{bits=1}", calibration=[{"x": normal(1, 32)}])
    untouched = graphshrink.compile(model, "none", calibration=[{"x": normal(1, 32)}])
    assert any("nothing could be compared" in note for note in untouched.report["notes"])
    with pytest.raises(graphshrink.JudgeError):  # no random inputs give finite outputs
        graphshrink.compile(model, "weight-sharing{bits=1}")


def test_weights_that_training_information_names_stay() -> None:
    model = two_layers()
    training = model.training_info.add()
    training.algorithm.name = "step"
    training.update_binding.add(key="W1", value="W1_new")
    result = graphshrink.compile(model, "weight-sharing{bits=2}").model
    assert "W1" in {tensor.name for tensor in result.graph.initializer}
    assert "W2" not in {tensor.name for tensor in result.graph.initializer}


def test_fields_of_a_newer_onnx_are_refused_and_not_lost(tmp_path: Path) -> None:
    path = tmp_path / "newer.onnx"
    path.write_bytes(two_layers().SerializeToString() + b"\xc2\x3e\x03new")  # field 1000
    with pytest.raises(graphshrink.ModelError, match="newer onnx"):
        graphshrink.load(path)


def test_a_model_in_memory_with_external_data_asks_for_its_path(tmp_path: Path) -> None:
    path = tmp_path / "m.onnx"
    onnx.save(two_layers(), path, save_as_external_data=True, location="d", size_threshold=0)
    with pytest.raises(graphshrink.ModelError, match="path"):
        graphshrink.compile(onnx.load(path, load_external_data=False))


def test_sizes_after_each_pass_count_external_data(tmp_path: Path) -> None:
    path = tmp_path / "m.onnx"
    onnx.save(two_layers(width=512), path, save_as_external_data=True, location="d", size_threshold=0)
    report = graphshrink.compile(path, "weight-sharing{bits=8}, weight-sharing{bits=4}", include=["W2"]).report
    assert report["input"]["bytes"] > report["passes"][0]["bytes"] > report["output"]["bytes"]
