"""The accounts of the benchmark of encodings: bytes that add up, and weights whose entropy is known."""

from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from benchmarks.encodings.account import Account, Parts, account, one_weight, parts_of
from benchmarks.encodings.packers import packers
from benchmarks.encodings.samples import OPSET, Setting, draw, encoded, entropy_bits, matmul, reference
from graphshrink.encodings import ENCODINGS, Encoding, Policy
from graphshrink.encodings.chunks import Chunks
from graphshrink.encodings.huffman import huffman
from graphshrink.encodings.sparse import Sparse
from graphshrink.ir.types import Array
from tests.models import model_of, normal
from tests.runners import run

DENSE, THIN = Setting(40_000, 1, 16), Setting(1_000_000, 0.02, 64)
CHOSEN: list[tuple[Setting, Policy, str]] = [
    (DENSE, "fast", "codebook"),
    (DENSE, "small", "huffman"),
    (THIN, "small", "sparse"),
]


def varint(value: int) -> int:
    return len(bin(value)[2:]) // 7 + (len(bin(value)[2:]) % 7 > 0)


def host_bytes(plain: onnx.ModelProto, stored: onnx.ModelProto, names: set[str]) -> int:
    """Bytes of the plain model without these initializers; the length of the graph is that of the stored one."""
    rest = onnx.ModelProto()
    rest.CopyFrom(plain)
    kept = [tensor for tensor in plain.graph.initializer if tensor.name not in names]
    del rest.graph.initializer[:]
    rest.graph.initializer.extend(kept)
    return rest.ByteSize() - varint(rest.graph.ByteSize()) + varint(stored.graph.ByteSize())


@pytest.mark.parametrize(("setting", "policy", "name"), CHOSEN)
def test_a_file_consists_of_its_parts(setting: Setting, policy: Policy, name: str) -> None:
    plain = matmul(draw(setting).weight)
    model, (stored,) = encoded(plain, policy)
    whole = account(model)
    assert stored.encoding == name
    assert whole.file == len(model.SerializeToString())
    assert whole.host == host_bytes(plain, model, {"weight"})
    assert (whole.functions > 0) == bool(model.functions)
    # Every constant of the encoded weight is an initializer.
    assert whole.contents == sum(len(tensor.raw_data) for tensor in model.graph.initializer)


@pytest.mark.parametrize(("setting", "policy", "name"), CHOSEN)
def test_a_weight_consists_of_codes_tables_and_the_rest(setting: Setting, policy: Policy, name: str) -> None:
    weight = draw(setting).weight
    model, (stored,) = encoded(matmul(weight), policy)
    encoding = next(encoding for encoding in ENCODINGS if encoding.name == name)
    found = one_weight(model, stored, parts_of(encoding.encode(weight)))
    whole = account(model)
    assert found.file == model.ByteSize()
    assert found.codes + found.tables <= whole.contents
    assert 0 < found.tensor < 1000
    assert found.beyond_codes + found.codes == stored.stored_bytes
    assert found.once + found.host + stored.stored_bytes == found.file


@pytest.mark.parametrize(("policy", "twice"), [("fast", True), ("small", False)])
def test_what_is_shared_is_what_a_second_weight_does_not_need(policy: Policy, twice: bool) -> None:
    weights = {name: draw(DENSE._replace(n=n)).weight for name, n in (("a", 40_000), ("b", 60_000))}
    nodes = [helper.make_node("MatMul", [f"x_{name}", name], [f"y_{name}"]) for name in weights]
    inputs: dict[str, list[int | str]] = {f"x_{name}": [1, len(w)] for name, w in weights.items()}
    outputs: dict[str, list[int | str]] = {f"y_{name}": [1, w.shape[1]] for name, w in weights.items()}
    model, stored = encoded(model_of(nodes, dict(weights), inputs, outputs, opset=OPSET), policy)
    alone, (first,) = encoded(matmul(weights["a"]), policy)
    shared = one_weight(alone, first, Parts()).shared
    both, whole = sum(each.stored_bytes for each in stored), account(model)
    # Constants of both, such as a step of one, are counted with the weight that comes first.
    assert whole.contents + whole.text - both == shared
    assert (shared > 256) == twice
    assert whole.functions == account(alone).functions


def test_weights_in_branches_are_found() -> None:
    weight = draw(DENSE).weight
    rows, columns = weight.shape

    def branch(name: str, factor: float) -> onnx.GraphProto:
        held = numpy_helper.from_array(weight * np.float32(factor), f"w_{name}")
        node = helper.make_node("MatMul", ["x", f"w_{name}"], [f"y_{name}"])
        info = helper.make_tensor_value_info(f"y_{name}", TensorProto.FLOAT, [1, columns])
        return helper.make_graph([node], name, [], [info], [held])

    nodes = [helper.make_node("If", ["c"], ["y"], then_branch=branch("a", 1), else_branch=branch("b", 2))]
    plain = model_of(nodes, {}, {"x": [1, rows]}, {"y": [1, columns]}, opset=OPSET)
    plain.graph.input.append(helper.make_tensor_value_info("c", TensorProto.BOOL, []))
    model, stored = encoded(plain, "small")
    whole = account(model)
    assert [each.encoding for each in stored] == ["huffman", "huffman"]
    assert whole.contents + whole.text == sum(each.stored_bytes for each in stored)
    assert 0 < whole.host < 300


def test_a_plain_weight_that_is_repeated_stays_plain() -> None:
    nodes = [helper.make_node("MatMul", ["x", "a"], ["h"]), helper.make_node("MatMul", ["h", "b"], ["y"])]
    plain = model_of(nodes, {"a": normal(64, 64), "b": normal(64, 64)}, {"x": [1, 64]}, {"y": [1, 64]}, opset=OPSET)
    model, stored = encoded(plain, "small")
    whole = account(model)
    assert [each.encoding for each in stored] == ["plain", "shared"]
    assert whole.contents == 16  # the shape
    assert whole.text == stored[1].stored_bytes - 16
    assert whole.host == host_bytes(plain, model, {"b"})


def test_a_plain_file_has_nothing_encoded() -> None:
    plain = reference(draw(DENSE).weight)
    assert account(plain) == Account(host=plain.ByteSize())


def sample_for(encoding: Encoding) -> Array:
    """A weight that the encoding takes."""
    rng = np.random.default_rng(0)
    steps = rng.integers(-100, 101, (64, 256)).astype(np.float32)
    random = normal(64, 256)
    cut = (random * np.float32(1e9)).view(np.uint32) & 0xFFFF0000
    samples: list[Array] = [draw(DENSE).weight, steps * rng.random((64, 1), np.float32), draw(THIN).weight]
    samples += [random.astype(np.float16).astype(np.float32), cut.astype(np.uint32).view(np.float32)]
    return next(sample for sample in samples if encoding.encode(sample) is not None)


@pytest.mark.parametrize("encoding", ENCODINGS, ids=lambda encoding: encoding.name)
def test_every_encoding_has_parts(encoding: Encoding) -> None:
    weight = sample_for(encoding)
    parts = parts_of(encoding.encode(weight))
    assert parts.codes > 0
    assert parts.codes + parts.tables < weight.nbytes


def _encoded_part(setting: Setting) -> Any:
    return huffman(draw(setting).weight)


def test_chunks_add_up() -> None:
    first, second = (_encoded_part(DENSE._replace(n=n)) for n in (40_000, 50_000))
    assert parts_of(Chunks((90_000,), (first, second))) == parts_of(first) + parts_of(second)


def test_codes_and_tables_of_a_sparse_weight() -> None:
    weight = draw(THIN).weight
    found = parts_of(Sparse().encode(weight))
    assert found.symbols > len(np.unique(weight)) - 1 > 8  # values, and steps
    assert found.phrases >= found.symbols
    with pytest.raises(TypeError):
        parts_of(weight.tolist())


@pytest.mark.parametrize("density", [1, 0.5, 0.02])
@pytest.mark.parametrize("values", [4, 64])
def test_weights_are_as_they_were_asked_for(density: float, values: int) -> None:
    setting = Setting(100_000, density, values)
    weight, _ = draw(setting)
    entries = np.unique(weight[weight != 0])
    assert np.count_nonzero(weight) == round(density * setting.n)
    # The smallest and the largest survivor are grid points; others lie between, a multiple of the step apart.
    steps = (entries - entries[0]) / (entries[-1] - entries[0]) * (values - 1)
    assert np.abs(steps - np.rint(steps)).max() < 1e-4
    assert 2 <= len(entries) <= values
    assert weight.tobytes() == draw(setting).weight.tobytes()


def test_entropy() -> None:
    assert entropy_bits(np.array([8, 8, 0])) == 16
    assert entropy_bits(np.array([1, 7])) == pytest.approx(8 * 0.5435644431995964)
    assert entropy_bits(np.array([5])) == 0


@pytest.mark.parametrize("setting", [DENSE, Setting(40_000, 0.1, 4)])
def test_entropy_of_positions_and_values_is_that_of_what_is_stored(setting: Setting) -> None:
    """Zero or which value: the same symbols whether they are counted at once or in two steps."""
    weight, found = draw(setting)
    _, counts = np.unique(weight, return_counts=True)
    assert found == pytest.approx(entropy_bits(counts) / 8)


def test_the_reference_decodes_to_the_weight() -> None:
    weight = draw(Setting(400, 0.5, 4)).weight
    unit = np.eye(len(weight), dtype=np.float32)
    for optimised in (False, True):
        assert np.array_equal(run(reference(weight), {"x": unit}, optimised=optimised)["y"], weight)


def test_packers_pack() -> None:
    content = bytes(100_000)
    assert all(0 < pack(content) < 1000 for pack in packers().values())
    assert "xz -9" in packers()
