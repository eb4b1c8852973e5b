"""Small models with layers to be fitted, samples for them, and what a pass made of both."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import onnx
from onnx import helper

from graphshrink.calibration.engine import Calibration
from graphshrink.calibration.samples import held
from graphshrink.ir import edit
from graphshrink.ir.graph import Graph
from graphshrink.ir.types import Array, Feeds
from graphshrink.ir.weight import weights
from graphshrink.onnx_io.emit import emit
from graphshrink.onnx_io.load import load
from graphshrink.onnx_io.runtime import Runtime
from graphshrink.passing.base import Changed, Context, PassResult, Skipped
from tests.models import model_of, normal
from tests.runners import run_all

node = helper.make_node


def correlated(*shape: int, seed: int = 0) -> Array:
    """Inputs of few causes along the second axis, as activations are; of independent ones no weight can be spared."""
    causes = normal(shape[0], 4, *shape[2:], seed=seed)
    mixing = normal(4, shape[1], seed=99)
    noise = 0.05 * normal(*shape, seed=seed + 1)
    mixed: Array = (np.einsum("nc...,ck->nk...", causes, mixing) + noise).astype(np.float32)
    return mixed


def samples(x: Array, **rest: Array) -> list[Feeds]:
    return [{"x": x[i : i + 1], **rest} for i in range(len(x))]


def context(runtime: Runtime, feeds: Sequence[Feeds], **rest: Any) -> Context:
    return Context(calibration=Calibration(held(feeds, "made"), runtime), **rest)


def arrays(graph: Graph) -> dict[str, Array]:
    return {weight.name: weight.array for weight in weights(graph)}


def outputs(graph: Graph, feeds: Sequence[Feeds], name: str = "y") -> Array:
    found: list[Array] = [one[name] for one in run_all(emit(graph), feeds, optimised=True)]
    joined: Array = np.concatenate(found).astype(np.float64)
    return joined


def error(graph: Graph, model: onnx.ModelProto, feeds: Sequence[Feeds]) -> float:
    before = outputs(load(model), feeds)
    return float(np.linalg.norm(outputs(graph, feeds) - before) / np.linalg.norm(before))


def by_magnitude(model: onnx.ModelProto, like: Graph, names: Sequence[str]) -> Graph:
    """As many weights as another graph has, the largest ones."""
    graph, counts = load(model), {name: np.count_nonzero(array) for name, array in arrays(like).items()}
    for weight in weights(graph):
        if weight.name in names:
            flat = weight.array.reshape(-1).copy()
            flat[np.argsort(np.abs(flat))[: flat.size - counts[weight.name]]] = 0
            edit.set_constant(graph, weight.name, weight.tensor.with_array(flat.reshape(weight.array.shape)))
    return graph


def changed(result: PassResult) -> dict[str, Changed]:
    return {label: outcome for label, outcome in result.layers.items() if isinstance(outcome, Changed)}


def reasons(result: PassResult) -> dict[str, str]:
    return {label: outcome.reason for label, outcome in result.layers.items() if isinstance(outcome, Skipped)}


def perceptron(dtype: type[np.floating[Any]] = np.float32) -> onnx.ModelProto:
    """x (n, 24) -> Gemm 16 -> Relu -> MatMul 8, Add -> y."""
    nodes = [
        node("Gemm", ["x", "W1", "b1"], ["h"], transB=1, name="first"),
        node("Relu", ["h"], ["a"]),
        node("MatMul", ["a", "W2"], ["m"]),
        node("Add", ["m", "b2"], ["y"]),
    ]
    constants = {
        "W1": normal(16, 24, seed=1),
        "b1": normal(16, seed=2),
        "W2": normal(16, 8, seed=3),
        "b2": normal(8, seed=4),
    }
    typed = {name: array.astype(dtype) for name, array in constants.items()}
    model = model_of(nodes, typed, {"x": ["n", 24]}, {"y": ["n", 8]})
    for info in (*model.graph.input, *model.graph.output):
        info.type.tensor_type.elem_type = helper.np_dtype_to_tensor_dtype(np.dtype(dtype))
    return model


def convolution(*, groups: int = 1, op_type: str = "Conv", **given: Any) -> onnx.ModelProto:
    """x (n, 8, 9, 9) -> convolution, normalisation, residual sum, Relu -> y."""
    w = normal(8, 8 // groups, 3, 3, seed=1)
    nodes = [
        node(op_type, ["x", "W", "b"], ["c"], group=groups, pads=[1, 1, 1, 1], **given),
        node("BatchNormalization", ["c", "gain", "offset", "mean", "variance"], ["n"]),
        node("Add", ["n", "x"], ["z"]),
        node("Relu", ["z"], ["y"]),
    ]
    constants = {
        "W": w,
        "b": normal(8, seed=2),
        "gain": normal(8, seed=3),
        "offset": normal(8, seed=4),
        "mean": normal(8, seed=5),
        "variance": np.abs(normal(8, seed=6)) + 4,
    }
    return model_of(nodes, constants, {"x": ["n", 8, 9, 9]}, {"y": ["n", 8, 9, 9]})


def smooth(count: int, seed: int) -> list[Feeds]:
    """Images whose neighbouring pixels are alike."""
    x = correlated(count, 8, 9, 9, seed=seed)
    for axis in (2, 3):
        x = x + np.roll(x, 1, axis) + np.roll(x, -1, axis)
    return samples(x.astype(np.float32))
