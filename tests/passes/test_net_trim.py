"""net-trim on small graphs: what it changes, what it leaves alone and says why, what it refuses."""

from collections.abc import Generator, Mapping, Sequence
from typing import Any

import numpy as np
import onnx
import pytest
from hypothesis import given, settings
from onnx import TensorProto, helper, numpy_helper

from graphshrink.errors import CalibrationError, UsageError
from graphshrink.ir.check import check
from graphshrink.ir.graph import Graph
from graphshrink.ir.types import Array, Feeds
from graphshrink.ir.weight import weights
from graphshrink.onnx_io.emit import emit
from graphshrink.onnx_io.load import load
from graphshrink.onnx_io.runtime import Runtime
from graphshrink.passes.net_trim import NetTrim
from graphshrink.passes.sparsify import Sparsify
from graphshrink.passing.base import Context, Pass, PassResult, Selection
from graphshrink.passing.rules import By, LayerRule
from tests.layers import (
    arrays,
    by_magnitude,
    changed,
    context,
    convolution,
    correlated,
    error,
    outputs,
    perceptron,
    reasons,
    samples,
    smooth,
)
from tests.models import model_of, normal
from tests.runners import run_all
from tests.strategies import WIDTH, models

node = helper.make_node


@pytest.fixture(scope="module")
def runtime() -> Generator[Runtime]:
    with Runtime(timeout=60) as runtime:
        yield runtime


def trimmed(
    model: onnx.ModelProto, settings: NetTrim, runtime: Runtime, feeds: Sequence[Feeds], **rest: Any
) -> tuple[Graph, PassResult]:
    """The graph after the pass, checked."""
    graph = load(model)
    result = settings.run(graph, context(runtime, feeds, **rest))
    check(graph)
    assert result.layers.keys() == {weight.label for weight in weights(graph)}
    return graph, result


SEEN, NEW = samples(correlated(200, 24)), samples(correlated(50, 24, seed=5))


# ---- what it changes


@pytest.mark.parametrize("scheme", ["cascade", "parallel"])
def test_fewer_weights_for_nearly_the_same_outputs(scheme: str, runtime: Runtime) -> None:
    model = perceptron()
    graph, result = trimmed(model, NetTrim("0.1", scheme=scheme), runtime, SEEN)
    new = arrays(graph)
    assert changed(result).keys() == {"W1", "b1", "W2", "b2"}
    assert [changed(result)[name].part_of for name in ("W1", "b1", "b2")] == [None, "W1", "W2"]
    assert np.mean(new["W1"] == 0) > 0.6
    assert np.mean(new["W2"] == 0) > 0.3
    assert error(graph, model, NEW) < 0.15
    assert error(graph, model, NEW) < error(by_magnitude(model, graph, ["W1", "W2"]), model, NEW) / 3


def test_the_share_of_weights_that_is_asked_for(runtime: Runtime) -> None:
    graph, _ = trimmed(perceptron(), NetTrim(density=0.25), runtime, SEEN)
    shares = {name: np.mean(array != 0) for name, array in arrays(graph).items()}
    assert shares["W1"] == pytest.approx(0.25, abs=0.02)
    assert shares["W2"] == pytest.approx(0.25, abs=0.03)


def test_layers_see_what_the_layers_before_became(runtime: Runtime) -> None:
    """W1 loses more than epsilon allows W2, which makes up for it in a cascade alone."""
    model = perceptron()
    errors = {
        scheme: error(trimmed(model, NetTrim("0.3", scheme=scheme, refit=False), runtime, SEEN)[0], model, SEEN)
        for scheme in ("cascade", "parallel")
    }
    assert errors["cascade"] < 0.95 * errors["parallel"]


def test_zeros_after_relu_stay_zeros(runtime: Runtime) -> None:
    nodes = [node("MatMul", ["x", "W"], ["h"]), node("Relu", ["h"], ["y"])]
    model = model_of(nodes, {"W": normal(24, 16)}, {"x": ["n", 24]}, {"y": ["n", 16]})
    graph, _ = trimmed(model, NetTrim("0.1", refit=False), runtime, SEEN)
    before, after = outputs(load(model), SEEN), outputs(graph, SEEN)
    scale = np.sqrt(np.mean(before[before > 0] ** 2))
    assert after[before == 0].max() < 1e-3 * scale
    assert np.linalg.norm((after - before)[before > 0]) < 0.101 * np.linalg.norm(before)


@pytest.mark.parametrize("dtype", [np.float16, np.float64])
def test_other_floating_types_keep_theirs(dtype: Any, runtime: Runtime) -> None:
    model = perceptron(dtype)
    feeds = [{"x": feed["x"].astype(dtype)} for feed in SEEN]
    graph, result = trimmed(model, NetTrim("0.1"), runtime, feeds)
    assert "W1" in changed(result)
    assert {array.dtype for array in arrays(graph).values()} == {np.dtype(dtype)}
    assert error(graph, model, feeds) < 0.15


@pytest.mark.parametrize(("op_type", "groups"), [("Conv", 1), ("Conv", 2), ("Conv", 8), ("ConvTranspose", 1)])
def test_convolutions(op_type: str, groups: int, runtime: Runtime) -> None:
    model = convolution(groups=groups, op_type=op_type)
    seen, new = smooth(60, 0), smooth(10, 50)
    graph, result = trimmed(model, NetTrim("0.1"), runtime, seen)
    assert changed(result).keys() == {"W", "b"}
    assert np.mean(arrays(graph)["W"] == 0) > (0.1 if groups == 8 else 0.4)
    assert error(graph, model, new) < 0.1
    assert error(graph, model, new) < error(by_magnitude(model, graph, ["W"]), model, new)


def test_unused_inputs_and_outputs_are_counted(runtime: Runtime) -> None:
    model = perceptron()
    x = correlated(200, 24)
    x[:, :3] = 0
    graph, result = trimmed(model, NetTrim("0.1"), runtime, samples(x))
    unused = np.flatnonzero(np.abs(arrays(graph)["W1"]).sum(axis=0) == 0)
    assert {0, 1, 2} <= set(unused.tolist())
    assert f", {len(unused)} inputs and 0 outputs unused" in changed(result)["W1"].detail


def test_only_a_bias_of_its_own_is_changed(runtime: Runtime) -> None:
    nodes = [
        node("MatMul", ["x", "W1"], ["m"]),
        node("Add", ["m", "b"], ["h"]),
        node("Relu", ["h"], ["a"]),
        node("MatMul", ["a", "W2"], ["k"]),
        node("Add", ["k", "b"], ["y"]),
    ]
    constants = {"W1": normal(24, 24), "W2": normal(24, 24, seed=1), "b": normal(24, seed=2)}
    model = model_of(nodes, constants, {"x": ["n", 24]}, {"y": ["n", 24]})
    graph, result = trimmed(model, NetTrim("0.1"), runtime, SEEN)
    assert changed(result).keys() == {"W1", "W2"}
    np.testing.assert_array_equal(arrays(graph)["b"], constants["b"])
    assert error(graph, model, SEEN) < 0.15


def test_a_bias_that_is_excluded_stays(runtime: Runtime) -> None:
    graph, result = trimmed(perceptron(), NetTrim("0.1"), runtime, SEEN, selection=Selection(exclude=("b1",)))
    assert changed(result).keys() == {"W1", "W2", "b2"}
    np.testing.assert_array_equal(arrays(graph)["b1"], normal(16, seed=2))


def test_few_samples_are_remarked_on_and_do_less_harm_than_magnitudes(runtime: Runtime) -> None:
    model, few = perceptron(), SEEN[:12]
    graph, result = trimmed(model, NetTrim(density=0.3), runtime, few)
    assert changed(result)["W1"].detail.endswith("; only 12 rows for 24 inputs")
    assert error(graph, model, NEW) < error(by_magnitude(model, graph, ["W1", "W2"]), model, NEW) / 1.5


def test_the_share_of_weights_of_many_groups_together(runtime: Runtime) -> None:
    graph, _ = trimmed(convolution(groups=8), NetTrim(density=0.5), runtime, smooth(60, 0))
    assert np.mean(arrays(graph)["W"] != 0) == pytest.approx(0.5, abs=0.1)


@pytest.mark.parametrize("op_type", ["LSTM", "GRU", "RNN"])
@pytest.mark.parametrize("is_named", [True, False])
def test_recurrent_layers(op_type: str, is_named: bool, runtime: Runtime) -> None:
    gates = {"LSTM": 4, "GRU": 3, "RNN": 1}[op_type]
    states = "states" if is_named else ""
    nodes = [
        node("Transpose", ["x"], ["t"], perm=[1, 0, 2]),
        node(op_type, ["t", "W", "R"], [states, "last"], hidden_size=12, direction="bidirectional"),
        node("Identity", ["last"], ["y"]),
    ]
    constants = {"W": 0.1 * normal(2, 12 * gates, 24, seed=1), "R": 0.3 * normal(2, 12 * gates, 12, seed=2)}
    model = model_of(nodes, constants, {"x": [1, 6, 24]}, {"y": [2, 1, 12]})
    seen, new = (samples(correlated(n, 24, 6, seed=seed).transpose(0, 2, 1)) for n, seed in ((60, 0), (20, 9)))
    graph, result = trimmed(model, NetTrim("0.1"), runtime, seen)
    assert changed(result).keys() == {"W", "R"}
    assert all(np.mean(array == 0) > 0.1 for array in arrays(graph).values())
    assert error(graph, model, new) < 0.15
    assert [operator.outputs for _, operator in graph.operators() if operator.is_a(op_type)] == [(states, "last")]


def test_tables_keep_what_is_looked_up(runtime: Runtime) -> None:
    model = model_of([node("Gather", ["W", "x"], ["y"])], {"W": normal(30, 16)}, {"x": [1, 5]}, {"y": [1, 5, 16]})
    model.graph.input[0].type.tensor_type.elem_type = TensorProto.INT64
    often = samples(np.random.default_rng(0).integers(-10, 0, (40, 5)))
    graph, result = trimmed(model, NetTrim("0.2"), runtime, often)
    zeros = np.mean(arrays(graph)["W"] == 0, axis=1)
    assert changed(result).keys() == {"W"}
    assert 0.01 < error(graph, model, often) < 0.2
    assert 0 < zeros[20:].mean() < zeros[:20].mean() / 3
    np.testing.assert_array_equal(arrays(graph)["W"], np.where(arrays(graph)["W"] == 0, 0, normal(30, 16)))


# ---- what it leaves alone


def test_without_samples_nothing_is_done() -> None:
    result = NetTrim().run(load(perceptron()), Context())
    assert ["--no-verify" in reasons(result)[name] for name in ("W1", "W2")] == [True, True]


def test_what_cannot_be_solved_says_why(runtime: Runtime) -> None:
    output = helper.make_tensor_value_info("b", TensorProto.FLOAT, None)
    inner = numpy_helper.from_array(normal(24, 24, seed=1), "inner")
    body = helper.make_graph([node("MatMul", ["x", "inner"], ["b"])], "body", [], [output], [inner])
    nodes = [
        node("If", ["yes"], ["h"], then_branch=body, else_branch=body),
        node("MatMul", ["h", "twice"], ["i"]),
        node("MatMul", ["i", "twice"], ["j"]),
        node("MatMul", ["fixed", "behind"], ["k"]),
        node("Add", ["j", "k"], ["y"]),
    ]
    constants = {"twice": normal(24, 24), "behind": normal(24, 24, seed=2), "fixed": normal(1, 24, seed=3)}
    model = model_of(nodes, constants, {"x": ["n", 24]}, {"y": ["n", 24]})
    model.graph.input.append(helper.make_tensor_value_info("yes", TensorProto.BOOL, []))
    feeds = samples(correlated(20, 24), yes=np.array(True))
    found = reasons(trimmed(model, NetTrim(), runtime, feeds)[1])
    assert found["twice"] == "2 operators use it, whose outputs cannot all be kept at once"
    assert found["behind"].startswith("its inputs cannot be seen: ")
    assert {label for label in found if label.endswith("inner")} == {
        "/0:If/else_branch/inner",
        "/0:If/then_branch/inner",
    }


def test_a_layer_that_needs_all_of_its_weights(runtime: Runtime) -> None:
    model = model_of([node("MatMul", ["x", "W"], ["y"])], {"W": normal(3, 4)}, {"x": ["n", 3]}, {"y": ["n", 4]})
    graph, result = trimmed(model, NetTrim("0.001"), runtime, samples(normal(100, 3)))
    assert reasons(result) == {"W": "all of its weights are needed"}
    np.testing.assert_array_equal(arrays(graph)["W"], normal(3, 4))


def test_activations_that_are_no_numbers_name_the_value(runtime: Runtime) -> None:
    nodes = [node("Log", ["x"], ["logarithms"]), node("MatMul", ["logarithms", "W"], ["y"])]
    model = model_of(nodes, {"W": normal(24, 8)}, {"x": ["n", 24]}, {"y": ["n", 8]})
    with pytest.raises(CalibrationError, match="logarithms"):
        trimmed(model, NetTrim(), runtime, SEEN)


@pytest.mark.parametrize("x", [np.zeros((30, 24), np.float32), np.ones((30, 24), np.float32), correlated(5, 24)])
def test_inputs_that_say_little_do_no_harm(x: Array, runtime: Runtime) -> None:
    """Dead inputs, constant ones, and fewer samples than weights of an output."""
    model = perceptron()
    graph, _ = trimmed(model, NetTrim("0.1"), runtime, samples(x))
    assert error(graph, model, samples(x)) < 0.2


@settings(max_examples=15)
@given(models(runnable=True))
def test_random_models(runtime: Runtime, model: onnx.ModelProto) -> None:
    """Bodies, functions, tied and transposed weights, constants of other types: a reason for each that stays."""
    feeds = samples(normal(12, WIDTH), flag=np.array(True))
    graph, result = trimmed(model, NetTrim(density=0.5), runtime, feeds)
    assert all(outcome.detail for outcome in changed(result).values())
    assert all(reasons(result).values())
    assert all(np.isfinite(found["y"]).all() for found in run_all(emit(graph), feeds[:2], optimised=True))


# ---- options


def test_auto_splits_the_bound_on_the_outputs(runtime: Runtime) -> None:
    errors = {
        epsilon: error(trimmed(perceptron(), NetTrim(epsilon), runtime, SEEN, max_error=bound)[0], perceptron(), SEEN)
        for epsilon, bound in (("auto", 0.2), ("auto/2", 0.2), ("0.0001", 0.2))
    }
    assert errors["0.0001"] < 0.02 < errors["auto/2"] < errors["auto"] < 0.2


@pytest.mark.parametrize(
    "options",
    [
        {"epsilon": "none"},
        {"epsilon": "auto/0"},
        {"epsilon": "0"},
        {"epsilon": "inf"},
        {"density": 1.5},
        {"gamma": 0.9},
        {"kappa": 0.0},
        {"samples": 0},
        {"scheme": "serial"},
        {"solver": "simplex"},
    ],
)
def test_options_that_make_no_sense(options: Mapping[str, Any]) -> None:
    with pytest.raises(UsageError, match=next(iter(options))):
        NetTrim(**options)


def test_gentler_settings_end() -> None:
    for first in (NetTrim(), NetTrim("0.1"), NetTrim(density=0.1)):
        steps: list[NetTrim] = [first]
        while (softer := steps[-1].gentler()) is not None:
            steps.append(softer)
        assert 4 < len(steps) < 12


def two_products(*between: onnx.NodeProto, shape: Sequence[int | str] = ("n", 24), **held: Array) -> onnx.ModelProto:
    """x -> MatMul W1 -> h -> ... -> i -> MatMul W2 -> y."""
    nodes = [node("MatMul", ["x", "W1"], ["h"]), *between, node("MatMul", ["i", "W2"], ["y"])]
    weights_of = {"W1": normal(24, 16, seed=1), "W2": normal(16, 8, seed=2), **held}
    return model_of(nodes, weights_of, {"x": list(shape)}, {"y": [*shape[:-1], 8]})


BROADCAST = two_products(node("Add", ["h", "P"], ["i"]), shape=(1, 24), P=normal(5, 16, seed=3))
COUNTED = two_products(
    node("Relu", ["h"], ["r"]),
    node("Abs", ["x"], ["a"]),
    node("ReduceSum", ["r", "last"], ["s"], keepdims=0),
    node("Greater", ["s", "edge"], ["yes"]),
    node("NonZero", ["yes"], ["at"]),
    node("Transpose", ["at"], ["rows"]),
    node("GatherND", ["r", "rows"], ["i"]),
    last=np.array([1]),
    edge=np.array(8.0, np.float32),
)
OVERFLOWING = two_products(
    node("Clip", ["h", "low", "high"], ["i"]), low=np.array(-1, np.float32), high=np.array(1, np.float32)
)
MASKED = two_products(
    node("Less", ["x", "none"], ["m"]),
    node("Slice", ["m", "begin", "end", "axis"], ["some"]),
    node("Where", ["some", "away", "none"], ["mask"]),
    node("Add", ["h", "mask"], ["t"]),
    node("Softmax", ["t"], ["i"]),
    none=np.array(0, np.float32),
    away=np.array(-np.inf, np.float32),
    begin=np.array([0]),
    end=np.array([16]),
    axis=np.array([1]),
)


@pytest.mark.parametrize(
    ("model", "size", "reason"),
    [
        (BROADCAST, 1.0, "larger than they are"),
        (COUNTED, 1.0, None),
        (OVERFLOWING, 1e38, "too large"),
        (MASKED, 1.0, "not finite"),
    ],
    ids=["broadcast", "counted", "overflowing", "masked"],
)
def test_a_layer_that_cannot_be_fitted_does_not_end_the_run(
    runtime: Runtime, model: onnx.ModelProto, size: float, reason: str | None
) -> None:
    rows = 1 if model is BROADCAST else 8
    feeds = [{"x": (size * normal(rows, 24, seed=seed)).astype(np.float32)} for seed in range(12)]
    result = trimmed(model, NetTrim(epsilon="0.3"), runtime, feeds)[1]
    if reason is not None:
        assert reason in reasons(result)["W1"]
    assert "W2" in result.layers


def test_a_bias_that_a_rule_leaves_out_stays(runtime: Runtime) -> None:
    rule = LayerRule("net-trim", By.NAME, "b1", None)
    before = arrays(load(perceptron()))
    graph, result = trimmed(perceptron(), NetTrim(epsilon="0.2"), runtime, SEEN, rules=(rule,))
    assert "W1" in changed(result)
    assert "b1" not in changed(result)
    np.testing.assert_array_equal(arrays(graph)["b1"], before["b1"])


@pytest.mark.parametrize(
    "spec", [{"epsilon": "1e200"}, {"thin": True, "refit": False}, {"solver": "cvxpy", "density": 0.5}]
)
def test_options_that_cannot_be_meant(spec: dict[str, Any]) -> None:
    with pytest.raises(UsageError):
        NetTrim(**spec)


@pytest.mark.parametrize("step", [NetTrim(epsilon="0.1"), Sparsify(density=0.5)], ids=lambda step: step.name)
def test_a_single_step_has_no_states_to_fit_to(step: Pass, runtime: Runtime) -> None:
    """Its one state is the last output of the layer, which meets no weight."""
    nodes = [node("RNN", ["x", "W", "R"], ["y"], hidden_size=4)]
    model = model_of(nodes, {"W": normal(1, 4, 8), "R": normal(1, 4, 4)}, {"x": [1, 1, 8]}, {"y": [1, 1, 1, 4]})
    graph = load(model)
    result = step.run(graph, context(runtime, samples(normal(40, 1, 8)), max_error=0.5))
    assert reasons(result)["R"] == "it gets no rows from the samples"
