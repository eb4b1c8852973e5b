"""sparsify on small graphs: what it changes, what it leaves alone and says why, what it refuses."""

from collections.abc import Generator, Mapping, Sequence
from typing import Any

import numpy as np
import onnx
import pytest
from hypothesis import given, settings
from onnx import TensorProto, helper

from graphshrink.errors import CalibrationError, UsageError
from graphshrink.ir.graph import Graph
from graphshrink.ir.types import Array, Feeds
from graphshrink.onnx_io.emit import emit
from graphshrink.onnx_io.load import load
from graphshrink.onnx_io.runtime import Runtime
from graphshrink.passes._sparsify_ranking import Wish, settled
from graphshrink.passes.sparsify import Sparsify
from graphshrink.passing.base import Context, PassResult, Selection
from graphshrink.passing.rules import By, LayerRule
from graphshrink.solvers.quadratic import Piece
from tests.layers import (
    arrays,
    by_magnitude,
    changed,
    context,
    convolution,
    correlated,
    error,
    perceptron,
    reasons,
    samples,
    smooth,
)
from tests.models import model_of, normal
from tests.runners import run_all
from tests.strategies import WIDTH, models

node = helper.make_node
SEEN, NEW = samples(correlated(200, 24)), samples(correlated(50, 24, seed=5))


@pytest.fixture(scope="module")
def runtime() -> Generator[Runtime]:
    with Runtime(timeout=60) as runtime:
        yield runtime


def thinned(
    model: onnx.ModelProto, step: Sparsify, runtime: Runtime, feeds: Sequence[Feeds], **rest: Any
) -> tuple[Graph, PassResult]:
    graph = load(model)
    return graph, step.run(graph, context(runtime, feeds, **rest))


def share(graph: Graph, *names: str) -> float:
    held = [arrays(graph)[name] for name in names]
    return sum(map(np.count_nonzero, held)) / sum(array.size for array in held)


# ---- what it changes


@pytest.mark.parametrize("mode", ["sequential", "independent"])
@pytest.mark.parametrize("saliency", ["auto", "magnitude", "obd", "obs", "sparsegpt"])
def test_one_overall_density_with_less_error_than_by_magnitudes(mode: str, saliency: str, runtime: Runtime) -> None:
    model = perceptron()
    graph, result = thinned(model, Sparsify(density=0.3, saliency=saliency, mode=mode), runtime, SEEN)
    assert changed(result).keys() == {"W1", "b1", "W2", "b2"}
    assert [changed(result)[name].part_of for name in ("W1", "b1", "W2")] == [None, "W1", None]
    assert share(graph, "W1", "W2") == pytest.approx(0.3, abs=0.02)
    assert error(graph, model, NEW) < error(by_magnitude(model, graph, ["W1", "W2"]), model, NEW) / 2


def test_what_is_left_is_the_least_squares_solution(runtime: Runtime) -> None:
    """Against lstsq over the samples, bias included."""
    model = perceptron()
    graph, _ = thinned(model, Sparsify(density=0.3, allocation="uniform", damping=0.0), runtime, SEEN)
    w, b, x = arrays(graph)["W1"], arrays(graph)["b1"], np.concatenate([feed["x"] for feed in SEEN]).astype(np.float64)
    target = x @ normal(16, 24, seed=1).T + normal(16, seed=2)
    for output in range(16):
        kept = np.flatnonzero(w[output])
        best = np.linalg.lstsq(np.hstack([x[:, kept], np.ones((200, 1))]), target[:, output])[0]
        np.testing.assert_allclose(np.append(w[output, kept], b[output]), best, rtol=1e-3, atol=1e-4)


def test_later_layers_make_up_for_earlier_ones(runtime: Runtime) -> None:
    model = perceptron()
    rule = LayerRule("sparsify", By.NAME, "W2", {"density": 0.7})
    step = {mode: Sparsify(density=0.1, mode=mode) for mode in ("sequential", "independent")}
    thin = {mode: thinned(model, one, runtime, SEEN, rules=(rule,))[0] for mode, one in step.items()}
    np.testing.assert_array_equal(arrays(thin["sequential"])["W1"], arrays(thin["independent"])["W1"])
    assert error(thin["sequential"], model, NEW) < 0.95 * error(thin["independent"], model, NEW)


def test_layers_get_what_they_need(runtime: Runtime) -> None:
    """W2 is fed what varies in one direction alone, so that it needs hardly any weight."""
    nodes = [
        node("MatMul", ["x", "W1"], ["y1"]),
        node("ReduceSum", ["x", "last"], ["s"]),
        node("Mul", ["s", "spread"], ["t"]),
        node("MatMul", ["t", "W2"], ["y2"]),
        node("Add", ["y1", "y2"], ["y"]),
    ]
    constants = {"W1": normal(24, 8), "W2": normal(24, 8, seed=1), "last": np.array([1]), "spread": normal(24, seed=2)}
    model = model_of(nodes, constants, {"x": ["n", 24]}, {"y": ["n", 8]})
    graph, _ = thinned(model, Sparsify(density=0.3), runtime, samples(normal(200, 24)))
    uniform, _ = thinned(model, Sparsify(density=0.3, allocation="uniform"), runtime, samples(normal(200, 24)))
    assert share(graph, "W2") < 0.1 < 0.5 < share(graph, "W1")
    assert share(graph, "W1", "W2") == pytest.approx(0.3, abs=0.01)
    assert share(uniform, "W1") == pytest.approx(0.3, abs=0.01)
    new = samples(normal(50, 24, seed=7))
    assert error(graph, model, new) < error(uniform, model, new)


@pytest.mark.parametrize("saliency", ["magnitude", "obs", "sparsegpt"])
def test_patterns_and_blocks(saliency: str, runtime: Runtime) -> None:
    model = perceptron()
    graph, _ = thinned(model, Sparsify(pattern="2:4", saliency=saliency), runtime, SEEN)
    assert (np.count_nonzero(arrays(graph)["W1"].reshape(16, 6, 4), axis=2) == 2).all()
    assert (np.count_nonzero(arrays(graph)["W2"].reshape(4, 4, 8), axis=1) == 2).all()
    graph, _ = thinned(model, Sparsify(density=0.5, block="4x2", saliency=saliency), runtime, SEEN)
    blocks = np.count_nonzero(arrays(graph)["W1"].reshape(8, 2, 6, 4), axis=(1, 3))
    assert set(blocks.reshape(-1).tolist()) == {0, 8}
    assert share(graph, "W1", "W2") == pytest.approx(0.5, abs=0.03)


@pytest.mark.parametrize(
    ("op_type", "groups"), [("Conv", 1), ("Conv", 2), ("Conv", 8), ("ConvTranspose", 1), ("ConvTranspose", 2)]
)
def test_convolutions(op_type: str, groups: int, runtime: Runtime) -> None:
    model = convolution(groups=groups, op_type=op_type)
    graph, result = thinned(model, Sparsify(density=0.5), runtime, smooth(60, 0))
    assert changed(result).keys() == {"W", "b"}
    assert share(graph, "W") == pytest.approx(0.5, abs=0.01)
    assert error(graph, model, smooth(10, 50)) < error(by_magnitude(model, graph, ["W"]), model, smooth(10, 50))


@pytest.mark.parametrize("op_type", ["LSTM", "GRU", "RNN"])
@pytest.mark.parametrize(
    "options", [{"density": 0.4}, {"density": 0.5, "block": "4x4", "allocation": "uniform"}, {"pattern": "1:4"}]
)
def test_recurrent_layers(op_type: str, options: dict[str, Any], runtime: Runtime) -> None:
    gates = {"LSTM": 4, "GRU": 3, "RNN": 1}[op_type]
    nodes = [
        node("Transpose", ["x"], ["t"], perm=[1, 0, 2]),
        node(op_type, ["t", "W", "R"], ["", "last"], hidden_size=12, direction="bidirectional"),
        node("Identity", ["last"], ["y"]),
    ]
    constants = {"W": 0.1 * normal(2, 12 * gates, 24, seed=1), "R": 0.3 * normal(2, 12 * gates, 12, seed=2)}
    model = model_of(nodes, constants, {"x": [1, 6, 24]}, {"y": [2, 1, 12]})
    seen, new = (samples(correlated(n, 24, 6, seed=seed).transpose(0, 2, 1)) for n, seed in ((60, 0), (20, 9)))
    graph, result = thinned(model, Sparsify(**options), runtime, seen)
    assert changed(result).keys() == {"W", "R"}
    assert share(graph, "W", "R") == pytest.approx(options.get("density", 0.25), abs=0.02)
    assert error(graph, model, new) < error(by_magnitude(model, graph, ["W", "R"]), model, new)
    assert [operator.outputs for _, operator in graph.operators() if operator.is_a(op_type)] == [("", "last")]


def test_tables_keep_what_is_looked_up(runtime: Runtime) -> None:
    model = model_of([node("Gather", ["W", "x"], ["y"])], {"W": normal(30, 16)}, {"x": [1, 5]}, {"y": [1, 5, 16]})
    model.graph.input[0].type.tensor_type.elem_type = TensorProto.INT64
    often = samples(np.random.default_rng(0).integers(-10, 0, (40, 5)))
    graph, result = thinned(model, Sparsify(density=0.4), runtime, often)
    kept = arrays(graph)["W"] != 0
    assert changed(result).keys() == {"W"}
    assert kept.mean() == pytest.approx(0.4, abs=0.01)
    assert kept[20:].mean() > 3 * kept[:20].mean()
    np.testing.assert_array_equal(arrays(graph)["W"], np.where(kept, normal(30, 16), 0))


@pytest.mark.parametrize("dtype", [np.float16, np.float64])
def test_other_floating_types_keep_theirs(dtype: Any, runtime: Runtime) -> None:
    model, feeds = perceptron(dtype), [{"x": feed["x"].astype(dtype)} for feed in SEEN]
    graph, _ = thinned(model, Sparsify(density=0.4), runtime, feeds)
    assert {array.dtype for array in arrays(graph).values()} == {np.dtype(dtype)}
    assert error(graph, model, feeds) < 0.15


def test_few_samples_are_remarked_on_and_do_less_harm_than_magnitudes(runtime: Runtime) -> None:
    model = perceptron()
    graph, result = thinned(model, Sparsify(density=0.3), runtime, SEEN[:12])
    assert changed(result)["W1"].detail.endswith("; only 12 rows for 24 inputs")
    assert error(graph, model, NEW) < error(by_magnitude(model, graph, ["W1", "W2"]), model, NEW) / 1.5


@pytest.mark.parametrize("x", [np.zeros((30, 24), np.float32), np.ones((30, 24), np.float32), correlated(5, 24)])
@pytest.mark.parametrize("damping", [0.0, 0.01])
def test_inputs_that_say_little_do_no_harm(x: Array, damping: float, runtime: Runtime) -> None:
    """Dead inputs, constant ones, and fewer samples than weights of an output."""
    model = perceptron()
    graph, _ = thinned(model, Sparsify(target_error=0.1, damping=damping), runtime, samples(x))
    assert error(graph, model, samples(x)) < 0.2


def test_a_bound_on_the_error_of_every_layer(runtime: Runtime) -> None:
    model = perceptron()
    errors = {target: thinned(model, Sparsify(target_error=target), runtime, SEEN) for target in (0.02, 0.1, 0.3)}
    found = {target: error(graph, model, SEEN) for target, (graph, _) in errors.items()}
    assert found[0.02] < 0.04 < found[0.1] < 0.2 < found[0.3] < 0.5
    shares = [share(graph, "W1", "W2") for graph, _ in errors.values()]
    assert shares == sorted(shares, reverse=True)
    bounded = error(thinned(model, Sparsify(), runtime, SEEN, max_error=0.2)[0], model, SEEN)
    assert 0.02 < bounded < 0.2


# ---- settings of single layers


def test_a_density_of_its_own_does_not_count_with_the_others(runtime: Runtime) -> None:
    rule = LayerRule("sparsify", By.NAME, "W2", {"density": 0.75})
    graph, _ = thinned(perceptron(), Sparsify(density=0.2), runtime, SEEN, rules=(rule,))
    assert share(graph, "W1") == pytest.approx(0.2, abs=0.01)
    assert share(graph, "W2") == pytest.approx(0.75, abs=0.01)


def test_a_layer_that_did_harm_gets_more_of_what_it_had(runtime: Runtime) -> None:
    step = Sparsify(density=0.3)
    before, _ = thinned(perceptron(), step, runtime, SEEN)
    after, _ = thinned(perceptron(), step, runtime, SEEN, milder={"W1": step.gentler()})
    assert share(after, "W1") == pytest.approx(1.5 * share(before, "W1"), abs=0.01)
    assert share(after, "W2") == pytest.approx(share(before, "W2"), abs=0.01)


def test_a_bias_that_is_excluded_stays(runtime: Runtime) -> None:
    step, selection = Sparsify(density=0.3), Selection(exclude=("b1",))
    graph, result = thinned(perceptron(), step, runtime, SEEN, selection=selection)
    assert changed(result).keys() == {"W1", "W2", "b2"}
    np.testing.assert_array_equal(arrays(graph)["b1"], normal(16, seed=2))


# ---- what it leaves alone


def test_without_samples_nothing_is_done() -> None:
    result = Sparsify().run(load(perceptron()), Context())
    assert ["--no-verify" in reasons(result)[name] for name in ("W1", "W2")] == [True, True]


@pytest.mark.parametrize(
    ("options", "reason"),
    [
        ({"pattern": "2:7"}, "its 24 inputs do not divide into groups of 7"),
        ({"density": 0.5, "block": "5x1"}, "its 24 inputs do not divide into blocks of 5"),
        ({"density": 0.5, "block": "8x3"}, "its 16 outputs do not divide into blocks of 3"),
    ],
)
def test_what_does_not_divide_says_so(options: dict[str, Any], reason: str, runtime: Runtime) -> None:
    graph, result = thinned(perceptron(), Sparsify(**options), runtime, SEEN)
    assert reasons(result)["W1"] == reason
    np.testing.assert_array_equal(arrays(graph)["W1"], normal(16, 24, seed=1))


def test_a_layer_that_needs_all_of_its_weights(runtime: Runtime) -> None:
    model = model_of([node("MatMul", ["x", "W"], ["y"])], {"W": normal(3, 4)}, {"x": ["n", 3]}, {"y": ["n", 4]})
    graph, result = thinned(model, Sparsify(target_error=0.001), runtime, samples(normal(100, 3)))
    assert reasons(result) == {"W": "all of its weights are needed"}
    np.testing.assert_array_equal(arrays(graph)["W"], normal(3, 4))


def test_activations_that_are_no_numbers_name_the_value(runtime: Runtime) -> None:
    nodes = [node("Log", ["x"], ["logarithms"]), node("MatMul", ["logarithms", "W"], ["y"])]
    model = model_of(nodes, {"W": normal(24, 8)}, {"x": ["n", 24]}, {"y": ["n", 8]})
    with pytest.raises(CalibrationError, match="logarithms"):
        thinned(model, Sparsify(), runtime, SEEN)


@settings(max_examples=15)
@given(models(runnable=True))
def test_random_models(runtime: Runtime, model: onnx.ModelProto) -> None:
    feeds = samples(normal(12, WIDTH), flag=np.array(True))
    graph, result = thinned(model, Sparsify(density=0.5), runtime, feeds)
    assert all(outcome.detail for outcome in changed(result).values())
    assert all(reasons(result).values())
    assert all(np.isfinite(found["y"]).all() for found in run_all(emit(graph), feeds[:2], optimised=True))


# ---- options


@pytest.mark.parametrize(
    "options",
    [
        {"density": 1.5},
        {"density": -0.1},
        {"target_error": 2.0},
        {"density": 0.5, "target_error": 0.1},
        {"saliency": "luck"},
        {"allocation": "greedy"},
        {"mode": "cascade"},
        {"damping": -1.0},
        {"pattern": "4:4"},
        {"pattern": "2/4"},
        {"pattern": "2:4", "density": 0.5},
        {"pattern": "2:4", "block": "4x1"},
        {"block": "8"},
        {"block": "0x4"},
    ],
)
def test_options_that_make_no_sense(options: Mapping[str, Any]) -> None:
    with pytest.raises(UsageError, match=next(iter(options))):
        Sparsify(**options)


def test_gentler_settings_end() -> None:
    for first in (Sparsify(), Sparsify(target_error=0.1), Sparsify(density=0.1)):
        steps: list[Sparsify] = [first]
        while (softer := steps[-1].gentler()) is not None:
            steps.append(softer)
        assert 4 < len(steps) < 12
    assert Sparsify(pattern="2:4").gentler() is None


def test_wide_layers_are_swept() -> None:
    wish = Wish(Piece(), None, "auto", refit=True)
    wishes = {"small": wish, "wide": wish, "as said": wish._replace(saliency="obs")}
    shapes = {"small": (1, 100, 100), "wide": (1, 4096, 4096), "as said": (1, 4096, 4096)}
    found = {label: one.saliency for label, one in settled(wishes, shapes).items()}
    assert found == {"small": "obs", "wide": "sparsegpt", "as said": "obs"}


def test_a_layer_whose_new_weights_overflow_stays(runtime: Runtime) -> None:
    """In float16 a bias that takes over for three inputs near 10,000 is beyond its range."""
    w = np.repeat(np.array([[1], [1], [-1], [-1]], np.float16), 2, axis=1)
    constants = {"W": w, "b": np.full(2, 60_000, np.float16)}
    model = model_of([node("Gemm", ["x", "W", "b"], ["y"])], constants, {"x": ["n", 4]}, {"y": ["n", 2]})
    for info in (*model.graph.input, *model.graph.output):
        info.type.tensor_type.elem_type = TensorProto.FLOAT16
    x = (10_000 + normal(50, 4) * np.array([20, 20, 20, 400])).astype(np.float16)
    graph, result = thinned(model, Sparsify(density=0.25), runtime, samples(x))
    assert reasons(result)["W"] == "its new weights are too large for their type"
    np.testing.assert_array_equal(arrays(graph)["W"], w)
    np.testing.assert_array_equal(arrays(graph)["b"], constants["b"])


def test_outputs_that_the_model_hardly_depends_on_are_thinned_out_first(runtime: Runtime) -> None:
    """The second layer hardly looks at one half of the first one's outputs, and scales the other up."""
    scale = np.repeat(np.array([1.0, 0.01], np.float32), 8)
    constants = {"W1": normal(24, 16), "W2": normal(16, 8, seed=1) * scale[:, None]}
    nodes = [node("MatMul", ["x", "W1"], ["h"]), node("Relu", ["h"], ["a"]), node("MatMul", ["a", "W2"], ["y"])]
    model = model_of(nodes, constants, {"x": ["n", 24]}, {"y": ["n", 8]})
    left: dict[str, Array] = {}
    errors: dict[str, float] = {}
    for importance in ("gradient", "uniform"):
        graph, _ = thinned(model, Sparsify(density=0.3, importance=importance), runtime, SEEN)
        left[importance] = (arrays(graph)["W1"] != 0).sum(axis=0)
        errors[importance] = error(graph, model, NEW)
    assert left["gradient"][:8].sum() > 2 * left["gradient"][8:].sum()
    assert left["uniform"][:8].sum() < 2 * left["uniform"][8:].sum()
    assert errors["gradient"] < errors["uniform"]
