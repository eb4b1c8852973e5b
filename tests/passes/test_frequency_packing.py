"""frequency-packing on small graphs: what it changes and in which basis, what it leaves alone, what it refuses."""

from collections.abc import Generator, Sequence
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import helper

from graphshrink.encodings import Storage, encode_graph, stored_values
from graphshrink.errors import CalibrationError, UsageError
from graphshrink.ir.check import check
from graphshrink.ir.graph import Graph
from graphshrink.ir.types import Array, Feeds
from graphshrink.ir.weight import weights
from graphshrink.onnx_io.emit import emit
from graphshrink.onnx_io.load import load
from graphshrink.onnx_io.runtime import Runtime
from graphshrink.passes import frequency_packing
from graphshrink.passes._frequency_fit import Form
from graphshrink.passes.frequency_packing import FrequencyPacking
from graphshrink.passing.base import PassResult
from graphshrink.solvers.transform import cosine_of
from tests.layers import arrays, changed, context, convolution, correlated, error, perceptron, reasons, samples, smooth
from tests.models import model_of, normal
from tests.runners import run_all

node = helper.make_node
SMALL = Storage("small")


@pytest.fixture(scope="module")
def runtime() -> Generator[Runtime]:
    with Runtime(timeout=60) as runtime:
        yield runtime


def packed(
    model: onnx.ModelProto, settings: FrequencyPacking, runtime: Runtime, feeds: Sequence[Feeds], **rest: Any
) -> tuple[Graph, PassResult]:
    """The graph after the pass, checked."""
    graph = load(model)
    result = settings.run(graph, context(runtime, feeds, storage=SMALL, **rest))
    check(graph)
    assert result.layers.keys() == {weight.label for weight in weights(graph)}
    return graph, result


def smooth_kernels(
    *sizes: int, channels: int = 16, inputs: int = 8, op_type: str = "Conv", groups: int = 1
) -> onnx.ModelProto:
    """One convolution whose kernels are smooth: sums of few cosines, and a little noise."""
    basis = cosine_of(sizes)
    k = len(basis)
    shape = (inputs, channels // groups) if op_type == "ConvTranspose" else (channels, inputs // groups)
    coefficients = np.random.default_rng(7).normal(size=(*shape, k)) * np.where(np.arange(k) < max(2, k // 5), 1, 0.01)
    w = (coefficients @ basis).reshape(*shape, *sizes).astype(np.float32)
    axes = [f"a{i}" for i in range(len(sizes))]
    nodes = [node(op_type, ["x", "W", "b"], ["y"], group=groups)]
    constants = {"W": w, "b": normal(channels, seed=2)}
    return model_of(nodes, constants, {"x": ["n", inputs, *axes]}, {"y": ["n", channels, *(f"b{a}" for a in axes)]})


def images(*sizes: int, inputs: int = 8, count: int = 40, seed: int = 0) -> list[Feeds]:
    return samples(normal(count, inputs, *sizes, seed=seed))


def coefficients(graph: Graph, name: str = "W") -> Array:
    [weight] = [weight for weight in weights(graph) if weight.name == name]
    return stored_values(weight.tensor, "spectral")


def file_bytes(graph: Graph) -> int:
    graph = graph.copy()
    encode_graph(graph, weights(graph), SMALL)
    return emit(graph).ByteSize()


# ---- what it changes


@pytest.mark.parametrize(
    ("sizes", "op_type", "groups"),
    [((7, 7), "Conv", 1), ((9,), "Conv", 1), ((5, 5), "ConvTranspose", 1), ((7, 7), "Conv", 2), ((1, 11), "Conv", 1)],
)
def test_smooth_kernels_are_stored_as_cosines(
    sizes: tuple[int, ...], op_type: str, groups: int, runtime: Runtime
) -> None:
    model = smooth_kernels(*sizes, channels=128, inputs=8 * groups, op_type=op_type, groups=groups)
    feeds = images(*(size + 4 for size in sizes), inputs=8 * groups)
    graph, result = packed(model, FrequencyPacking(0.05, "dct"), runtime, feeds)
    spatial, _ = packed(model, FrequencyPacking(0.05, "none"), runtime, feeds)
    assert changed(result)["W"].detail.startswith("dct")
    assert np.mean(coefficients(graph) == 0) > 0.5
    assert len(np.unique(coefficients(graph))) < 256
    assert file_bytes(graph) < 0.9 * file_bytes(spatial)
    assert error(graph, model, feeds) < 0.06


def test_the_file_that_is_written_computes_the_same(runtime: Runtime) -> None:
    model = smooth_kernels(7, 7, channels=128, inputs=8)
    feeds = images(11, 11)
    graph, _ = packed(model, FrequencyPacking(0.05), runtime, feeds)
    plain = [each["y"] for each in run_all(emit(graph), feeds, optimised=True)]
    stored = encode_graph(graph, weights(graph), SMALL)
    assert "spectral" in {one.encoding for one in stored}
    for optimised in (False, True):
        for before, after in zip(plain, run_all(emit(graph), feeds, optimised=optimised), strict=True):
            np.testing.assert_allclose(after["y"], before, atol=1e-5 * float(np.abs(before).max()))


@pytest.mark.parametrize("family", ["auto", "dct", "gram", "klt"])
@pytest.mark.parametrize("target", [0.02, 0.2])
def test_never_larger_than_without_bases(family: str, target: float, runtime: Runtime) -> None:
    for model in (convolution(), smooth_kernels(5, 5, channels=8)):
        feeds = smooth(40, seed=1)
        graph, result = packed(model, FrequencyPacking(target, family), runtime, feeds)
        spatial, _ = packed(model, FrequencyPacking(target, "none"), runtime, feeds)
        assert file_bytes(graph) <= file_bytes(spatial)
        assert error(graph, model, feeds) < 1.1 * target
        assert "residual" in changed(result)["W"].detail


@pytest.mark.parametrize("turned", [0, 1])
def test_matrices_in_blocks_of_channels(turned: int, runtime: Runtime) -> None:
    """Rows (transB=1), or columns of the stored matrix: blocks of neighbouring inputs either way."""
    smoothness = np.kron(np.eye(8), cosine_of((8,)))
    matrix = np.random.default_rng(3).normal(size=(96, 64)) * np.where(np.arange(64) % 8 < 2, 1, 0.01) @ smoothness
    w = (matrix if turned else matrix.T).astype(np.float32)
    nodes = [node("Gemm", ["x", "W"], ["y"], transB=turned)]
    model = model_of(nodes, {"W": w}, {"x": ["n", 64]}, {"y": ["n", 96]})
    feeds = samples(normal(300, 64))
    graph, result = packed(model, FrequencyPacking(0.05, "block"), runtime, feeds)
    assert changed(result)["W"].detail.startswith("block 8:")
    assert error(graph, model, feeds) < 0.06
    assert coefficients(graph).ndim == (2 if turned else 3)


def test_kernels_of_one_tap_in_blocks_of_channels(runtime: Runtime) -> None:
    smoothness = np.kron(np.eye(4), cosine_of((8,)))
    w = np.random.default_rng(3).normal(size=(96, 32)) * np.where(np.arange(32) % 8 < 2, 1, 0.01) @ smoothness
    nodes = [node("Conv", ["x", "W"], ["y"])]
    constants = {"W": w.reshape(96, 32, 1, 1).astype(np.float32)}
    model = model_of(nodes, constants, {"x": ["n", 32, 5, 5]}, {"y": ["n", 96, 5, 5]})
    _, result = packed(model, FrequencyPacking(0.05, "block"), runtime, images(5, 5, inputs=32))
    assert changed(result)["W"].detail.startswith("block 8:")


def test_layers_with_one_basis_share_it(runtime: Runtime) -> None:
    """Alone neither of the two would pay for the table of its basis, together they do."""
    model = smooth_kernels(5, 5, channels=16, inputs=16)
    [w] = [tensor for tensor in model.graph.initializer if tensor.name == "W"]
    nodes = [node("Conv", ["x", "W"], ["h"]), node("Relu", ["h"], ["r"]), node("Conv", ["r", "W2"], ["y"])]
    array = onnx.numpy_helper.to_array(w)
    constants = {"W": array, "W2": np.ascontiguousarray(array[::-1])}
    two = model_of(nodes, constants, {"x": ["n", 16, 16, 16]}, {"y": ["n", 16, 8, 8]})
    graph, result = packed(two, FrequencyPacking(0.05, "dct"), runtime, images(16, 16, inputs=16))
    assert [one.detail[:3] for one in changed(result).values() if one.part_of is None] == ["dct", "dct"]
    _, alone = packed(model, FrequencyPacking(0.05, "dct"), runtime, images(16, 16, inputs=16))
    assert changed(alone)["W"].detail.startswith("spatial")
    encode_graph(graph, weights(graph), SMALL)
    assert sum(list(tensor.dims) == [25, 25] for tensor in emit(graph).graph.initializer) == 1


def test_twice_the_same(runtime: Runtime) -> None:
    model, feeds = smooth_kernels(5, 5), images(9, 9)
    first, second = (packed(model, FrequencyPacking(0.1), runtime, feeds)[0] for _ in range(2))
    assert emit(first).SerializeToString() == emit(second).SerializeToString()


def test_other_types_stay_in_their_own_space(runtime: Runtime) -> None:
    model = perceptron(np.float16)
    feeds = [{"x": feed["x"].astype(np.float16)} for feed in samples(correlated(200, 24))]
    graph, result = packed(model, FrequencyPacking(0.1), runtime, feeds)
    assert all(one.detail.startswith("spatial") for one in changed(result).values() if one.part_of is None)
    assert {array.dtype for array in arrays(graph).values()} == {np.dtype(np.float16)}


# ---- what it leaves alone, and refuses


def test_without_samples_nothing_happens(runtime: Runtime) -> None:
    graph = load(convolution())
    result = FrequencyPacking().run(graph, context(runtime, [], storage=SMALL).__class__(storage=SMALL))
    assert not changed(result)
    assert "not known" in reasons(result)["W"]


def test_weights_that_are_stored_in_less_already_stay(runtime: Runtime) -> None:
    model = smooth_kernels(3, 3, channels=8, inputs=8)
    [w] = [tensor for tensor in model.graph.initializer if tensor.name == "W"]
    signs = np.sign(onnx.numpy_helper.to_array(w)).astype(np.float32)
    w.CopyFrom(onnx.numpy_helper.from_array(signs, "W"))
    _, result = packed(model, FrequencyPacking(0.01), runtime, images(8, 8))
    assert "as it is" in reasons(result)["W"]


def test_outputs_of_nothing(runtime: Runtime) -> None:
    feeds = [{"x": np.zeros((1, 8, 9, 9), np.float32)}]
    model = smooth_kernels(3, 3)
    model.graph.initializer.remove(model.graph.initializer[1])
    del model.graph.node[0].input[2]
    _, result = packed(model, FrequencyPacking(0.1), runtime, feeds)
    assert reasons(result)["W"] == "its outputs are zero"


def test_weights_that_are_not_finite(runtime: Runtime) -> None:
    model = smooth_kernels(3, 3)
    array = onnx.numpy_helper.to_array(model.graph.initializer[0]).copy()
    array[0, 0, 0, 0] = np.nan
    model.graph.initializer[0].CopyFrom(onnx.numpy_helper.from_array(array, "W"))
    _, result = packed(model, FrequencyPacking(0.1), runtime, images(8, 8))
    assert "NaN" in reasons(result)["W"]


def test_inputs_that_are_not_finite(runtime: Runtime) -> None:
    feeds = [{"x": np.full((1, 8, 9, 9), np.nan, np.float32)}]
    with pytest.raises(CalibrationError):
        packed(smooth_kernels(3, 3), FrequencyPacking(0.1), runtime, feeds)


@pytest.mark.parametrize(
    "options", [{"target_error": -0.1}, {"target_error": 2}, {"basis": "wavelet"}, {"damping": -1}]
)
def test_bad_options(options: dict[str, Any]) -> None:
    with pytest.raises(UsageError, match="frequency-packing"):
        FrequencyPacking(**options)


def test_milder_settings_halve_the_error_and_end() -> None:
    settings: FrequencyPacking | None = FrequencyPacking(0.01)
    seen: list[float] = []
    while settings is not None:
        seen.append(settings.target_error)
        settings = settings.gentler()
    assert seen[:2] == [0.01, 0.005]
    assert len(seen) < 10


def test_layers_are_fitted_anew_when_a_basis_is_given_up(runtime: Runtime, monkeypatch: pytest.MonkeyPatch) -> None:
    """As if no basis had ever been tried: the second layer saw what the first one gave in a basis."""
    first = smooth_kernels(7, 7, channels=64, inputs=8)
    graph = first.graph
    graph.node[0].output[0] = "h"
    graph.node.append(node("Conv", ["h", "W2"], ["y"]))
    graph.initializer.append(onnx.numpy_helper.from_array(normal(16, 64, 3, 3, seed=4), "W2"))
    graph.output[0].type.tensor_type.shape.dim[1].dim_value = 16
    feeds = images(12, 12)
    expected, _ = packed(first, FrequencyPacking(0.05, "none"), runtime, feeds)
    in_basis, _ = packed(first, FrequencyPacking(0.05, "dct"), runtime, feeds)
    assert not np.array_equal(arrays(in_basis)["W2"], arrays(expected)["W2"])

    def without(layers: Sequence[list[Form]]) -> list[Form]:
        return [forms[0] for forms in layers]

    monkeypatch.setattr(frequency_packing, "settled", without)
    found, _ = packed(first, FrequencyPacking(0.05, "dct"), runtime, feeds)
    for name, array in arrays(expected).items():
        assert np.array_equal(arrays(found)[name], array), name
