"""weight-sharing on small graphs: what it changes, what it leaves alone and says why, what it refuses."""

import itertools
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from graphshrink.encodings import Storage, encode_graph
from graphshrink.errors import UsageError
from graphshrink.ir.check import check
from graphshrink.ir.compare import difference
from graphshrink.ir.graph import Graph
from graphshrink.ir.types import Array
from graphshrink.ir.weight import weights
from graphshrink.onnx_io.emit import emit
from graphshrink.onnx_io.load import load
from graphshrink.ops import why_not_a_weight
from graphshrink.passes.weight_sharing import WeightSharing
from graphshrink.passing.base import Changed, Context, Outcome, Pass, PassResult, Selection, Skipped
from tests.models import LENET, model_of, normal, saved

PLAIN = Context(Storage("plain"))  # changes tensors that are too small to gain from it


def product(array: Array, **rest: Array) -> onnx.ModelProto:
    """x -> MatMul w -> y, with further products for further constants."""
    constants = {"w": array, **rest}
    nodes = [helper.make_node("MatMul", ["x", name], [f"y_{name}"], name=f"times_{name}") for name in constants]
    outputs: dict[str, list[int | str]] = {f"y_{name}": [1, c.shape[-1]] for name, c in constants.items()}
    return model_of(nodes, constants, {"x": [1, array.shape[0]]}, outputs)


def shared(
    model: onnx.ModelProto | Path, settings: WeightSharing, context: Context | None = None
) -> tuple[Graph, PassResult]:
    """The graph after the pass, checked, with the original as it was."""
    graph = load(model)
    before = graph.copy()
    result = settings.run(graph, context or Context())
    check(graph)
    assert difference(before, load(model)) is None
    assert result.layers.keys() == {weight.label for weight in weights(graph)}
    return graph, result


def array_of(graph: Graph, name: str = "w") -> Array:
    return next(weight.array for weight in weights(graph) if weight.name == name)


def only(result: PassResult) -> Outcome:
    [outcome] = result.layers.values()
    return outcome


def reason(outcome: Outcome) -> str:
    assert isinstance(outcome, Skipped)
    return outcome.reason


def detail(outcome: Outcome) -> str:
    assert isinstance(outcome, Changed)
    return outcome.detail


def optimum(values: Array, k: int) -> Array:
    """The best replacement by k values, found by trying every way to cut the sorted values."""
    ordered = np.sort(values.reshape(-1)).astype(np.float64)
    best, centroids = np.inf, np.zeros(0)
    for cuts in itertools.combinations(range(1, ordered.size), k - 1):
        parts = np.split(ordered, cuts)
        cost = sum(float(((part - part.mean()) ** 2).sum()) for part in parts)
        if cost < best:
            best, centroids = cost, np.array([part.mean() for part in parts])
    nearest: Array = centroids[np.abs(values[..., None] - centroids).argmin(axis=-1)]
    return nearest


def assert_shared(found: Array, wanted: Array) -> None:
    """Equal up to rounding the means to float32, and with as few values."""
    assert found.dtype == np.float32
    assert found.shape == wanted.shape
    np.testing.assert_allclose(found, wanted, rtol=1e-6, atol=1e-7)
    assert len(np.unique(found)) == len(np.unique(wanted))


# ---- what it changes


def test_the_picture_in_the_docstring() -> None:
    array = np.array([[0.11, 0.09, -0.52], [0.10, -0.49, -0.50]], np.float32)
    graph, result = shared(product(array), WeightSharing(bits=1), PLAIN)
    wanted = np.array([[0.1, 0.1, -0.5033333], [0.1, -0.5033333, -0.5033333]])
    assert_shared(array_of(graph), wanted)
    outcome = only(result)
    assert isinstance(outcome, Changed)
    assert outcome.detail == "1 bits, 1 codebook"
    assert outcome.weight_error == pytest.approx(np.linalg.norm(wanted - array) / np.linalg.norm(array), rel=1e-5)


@pytest.mark.parametrize("bits", [1, 2])
def test_one_codebook(bits: int) -> None:
    array = normal(3, 6)
    graph, _ = shared(product(array), WeightSharing(bits=bits, granularity="tensor"), PLAIN)
    assert_shared(array_of(graph), optimum(array, 1 << bits))


def test_a_codebook_for_each_channel() -> None:
    array = normal(7, 3)
    graph, result = shared(product(array), WeightSharing(bits=1, granularity="channel"), PLAIN)
    assert_shared(array_of(graph), np.stack([optimum(column, 2) for column in array.T], axis=1))
    assert detail(only(result)) == "1 bits, 3 codebooks along axis 1"


def test_a_codebook_for_some_channels() -> None:
    array = normal(4, 6)
    graph, result = shared(product(array), WeightSharing(bits=1, granularity="2"), PLAIN)
    wanted = np.concatenate([optimum(array[:, i : i + 2], 2) for i in (0, 2, 4)], axis=1)
    assert_shared(array_of(graph), wanted)
    assert detail(only(result)) == "1 bits, 3 codebooks along axis 1"


@pytest.mark.parametrize(
    ("op_type", "shape", "axis", "attributes"),
    [
        ("Conv", (6, 4, 3, 3), 0, {}),
        ("ConvTranspose", (4, 6, 3, 3), 1, {}),
        ("Gemm", (9, 6), 1, {}),
        ("Gemm", (6, 9), 0, {"transB": 1}),
        ("Gather", (6, 9), 0, {}),
        ("Gather", (9, 6), 1, {"axis": -1}),
    ],
)
def test_channels_lie_along_the_operator_s_axis(
    op_type: str, shape: tuple[int, ...], axis: int, attributes: dict[str, Any]
) -> None:
    inputs = ["w", "x"] if op_type == "Gather" else ["x", "w"]
    node = helper.make_node(op_type, inputs, ["y"], **attributes)
    array = normal(*shape)
    graph, result = shared(
        model_of([node], {"w": array}, {"x": ["n"]}, {"y": ["n"]}), WeightSharing(bits=2, granularity="channel"), PLAIN
    )
    assert detail(only(result)) == f"2 bits, 6 codebooks along axis {axis}"
    for channel, before in zip(np.moveaxis(array_of(graph), axis, 0), np.moveaxis(array, axis, 0), strict=True):
        values = np.unique(channel)
        assert len(values) == 4
        # Nearest value for every weight, and every value the mean of its weights: nothing else is a k-means result.
        labels = np.abs(before[..., None] - values).argmin(axis=-1)
        np.testing.assert_array_equal(channel, values[labels])
        means = [before[labels == label].mean(dtype=np.float64) for label in range(4)]
        np.testing.assert_allclose(values, means, rtol=1e-6)


@pytest.mark.parametrize("elem_type", [TensorProto.FLOAT16, TensorProto.BFLOAT16, TensorProto.DOUBLE])
def test_other_floating_types_keep_theirs(elem_type: int) -> None:
    model = product(np.zeros((64, 64), np.float32))
    dtype = helper.tensor_dtype_to_np_dtype(elem_type)
    array = normal(64, 64).astype(dtype)
    tensor = helper.make_tensor("w", elem_type, array.shape, array.tobytes(), raw=True)
    model.graph.initializer[0].CopyFrom(tensor)
    graph, result = shared(model, WeightSharing(bits=4))
    new = array_of(graph)
    assert new.dtype == dtype
    assert len(np.unique(new.astype(np.float64))) == 16
    outcome = only(result)
    assert isinstance(outcome, Changed)
    # 16 values for a normal distribution: 20.22 dB (Max 1960), and half of bfloat16's 8 bits add little.
    assert outcome.weight_error == pytest.approx(10 ** (-20.22 / 20), rel=0.03)


def test_zeros_of_pruned_weights_stay() -> None:
    array = normal(40, 40)
    array[np.random.default_rng(1).random(array.shape) < 0.5] = 0
    graph, _ = shared(product(array), WeightSharing(bits=3))
    new = array_of(graph)
    assert np.all(new[array == 0] == 0)
    assert len(np.unique(new)) == 8


def test_zeros_stay_in_each_channel_that_was_pruned() -> None:
    array = normal(400, 4) + 3
    array[:200, 1] = 0
    array[0, 2] = 0  # an accident
    graph, _ = shared(product(array), WeightSharing(bits=2, granularity="channel"))
    new = array_of(graph)
    assert np.all(new[:200, 1] == 0)
    assert 0 not in new[:, 2]


def test_tied_weights_are_changed_once() -> None:
    nodes = [
        helper.make_node("Gather", ["w", "ids"], ["h"]),
        helper.make_node("Transpose", ["w"], ["v"], perm=[1, 0]),
        helper.make_node("MatMul", ["h", "v"], ["y"]),
    ]
    model = model_of(nodes, {"w": normal(200, 64)}, {"ids": [3]}, {"y": [3, 200]})
    model.graph.input[0].type.tensor_type.elem_type = TensorProto.INT64
    graph, result = shared(model, WeightSharing(bits=4, granularity="channel"))
    assert detail(only(result)) == "4 bits, 200 codebooks along axis 0"
    assert all(len(np.unique(row)) == 16 for row in array_of(graph))


def test_weights_in_bodies_and_functions() -> None:
    output = helper.make_tensor_value_info("b", TensorProto.FLOAT, [1, 40])
    body = helper.make_graph(
        [helper.make_node("MatMul", ["x", "inner"], ["b"])],
        "body",
        [],
        [output],
        [numpy_helper.from_array(normal(40, 40, seed=1), "inner")],
    )
    value = numpy_helper.from_array(normal(40, 40, seed=2))
    function = helper.make_function(
        "local",
        "Dense",
        ["a"],
        ["b"],
        [helper.make_node("Constant", [], ["held"], value=value), helper.make_node("MatMul", ["a", "held"], ["b"])],
        [helper.make_opsetid("", 13)],
    )
    nodes = [
        helper.make_node("If", ["yes"], ["h"], then_branch=body, else_branch=body),
        helper.make_node("Dense", ["h"], ["y"], domain="local"),
    ]
    model = model_of(nodes, {}, {"x": [1, 40]}, {"y": [1, 40]})
    model.graph.input.append(helper.make_tensor_value_info("yes", TensorProto.BOOL, []))
    model.opset_import.add(domain="local", version=1)
    model.functions.append(function)
    graph, result = shared(model, WeightSharing(bits=2))
    assert len(result.changed) == 3
    assert all(len(np.unique(weight.array)) == 4 for weight in weights(graph))


# ---- auto


def test_auto_takes_codebooks_for_channels_of_very_different_scales() -> None:
    scales = np.geomspace(0.1, 10, 9).astype(np.float32)
    graph, result = shared(product(normal(2000, 9) * scales), WeightSharing(bits=3))
    assert detail(only(result)) == "3 bits, 9 codebooks along axis 1"
    assert all(len(np.unique(column)) == 8 for column in array_of(graph).T)


def test_auto_takes_groups_where_neighbours_are_alike() -> None:
    scales = np.repeat((10.0 ** np.arange(4)), 8).astype(np.float32)
    _, result = shared(product(normal(600, 32) * scales), WeightSharing(bits=4))
    assert detail(only(result)) == "4 bits, 4 codebooks along axis 1"


@pytest.mark.parametrize("shape", [(500, 8), (64, 512), (1200, 1200)])
def test_auto_takes_one_codebook_where_channels_are_alike(shape: tuple[int, int]) -> None:
    _, result = shared(product(normal(*shape)), WeightSharing(bits=4))
    assert detail(only(result)) == "4 bits, 1 codebook"


def test_auto_sees_large_tensors_by_samples() -> None:
    scales = np.exp(2 * normal(1, 300, seed=1))
    _, result = shared(product(normal(10_000, 300) * scales), WeightSharing(bits=2))
    assert detail(only(result)) == "2 bits, 300 codebooks along axis 1"


def test_auto_spends_no_more_on_codebooks_than_on_codes() -> None:
    _, result = shared(product(normal(8, 500) * np.exp(3 * normal(1, 500))), WeightSharing(bits=4))
    assert "500" not in detail(only(result))


# ---- what it leaves alone


def test_what_is_no_weight_stays() -> None:
    nodes = [
        helper.make_node("Gemm", ["x", "w", "bias"], ["h"]),
        helper.make_node("MatMul", ["h", "out"], ["i"]),
        helper.make_node("MatMul", ["i", "free"], ["j"]),
        helper.make_node("Add", ["j", "added"], ["y"]),
        helper.make_node("MatMulInteger", ["q", "whole"], ["z"]),
    ]
    constants: dict[str, Array] = {
        "w": normal(64, 64),
        "bias": normal(64, seed=1),
        "out": normal(64, 64, seed=2),
        "free": normal(64, 64, seed=3),
        "added": normal(64, 64, seed=4),
        "whole": np.arange(4096, dtype=np.uint8).reshape(64, 64),
        "lone": normal(64, 64, seed=5),
    }
    model = model_of(nodes, constants, {"x": [1, 64], "q": [1, 64], "free": [64, 64]}, {"y": [64, 64], "out": [64, 64]})
    graph, result = shared(model, WeightSharing())
    assert {name: o.reason for name, o in result.layers.items() if isinstance(o, Skipped)} == {
        "bias": "input 2 of Gemm is no weight matrix",
        "out": "it is an output of its graph",
        "free": "the caller may override it (it is also an input)",
        "added": "input 1 of Add is no weight matrix",
        "whole": "not of a floating type",
        "lone": "nothing uses it",
    }
    assert result.changed == ["w"]
    for name in constants.keys() - {"w"}:
        np.testing.assert_array_equal(array_of(graph, name), constants[name])


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_weights_that_are_not_finite_stay(value: float) -> None:
    array = normal(600, 600)
    array[-1, -1] = value
    graph, result = shared(product(array), WeightSharing())
    assert reason(only(result)) == "holds NaN or infinity, which is stored exactly"
    np.testing.assert_array_equal(array_of(graph), array)


def test_what_is_too_small_to_gain_stays() -> None:
    graph, result = shared(product(normal(8, 10)), WeightSharing(bits=4))
    assert reason(only(result)) == "too small to gain from sharing"
    np.testing.assert_array_equal(array_of(graph), normal(8, 10))


def test_what_saves_less_than_the_table_it_needs_stays() -> None:
    """300 weights at one bit save 750 bytes, but a table of 2 kB comes with them; four such tensors share one."""
    _, result = shared(product(normal(15, 20)), WeightSharing(bits=1))
    assert reason(only(result)) == "too small to gain from sharing"
    _, result = shared(
        product(normal(15, 20), **{f"w{i}": normal(15, 20, seed=i) for i in (1, 2, 3)}), WeightSharing(bits=1)
    )
    assert len(result.changed) == 4


def test_empty_weights_stay() -> None:
    _, result = shared(product(np.zeros((0, 5), np.float32)), WeightSharing(), PLAIN)
    assert reason(only(result)) == "empty"


@pytest.mark.parametrize("granularity", ["auto", "tensor", "channel", "2"])
def test_what_has_few_values_already_stays(granularity: str) -> None:
    array = normal(16)[np.random.default_rng(0).integers(0, 16, (64, 64))]
    graph, result = shared(product(array), WeightSharing(bits=4, granularity=granularity))
    assert reason(only(result)).startswith("has at most 16 values already (")
    np.testing.assert_array_equal(array_of(graph), array)


def test_signed_zeros_are_one_value() -> None:
    array = np.where(normal(64, 64) > 0, np.float32(0), np.float32(-0.0))
    graph, result = shared(product(array), WeightSharing(bits=1, granularity="tensor"), PLAIN)
    assert reason(only(result)).startswith("has at most 2 values already")
    np.testing.assert_array_equal(np.signbit(array_of(graph)), np.signbit(array))


def test_channels_that_do_not_divide_stay() -> None:
    _, result = shared(product(normal(64, 64)), WeightSharing(granularity="7"))
    assert reason(only(result)) == "64 channels do not divide by 7"


def test_no_agreed_axis() -> None:
    nodes = [helper.make_node("MatMul", ["w", "x"], ["h"]), helper.make_node("MatMul", ["h", "w"], ["y"])]
    model = model_of(nodes, {"w": normal(64, 64)}, {"x": [64, 64]}, {"y": [64, 64]})
    _, result = shared(model, WeightSharing(granularity="channel"))
    assert reason(only(result)) == "its uses do not agree on an axis of output channels"
    _, result = shared(model, WeightSharing(granularity="auto"))
    assert detail(only(result)) == "4 bits, 1 codebook"


def test_include_and_exclude() -> None:
    model = product(normal(64, 64), v=normal(64, 64, seed=1), u=normal(64, 64, seed=2))
    _, result = shared(model, WeightSharing(), Context(selection=Selection(include=("times_w", "v"), exclude=("v",))))
    assert result.changed == ["w"]
    assert reason(result.layers["v"]) == "excluded"
    assert reason(result.layers["u"]) == "not included"
    _, result = shared(model, WeightSharing(), Context(selection=Selection(exclude=("MatMul",))))
    assert result.changed == []


def test_milder_settings_for_single_layers() -> None:
    model = product(normal(64, 64), v=normal(64, 64, seed=1), u=normal(64, 64, seed=2))
    milder: dict[str, Pass | None] = {"v": WeightSharing(bits=6), "u": None}
    graph, result = shared(model, WeightSharing(bits=4), Context(milder=milder))
    assert detail(result.layers["w"]) == "4 bits, 1 codebook"
    assert detail(result.layers["v"]) == "6 bits, 1 codebook"
    assert reason(result.layers["u"]) == "changed the outputs too much"
    assert [len(np.unique(array_of(graph, name))) for name in "wv"] == [16, 64]
    np.testing.assert_array_equal(array_of(graph, "u"), normal(64, 64, seed=2))


# ---- what it refuses


@pytest.mark.parametrize("bits", [0, -1, 9, 1000])
def test_bits_out_of_range(bits: int) -> None:
    with pytest.raises(UsageError, match=f"bits={bits} is outside 1 to 8"):
        WeightSharing(bits=bits)


@pytest.mark.parametrize("granularity", ["", "0", "-1", "1.5", "row", "Auto", "²", "٣", "9" * 5000, "1e3"])
def test_granularity_that_cannot_be(granularity: str) -> None:
    with pytest.raises(UsageError, match="is none of auto, model, tensor, channel, or a number"):
        WeightSharing(granularity=granularity)


# ---- promises


@pytest.mark.parametrize("bits", range(1, 9))
def test_gentler_ends(bits: int) -> None:
    settings: WeightSharing | None = WeightSharing(bits=bits, granularity="channel")
    seen: list[int | str] = []
    while settings is not None:
        assert settings.granularity == "channel"
        seen.append(settings.bits)
        settings = settings.gentler()
    assert seen == sorted(set(seen))
    assert seen[-1] == 8


def written(graph: Graph) -> bytes:
    """The graph with its weights encoded, as a file."""
    copy = graph.copy()
    encode_graph(copy, [weight for weight in weights(copy) if why_not_a_weight(weight) is None], Storage())
    return emit(copy).SerializeToString(deterministic=True)


def hard_model() -> onnx.ModelProto:
    """Weights of all kinds: scaled channels, pruned ones, few rare values, ones that two groups share."""
    rng = np.random.default_rng(0)
    rare = np.zeros((64, 600), np.float32)
    rare.reshape(-1)[rng.choice(rare.size, 40, replace=False)] = rng.standard_normal(40)
    halves = np.concatenate([normal(64, 32), 50 * normal(64, 32, seed=3)], axis=1)
    scaled = normal(64, 300) * np.exp(2 * normal(1, 300))
    return product(normal(64, 96), rare=rare, halves=halves, scaled=scaled, half=normal(64, 64) * (normal(64, 64) > 1))


@pytest.mark.parametrize("bits", [1, 3, 4, 8])
@pytest.mark.parametrize("granularity", ["auto", "channel", "tensor", "4"])
def test_twice_gives_the_same_bytes(bits: int, granularity: str) -> None:
    settings = WeightSharing(bits=bits, granularity=granularity)
    graph, first = shared(hard_model(), settings)
    content = written(graph)
    again = load(onnx.ModelProto.FromString(content))
    result = settings.run(again, Context())
    assert result.changed == []
    assert written(again) == content
    assert first.changed or bits == 8  # codebooks of 256 values hold every value of short channels


def test_jobs_do_not_change_bytes(tmp_path: Path) -> None:
    path = saved(hard_model(), tmp_path)
    settings = WeightSharing(bits=3)
    contents = {written(shared(path, settings, Context(jobs=jobs))[0]) for jobs in (1, 2, 2)}
    assert len(contents) == 1


def test_a_real_model() -> None:
    graph, result = shared(LENET, WeightSharing(bits=4))
    assert len(result.changed) >= 3
    for label in result.changed:
        outcome = result.layers[label]
        assert isinstance(outcome, Changed)
        assert 0 < outcome.weight_error < 0.15
    assert len(written(graph)) < LENET.stat().st_size / 7


@pytest.mark.parametrize("op_type", ["MatMul", "Gather"])
def test_arrays_are_replaced_and_not_written_into(op_type: str) -> None:
    """Also where the channels lie along the first axis, so that the pass works on the array itself and no copy."""
    array = normal(64, 64)
    model = product(array)
    model.graph.node[0].op_type = op_type
    if op_type == "Gather":
        model.graph.node[0].input[:] = ["w", "x"]
    graph = load(model)
    tensor = next(weight.tensor for weight in weights(graph))
    result = WeightSharing(granularity="channel").run(graph, Context())
    assert len(result.changed) == 1
    np.testing.assert_array_equal(tensor.array, array)
    assert not array_of(graph).flags.writeable


def test_settings_are_values() -> None:
    assert WeightSharing() == WeightSharing(bits=4, granularity="auto")
    assert replace(WeightSharing(), bits=5) != WeightSharing()
