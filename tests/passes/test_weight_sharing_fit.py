"""weight-sharing with samples and other codebooks: what it gains, what it keeps, and what it falls back to."""

from collections.abc import Generator, Sequence
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from graphshrink.calibration.engine import Calibration
from graphshrink.calibration.samples import held
from graphshrink.encodings import Storage
from graphshrink.errors import CalibrationError, UsageError
from graphshrink.ir.check import check
from graphshrink.ir.graph import Graph
from graphshrink.ir.types import Array, Feeds
from graphshrink.ir.weight import weights
from graphshrink.onnx_io.emit import emit
from graphshrink.onnx_io.load import load
from graphshrink.onnx_io.runtime import Runtime
from graphshrink.passes.weight_sharing import WeightSharing
from graphshrink.passing.base import Changed, Context, PassResult, Skipped
from tests.models import model_of, normal
from tests.runners import run_all

node = helper.make_node
PLAIN, SMALL = Storage("plain"), Storage("small")
COMPENSATED = WeightSharing(bits=2, granularity="tensor", assignment="compensated")


@pytest.fixture(scope="module")
def runtime() -> Generator[Runtime]:
    with Runtime(timeout=60) as runtime:
        yield runtime


def correlated(count: int, width: int, seed: int = 0) -> Array:
    """Inputs of few causes, as activations are."""
    causes, mixing = normal(count, 6, seed=seed), normal(6, width, seed=99)
    mixed: Array = (causes @ mixing + 0.1 * normal(count, width, seed=seed + 1)).astype(np.float32)
    return mixed


def samples(x: Array) -> list[Feeds]:
    return [{"x": x[i : i + 1]} for i in range(len(x))]


def shared(
    model: onnx.ModelProto,
    settings: WeightSharing,
    runtime: Runtime,
    feeds: Sequence[Feeds],
    storage: Storage = PLAIN,
    **rest: Any,
) -> tuple[Graph, PassResult]:
    """The graph after the pass, checked."""
    graph = load(model)
    made = Context(calibration=Calibration(held(feeds, "made"), runtime), storage=storage, **rest)
    result = settings.run(graph, made)
    check(graph)
    assert result.layers.keys() == {weight.label for weight in weights(graph)}
    return graph, result


def arrays(graph: Graph) -> dict[str, Array]:
    return {weight.name: weight.array for weight in weights(graph)}


def error(graph: Graph, model: onnx.ModelProto, feeds: Sequence[Feeds]) -> float:
    now, then = (
        np.concatenate([one["y"] for one in run_all(emit(g), feeds, optimised=True)]).astype(np.float64)
        for g in (graph, load(model))
    )
    return float(np.linalg.norm(now - then) / np.linalg.norm(then))


def details(result: PassResult) -> dict[str, str]:
    return {label: one.detail for label, one in result.layers.items() if isinstance(one, Changed)}


def perceptron(**changed: Array) -> onnx.ModelProto:
    """x (n, 40) -> Gemm 32 -> Relu -> MatMul 12, Add -> y."""
    nodes = [
        node("Gemm", ["x", "W1", "b1"], ["h"], transB=1),
        node("Relu", ["h"], ["a"]),
        node("MatMul", ["a", "W2"], ["m"]),
        node("Add", ["m", "b2"], ["y"]),
    ]
    constants = {
        "W1": normal(32, 40, seed=1),
        "b1": normal(32, seed=2),
        "W2": normal(32, 12, seed=3),
        "b2": normal(12, seed=4),
    }
    return model_of(nodes, constants | changed, {"x": ["n", 40]}, {"y": ["n", 12]})


FEEDS = samples(correlated(300, 40))
OTHERS = samples(correlated(100, 40, seed=7))


def pruned(*shape: int, seed: int) -> Array:
    array = normal(*shape, seed=seed)
    array[np.abs(array) < 0.8] = 0
    return array


# ---- what it gains


@pytest.mark.parametrize("bits", [1, 2, 3])
def test_compensated_is_better_than_nearest_on_other_inputs(runtime: Runtime, bits: int) -> None:
    model = perceptron()
    nearest, _ = shared(model, WeightSharing(bits=bits, granularity="tensor"), runtime, FEEDS)
    graph, result = shared(
        model, WeightSharing(bits=bits, granularity="tensor", assignment="compensated"), runtime, FEEDS
    )
    assert error(graph, model, OTHERS) < 0.5 * error(nearest, model, OTHERS)
    assert all(len(np.unique(arrays(graph)[name])) <= 1 << bits for name in ("W1", "W2"))
    assert set(details(result)) == {"W1", "b1", "W2", "b2"}  # biases make up for the mean
    assert details(result)["W1"].startswith(f"{bits} bits, 1 codebook, compensated, residual ")
    assert details(result)["b1"] == "bias of W1"


def test_weighted_codebooks_are_better_where_inputs_differ(runtime: Runtime) -> None:
    model = model_of([node("MatMul", ["x", "w"], ["y"])], {"w": normal(60, 20)}, {"x": ["n", 60]}, {"y": ["n", 20]})
    model.graph.initializer[0].CopyFrom(
        onnx.numpy_helper.from_array(normal(60, 20) + (np.arange(60)[:, None] < 10), "w")
    )
    x = normal(200, 60, seed=3) * np.where(np.arange(60) < 10, 20, 0.5).astype(np.float32)
    feeds = samples(x.astype(np.float32))
    plain, _ = shared(model, WeightSharing(bits=2, granularity="tensor"), runtime, feeds)
    graph, result = shared(model, WeightSharing(bits=2, granularity="tensor", codebook="weighted"), runtime, feeds)
    assert error(graph, model, feeds) < 0.9 * error(plain, model, feeds)
    assert details(result)["w"].startswith("2 bits, 1 codebook, weighted, residual ")


def convolution(op_type: str) -> tuple[onnx.ModelProto, list[Feeds]]:
    rng = np.random.default_rng(5)
    smooth = np.cumsum(rng.standard_normal((60, 4, 8, 8)), axis=-1).astype(np.float32)
    shape = {"Conv": (6, 2, 3, 3), "ConvTranspose": (4, 3, 3, 3)}[op_type]
    nodes = [node(op_type, ["x", "w", "b"], ["y"], group=2)]
    size = 6 if op_type == "Conv" else 10
    return (
        model_of(nodes, {"w": normal(*shape), "b": normal(6)}, {"x": ["n", 4, 8, 8]}, {"y": ["n", 6, size, size]}),
        samples(smooth),
    )


@pytest.mark.parametrize("op_type", ["Conv", "ConvTranspose"])
@pytest.mark.parametrize("granularity", ["tensor", "channel"])
def test_grouped_convolutions(runtime: Runtime, op_type: str, granularity: str) -> None:
    model, feeds = convolution(op_type)
    settings = WeightSharing(bits=2, granularity=granularity)
    plain, _ = shared(model, settings, runtime, feeds)
    graph, result = shared(
        model, WeightSharing(bits=2, granularity=granularity, assignment="compensated"), runtime, feeds
    )
    assert error(graph, model, feeds) < 0.8 * error(plain, model, feeds)
    assert "compensated" in details(result)["w"]


def test_recurrent_layers(runtime: Runtime) -> None:
    constants = {"w": normal(1, 32, 10), "r": normal(1, 32, 8, seed=2) / 3}
    nodes = [node("LSTM", ["x", "w", "r"], ["y"], hidden_size=8)]
    model = model_of(nodes, constants, {"x": [5, "n", 10]}, {"y": [5, 1, "n", 8]})
    causes, mixing = normal(5, 150, 3, seed=4), normal(3, 10, seed=5)
    x = (causes @ mixing).astype(np.float32)
    feeds: list[Feeds] = [{"x": x[:, i : i + 1]} for i in range(150)]
    plain, _ = shared(model, WeightSharing(bits=2, granularity="tensor"), runtime, feeds)
    graph, result = shared(model, COMPENSATED, runtime, feeds)
    assert error(graph, model, feeds) < 0.7 * error(plain, model, feeds)
    assert all("compensated" in details(result)[name] for name in ("w", "r"))


# ---- what it keeps


@pytest.mark.parametrize("codebook", ["kmeans", "weighted", "entropy", "grid", "soft"])
@pytest.mark.parametrize("assignment", ["nearest", "compensated"])
@pytest.mark.parametrize("storage", [PLAIN, SMALL], ids=["plain", "small"])
def test_zeros_of_pruned_weights_stay(runtime: Runtime, codebook: str, assignment: str, storage: Storage) -> None:
    model = perceptron(W1=pruned(320, 40, seed=1), b1=normal(320), W2=pruned(320, 12, seed=3))
    settings = WeightSharing(bits=2, granularity="tensor", codebook=codebook, assignment=assignment)
    graph, result = shared(model, settings, runtime, FEEDS, storage=storage)
    found, before = arrays(graph), arrays(load(model))
    for name in ("W1", "W2"):
        assert name in details(result)
        zeros = before[name] == 0
        assert np.all(found[name][zeros] == 0)
        if codebook in ("kmeans", "weighted") and (assignment, codebook) != ("nearest", "kmeans"):
            assert np.all(found[name][~zeros] != 0)
            assert len(np.unique(found[name])) == (5 if storage is SMALL else 4)  # zero is a symbol beside the others


@pytest.mark.parametrize("assignment", ["nearest", "compensated"])
def test_grids_are_whole_multiples(runtime: Runtime, assignment: str) -> None:
    settings = WeightSharing(bits=3, granularity="tensor", codebook="grid", assignment=assignment)
    graph, _ = shared(perceptron(), settings, runtime, FEEDS)
    for name in ("W1", "W2"):
        array = arrays(graph)[name]
        step = np.abs(array[array != 0]).min()
        np.testing.assert_array_equal(array, np.rint(array / step) * step)
        assert np.rint(np.abs(array).max() / step) <= 3


@pytest.mark.parametrize("elem_type", [TensorProto.FLOAT16, TensorProto.DOUBLE])
def test_other_floating_types_keep_theirs(runtime: Runtime, elem_type: int) -> None:
    model = perceptron()
    for tensor in model.graph.initializer:
        dtype = helper.tensor_dtype_to_np_dtype(elem_type)
        tensor.CopyFrom(onnx.numpy_helper.from_array(onnx.numpy_helper.to_array(tensor).astype(dtype), tensor.name))
    for info in (*model.graph.input, *model.graph.output):
        info.type.tensor_type.elem_type = elem_type
    feeds = [{"x": one["x"].astype(helper.tensor_dtype_to_np_dtype(elem_type))} for one in FEEDS[:60]]
    graph, _ = shared(model, COMPENSATED, runtime, feeds)
    assert all(array.dtype == helper.tensor_dtype_to_np_dtype(elem_type) for array in arrays(graph).values())
    assert len(np.unique(arrays(graph)["W1"])) <= 4


def test_the_same_twice_and_nothing_the_second_time(runtime: Runtime) -> None:
    model = perceptron()
    (one, _), (two, _) = (shared(model, COMPENSATED, runtime, FEEDS) for _ in range(2))
    for name, array in arrays(one).items():
        np.testing.assert_array_equal(array, arrays(two)[name])
    again, result = shared(emit(one), COMPENSATED, runtime, FEEDS)
    assert not result.changed
    np.testing.assert_array_equal(arrays(again)["W1"], arrays(one)["W1"])


def test_outputs_times_nothing_and_inputs_that_are_never_there(runtime: Runtime) -> None:
    nodes = [node("MatMul", ["x", "w"], ["m"]), node("Mul", ["m", "s"], ["y"])]
    scale = np.array([1, 0, 2, 1, 1, 0], np.float32)
    model = model_of(nodes, {"w": normal(40, 6), "s": scale}, {"x": ["n", 40]}, {"y": ["n", 6]})
    x = correlated(100, 40)
    x[:, 20:] = 0
    graph, _ = shared(model, COMPENSATED, runtime, samples(x))
    array, before = arrays(graph)["w"], normal(40, 6)
    assert len(np.unique(array)) <= 4
    # Nothing tells these weights, so they stay close to what they were.
    assert np.abs(array - before)[20:].mean() < 0.5
    assert np.abs(array - before)[:, 1].mean() < 0.8


# ---- without samples


@pytest.mark.parametrize("codebook", ["kmeans", "weighted", "entropy", "grid", "soft"])
def test_without_samples_weights_take_the_nearest(codebook: str) -> None:
    model = perceptron()
    graph, plain = load(model), load(model)
    settings = WeightSharing(bits=2, granularity="tensor", codebook=codebook, assignment="compensated")
    result = settings.run(graph, Context(PLAIN))
    WeightSharing(bits=2, granularity="tensor").run(plain, Context(PLAIN))
    assert details(result)["W1"].endswith(
        ", not fitted: nothing is run, so that its inputs are not known (--no-verify)"
    )
    assert "b1" not in details(result)
    new, before = arrays(graph)["W1"], normal(32, 40, seed=1)
    if codebook in ("kmeans", "weighted"):
        np.testing.assert_array_equal(new, arrays(plain)["W1"])
    else:
        assert len(np.unique(new)) <= 4
    # Most of a normal distribution belongs to the component at zero.
    most = 0.85 if codebook == "soft" else 0.7
    assert np.linalg.norm(new - before) < most * np.linalg.norm(before)


def test_what_cannot_be_fitted_takes_the_nearest(runtime: Runtime) -> None:
    nodes = [
        node("Gather", ["table", "x"], ["h"]),
        node("MatMul", ["h", "twice"], ["i"]),
        node("MatMul", ["i", "twice"], ["y"]),
    ]
    constants = {"table": normal(50, 40), "twice": normal(40, 40, seed=1)}
    model = model_of(nodes, constants, {"x": ["n"]}, {"y": ["n", 40]})
    model.graph.input[0].type.tensor_type.elem_type = TensorProto.INT64
    feeds: list[Feeds] = [{"x": np.array([i % 50])} for i in range(60)]
    graph, result = shared(model, COMPENSATED, runtime, feeds)
    assert details(result) == {
        "table": "2 bits, 1 codebook, not fitted: a table, of which rows are looked up",
        "twice": "2 bits, 1 codebook, not fitted: 2 operators use it, whose outputs cannot all be kept at once",
    }
    plain, _ = shared(model, WeightSharing(bits=2, granularity="tensor"), runtime, feeds)
    for name in constants:
        np.testing.assert_array_equal(arrays(graph)[name], arrays(plain)[name])


def test_inputs_that_are_not_finite_end_the_run(runtime: Runtime) -> None:
    nodes = [node("Log", ["x"], ["l"]), node("MatMul", ["l", "w"], ["y"])]
    model = model_of(nodes, {"w": normal(40, 12)}, {"x": ["n", 40]}, {"y": ["n", 12]})
    with pytest.raises(CalibrationError, match="NaN or infinite"):
        shared(model, COMPENSATED, runtime, samples(-np.ones((4, 40), np.float32)))


# ---- bits under a bound


def test_auto_gives_more_bits_where_the_bound_is_tighter(runtime: Runtime) -> None:
    model, seen = perceptron(), []
    for bound in (0.3, 0.03):
        settings = WeightSharing(bits="auto", granularity="tensor", assignment="compensated")
        graph, result = shared(model, settings, runtime, FEEDS, max_error=bound)
        assert error(graph, model, FEEDS) < bound
        seen.append([int(details(result)[name].split()[0]) for name in ("W1", "W2")])
    assert all(low < high for low, high in zip(*seen, strict=True))


def test_auto_without_samples_goes_by_the_weights(runtime: Runtime) -> None:
    model = perceptron()
    graph = load(model)
    result = WeightSharing(bits="auto", granularity="tensor").run(graph, Context(PLAIN, max_error=0.1))
    changes = [result.layers[name] for name in ("W1", "W2")]
    assert all(isinstance(one, Changed) and one.weight_error < 0.1 for one in changes)
    stricter = WeightSharing(bits="auto/4", granularity="tensor").run(load(model), Context(PLAIN, max_error=0.1))
    assert details(stricter)["W1"] > details(result)["W1"]


def test_auto_leaves_alone_what_no_bits_are_enough_for() -> None:
    result = WeightSharing(bits="auto", granularity="tensor").run(load(perceptron()), Context(PLAIN, max_error=1e-9))
    assert {one.reason for name, one in result.layers.items() if name[0] == "W" and isinstance(one, Skipped)} == {
        "with few bits it would harm more than it saves, under the bound"
    }


def test_gentler_auto_ends() -> None:
    settings: WeightSharing | None = WeightSharing(bits="auto", assignment="compensated")
    seen: list[int | str] = []
    while settings is not None:
        assert settings.assignment == "compensated"
        seen.append(settings.bits)
        settings = settings.gentler()
    assert seen == ["auto", *(f"auto/{1 << step}" for step in range(1, 7))]


# ---- what it refuses


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"bits": "auto/0"}, "bits='auto/0' is no int, and neither auto nor like auto/2"),
        ({"bits": "many"}, "bits='many' is no int"),
        ({"importance": "none"}, "importance='none' is none of gradient, uniform"),
        ({"codebook": "lloyd"}, "codebook='lloyd' is none of kmeans, weighted, entropy, grid, soft"),
        ({"size": "1kB"}, "size=1kB needs bits=auto"),
        ({"size": "many", "bits": "auto"}, "size 'many': write it like 2GB or 512MiB"),
        ({"granularity": "model", "bits": "auto"}, "granularity=model needs bits=1 to 8, and codebook=kmeans"),
        ({"granularity": "model", "codebook": "soft"}, "granularity=model needs bits=1 to 8, and codebook=kmeans"),
        ({"assignment": "random"}, "assignment='random' is none of nearest, compensated"),
        ({"rate": 0.0}, "rate=0.0 is not above 0"),
        ({"damping": -1.0}, "damping=-1.0 is not above 0"),
        ({"codebook": "grid", "bits": 1}, "codebook=grid needs 2 bits or more"),
        ({"codebook": "soft", "bits": 1}, "codebook=soft needs 2 bits or more"),
    ],
)
def test_options_that_cannot_be(options: dict[str, Any], message: str) -> None:
    with pytest.raises(UsageError, match=message):
        WeightSharing(**options)


def two_products(factor: float = 1.0) -> onnx.ModelProto:
    """x (n, 24) -> MatMul 16 -> Relu -> MatMul 16 -> y, the second with weights of another size."""
    nodes = [node("MatMul", ["x", "W1"], ["h"]), node("Relu", ["h"], ["a"]), node("MatMul", ["a", "W2"], ["y"])]
    constants = {"W1": normal(24, 16), "W2": np.float32(factor) * normal(16, 16, seed=1)}
    return model_of(nodes, constants, {"x": ["n", 24]}, {"y": ["n", 16]})


PAIR, PAIR_NEW = samples(correlated(200, 24)), samples(correlated(50, 24, seed=7))


@pytest.mark.parametrize("assignment", ["nearest", "compensated"])
def test_one_codebook_for_all_layers(runtime: Runtime, assignment: str) -> None:
    settings = WeightSharing(bits=2, granularity="model", assignment=assignment)
    graph, result = shared(two_products(), settings, runtime, PAIR)
    found = arrays(graph)
    assert len(np.unique(np.concatenate([found["W1"].reshape(-1), found["W2"].reshape(-1)]))) == 4
    details = [one.detail for one in result.layers.values() if isinstance(one, Changed)]
    assert len(details) == 2 and all("the codebook of several layers" in detail for detail in details)
    again, _ = shared(emit(graph), settings, runtime, PAIR)
    assert all(np.array_equal(array, found[name]) for name, array in arrays(again).items())


def test_pruned_layers_keep_their_zeros_beside_a_common_codebook(runtime: Runtime) -> None:
    model = two_products()
    pruned = normal(24, 16)
    pruned[np.abs(pruned) < 1] = 0
    model.graph.initializer[0].CopyFrom(numpy_helper.from_array(pruned, "W1"))
    graph, _ = shared(model, WeightSharing(bits=2, granularity="model"), runtime, PAIR)
    found = arrays(graph)
    assert np.array_equal(found["W1"] == 0, pruned == 0)
    assert len(np.unique(np.concatenate([each.reshape(-1) for each in found.values()]))) == 4


def test_small_and_large_layers_count_alike_for_a_common_codebook(runtime: Runtime) -> None:
    _, result = shared(two_products(0.01), WeightSharing(bits=4, granularity="model"), runtime, PAIR)
    assert all(isinstance(one, Changed) and one.weight_error < 0.5 for one in result.layers.values())


def test_bits_by_a_bound_on_bytes(runtime: Runtime) -> None:
    model = two_products()
    used: list[int] = []
    errors: list[float] = []
    for size in (250, 350, 500):
        graph, result = shared(model, WeightSharing(bits="auto", size=size), runtime, PAIR)
        outcomes = [one for one in result.layers.values() if isinstance(one, Changed)]
        used.append(sum(int(one.detail.split()[0]) for one in outcomes))
        errors.append(error(graph, model, PAIR_NEW))
        assert not result.missed
    assert used[0] < used[1] < used[2]
    assert errors[0] > errors[1] > errors[2]


def test_a_bound_on_bytes_that_cannot_be_kept(runtime: Runtime) -> None:
    graph, result = shared(two_products(), WeightSharing(bits="auto", size="50"), runtime, PAIR)
    [line] = result.missed
    assert line.startswith("its weights take ") and line.endswith("more than the 50 of size")
    assert all(len(np.unique(array)) == 2 for array in arrays(graph).values())
