"""channel-removal on small graphs: what it changes, what it leaves alone and says why, what it refuses."""

from collections.abc import Generator, Sequence
from pathlib import Path
from typing import Any, Final

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper

import graphshrink
from graphshrink.errors import UsageError
from graphshrink.ir import edit
from graphshrink.ir.check import check
from graphshrink.ir.graph import Graph
from graphshrink.ir.tensor import tensor_of
from graphshrink.ir.types import Array, Feeds
from graphshrink.ir.weight import weights
from graphshrink.onnx_io.emit import emit
from graphshrink.onnx_io.load import load
from graphshrink.onnx_io.runtime import Runtime
from graphshrink.passes.channel_removal import ChannelRemoval
from graphshrink.passing.base import Context, PassResult, Selection
from graphshrink.passing.pipeline import run_passes
from graphshrink.passing.rules import By, LayerRule
from tests import commands
from tests.layers import arrays, changed, context, correlated, error, outputs, perceptron, reasons, samples
from tests.models import model_of, normal, saved, two_layers

node = helper.make_node


@pytest.fixture(scope="module")
def runtime() -> Generator[Runtime]:
    with Runtime(timeout=60) as runtime:
        yield runtime


def removed(
    model: onnx.ModelProto, settings: ChannelRemoval, runtime: Runtime, feeds: Sequence[Feeds], **rest: Any
) -> tuple[Graph, PassResult]:
    """The graph after the pass, checked."""
    graph = load(model)
    result = settings.run(graph, context(runtime, feeds, **rest))
    check(graph)
    onnx.checker.check_model(emit(graph), full_check=True)
    assert result.layers.keys() == {weight.label for weight in weights(graph)}
    assert not [line for line in result.kept if "(a bug)" in line]
    return graph, result


def images(width: int = 12) -> onnx.ModelProto:
    """x (n, 6, 8, 8) -> Conv, BatchNormalization, Relu -> Conv, Relu, residual sum -> mean -> Gemm -> y."""
    nodes = [
        node("Conv", ["x", "W1", "b1"], ["c1"], pads=[1] * 4, name="first"),
        node("BatchNormalization", ["c1", "gain", "offset", "mean", "variance"], ["n1"]),
        node("Relu", ["n1"], ["a1"]),
        node("Conv", ["a1", "W2", "b2"], ["c2"], pads=[1] * 4, name="second"),
        node("Relu", ["c2"], ["a2"]),
        node("Conv", ["a2", "W3"], ["c3"], name="third"),
        node("Add", ["a1", "c3"], ["s"]),
        node("GlobalAveragePool", ["s"], ["p"]),
        node("Flatten", ["p"], ["f"]),
        node("Gemm", ["f", "W4", "b4"], ["y"], transB=1, name="last"),
    ]
    constants = {
        "W1": normal(width, 6, 3, 3, seed=1) / 7,
        "b1": normal(width, seed=2) / 4,
        "gain": normal(width, seed=3),
        "offset": normal(width, seed=4) / 4,
        "mean": normal(width, seed=5) / 4,
        "variance": np.abs(normal(width, seed=6)) + 1,
        "W2": normal(10, width, 3, 3, seed=7) / 10,
        "b2": normal(10, seed=8) / 4,
        "W3": normal(width, 10, 1, 1, seed=9) / 3,
        "W4": normal(5, width, seed=10),
        "b4": normal(5, seed=11),
    }
    return model_of(nodes, constants, {"x": ["n", 6, 8, 8]}, {"y": ["n", 5]})


SEEN, NEW = samples(correlated(200, 24)), samples(correlated(50, 24, seed=5))
PICTURES, MORE = samples(correlated(60, 6, 8, 8)), samples(correlated(20, 6, 8, 8, seed=5))


# ---- what it changes


def test_neurons_go_and_the_next_layer_makes_up_for_them(runtime: Runtime) -> None:
    model = perceptron()
    graph, result = removed(model, ChannelRemoval(0.3), runtime, SEEN)
    new = arrays(graph)
    assert new["W1"].shape == (11, 24) and new["b1"].shape == (11,) and new["W2"].shape == (11, 8)
    assert new["b2"].shape == (8,)
    assert changed(result)["W1"].detail.startswith("[16, 24] -> [11, 24]")
    assert "11 left" in " ".join(result.graph) and not result.missed
    plain, _ = removed(model, ChannelRemoval(0.3, repair=False), runtime, SEEN)
    assert error(graph, model, NEW) < 0.5 * error(plain, model, NEW)
    assert error(graph, model, NEW) < 0.2


@pytest.mark.parametrize("of", ["macs", "params", "bytes", "macs+params"])
@pytest.mark.parametrize("ratio", [0.2, 0.5])
def test_the_ratio_is_reached_and_hardly_exceeded(of: str, ratio: float, runtime: Runtime) -> None:
    model = images()
    graph, result = removed(model, ChannelRemoval(ratio, of=of, repair=False), runtime, PICTURES[:10])
    assert not result.missed
    before, after = _costs(arrays(load(model))), _costs(arrays(graph))
    for kind in of.split("+"):
        assert ratio <= 1 - after[kind] / before[kind] + 1e-9
    assert min(1 - after[kind] / before[kind] for kind in of.split("+")) < ratio + 0.08


def test_of_two_costs_one_stops_at_its_ratio_where_the_other_cannot_be_reached(runtime: Runtime) -> None:
    """A constant as wide as the output holds most parameters and no MACs."""
    nodes = [node("MatMul", ["x", "W1"], ["h"]), node("Relu", ["h"], ["a"]), node("MatMul", ["a", "W2"], ["m"]),
             node("Add", ["m", "table"], ["y"])]  # fmt: skip
    constants = {"W1": normal(24, 40), "W2": normal(40, 8, seed=1), "table": normal(2000, 8, seed=2)}
    model = model_of(nodes, constants, {"x": [1, 24]}, {"y": [2000, 8]})
    graph, result = removed(model, ChannelRemoval(0.5, of="macs+params", multiple=1), runtime, SEEN[:20])
    assert arrays(graph)["W1"].shape[1] == 20
    assert len(result.missed) == 1 and "50.0% of macs and" in result.missed[0]
    both, _ = removed(model, ChannelRemoval(0.5, of="params", multiple=1), runtime, SEEN[:20])
    assert arrays(both)["W1"].shape[1] < 20  # the only one is brought as low as it can be


def _costs(found: dict[str, Array]) -> dict[str, float]:
    pixels = 64 * sum(found[name].size for name in ("W1", "W2", "W3"))
    size = sum(array.size for array in found.values())
    return {"macs": pixels + found["W4"].size, "params": size, "bytes": 4 * size}


def test_repair_helps_on_inputs_that_were_not_seen(runtime: Runtime) -> None:
    model = images()
    fitted, result = removed(model, ChannelRemoval(0.4), runtime, PICTURES)
    plain, _ = removed(model, ChannelRemoval(0.4, repair=False), runtime, PICTURES)
    assert error(fitted, model, MORE) < 0.8 * error(plain, model, MORE)
    assert any("residual" in outcome.detail for outcome in changed(result).values())


@pytest.mark.parametrize("criterion", ["auto", "energy", "greedy", "group-lasso", "l1", "l2", "lasso", "obs"])
def test_every_criterion(criterion: str, runtime: Runtime) -> None:
    model = perceptron()
    graph, result = removed(model, ChannelRemoval(0.4, criterion=criterion), runtime, SEEN)
    assert arrays(graph)["W1"].shape[0] < 11 and not result.missed
    assert error(graph, model, NEW) < 0.6


def test_numbers_of_channels_divide_by_the_multiple(runtime: Runtime) -> None:
    graph, result = removed(perceptron(), ChannelRemoval(0.3, multiple=4), runtime, SEEN)
    assert arrays(graph)["W1"].shape == (8, 24) and not result.missed


@pytest.mark.parametrize(("width", "multiple"), [(12, 1), (40, 8)])
def test_groups_of_convolutions_keep_what_the_runtime_likes(width: int, multiple: int, runtime: Runtime) -> None:
    """Narrow groups keep any number of channels, so that they can lose some."""
    graph, result = removed(images(width), ChannelRemoval(0.3, repair=False), runtime, PICTURES[:10])
    new = arrays(graph)
    assert not result.missed
    assert new["W1"].shape[0] < width and new["W1"].shape[0] % multiple == 0
    assert new["W1"].shape[0] == new["W3"].shape[0] == new["W4"].shape[1]


def test_unused_constant_and_copied_channels_go_for_nothing(runtime: Runtime) -> None:
    """Zero rows give a bias through Relu, unread neurons nothing, and copies are added up: outputs stay the same."""
    model = perceptron()
    constants = {tensor.name: onnx.numpy_helper.to_array(tensor).copy() for tensor in model.graph.initializer}
    constants["W1"][0] = 0
    constants["W2"][1] = 0
    constants["W1"][3], constants["b1"][3] = constants["W1"][2], constants["b1"][2]
    for tensor in model.graph.initializer:
        tensor.CopyFrom(onnx.numpy_helper.from_array(constants[tensor.name], tensor.name))
    graph, result = removed(model, ChannelRemoval(0.0), runtime, SEEN)
    assert arrays(graph)["W1"].shape == (13, 24)
    assert error(graph, model, NEW) < 1e-5
    assert "at no cost" in " ".join(result.graph) and not result.missed


@pytest.mark.parametrize("dtype", [np.float16, np.float64])
def test_other_floating_types_keep_theirs(dtype: Any, runtime: Runtime) -> None:
    model = perceptron(dtype)
    feeds = [{"x": feed["x"].astype(dtype)} for feed in SEEN]
    graph, result = removed(model, ChannelRemoval(0.3), runtime, feeds)
    assert arrays(graph)["W1"].shape == (11, 24) and not result.missed
    assert {array.dtype for array in arrays(graph).values()} == {np.dtype(dtype)}
    assert error(graph, model, feeds) < 0.2


def test_the_same_bytes_again(runtime: Runtime) -> None:
    first, second = (emit(removed(images(), ChannelRemoval(0.4), runtime, PICTURES[:20])[0]) for _ in range(2))
    assert first.SerializeToString(deterministic=True) == second.SerializeToString(deterministic=True)


def test_made_up_inputs_go_by_norms_and_fit_nothing(runtime: Runtime) -> None:
    model = perceptron()
    graph = load(model)
    given = context(runtime, SEEN)
    assert given.calibration is not None
    given.calibration.random = True
    result = ChannelRemoval(0.3).run(graph, given)
    rows = arrays(graph)["W1"]
    old = arrays(load(model))["W1"]
    assert rows.shape == (11, 24) and all((row == old).all(axis=1).any() for row in rows)
    assert not any("residual" in outcome.detail for outcome in changed(result).values())


# ---- what it leaves alone


def test_nothing_is_asked_for(runtime: Runtime) -> None:
    model = perceptron()
    graph, result = removed(model, ChannelRemoval(0.0), runtime, SEEN)
    assert not result.did_anything and not result.missed
    assert emit(graph) == model


@pytest.mark.parametrize(
    "selection", [Selection(exclude=("W1",)), Selection(include=("W2",))], ids=["exclude", "include"]
)
def test_selected_layers_keep_their_channels(selection: Selection, runtime: Runtime) -> None:
    graph, result = removed(perceptron(), ChannelRemoval(0.3), runtime, SEEN, selection=selection)
    assert arrays(graph)["W1"].shape == (16, 24) and arrays(graph)["W2"].shape == (16, 8)
    assert np.array_equal(arrays(graph)["W1"], arrays(load(perceptron()))["W1"])
    assert reasons(result)["W1"] in ("excluded", "not included")
    assert len(result.missed) == 1 and "cannot be reached" in result.missed[0]


def test_a_layer_rule_keeps_a_weight(runtime: Runtime) -> None:
    rule = LayerRule("channel-removal", By.NAME, "second", None)
    graph, result = removed(images(), ChannelRemoval(0.2), runtime, PICTURES[:20], rules=(rule,))
    assert arrays(graph)["W2"].shape == (10, 12, 3, 3)
    assert reasons(result)["W2"] == "a layer rule says so"


@pytest.mark.parametrize("bad", [float("nan"), float("inf")])
def test_weights_that_are_not_finite_keep_their_channels(bad: float, runtime: Runtime) -> None:
    """They cannot be ranked by norms, which made-up inputs leave as the only criterion."""
    model = perceptron()
    graph = load(model)
    broken = arrays(graph)["W1"].copy()
    broken[0, 0] = bad
    edit.set_constant(graph, "W1", tensor_of(broken, "W1"))
    given = context(runtime, SEEN)
    assert given.calibration is not None
    given.calibration.random = True
    result = ChannelRemoval(0.3).run(graph, given)
    np.testing.assert_array_equal(arrays(graph)["W1"], broken)
    assert reasons(result)["W1"] == "holds NaN or infinity, which no norm ranks"


def test_nothing_is_known_without_running_the_model() -> None:
    graph = load(perceptron())
    result = ChannelRemoval().run(graph, Context())
    said = "nothing is run, so that shapes are not known (--no-verify)"
    assert reasons(result)["W1"] == reasons(result)["W2"] == said
    assert emit(graph) == perceptron() and not result.did_anything


def test_an_old_operator_set(runtime: Runtime) -> None:
    model = perceptron()
    model.opset_import[0].version = 8
    model.ir_version = 4
    graph, result = removed(model, ChannelRemoval(), runtime, SEEN[:4])
    assert "opset 8 is older than 9" in set(reasons(result).values())
    assert emit(graph) == model


def test_an_unknown_operator_is_named(runtime: Runtime) -> None:
    nodes = [
        node("MatMul", ["x", "W1"], ["h"]),
        node("FusedMatMul", ["h", "V"], ["g"], domain="com.microsoft", name="joined"),
        node("MatMul", ["g", "W2"], ["m"]),
        node("MatMul", ["m", "W3"], ["y"]),
    ]
    constants = {"W1": normal(24, 16), "V": normal(16, 12, seed=1), "W2": normal(12, 10, seed=2), "W3": normal(10, 4)}
    model = model_of(nodes, constants, {"x": ["n", 24]}, {"y": ["n", 4]})
    model.opset_import.append(helper.make_opsetid("com.microsoft", 1))
    graph = load(model)
    result = ChannelRemoval(0.1).run(graph, context(runtime, SEEN))
    new = arrays(graph)
    assert new["W1"].shape == (24, 16) and new["V"].shape == (16, 12) and new["W2"].shape[1] < 10
    assert any("FusedMatMul 'joined' is not known" in line for line in result.kept)


def test_a_quantised_model_keeps_what_its_integers_say(runtime: Runtime) -> None:
    """Integer weights behind DequantizeLinear are cut with the channels of what is left."""
    nodes = [
        node("DequantizeLinear", ["Q1", "s", "z"], ["W1"], axis=1),
        node("MatMul", ["x", "W1"], ["h"]),
        node("Relu", ["h"], ["a"]),
        node("MatMul", ["a", "W2"], ["y"]),
    ]
    rng = np.random.default_rng(0)
    constants: dict[str, Array] = {
        "Q1": rng.integers(-127, 128, (24, 16)).astype(np.int8),
        "s": np.full(16, 0.01, np.float32),
        "z": np.zeros(16, np.int8),
        "W2": normal(16, 8, seed=3),
    }
    model = model_of(nodes, constants, {"x": ["n", 24]}, {"y": ["n", 8]})
    graph = load(model)
    result = ChannelRemoval(0.3, repair=False).run(graph, context(runtime, SEEN))
    onnx.checker.check_model(emit(graph), full_check=True)
    assert not [line for line in result.kept if "(a bug)" in line]
    assert outputs(graph, NEW).shape == (50, 8)
    left = graph.constant("Q1")
    assert left is not None and left.dims[1] == arrays(graph)["W2"].shape[0] < 16


def test_channels_of_an_input_that_may_have_any_number(runtime: Runtime) -> None:
    nodes = [node("Relu", ["x"], ["a"]), node("ReduceMean", ["a"], ["m"], axes=[1]), node("MatMul", ["m", "W1"], ["h"]),
             node("MatMul", ["h", "W2"], ["y"])]  # fmt: skip
    constants = {"W1": normal(1, 12), "W2": normal(12, 4, seed=1)}
    model = model_of(nodes, constants, {"x": ["n", "c"]}, {"y": ["n", 4]})
    graph, result = removed(model, ChannelRemoval(0.5), runtime, SEEN[:20])
    assert arrays(graph)["W1"].shape[1] <= 6 and not result.missed
    assert outputs(graph, samples(normal(3, 7))).shape == (3, 4)


# ---- what it refuses


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"ratio": 1.0}, "ratio=1.0 is outside 0 to 1"),
        ({"ratio": -0.1}, "ratio=-0.1 is outside 0 to 1"),
        ({"ratio": float("nan")}, "ratio=nan is outside 0 to 1"),
        ({"of": "watts"}, "of='watts' is none of macs, params, bytes"),
        ({"of": "latency"}, "of=latency needs table=FILE"),
        ({"criterion": "luck"}, "criterion='luck' is none of auto"),
        ({"multiple": -1}, "multiple=-1 is outside 0 to 256"),
        ({"multiple": 257}, "multiple=257 is outside 0 to 256"),
        ({"damping": 1.5}, "damping=1.5 is outside 0 to 1"),
        ({"damping": float("nan")}, "damping=nan is outside 0 to 1"),
    ],
)
def test_bad_options(options: dict[str, Any], said: str) -> None:
    with pytest.raises(UsageError) as refused:
        ChannelRemoval(**options)
    assert said in str(refused.value) and "\n" not in str(refused.value)


# ---- with all that surrounds it

_FEW: Final = [{"x": row["x"]} for row in samples(correlated(30, 32))]


def test_milder_ratios_when_outputs_change_too_much() -> None:
    free = graphshrink.compile(two_layers(), "channel-removal{ratio=0.9}", calibration=_FEW, max_error=10.0)
    held = graphshrink.compile(two_layers(), "channel-removal{ratio=0.9}", calibration=_FEW, max_error=0.2)
    assert not free.report["passes"][0]["backed_off"]
    assert held.report["passes"][0]["backed_off"]
    assert held.report["verification"]["held_out"]["error"] <= 0.2
    widths = [onnx.numpy_helper.to_array(c.model.graph.initializer[0]).shape for c in (free, held)]
    assert widths[0] < widths[1]


def test_a_ratio_that_cannot_be_reached_is_exit_code_4(tmp_path: Path) -> None:
    nodes = [node("MatMul", ["x", "W"], ["h"]), node("Softmax", ["h"], ["s"]), node("MatMul", ["s", "V"], ["y"])]
    model = model_of(nodes, {"W": normal(32, 20), "V": normal(20, 8, seed=1)}, {"x": ["n", 32]}, {"y": ["n", 8]})
    path, out = saved(model, tmp_path), tmp_path / "out.onnx"
    np.savez(tmp_path / "c.npz", x=correlated(8, 32)[:, None])
    done = commands.graphshrink(
        path, out, "--passes", "channel-removal{ratio=0.5}", "--calibration", tmp_path / "c.npz", "--quiet"
    )
    assert done.returncode == 4, done.stderr
    assert "ratio=0.5 of macs cannot be reached: 0.0% of macs went" in done.stderr
    assert "compares along this axis" in done.stderr
    assert out.exists()


def test_a_pipeline_with_other_passes(runtime: Runtime) -> None:
    """What net-trim makes zero goes for nothing, and weights are shared among what is left."""
    graph, records = run_passes(
        load(perceptron()), [ChannelRemoval(0.3), ChannelRemoval(0.3)], context(runtime, SEEN), None
    )
    assert [record.rolled_back for record in records] == [None, None]
    assert arrays(graph)["W1"].shape[0] <= 8
    assert TensorProto.FLOAT in {tensor.data_type for tensor in emit(graph).graph.initializer}
