"""The command as users run it: in a process of its own, judged by its files, its output and its exit code."""

import hashlib
import json
import os
import subprocess
import sys
import unicodedata
from pathlib import Path

import numpy as np
import onnx
import onnxruntime as ort
import pytest
from onnx import helper

from graphshrink.registry import PASSES
from tests.commands import graphshrink
from tests.models import DIGITS, LENET, ROOT, model_of, normal, saved, two_layers

SHARING = "weight-sharing{bits=4}"


def outputs_of(path: Path, feeds: dict[str, np.ndarray]) -> list[np.ndarray]:
    session = ort.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    return [np.asarray(output) for output in session.run(None, feeds)]


def width(line: str) -> int:
    return sum(2 if unicodedata.east_asian_width(c) in "WF" else 1 for c in line)


def test_compresses_a_real_model_on_real_data(tmp_path: Path) -> None:
    out, report = tmp_path / "small.onnx", tmp_path / "report.json"
    done = graphshrink(LENET, out, "--passes", SHARING, "--calibration", DIGITS, "--report", report)
    assert done.returncode == 0, done.stderr
    assert out.stat().st_size * 7 < LENET.stat().st_size
    onnx.checker.check_model(str(out), full_check=True)
    digits = np.load(DIGITS)["input"]
    before, after = outputs_of(LENET, {"input": digits}), outputs_of(out, {"input": digits})
    assert np.linalg.norm(after[0] - before[0]) / np.linalg.norm(before[0]) < 0.1
    assert np.mean(before[0].argmax(1) == after[0].argmax(1)) > 0.95
    ledger = json.loads(report.read_text())
    assert ledger["output"]["bytes"] == out.stat().st_size
    assert ledger["input"]["bytes"] == LENET.stat().st_size
    assert {layer["label"] for layer in ledger["layers"] if layer["encoding"] == "codebook"} == {
        "conv1.weight",
        "conv2.weight",
        "fc1.weight",
        "fc2.weight",
    }
    assert done.stdout.splitlines()[0].startswith("1.73 MB -> 2")
    assert all(width(line) <= 80 for line in done.stdout.splitlines()[:-1])  # the last one names the path


def test_default_passes_and_random_inputs_with_a_warning(tmp_path: Path) -> None:
    out = tmp_path / "small.onnx"
    done = graphshrink(LENET, out)
    assert done.returncode == 0, done.stderr
    assert "warning" in done.stderr and "random" in done.stderr
    assert out.stat().st_size < LENET.stat().st_size / 3.5


def test_compressing_twice_and_recompressing_the_result_give_the_same_bytes(tmp_path: Path) -> None:
    first, second, third = tmp_path / "1.onnx", tmp_path / "2.onnx", tmp_path / "3.onnx"
    for source, out, jobs in ((LENET, first, 1), (LENET, second, 2), (first, third, 1)):
        done = graphshrink(source, out, "--passes", SHARING, "--calibration", DIGITS, "--quiet", "--jobs", jobs)
        assert done.returncode == 0, done.stderr
        assert done.stdout == ""
    assert first.read_bytes() == second.read_bytes() == third.read_bytes()


def test_passes_none_gives_the_model_back(tmp_path: Path) -> None:
    out = tmp_path / "same.onnx"
    assert graphshrink(LENET, out, "--passes", "none").returncode == 0
    assert out.read_bytes() == LENET.read_bytes()


def test_expand_gives_ordinary_weights_back(tmp_path: Path) -> None:
    small, plain = tmp_path / "small.onnx", tmp_path / "plain.onnx"
    assert graphshrink(LENET, small, "--passes", SHARING, "--quiet").returncode == 0
    done = graphshrink("expand", small, plain)
    assert done.returncode == 0, done.stderr
    model = onnx.load(plain)
    assert [node.op_type for node in model.graph.node] == [node.op_type for node in onnx.load(LENET).graph.node]
    digits = np.load(DIGITS)["input"][:8]
    np.testing.assert_array_equal(outputs_of(plain, {"input": digits})[0], outputs_of(small, {"input": digits})[0])


def test_out_may_be_in_also_through_a_link(tmp_path: Path) -> None:
    path, link = tmp_path / "model.onnx", tmp_path / "link.onnx"
    path.write_bytes(LENET.read_bytes())
    link.symlink_to(path)
    done = graphshrink(link, link, "--passes", SHARING, "--calibration", DIGITS)
    assert done.returncode == 0, done.stderr
    assert link.is_symlink()
    assert path.stat().st_size < LENET.stat().st_size / 7


def test_dry_run_writes_nothing(tmp_path: Path) -> None:
    done = graphshrink(LENET, "out.onnx", "--passes", SHARING, "--dry-run", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert list(tmp_path.iterdir()) == []
    assert "would write" in done.stdout


def test_external_data(tmp_path: Path) -> None:
    source, out = saved(two_layers(), tmp_path), tmp_path / "out.onnx"
    done = graphshrink(source, out, "--passes", "none", "--save-as-external-data")
    assert done.returncode == 0, done.stderr
    (data,) = tmp_path.glob("out.onnx.*.data")
    assert data.stat().st_size > 8000
    x = normal(3, 32)
    np.testing.assert_array_equal(outputs_of(out, {"x": x})[0], outputs_of(source, {"x": x})[0])
    again = tmp_path / "again.onnx"
    assert graphshrink(out, again, "--passes", SHARING, "--quiet").returncode == 0  # and such a model is read again
    assert again.stat().st_size < source.stat().st_size


def test_include_and_exclude(tmp_path: Path) -> None:
    source, report = saved(two_layers(), tmp_path), tmp_path / "r.json"
    options = ("--exclude", "second", "--include", "MatMul", "--report", report, "--quiet")
    assert graphshrink(source, tmp_path / "o.onnx", "--passes", SHARING, *options).returncode == 0
    layers = {layer["label"]: layer for layer in json.loads(report.read_text())["layers"]}
    assert layers["W1"]["encoding"] == "codebook"
    assert layers["W2"]["encoding"] == "plain"
    assert "excluded" in layers["W2"]["done"]


def test_backs_off_layer_by_layer_and_stays_within_the_bound(tmp_path: Path) -> None:
    report = tmp_path / "r.json"
    arguments = ("--passes", "weight-sharing{bits=3}", "--calibration", DIGITS, "--max-error", 0.1, "--report", report)
    done = graphshrink(LENET, tmp_path / "o.onnx", *arguments)
    assert done.returncode == 0, done.stderr
    ledger = json.loads(report.read_text())
    assert ledger["verification"]["held_out"]["error"] <= 0.1
    details = [outcome["detail"] for outcome in ledger["passes"][0]["layers"].values() if "detail" in outcome]
    assert ledger["passes"][0]["backed_off"]
    assert len({detail.split()[0] for detail in details}) > 1  # some layers milder than others


def test_a_pass_that_cannot_meet_the_bound_is_rolled_back_with_code_4(tmp_path: Path) -> None:
    out = tmp_path / "o.onnx"
    done = graphshrink(LENET, out, "--passes", SHARING, "--calibration", DIGITS, "--max-error", "1e-7")
    assert done.returncode == 4
    assert "missed" in done.stderr and "rolled back" in done.stderr
    assert out.read_bytes() == LENET.read_bytes()


@pytest.mark.parametrize(
    ("arguments", "code", "named"),
    [
        ((), 2, "IN"),
        (("{lenet}",), 2, "OUT"),
        (("{missing}", "o.onnx"), 1, "missing.onnx"),
        (("{digits}", "o.onnx"), 1, "zip"),
        (("{lenet}", "o.onnx", "--passes", "weight-sharin"), 2, "did you mean"),
        (("{lenet}", "o.onnx", "--passes", "weight-sharing{bits=9}"), 2, "bits"),
        (("{lenet}", "o.onnx", "--passes", "weight-sharing{bitz=3}"), 2, "bitz"),
        (("{lenet}", "o.onnx", "--passes", "weight-sharing{bits"), 2, "--passes"),
        (("{lenet}", "o.onnx", "--encoding", "zip"), 2, "--encoding"),
        (("{lenet}", "o.onnx", "--max-error", "-1"), 2, "--max-error"),
        (("{lenet}", "o.onnx", "--samples", "0"), 2, "--samples"),
        (("{lenet}", "o.onnx", "--jobs", "0"), 2, "--jobs"),
        (("{lenet}", "o.onnx", "--input-shape", "input"), 2, "--input-shape"),
        (("{lenet}", "nowhere/o.onnx"), 2, "nowhere"),
        (("{lenet}", "."), 2, "folder"),
        (("{lenet}", "o.onnx", "--no-such-option"), 2, "--no-such-option"),
        (("{lenet}", "o.onnx", "--calibration", "missing.npz"), 1, "missing.npz"),
        (("{lenet}", "o.onnx", "--providers", "NoSuchProvider"), 1, "NoSuchProvider"),
        (("verify", "{lenet}", "{missing}"), 1, "missing.onnx"),
        (("inspect", "{missing}"), 1, "missing.onnx"),
        (("expand", "{missing}", "o.onnx"), 1, "missing.onnx"),
    ],
)
def test_errors_are_one_line_that_names_the_place(
    tmp_path: Path, arguments: tuple[str, ...], code: int, named: str
) -> None:
    places = {"{lenet}": LENET, "{digits}": DIGITS, "{missing}": tmp_path / "missing.onnx"}
    done = graphshrink(*(places.get(argument, argument) for argument in arguments), cwd=tmp_path)
    assert done.returncode == code, done.stderr
    errors = [line for line in done.stderr.splitlines() if "error:" in line]
    assert len(errors) == 1 and named in errors[0]
    assert "Traceback" not in done.stderr
    assert list(tmp_path.iterdir()) == []


def test_verification_failure_writes_nothing_and_keeps_an_older_output(tmp_path: Path) -> None:
    """A model whose outputs differ from run to run cannot be verified."""
    noise = helper.make_node("RandomNormalLike", ["h"], ["r"])
    nodes = [helper.make_node("MatMul", ["x", "W"], ["h"]), noise, helper.make_node("Add", ["h", "r"], ["y"])]
    source = saved(model_of(nodes, {"W": normal(32, 64)}, {"x": ["n", 32]}, {"y": ["n", 64]}), tmp_path)
    out = tmp_path / "o.onnx"
    out.write_bytes(b"older")
    done = graphshrink(source, out, "--passes", SHARING)
    assert done.returncode == 1
    assert "--no-verify" in done.stderr
    assert out.read_bytes() == b"older"
    forced = graphshrink(source, out, "--passes", SHARING, "--no-verify")
    assert forced.returncode == 0, forced.stderr
    assert "NOT VERIFIED" in forced.stdout
    assert out.stat().st_size < source.stat().st_size


def test_verify_tells_how_far_apart_models_are(tmp_path: Path) -> None:
    small = tmp_path / "small.onnx"
    assert graphshrink(LENET, small, "--passes", SHARING, "--quiet").returncode == 0
    near = graphshrink("verify", LENET, small, "--calibration", DIGITS, "--json")
    assert near.returncode == 0, near.stderr
    figures = json.loads(near.stdout)["outputs"]["logits"]
    assert 0 < figures["relative_l2"] < 0.1
    assert figures["max_absolute"] > 0 and figures["sqnr_db"] > 20 and figures["cosine"] > 0.99
    assert figures["top1_agreement"] > 0.95
    far = graphshrink("verify", LENET, small, "--calibration", DIGITS, "--max-error", "0.001")
    assert far.returncode == 3
    assert "TOO FAR APART" in far.stdout
    other = graphshrink("verify", LENET, saved(two_layers(), tmp_path), "--calibration", DIGITS)
    assert other.returncode == 1  # takes other inputs


def test_inspect_shows_layers_and_encodings(tmp_path: Path) -> None:
    small = tmp_path / "small.onnx"
    assert graphshrink(LENET, small, "--passes", SHARING, "--quiet").returncode == 0
    done = graphshrink("inspect", small, "--json")
    layers = {layer["label"]: layer for layer in json.loads(done.stdout)["layers"]}
    assert layers["fc1.weight"]["encoding"] == "codebook"
    assert layers["fc1.weight"]["shape"] == [500, 800]
    assert layers["fc1.weight"]["macs"] == 400_000
    assert layers["fc1.weight"]["passes"] == [cls.name for cls in PASSES if cls.on_weights]
    assert layers["fc1.bias"]["reason"] is not None
    text = graphshrink("inspect", LENET)
    assert "fc1.weight" in text.stdout
    assert all(width(line) <= 80 for line in text.stdout.splitlines())


def test_list_passes_and_help() -> None:
    listed = graphshrink("--list-passes")
    assert listed.returncode == 0
    assert "weight-sharing" in listed.stdout and "bits: int | str = 4" in listed.stdout
    helped = graphshrink("--help")
    assert helped.returncode == 0
    for option in (
        "--passes",
        "--calibration",
        "--max-error",
        "--input-shape",
        "--save-as-external-data",
        "--list-passes",
    ):
        assert option in helped.stdout


def test_output_survives_a_reader_that_stops(tmp_path: Path) -> None:
    command = f"{sys.executable} -m graphshrink {LENET} {tmp_path / 'o.onnx'} --passes none | true"
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    done = subprocess.run(
        ["bash", "-o", "pipefail", "-c", command],
        capture_output=True,
        text=True,
        env=environment,
        check=False,
        timeout=60,
    )
    assert done.returncode == 0, done.stderr
    assert "bug" not in done.stderr
    assert (tmp_path / "o.onnx").read_bytes() == LENET.read_bytes()


def test_a_report_never_takes_the_place_of_a_model(tmp_path: Path) -> None:
    source = saved(two_layers(), tmp_path)
    content = source.read_bytes()
    for report in (source, tmp_path / "o.onnx"):
        done = graphshrink(source, tmp_path / "o.onnx", "--report", report)
        assert done.returncode == 2 and "--report" in done.stderr
    assert source.read_bytes() == content
    assert not (tmp_path / "o.onnx").exists()


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="needs named pipes")
def test_devices_and_pipes_are_not_replaced(tmp_path: Path) -> None:
    source, pipe = saved(two_layers(), tmp_path), tmp_path / "pipe"
    os.mkfifo(pipe)
    for arguments in ((source, pipe), (source, tmp_path / "o.onnx", "--report", pipe)):
        assert graphshrink(*arguments).returncode == 2
    assert pipe.is_fifo()


@pytest.mark.parametrize("option", ["--include", "--exclude"])
def test_a_pattern_that_matches_nothing_is_an_error(tmp_path: Path, option: str) -> None:
    """A typing error in --exclude would compress what was to be protected."""
    done = graphshrink(saved(two_layers(), tmp_path), tmp_path / "o.onnx", option, "frist")
    assert done.returncode == 2 and "frist" in done.stderr


def test_the_report_describes_the_files_that_were_written(tmp_path: Path) -> None:
    source, out, report = saved(two_layers(), tmp_path), tmp_path / "out.onnx", tmp_path / "r.json"
    done = graphshrink(source, out, "--passes", "none", "--save-as-external-data", "--report", report)
    assert done.returncode == 0, done.stderr
    (data,) = tmp_path.glob("out.onnx.*.data")
    ledger = json.loads(report.read_text())["output"]
    assert ledger["bytes"] == out.stat().st_size + data.stat().st_size
    assert ledger["sha256"] == hashlib.sha256(out.read_bytes()).hexdigest()
    assert ledger["data_sha256"] == [hashlib.sha256(data.read_bytes()).hexdigest()]
