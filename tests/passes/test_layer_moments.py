"""The moments of a layer's problem against its rows, laid out one by one."""

from collections.abc import Generator

import numpy as np
import onnx
import pytest
from onnx import helper

from graphshrink.calibration.engine import Calibration
from graphshrink.calibration.samples import held
from graphshrink.errors import UnfitError
from graphshrink.ir import edit
from graphshrink.ir.extract import dynamic_operators
from graphshrink.ir.graph import Graph
from graphshrink.ir.types import Array, Feeds
from graphshrink.ir.weight import weights
from graphshrink.onnx_io.load import load
from graphshrink.onnx_io.runtime import Runtime
from graphshrink.passes._layer_moments import LayerMoments, layer_moments, moved_bias
from graphshrink.passes._layer_plan import Plan, plan
from tests.models import model_of, normal

node = helper.make_node


@pytest.fixture(scope="module")
def runtime() -> Generator[Runtime]:
    with Runtime(timeout=60) as runtime:
        yield runtime


def plan_of(graph: Graph, name: str) -> Plan:
    known = {weight.name: weight for weight in weights(graph)}
    made = plan(known[name], known, dynamic_operators(graph))
    assert isinstance(made, Plan)
    return made


def moments(graph: Graph, name: str, runtime: Runtime, feeds: list[Feeds], **changed: Array) -> LayerMoments:
    """Of a layer, after constants before it were changed."""
    calibration = Calibration(held(feeds, "made"), runtime)
    layer = plan_of(graph, name)
    with calibration.sequential(graph, coming=[(layer.values, layer.values)]) as sequential:
        for weight in [weight for weight in weights(graph) if weight.name in changed]:
            edit.set_constant(graph, weight.name, weight.tensor.with_array(changed[weight.name]))
        return layer_moments(plan_of(graph, name), sequential, 0)


def check(found: LayerMoments, then: Array, now: Array, added: Array | float = 0.0) -> None:
    """Against rows (groups, P, N) before and after, and what was added less what is (groups, P, M)."""
    rows = np.concatenate([now, np.ones((*now.shape[:2], 1))], axis=2).astype(np.float64)
    targets = then.astype(np.float64) @ found.weights + added
    turned = rows.swapaxes(1, 2)
    assert found.rows == now.shape[1]
    for ours, direct in (
        (found.gram, turned @ rows),
        (found.cross, turned @ targets),
        (found.energy, np.sum(targets**2, axis=1)),
    ):
        np.testing.assert_allclose(ours, direct, rtol=1e-5, atol=1e-4)  # activations are float32
    rng = np.random.default_rng(1)
    u, d = rng.standard_normal(found.weights.shape), rng.standard_normal(found.energy.shape)
    residual = rows[:, :, :-1] @ u + d[:, None] - targets
    np.testing.assert_allclose(found.error(u, d), np.sum(residual**2, axis=1), rtol=1e-5)


def samples(*shape: int, seed: int = 0) -> tuple[Array, list[Feeds]]:
    x = normal(*shape, seed=seed)
    return x, [{"x": x[i : i + 1]} for i in range(len(x))]


def chain(*, bias: bool) -> onnx.ModelProto:
    nodes = [
        node("MatMul", ["x", "W1"], ["h"]),
        node("Relu", ["h"], ["a"]),
        node("Gemm", ["a", "W2", *(["b"] if bias else [])], ["g"], transB=1, alpha=0.5),
        node("Mul", ["g", "gain"], ["y"]),
    ]
    constants = {"W1": normal(6, 5, seed=1), "W2": normal(4, 5, seed=2), "gain": normal(4, seed=4)}
    constants |= {"b": normal(4, seed=3)} if bias else {}
    return model_of(nodes, constants, {"x": ["n", 6]}, {"y": ["n", 4]})


@pytest.mark.parametrize("bias", [True, False])
def test_inputs_of_now_and_targets_of_then(bias: bool, runtime: Runtime) -> None:
    (x, feeds), old, new = samples(40, 6), normal(6, 5, seed=1), normal(6, 5, seed=8)
    graph = load(chain(bias=bias))
    found = moments(graph, "W2", runtime, feeds, W1=new)
    check(found, 0.5 * np.maximum(x @ old, 0)[None], 0.5 * np.maximum(x @ new, 0)[None])  # alpha goes to the inputs
    np.testing.assert_allclose(found.weights[0], normal(4, 5, seed=2).T * normal(4, seed=4), rtol=1e-6)
    assert found.has_bias == bias
    layer = plan_of(graph, "W2")
    stored = found.stored(layer, found.weights)
    np.testing.assert_allclose(stored, normal(4, 5, seed=2), rtol=1e-5)
    if bias:
        moved = moved_bias(layer, np.ones((1, 4)))
        np.testing.assert_allclose((moved - normal(4, seed=3)) * normal(4, seed=4), 1.0, rtol=1e-5)


@pytest.mark.parametrize("groups", [1, 2])
def test_patches_of_a_convolution_in_groups_with_a_residual_sum(groups: int, runtime: Runtime) -> None:
    """y = conv2(x1, W) + skip with x1 and skip both changed before it; all 9 places of a sample are looked at."""
    nodes = [
        node("Mul", ["x", "before"], ["x1"]),
        node("Conv", ["x1", "W", "b"], ["c"], group=groups, pads=[1, 1, 1, 1]),
        node("Mul", ["x", "beside"], ["s"]),
        node("Add", ["c", "s"], ["z"]),
        node("Relu", ["z"], ["y"]),
    ]
    constants = {
        "before": normal(1, 4, 1, 1, seed=1),
        "beside": normal(1, 4, 1, 1, seed=2),
        "W": normal(4, 4 // groups, 3, 3, seed=3),
        "b": normal(4, seed=4),
    }
    x, feeds = samples(12, 4, 3, 3)
    model = model_of(nodes, constants, {"x": ["n", 4, 3, 3]}, {"y": ["n", 4, 3, 3]})
    new = {"before": normal(1, 4, 1, 1, seed=5), "beside": normal(1, 4, 1, 1, seed=6)}
    found = moments(load(model), "W", runtime, feeds, **new)

    def patches(fed: Array) -> Array:
        padded = np.pad(fed, ((0, 0), (0, 0), (1, 1), (1, 1)))
        windows = np.lib.stride_tricks.sliding_window_view(padded, (3, 3), axis=(2, 3))  # (n, c, 3, 3, kh, kw)
        split = windows.reshape(12, groups, 4 // groups, 9, 9).transpose(1, 0, 3, 2, 4)
        return split.reshape(groups, 12 * 9, -1)

    skips = (x * constants["beside"] - x * new["beside"]).reshape(12, groups, 4 // groups, 9)
    added = skips.transpose(1, 0, 3, 2).reshape(groups, 12 * 9, -1)
    check(found, patches(x * constants["before"]), patches(x * new["before"]), added)
    assert found.has_bias


def test_a_bias_that_others_use_may_not_move(runtime: Runtime) -> None:
    nodes = [node("Gemm", ["x", "W", "b"], ["h"]), node("Add", ["h", "b"], ["y"])]
    model = model_of(nodes, {"W": normal(6, 4), "b": normal(4)}, {"x": ["n", 6]}, {"y": ["n", 4]})
    x, feeds = samples(20, 6)
    found = moments(load(model), "W", runtime, feeds)
    assert not found.has_bias
    check(found, x[None], x[None])
    assert found.error(found.weights).max() < 1e-6 * found.energy.max()


def test_outputs_that_overflow(runtime: Runtime) -> None:
    typed = {"W": normal(6, 4).astype(np.float64)}
    model = model_of([node("MatMul", ["x", "W"], ["y"])], typed, {"x": ["n", 6]}, {"y": ["n", 4]})
    for info in (*model.graph.input, *model.graph.output):
        info.type.tensor_type.elem_type = onnx.TensorProto.DOUBLE
    with np.errstate(over="ignore"), pytest.raises(UnfitError, match="too large"):
        moments(load(model), "W", runtime, [{"x": np.full((1, 6), 1e200)}])


def test_shrunk_moments_are_those_of_inputs_that_come_and_go_by_themselves(runtime: Runtime) -> None:
    (_, feeds), new = samples(40, 6), normal(6, 5, seed=8)
    found = moments(load(chain(bias=True)), "W2", runtime, feeds, W1=new)
    assert 0 < found.shrinkage < 1
    shrunk, s = found.shrunk, found.shrinkage
    mean = found.gram[0, -1, :-1] / found.rows
    centred, after = (m.gram[0, :-1, :-1] - found.rows * np.outer(mean, mean) for m in (found, shrunk))
    np.testing.assert_allclose(after, (1 - s) * centred + s * np.diag(np.diag(centred)), rtol=1e-9, atol=1e-9)
    rng = np.random.default_rng(1)
    weights = rng.standard_normal(found.weights.shape)
    best = (found.cross[:, -1] - found.gram[:, -1, :-1] @ weights[0]) / found.rows
    apart = np.diag(centred) @ (weights - found.weights)[0] ** 2
    expected = (1 - s) * found.error(weights, best) + s * apart
    np.testing.assert_allclose(shrunk.error(weights, best), expected, rtol=1e-8)


def test_moments_of_one_sample_stay_as_they_are(runtime: Runtime) -> None:
    found = moments(load(chain(bias=True)), "W2", runtime, samples(1, 6)[1])
    assert found.shrinkage == 0
    assert found.shrunk is found
