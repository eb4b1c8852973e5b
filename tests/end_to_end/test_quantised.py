"""`--encoding quantised`, as users ask for it."""

import json
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import helper, numpy_helper
from onnxruntime.quantization import QuantType, quantize_dynamic

import graphshrink
from graphshrink.encodings import quantised
from graphshrink.errors import VerificationError
from graphshrink.ir.types import Array
from tests.commands import graphshrink as command
from tests.marks import few_bit_kernels
from tests.models import model_of, normal, saved
from tests.runners import operators_left, run

pytestmark = few_bit_kernels


def dense(first: Array, second: Array, *, opset: int = 21) -> onnx.ModelProto:
    """x -> MatMul W1 -> LeakyRelu -> MatMul W2 -> y."""
    nodes = [
        helper.make_node("MatMul", ["x", "W1"], ["h"]),
        helper.make_node("LeakyRelu", ["h"], ["a"]),
        helper.make_node("MatMul", ["a", "W2"], ["y"]),
    ]
    outputs = second.shape[1]
    return model_of(
        nodes, {"W1": first, "W2": second}, {"x": ["n", len(first)]}, {"y": ["n", outputs]}, opset=opset, ir_version=10
    )


def uniform(inputs: int, outputs: int) -> Array:
    """Whole multiples from -8 to 7 of a scale for each output."""
    rng = np.random.default_rng(0)
    scale = rng.uniform(0.01, 0.02, outputs).astype(np.float32)
    return np.asarray(rng.integers(-8, 8, (inputs, outputs)).astype(np.float32) * scale)


def dequantised(model: onnx.ModelProto, folder: Path) -> onnx.ModelProto:
    """The model with the weights that ONNX Runtime's quantiser makes of it: scale * (q - zero point)."""
    path = folder / "int8.onnx"
    quantize_dynamic(saved(model, folder), path, weight_type=QuantType.QInt8, per_channel=True)
    held = {tensor.name: numpy_helper.to_array(tensor) for tensor in onnx.load(path).graph.initializer}
    result = onnx.ModelProto()
    result.CopyFrom(model)
    for tensor in result.graph.initializer:
        codes, zero, scale = (held[f"{tensor.name}_{part}"] for part in ("quantized", "zero_point", "scale"))
        weights = (codes.astype(np.int32) - zero.astype(np.int32)).astype(np.float32) * scale
        tensor.CopyFrom(numpy_helper.from_array(weights, tensor.name))
    return result


def test_the_command(tmp_path: Path) -> None:
    model = dense(uniform(512, 512), uniform(512, 256))
    path, small, plain = saved(model, tmp_path), tmp_path / "small.onnx", tmp_path / "plain.onnx"
    report = tmp_path / "report.json"
    done = command(path, small, "--passes", "none", "--encoding", "quantised", "--report", report)
    assert done.returncode == 0, done.stderr
    layers = json.loads(report.read_text())["layers"]
    assert [layer["encoding"] for layer in layers] == ["quantised", "quantised"]
    assert small.stat().st_size < 0.15 * path.stat().st_size
    assert operators_left(onnx.load(small), tmp_path)["MatMulNBits"] == 2

    feeds = {"x": normal(2, 512)}
    wanted = run(model, feeds, optimised=False)["y"]
    np.testing.assert_allclose(run(onnx.load(small), feeds, optimised=False)["y"], wanted, rtol=1e-3, atol=1e-4)

    assert command("expand", small, plain).returncode == 0
    expanded = {tensor.name: numpy_helper.to_array(tensor) for tensor in onnx.load(plain).graph.initializer}
    for tensor in model.graph.initializer:
        assert expanded[tensor.name].tobytes() == numpy_helper.to_array(tensor).tobytes()


@pytest.mark.parametrize(("opset", "largest"), [(21, 0.27), (17, 0.26)])
def test_what_a_quantiser_leaves_behind(opset: int, largest: float, tmp_path: Path) -> None:
    model = dequantised(dense(normal(520, 600), normal(600, 512, seed=1), opset=opset), tmp_path)
    compiled = graphshrink.compile(model, "none", encoding="quantised")
    assert [layer["encoding"] for layer in compiled.report["layers"]] == ["quantised", "quantised"]
    assert compiled.report["output"]["bytes"] < largest * compiled.report["input"]["bytes"]


def test_other_policies_decode_at_load(tmp_path: Path) -> None:
    model = dequantised(dense(normal(520, 600), normal(600, 512, seed=1)), tmp_path)
    compiled = graphshrink.compile(model, "none", encoding="fast")
    assert [layer["encoding"] for layer in compiled.report["layers"]] == ["grid", "grid"]
    assert operators_left(compiled.model, tmp_path) == operators_left(model, tmp_path)


def test_weights_that_would_be_decoded_at_every_run_are_not_written(monkeypatch: pytest.MonkeyPatch) -> None:
    """Should ONNX Runtime not do what it was seen to do."""
    model = dense(uniform(512, 512), uniform(512, 256))
    model.graph.node[1].op_type = "Relu"
    encodings = [
        layer["encoding"] for layer in graphshrink.compile(model, "none", encoding="quantised").report["layers"]
    ]
    assert encodings.count("quantised") == 1
    monkeypatch.setattr(quantised, "_JOINED_FIRST", ())
    with pytest.raises(VerificationError, match="at every run"):
        graphshrink.compile(model, "none", encoding="quantised")


def test_a_model_that_kernels_of_few_bits_would_harm_is_not_written() -> None:
    """One large input leaves no digits for the others, and meets only zeros, in every block."""
    weight = uniform(512, 512)
    weight[::16] = 0
    model = dense(weight, uniform(512, 256))
    large = np.ones(512, np.float32)
    large[::16] = 1e6
    model.graph.initializer.append(numpy_helper.from_array(large, "large"))
    model.graph.node[0].input[0] = "scaled"
    model.graph.node.insert(0, helper.make_node("Mul", ["x", "large"], ["scaled"]))
    assert graphshrink.compile(model, "none", encoding="fast").missed == []
    with pytest.raises(VerificationError, match="quantised"):
        graphshrink.compile(model, "none", encoding="quantised")
