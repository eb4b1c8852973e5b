"""The architectures of the channels benchmark are valid, run, and compute something."""

from typing import Any

import numpy as np
import onnx
import onnxruntime as ort
import pytest

from benchmarks.channels.zoo import ZOO, feeds
from benchmarks.channels.zoo.layers import batch_norm, conv, identity
from benchmarks.channels.zoo.maker import BATCH, Maker
from benchmarks.channels.zoo.norms import folded, settled
from benchmarks.channels.zoo.wheel import NAMES, WHEEL
from graphshrink.ir.types import Array, Feeds

_LIGHT = [f"light_{name}" for name in NAMES[:6]]  # the others have 61 to 144 million weights
_WEIGHTED = ("Conv", "ConvTranspose", "Gemm", "MatMul", "Einsum", "LSTM", "GRU", "RNN")


def _session(model: onnx.ModelProto) -> Any:
    options: Any = ort.SessionOptions()
    options.intra_op_num_threads = 1
    options.log_severity_level = 3
    return ort.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])


def _run(session: Any, inputs: Feeds) -> dict[str, Array]:
    names = [output.name for output in session.get_outputs()]
    return dict(zip(names, session.run(names, dict(inputs)), strict=True))


def _all_shown(model: onnx.ModelProto) -> onnx.ModelProto:
    """A copy whose outputs are those of all layers with weights."""
    copy = onnx.ModelProto()
    copy.CopyFrom(model)
    del copy.graph.output[:]
    shown = [node.output for node in model.graph.node if node.op_type in _WEIGHTED]
    copy.graph.output.extend(onnx.ValueInfoProto(name=next(filter(None, outputs))) for outputs in shown)
    return copy


@pytest.mark.parametrize("name", ZOO)
def test_a_model_is_valid_and_its_outputs_depend_on_its_inputs(name: str) -> None:
    model = ZOO[name]()

    onnx.checker.check_model(model, full_check=True)
    session = _session(model)
    one, other, three = (_run(session, feeds(model, seed, batch)) for seed, batch in ((0, 1), (1, 1), (0, 3)))
    declared = {output.name: len(output.type.tensor_type.shape.dim) for output in model.graph.output}
    for output, rank in declared.items():
        assert one[output].ndim == rank
        assert one[output].shape[0] == 1 and three[output].shape == (3, *one[output].shape[1:])
        assert all(np.isfinite(values[output]).all() for values in (one, other, three))
        assert np.abs(one[output] - other[output]).max() > 1e-3
        assert np.abs(three[output][0] - three[output][1]).max() > 1e-3


@pytest.mark.parametrize("name", ZOO)
def test_values_keep_their_scale_through_the_depth(name: str) -> None:
    model = ZOO[name]()

    shown = _run(_session(_all_shown(model)), feeds(model, 2, 2))

    assert shown
    sizes = {name: float(np.sqrt(np.square(values, dtype=np.float64).mean())) for name, values in shown.items()}
    assert not {name: size for name, size in sizes.items() if not 0.05 < size < 20}


@pytest.mark.parametrize("name", ZOO)
def test_a_model_is_the_same_every_time(name: str) -> None:
    assert ZOO[name]().SerializeToString() == ZOO[name]().SerializeToString()


@pytest.mark.parametrize("name", _LIGHT)
def test_a_model_of_the_wheel_has_weights_that_compute_something(name: str) -> None:
    model = WHEEL[name]()

    onnx.checker.check_model(model, full_check=True)
    assert "ConstantOfShape" not in {node.op_type for node in model.graph.node}
    weights = [tensor for tensor in model.graph.initializer if tensor.data_type == onnx.TensorProto.FLOAT]
    assert len(weights) == sum(1 for value in model.graph.input if _is_float(value)) - 1
    session = _session(model)
    (one,), (other,) = (_run(session, feeds(model, seed, 1)).values() for seed in (0, 1))
    assert np.isfinite(one).all() and one.std() > 1e-5
    assert np.abs(one - other).max() > 1e-3


def _is_float(value: onnx.ValueInfoProto) -> bool:
    return value.type.tensor_type.elem_type == onnx.TensorProto.FLOAT


def test_every_light_model_of_the_wheel_is_listed() -> None:
    from benchmarks.channels.zoo import wheel

    there = {path.stem for path in wheel._FOLDER.glob("light_*.onnx")}  # pyright: ignore[reportPrivateUsage]
    assert there == set(WHEEL)


@pytest.mark.parametrize("deep", [False, True])
def test_both_bodies_of_if_run(deep: bool) -> None:
    model = ZOO["if_body"]()
    inputs = feeds(model, 0, 2)

    (logits,) = _run(_session(model), inputs | {"deep": np.array(deep)}).values()

    assert np.isfinite(logits).all() and logits.std() > 0.01


def test_feeds_respect_bounds_and_seeds() -> None:
    model = ZOO["bert"]()

    inputs = feeds(model, 3, 40)

    shapes = {name: (array.shape, array.dtype) for name, array in inputs.items()}
    assert shapes == dict.fromkeys(("input_ids", "attention_mask", "token_type_ids"), ((40, 12), np.dtype(np.int64)))
    assert set(np.unique(inputs["attention_mask"])) == {0, 1}
    assert inputs["input_ids"].min() < 50 and 450 < inputs["input_ids"].max() < 500
    assert all((inputs[name] == array).all() for name, array in feeds(model, 3, 40).items())
    assert (inputs["input_ids"] != feeds(model, 4, 40)["input_ids"]).any()


def _two_norms() -> onnx.ModelProto:
    m = Maker("two_norms")
    x = m.input("input", BATCH, 3, 8, 8)
    for index, width in enumerate((3, 5)):
        with m.scope(index):
            x = identity(m, batch_norm(m, conv(m, x, width, 5, 3, bias=False, gain=40), 5, scale=2))
    m.output(x, "output", BATCH, 5, 8, 8)
    return m.model()


def test_settled_statistics_are_those_of_the_data() -> None:
    model = settled(_two_norms())

    output = _run(_session(model), feeds(model, seed=0, batch=16))["output"]

    values = {tensor.name: onnx.numpy_helper.to_array(tensor) for tensor in model.graph.initializer}
    assert output.mean(axis=(0, 2, 3)) == pytest.approx(values["1.bn.bias"], abs=1e-3)
    assert output.std(axis=(0, 2, 3)) == pytest.approx(values["1.bn.weight"], rel=1e-3)


def test_folding_leaves_what_is_computed() -> None:
    model = settled(_two_norms())
    inputs = feeds(model, 1, 2)
    before = _run(_session(model), inputs)["output"]

    small = folded(model)

    onnx.checker.check_model(small, full_check=True)
    assert [node.op_type for node in small.graph.node] == ["Conv", "Conv"]
    assert len(small.graph.initializer) == 4
    assert _run(_session(small), inputs)["output"] == pytest.approx(before, abs=1e-4)  # float32 in another order
