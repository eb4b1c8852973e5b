"""Weights that are declared to be coefficients in an orthonormal basis: stored, decoded, and read back."""

from collections import Counter
from pathlib import Path
from typing import Any, Final

import numpy as np
import onnx
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from onnx import helper, numpy_helper
from onnx.reference import ReferenceEvaluator

from graphshrink.encodings import Policy, Storage, Stored, encode_graph, lift, most_ulps, stored_values
from graphshrink.encodings.codebook import Codebook
from graphshrink.encodings.evaluate import cost_of_decoding
from graphshrink.encodings.spectral import SpectralEncoded
from graphshrink.ir import edit
from graphshrink.ir.basis import SpectralData
from graphshrink.ir.compare import difference
from graphshrink.ir.graph import Graph
from graphshrink.ir.tensor import tensor_of
from graphshrink.ir.types import Array
from graphshrink.ir.weight import Weight, weights
from graphshrink.onnx_io.emit import emit
from graphshrink.onnx_io.load import load, load_as_stored
from graphshrink.ops import why_not_a_weight
from tests.consumers import CONSUMERS, LARGE, VERSIONS, Case
from tests.damage import expect_read_or_refused
from tests.few_values import assert_same_bits, few, pruned, skewed
from tests.frequencies import Frequencies, arranged, cosines
from tests.models import model_of, normal
from tests.random_graphs.models import Drawn, random_models
from tests.random_graphs.results import bytes_of, compressed, decoded, distance
from tests.runners import OPTIMISED, operators_left, run, run_all

LENGTHS: Final = [8, 9, 25, 64, 512]  # those for which docs/format.md has figures


def orthonormal(k: int, seed: int = 0) -> Array:
    basis: Array = np.linalg.qr(np.random.default_rng(seed).standard_normal((k, k)))[0].astype(np.float32)
    return basis


def declare(graph: Graph, name: str, coefficients: Array, basis: Array) -> None:
    [weight] = [weight for weight in weights(graph) if weight.name == name]
    edit.set_constant(weight.graph, name, weight.tensor.in_basis(coefficients, basis))


def given_out(array: Array, opset: int = 13) -> Graph:
    """A model that has a weight and gives it out."""
    node = helper.make_node("Identity", ["w"], ["y"])
    return load(model_of([node], {"w": array}, {}, {"y": list(array.shape)}, opset=opset))


def encoded(graph: Graph, storage: Storage) -> tuple[onnx.ModelProto, list[Stored]]:
    copy = graph.copy()
    chosen = [w for w in weights(copy) if why_not_a_weight(w) is None or w.name == "w"]  # which is given out
    stored = encode_graph(copy, chosen, storage)
    return emit(copy), stored


def ulps(found: Array, wanted: Array) -> float:
    """The largest error in units in the last place of the largest weight."""
    assert (found.dtype, found.shape) == (wanted.dtype, wanted.shape)
    return float(np.abs(found.astype(np.float64) - wanted).max() / np.spacing(np.abs(wanted).max()))


def same_declaration(weight: Weight, coefficients: Array, basis: Array) -> None:
    data = weight.tensor.data
    assert isinstance(data, SpectralData)
    assert_same_bits(data.coefficients, coefficients)
    assert_same_bits(data.basis, basis)


def expect_stable(graph: Graph, model: onnx.ModelProto, storage: Storage) -> None:
    """A file that is read and compressed again is the same file."""
    assert difference(graph, load(model)) is None or model.functions  # these raise the IR version
    again, _ = encoded(load(model), storage)
    assert bytes_of(again) == bytes_of(model)


# ---- any coefficients in any basis


@st.composite
def declarations(draw: st.DrawFn) -> tuple[tuple[int, ...], Array, Array]:
    """A shape, coefficients and a basis: of clustered, sparse, skewed or exactly halved coefficients."""
    k = draw(st.integers(1, 40) | st.sampled_from([64, 100, 121]))
    rest = tuple(draw(st.lists(st.integers(1, 30), min_size=0, max_size=2)))
    behind = draw(st.booleans())
    shape = (draw(st.integers(1, 9)), k, int(np.prod(rest))) if behind else (int(np.prod(rest)) * 7, k)
    seed = draw(st.integers(0, 999))
    fill = draw(st.sampled_from([few, skewed, pruned, normal]))
    coefficients: Array = fill(*shape, seed=seed) * np.float32(draw(st.sampled_from([1, 1e-3, 1e30, 1e-38])))
    if draw(st.booleans()):
        coefficients = np.clip(coefficients, -6e4, 6e4).astype(np.float16).astype(np.float32)
    dims = (shape[0], *rest, k) if behind else shape  # any shape of as many elements
    dims = dims if np.prod(dims) == coefficients.size else (coefficients.size,)
    return dims, coefficients, draw(st.sampled_from([cosines(k), orthonormal(k, seed)]))


def test_any_declaration() -> None:
    seen: Counter[str] = Counter()

    @settings(max_examples=50, deadline=None)
    @given(declarations(), st.sampled_from([9, 11, 13, 21]), st.sampled_from(["fast", "small"]), st.booleans())
    def holds(declared: tuple[tuple[int, ...], Array, Array], opset: int, policy: Policy, portable: bool) -> None:
        dims, coefficients, basis = declared
        storage = Storage(policy, portable=portable)
        graph = given_out(np.zeros(dims, np.float32), opset)
        declare(graph, "w", coefficients, basis)
        [weight] = weights(graph)
        model, [item] = encoded(graph, storage)
        seen[item.encoding] += 1
        assert model.ByteSize() <= emit(graph).ByteSize()
        expect_stable(graph, model, storage)
        [again] = weights(load(model))
        assert_same_bits(again.array, weight.array)
        if item.encoding == "spectral":
            onnx.checker.check_model(model, full_check=True)
            same_declaration(again, coefficients, basis)
            for optimised in OPTIMISED:
                assert ulps(run(model, {}, optimised=optimised)["y"], weight.array) <= most_ulps(len(basis))

    holds()
    assert seen["spectral"] >= 5


@pytest.mark.parametrize("behind", [False, True])
@pytest.mark.parametrize("k", LENGTHS)
def test_runtimes_add_up_to_the_same_within_some_ulps(k: int, behind: bool) -> None:
    """Weights of much the same size, behind a large first coefficient, are the worst that was found."""
    rng = np.random.default_rng(0)
    for basis in (cosines(k), orthonormal(k)):
        for array in (rng.uniform(0.9, 1, (max(64, 20_000 // k), k)), rng.standard_normal((64, k))):
            coefficients = (array @ basis.T.astype(np.float64)).astype(np.float32)
            if behind:
                coefficients = np.ascontiguousarray(coefficients.T)[None]
            graph = given_out(np.zeros(coefficients.shape, np.float32))
            declare(graph, "w", coefficients, basis)
            wanted = weights(graph)[0].array
            factors = [coefficients, basis] if not behind else [np.ascontiguousarray(basis.T), coefficients]
            node = helper.make_node("MatMul", ["a", "b"], ["y"])
            model = model_of([node], dict(zip("ab", factors, strict=True)), {}, {"y": list(wanted.shape)})
            reference: Any = ReferenceEvaluator(model).run(None, {})
            for found in (*(run(model, {}, optimised=optimised)["y"] for optimised in OPTIMISED), *reference):
                assert ulps(found, wanted) <= most_ulps(k)


def test_weights_are_added_up_in_float64_and_rounded_once() -> None:
    for shape in ((300_000, 9), (2, 9, 150_000)):  # in parts
        coefficients, basis = normal(*shape), orthonormal(9)
        graph = given_out(np.zeros((6, 450_000), np.float32))
        declare(graph, "w", coefficients, basis)
        [weight] = weights(graph)
        wide = coefficients.astype(np.float64)
        exact = wide @ basis if len(shape) == 2 else np.matmul(basis.T.astype(np.float64), wide)
        np.testing.assert_allclose(weight.array, exact.reshape(6, 450_000), rtol=2**-24, atol=1e-15)
        assert not weight.array.flags.writeable
        assert np.shares_memory(weight.array, weight.tensor.array)  # computed once


# ---- in models, with everything that uses weights


def declared(case: Case, seed: int = 0) -> Graph:
    """The case with each of its weights as coefficients in a basis."""
    graph = load(case.model)
    for weight in weights(graph):
        if weight.name in case.encoded:
            shape = arranged(weight.tensor.dims)
            tensor = weight.tensor.in_basis(weight.array.reshape(shape), cosines(shape[1]))
            edit.set_constant(weight.graph, weight.name, tensor)
    return graph


def expect_the_same(case: Case, storage: Storage, folder: Path) -> set[str]:
    graph = declared(case)
    plain = emit(graph)
    model, stored = encoded(graph, storage)
    onnx.checker.check_model(model, full_check=True)
    for optimised in OPTIMISED:
        wanted = run(plain, case.feeds, optimised=optimised)["y"]
        found = run(model, case.feeds, optimised=optimised)["y"]
        np.testing.assert_allclose(found, wanted, rtol=0, atol=2e-5 * np.abs(wanted).max())
    assert operators_left(model, folder) == operators_left(plain, folder)  # nothing is decoded at a run
    assert model.ByteSize() <= plain.ByteSize()
    expect_stable(graph, model, storage)
    return {item.encoding for item in stored}


@pytest.mark.parametrize(("opset", "ir_version"), [VERSIONS[0], VERSIONS[2], VERSIONS[-1]])
@pytest.mark.parametrize("name", CONSUMERS)
def test_models_compute_the_same(name: str, opset: int, ir_version: int, tmp_path: Path) -> None:
    if name == "function" and ir_version < 8:
        pytest.skip("functions came with IR version 8")
    used = expect_the_same(CONSUMERS[name](opset, ir_version), Storage(), tmp_path)
    assert "spectral" in used


@pytest.mark.parametrize("portable", [False, True])
@pytest.mark.parametrize("name", LARGE)
def test_models_compute_the_same_with_streams(name: str, portable: bool, tmp_path: Path) -> None:
    used = expect_the_same(LARGE[name](18, 8), Storage("small", portable=portable), tmp_path)
    assert "spectral" in used


def wide(name: str, opset: int) -> Graph:
    """Bodies, functions and recurrent layers with weights that are far larger than their basis of 8 by 8."""
    case = CONSUMERS[name](opset, 8)
    graph = load(case.model)
    for weight in weights(graph):
        if weight.name in case.encoded:
            coefficients = weight.array.reshape(-1, 8)
            edit.set_constant(weight.graph, weight.name, weight.tensor.in_basis(coefficients, cosines(8)))
    return graph


@pytest.mark.parametrize("opset", [9, 18])
@pytest.mark.parametrize("name", ["If", "Loop", "LSTM", "GRU", "RNN", "Gemm", "Gemm, transB", "MatMul", "Constant"])
def test_a_small_basis(name: str, opset: int, tmp_path: Path) -> None:
    graph = wide(name, opset)
    model, stored = encoded(graph, Storage())
    plain = emit(graph)
    assert {item.encoding for item in stored} & {"spectral"}
    feeds = CONSUMERS[name](opset, 8).feeds
    for optimised in OPTIMISED:
        wanted = run(plain, feeds, optimised=optimised)["y"]
        found = run(model, feeds, optimised=optimised)["y"]
        np.testing.assert_allclose(found, wanted, rtol=0, atol=1e-5 * np.abs(wanted).max())
    assert operators_left(model, tmp_path) == operators_left(plain, tmp_path)
    expect_stable(graph, model, Storage())


def test_in_a_function() -> None:
    graph = wide("function", 18)
    model, _ = encoded(graph, Storage())
    assert "MatMul" in {node.op_type for node in model.functions[0].node[:-1]}
    feeds = CONSUMERS["function"](18, 8).feeds
    wanted = run(emit(graph), feeds, optimised=True)["y"]
    np.testing.assert_allclose(run(model, feeds, optimised=True)["y"], wanted, rtol=0, atol=1e-5 * np.abs(wanted).max())
    expect_stable(graph, model, Storage())


def test_random_models_keep_their_promises() -> None:
    seen: Counter[str] = Counter()

    @settings(max_examples=30, deadline=None)
    @given(random_models(), st.sampled_from(["fast", "small", "quantised"]))
    def promises(drawn: Drawn, policy: Policy) -> None:
        result = compressed(drawn.model, [Frequencies()], policy)
        seen.update(item.encoding for item in result.stored)
        assert difference(result.graph, load(result.encoded)) is None
        assert result.encoded.ByteSize() <= result.plain.ByteSize()
        assert bytes_of(compressed(result.encoded, [], policy).encoded) == bytes_of(result.encoded)
        for optimised in OPTIMISED:
            for found, wanted in decoded(result, optimised=optimised):
                if found.tobytes() != wanted.tobytes():
                    assert ulps(found, wanted) <= most_ulps(found.size)
            samples = [drawn.feeds(1)]
            plain = run_all(result.plain, samples, optimised=optimised)
            coded = run_all(result.encoded, samples, optimised=optimised)
            assert max(distance(plain[0][name], coded[0][name]) for name in plain[0]) < (1e-2 if drawn.half else 1e-4)

    promises()
    assert seen["spectral"] > 0


# ---- what is chosen


def convolutions(count: int, fill: Any, channels: int = 40) -> Graph:
    nodes = [helper.make_node("Conv", [f"h{i}", f"w{i}"], [f"h{i + 1}"], pads=[1, 1, 1, 1]) for i in range(count)]
    arrays = {f"w{i}": normal(channels, channels, 3, 3) for i in range(count)}
    size: list[int | str] = [1, channels, 6, 6]
    graph = load(model_of(nodes, arrays, {"h0": size}, {f"h{count}": size}))
    for i in range(count):
        declare(graph, f"w{i}", fill(channels**2, 9, seed=i), cosines(9))
    return graph


def test_a_basis_is_stored_once() -> None:
    model, stored = encoded(convolutions(3, few), Storage())
    assert [item.encoding for item in stored] == ["spectral"] * 3
    assert sum(list(tensor.dims) == [9, 9] for tensor in model.graph.initializer) == 1


def sixty(*shape: int, seed: int) -> Array:
    return few(*shape, entries=60, seed=seed)


def twice(*shape: int, seed: int) -> Array:
    """The second and the third are equal."""
    return few(*shape, seed=min(seed, 1))


def halves(*shape: int, seed: int) -> Array:
    return normal(*shape, seed=seed).astype(np.float16).astype(np.float32)


@pytest.mark.parametrize(
    ("fill", "op_type"), [(few, "Gather"), (skewed, "h32"), (pruned, "ScatterElements"), (halves, "Cast")]
)
def test_any_encoding_of_the_coefficients(fill: Any, op_type: str) -> None:
    model, [stored] = encoded(convolutions(1, fill, 80), Storage("small"))
    assert stored.encoding == "spectral"
    assert op_type in {node.op_type for node in model.graph.node}
    expect_stable(convolutions(1, fill, 80), model, Storage("small"))


def test_pairs_are_chained() -> None:
    graph = convolutions(1, sixty, 60)
    model, [stored] = encoded(graph, Storage())
    assert stored.encoding == "spectral"
    assert stored.stored_bytes < 0.2 * stored.plain_bytes  # 6 of 32 bits
    expect_stable(graph, model, Storage())


def test_weights_that_are_smaller_by_themselves_are_stored_so() -> None:
    """Where one coefficient alone is not zero, all weights are one number."""
    graph = given_out(np.zeros((500, 4), np.float32))
    basis = np.array([[1, 1, 1, 1], [1, -1, 1, -1], [1, 1, -1, -1], [1, -1, -1, 1]], np.float32) / 2
    coefficients = np.zeros((500, 4), np.float32)
    coefficients[:, 0] = 1
    declare(graph, "w", coefficients, basis)
    model, [stored] = encoded(graph, Storage())
    assert stored.encoding == "codebook"
    expect_stable(graph, model, Storage())


def test_a_basis_that_weighs_more_than_it_saves_is_not_stored() -> None:
    graph = given_out(np.zeros((64, 64), np.float32))
    declare(graph, "w", few(64, 64), cosines(64))
    model, [stored] = encoded(graph, Storage())
    assert stored.encoding == "plain"
    assert bytes_of(model) == bytes_of(emit(graph))


def test_equal_weights_are_stored_once() -> None:
    graph = convolutions(3, twice)
    model, stored = encoded(graph, Storage())
    assert [item.encoding for item in stored] == ["spectral", "spectral", "shared"]
    for weight in weights(load(model)):
        assert isinstance(weight.tensor.data, SpectralData)
    expect_stable(graph, model, Storage())


def test_load_memory_counts_the_product() -> None:
    graph = convolutions(2, few)
    _, stored = encoded(graph, Storage(load_memory=2 * 40 * 40 * 9 * 4 + 100_000))
    assert [item.encoding for item in stored].count("spectral") == 0


def test_cost_of_the_product() -> None:
    coefficients, basis = few(1000, 64), cosines(64)
    inner = Codebook().encode(coefficients)
    assert inner is not None
    tensor = tensor_of(np.zeros((1000, 64), np.float32)).in_basis(coefficients, basis)
    assert isinstance(tensor.data, SpectralData)
    without, cost = (cost_of_decoding(form, 13) for form in (inner, SpectralEncoded((1000, 64), inner, tensor.data)))
    assert cost.bytes - without.bytes == coefficients.nbytes
    assert cost.seconds - without.seconds > 1000 * 64 * 64 * 1e-11


# ---- what is read


def small_model() -> onnx.ModelProto:
    model, [stored] = encoded(convolutions(1, few), Storage())
    assert stored.encoding == "spectral"
    return model


def test_what_was_lifted_is_told() -> None:
    graph = load_as_stored(small_model())
    [lifted] = lift(graph)
    assert lifted.encoding == "spectral"
    [weight] = weights(graph)
    assert_same_bits(stored_values(weight.tensor, lifted.encoding), few(1600, 9))
    assert_same_bits(stored_values(weight.tensor, "codebook"), weight.array)


def basis_of(model: onnx.ModelProto) -> onnx.TensorProto:
    return next(tensor for tensor in model.graph.initializer if list(tensor.dims) == [9, 9])


@pytest.mark.parametrize(
    "basis", [np.ones((9, 9)), np.full((9, 9), np.nan), 1.0001 * cosines(9), np.zeros((9, 9)), np.full((9, 9), 1e30)]
)
def test_a_product_with_anything_else_is_an_ordinary_part_of_the_model(basis: Array) -> None:
    model = small_model()
    held = basis_of(model)
    held.CopyFrom(numpy_helper.from_array(basis.astype(np.float32), held.name))
    expect_unchanged(model)


def expect_unchanged(model: onnx.ModelProto) -> None:
    graph = load_as_stored(model)
    before = bytes_of(emit(graph))
    assert lift(graph) == []
    assert bytes_of(emit(graph)) == before


@pytest.mark.parametrize("mark", ["gs:codebook/gs1", "gs:other/gs1", ""])
def test_a_product_with_another_mark_is_an_ordinary_part_of_the_model(mark: str) -> None:
    model = small_model()
    next(node for node in model.graph.node if node.name.startswith("gs:")).name = mark
    expect_unchanged(model)


def test_coefficients_of_other_types_are_an_ordinary_part_of_the_model() -> None:
    node = helper.make_node("MatMul", ["c", "b"], ["w"], name="gs:spectral/gs1")
    last = helper.make_node("Identity", ["w"], ["y"])
    for coefficients, basis in [
        (normal(4, 3).astype(np.float64), np.eye(3)),
        (normal(2, 4, 3), orthonormal(3)),
        (normal(3), orthonormal(3)),
        (orthonormal(3), normal(3)),
        (np.full((4, 3), np.inf, np.float32), orthonormal(3)),
        (np.full((4, 3), 3e38, np.float32), orthonormal(3)),
        (np.zeros((0, 3), np.float32), orthonormal(3)),
    ]:
        expect_unchanged(model_of([node, last], {"c": coefficients, "b": basis}, {}, {"y": []}))


def test_factors_that_do_not_fit() -> None:
    """ONNX Runtime refuses such a file; so here it is no weight."""
    model = small_model()
    held = basis_of(model)
    held.CopyFrom(numpy_helper.from_array(orthonormal(8), held.name))
    expect_unchanged(model)


@settings(max_examples=100, deadline=None)
@given(st.data())
def test_any_damage(data: st.DataObject) -> None:
    """Whatever a byte of the file becomes, it is read as something, or it is a ModelError."""
    content = bytearray(small_model().SerializeToString())
    place = data.draw(st.integers(0, len(content) - 1) | st.integers(len(content) - 1500, len(content) - 1))
    content[place] = data.draw(st.integers(0, 255))
    expect_read_or_refused(bytes(content))
