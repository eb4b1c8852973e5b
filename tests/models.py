"""Tiny models that tests build by hand."""

from pathlib import Path

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from graphshrink.ir.types import Array

ROOT = Path(__file__).parent.parent
TESTMODELS = ROOT / "testmodels"
LENET = TESTMODELS / "lenet-5.onnx"
DIGITS = TESTMODELS / "digits_calibration.npz"


def normal(*shape: int, seed: int = 0) -> Array:
    """Standard normal float32 numbers."""
    return np.random.default_rng(seed).standard_normal(shape).astype(np.float32)


def model_of(
    nodes: list[onnx.NodeProto],
    constants: dict[str, Array],
    inputs: dict[str, list[int | str]],
    outputs: dict[str, list[int | str]],
    *,
    opset: int = 13,
    ir_version: int = 8,
) -> onnx.ModelProto:
    """A float32 model."""
    graph = helper.make_graph(
        nodes,
        "g",
        [helper.make_tensor_value_info(name, TensorProto.FLOAT, shape) for name, shape in inputs.items()],
        [helper.make_tensor_value_info(name, TensorProto.FLOAT, shape) for name, shape in outputs.items()],
        [numpy_helper.from_array(array, name) for name, array in constants.items()],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)], ir_version=ir_version)


def two_layers(*, width: int = 64, seed: int = 0) -> onnx.ModelProto:
    """x (n, 32) -> MatMul W1 -> Relu -> MatMul W2 -> y (n, 10)."""
    nodes = [
        helper.make_node("MatMul", ["x", "W1"], ["h"], name="first"),
        helper.make_node("Relu", ["h"], ["a"]),
        helper.make_node("MatMul", ["a", "W2"], ["y"], name="second"),
    ]
    constants = {"W1": normal(32, width, seed=seed), "W2": normal(width, 10, seed=seed + 1)}
    return model_of(nodes, constants, {"x": ["n", 32]}, {"y": ["n", 10]})


def saved(model: onnx.ModelProto, folder: Path, name: str = "model.onnx") -> Path:
    """The model as a file."""
    path = folder / name
    onnx.save(model, path)
    return path
