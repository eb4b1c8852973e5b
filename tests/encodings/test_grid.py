"""Weights on a grid in models that use them: nothing of the decoding may be left, or fused into an operator."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from onnx import TensorProto, helper

from graphshrink.encodings import Policy, Storage, encode_graph
from graphshrink.encodings.grid import Grid
from graphshrink.ir.types import Array
from graphshrink.ir.weight import weights
from graphshrink.onnx_io.emit import emit
from graphshrink.onnx_io.load import load
from graphshrink.ops import why_not_a_weight
from tests.models import model_of, normal
from tests.runners import OPTIMISED, operators_left, run


def on_grid(dtype: Any, channels: int) -> Array:
    """(48, 40) whole numbers times one scale, or one for each column."""
    rng = np.random.default_rng(0)
    scale = rng.uniform(0.01, 0.02, channels).astype(dtype)
    array: Array = (rng.integers(-100, 100, (48, 40)).astype(dtype) * scale).astype(dtype)
    return array


@pytest.mark.parametrize("channels", [1, 40])
@pytest.mark.parametrize("dtype", [np.float16, np.float32])
@pytest.mark.parametrize("policy", ["fast", "small"])
def test_a_product_with_such_a_weight_is_the_same(policy: Policy, dtype: Any, channels: int, tmp_path: Path) -> None:
    widened = dtype == np.float16
    nodes = [helper.make_node("Cast", ["w"], ["v"], to=TensorProto.FLOAT)] if widened else []
    nodes.append(helper.make_node("MatMul", ["x", "v" if widened else "w"], ["y"]))
    model = model_of(nodes, {"w": on_grid(dtype, channels)}, {"x": [3, 48]}, {"y": [3, 40]})
    graph = load(model)
    encode_graph(graph, [w for w in weights(graph) if why_not_a_weight(w) is None], Storage(policy))
    written = emit(graph)
    feeds = {"x": normal(3, 48)}
    for optimised in OPTIMISED:
        wanted, found = (run(one, feeds, optimised=optimised)["y"] for one in (model, written))
        np.testing.assert_array_equal(found, wanted)
    assert operators_left(written, tmp_path) == operators_left(model, tmp_path)


def test_grids_that_a_runtime_would_compute_otherwise_are_left_alone() -> None:
    """Products in float16 are computed in float32 and not rounded."""
    assert Grid().encode(on_grid(np.float32, 40)) is not None
    assert Grid().encode(on_grid(np.float32, 1)) is not None
    assert Grid().encode(on_grid(np.float16, 40)) is None
    assert Grid().encode(on_grid(np.float64, 40)) is None
