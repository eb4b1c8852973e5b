"""Samples are stacked only where that changes nothing."""

from collections.abc import Mapping
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper

from graphshrink.calibration.batches import Batches, batches_of
from graphshrink.calibration.samples import Samples, held
from graphshrink.errors import CalibrationError
from graphshrink.ir.types import Array, Feeds
from graphshrink.onnx_io.load import load
from graphshrink.onnx_io.runtime import Runtime
from tests.models import model_of, normal, two_layers


def samples_of(count: int, *shape: int, name: str = "x") -> Samples:
    return held([{name: normal(*shape, seed=seed)} for seed in range(count)], "made")


def sizes(batches: Batches, name: str = "x") -> list[int]:
    return [len(batch[name]) for batch in batches]


def test_independent_rows_are_stacked(runtime: Runtime) -> None:
    samples = samples_of(300, 1, 32)
    batches = batches_of(load(two_layers()), samples, runtime)
    assert sizes(batches) == [256, 44]
    assert np.array_equal(np.concatenate([b["x"] for b in batches]), np.concatenate([s["x"] for s in samples]))


def test_samples_of_several_rows_are_stacked(runtime: Runtime) -> None:
    assert sizes(batches_of(load(two_layers()), samples_of(4, 5, 32), runtime)) == [20]


def mixing(op_type: str, **attributes: Any) -> onnx.ModelProto:
    """x (n, 4) -> something along the first axis."""
    return model_of(
        [helper.make_node(op_type, ["x"], ["y"], **attributes)], {}, {"x": ["n", 4]}, {"y": ["n", 4]}, opset=13
    )


@pytest.mark.parametrize(
    ("op_type", "attributes"),
    [("Softmax", {"axis": 0}), ("ReduceMean", {"axes": [0]}), ("CumSum", {}), ("Transpose", {"perm": [1, 0]})],
)
def test_a_model_that_mixes_samples_is_run_one_by_one(
    op_type: str, attributes: dict[str, Any], runtime: Runtime
) -> None:
    model = mixing(op_type, **attributes)
    if op_type == "CumSum":
        model.graph.node[0].input.append("axis")
        model.graph.initializer.append(onnx.numpy_helper.from_array(np.array(0), "axis"))
    stacks = op_type == "Transpose"  # which puts samples side by side along another axis
    assert sizes(batches_of(load(model), samples_of(6, 1, 4), runtime)) == ([6] if stacks else [1] * 6)


def test_a_model_for_one_sample_is_run_one_by_one(runtime: Runtime) -> None:
    nodes = [helper.make_node("Reshape", ["x", "shape"], ["y"])]
    model = model_of(nodes, {"shape": np.array([1, 2, 2])}, {"x": ["n", 4]}, {"y": [1, 2, 2]})
    assert sizes(batches_of(load(model), samples_of(3, 1, 4), runtime)) == [1, 1, 1]
    fixed = model_of([helper.make_node("Relu", ["x"], ["y"])], {}, {"x": [1, 4]}, {"y": [1, 4]})
    assert sizes(batches_of(load(fixed), samples_of(3, 1, 4), runtime)) == [1, 1, 1]


def test_equal_samples_prove_nothing(runtime: Runtime) -> None:
    same = held([{"x": normal(1, 4)}] * 5, "the same")
    assert sizes(batches_of(load(mixing("ReduceMean", axes=[0])), same, runtime)) == [1] * 5


def test_a_large_model_takes_few_samples_at_a_time(runtime: Runtime) -> None:
    nodes = [helper.make_node("Expand", ["x", "shape"], ["h"]), helper.make_node("ReduceSum", ["h", "axis"], ["y"])]
    constants: dict[str, Array] = {"shape": np.array([1, 4, 2_000_000]), "axis": np.array([2])}
    model = model_of(nodes, constants, {"x": ["n", 4, 1]}, {"y": ["n", 4, 1]})
    [most] = {max(sizes(batches_of(load(model), samples_of(4, 1, 4, 1), runtime)))}
    assert most == 2  # 32 MB a sample


def with_scale() -> onnx.ModelProto:
    """y = x * scale, where scale is a scalar input."""
    node = helper.make_node("Mul", ["x", "scale"], ["y"])
    return model_of([node], {}, {"x": ["n", 2], "scale": []}, {"y": ["n", 2]})


def test_inputs_that_are_not_stacked_have_to_agree(runtime: Runtime) -> None:
    scales = [1.0, 1.0, 1.0, 2.0, 2.0, 1.0]
    feeds: list[Feeds] = [
        {"x": normal(1, 2, seed=seed), "scale": np.array(scale, np.float32)} for seed, scale in enumerate(scales)
    ]
    graph = load(with_scale())
    assert sizes(batches_of(graph, held(feeds[:3], "alike"), runtime)) == [3]
    batches = Batches(held(feeds, "two kinds"), 10, frozenset({"x"}))
    assert [(len(b["x"]), float(b["scale"])) for b in batches] == [(3, 1.0), (2, 2.0), (1, 1.0)]


def test_several_inputs_are_stacked_together(runtime: Runtime) -> None:
    model = model_of([helper.make_node("Add", ["x", "z"], ["y"])], {}, {"x": ["n", 2], "z": ["n", 2]}, {"y": ["n", 2]})
    samples = held([{"x": normal(1, 2, seed=i), "z": normal(1, 2, seed=i + 50)} for i in range(3)], "pairs")
    [batch] = batches_of(load(model), samples, runtime)
    assert batch["x"].shape == batch["z"].shape == (3, 2)


def test_samples_of_other_lengths_make_batches_of_their_own() -> None:
    feeds = [{"x": normal(1, length)} for length in (3, 3, 5, 5, 5, 3)]
    batches = Batches(held(feeds, "ragged"), 10, frozenset({"x"}))
    assert [batch["x"].shape for batch in batches] == [(2, 3), (3, 5), (1, 3)]


def test_a_sample_that_cannot_be_read_is_named(runtime: Runtime) -> None:
    class Gone:
        description = "gone.npz"

        def __len__(self) -> int:
            return 3

        def __getitem__(self, index: int, /) -> Feeds:
            raise FileNotFoundError(2, "No such file")

        def __iter__(self) -> Any:
            return iter(())

    with pytest.raises(CalibrationError, match=r"gone\.npz"):
        batches_of(load(two_layers()), Gone(), runtime)


def test_text_is_run_one_by_one(runtime: Runtime) -> None:
    model = model_of([helper.make_node("Identity", ["x"], ["y"])], {}, {"x": ["n"]}, {"y": ["n"]})
    for value in (*model.graph.input, *model.graph.output):
        value.type.tensor_type.elem_type = TensorProto.STRING
    texts: list[Mapping[str, Array]] = [{"x": np.array([word], object)} for word in ("a", "b", "c")]
    assert sizes(batches_of(load(model), held(texts, "words"), runtime)) == [1, 1, 1]  # outputs cannot be compared
