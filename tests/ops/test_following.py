"""What becomes of a layer's output, against what ONNX Runtime makes of it; and where activations are flat."""

import math
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper

from graphshrink.ir.types import Array
from graphshrink.ir.weight import weights
from graphshrink.onnx_io.load import load
from graphshrink.ops.activation import Saturation
from graphshrink.ops.affine import Affine, affine
from graphshrink.ops.following import Following, channel_vector, following
from tests.models import model_of, normal
from tests.runners import run

INF = math.inf
node = helper.make_node

CONV = {"w": normal(4, 2, 3, 3), "b": normal(4, seed=1)}
NORMALIZATION = {
    "gain": normal(4, seed=2),
    "offset": normal(4, seed=3),
    "mean": normal(4, seed=4),
    "variance": np.abs(normal(4, seed=5)) + 0.1,
}


def found(model: onnx.ModelProto) -> tuple[Affine, Following]:
    graph = load(model)
    weight = next(weight for weight in weights(graph) if weight.name == "w")
    layer = affine(weight, weight.uses[0])
    assert isinstance(layer, Affine)
    return layer, following(graph, layer)


def expect_same(nodes: list[onnx.NodeProto], constants: dict[str, Array]) -> Following:
    """A convolution of x to y, then these operators with a skip: z is what the terms say."""
    conv = node("Conv", ["x", "w", "b"] if "b" in constants else ["x", "w"], ["y"])
    model = model_of([conv, *nodes], constants, {"x": [2, 2, 6, 6], "skip": [2, 4, 4, 4]}, {nodes[-1].output[0]: []})
    for output in model.graph.output:
        output.type.tensor_type.ClearField("shape")
    layer, follows = found(model)
    feeds = {"x": normal(2, 2, 6, 6, seed=7), "skip": normal(2, 4, 4, 4, seed=8)}
    for name in {"y", follows.end} - {model.graph.output[0].name}:
        model.graph.output.append(helper.make_tensor_value_info(name, 1, None))
    values = {**run(model, feeds, optimised=False), **feeds, **constants}
    graph, form = load(model), layer.form

    def spread(vector: Array) -> Array:
        return vector.reshape(4, 1, 1)

    product = values["y"] - (spread(constants["b"]) if "b" in constants else 0)
    z = spread(follows.scale) * product
    for name, factor in follows.shifts:
        z = z + spread(factor * channel_vector(graph, form, name))
    for name, factor in follows.skips:
        z = z + spread(factor) * values[name]
    np.testing.assert_allclose(z, values[follows.end], rtol=1e-4, atol=1e-4)
    return follows


def test_a_bare_layer() -> None:
    follows = expect_same([node("Neg", ["y"], ["z"])], CONV)
    assert (follows.end, follows.activation, follows.saturation) == ("y", None, Saturation())


def test_normalisation_and_residual_sum() -> None:
    nodes = [
        node("BatchNormalization", ["y", *NORMALIZATION], ["n"], epsilon=0.01),
        node("Add", ["skip", "n"], ["z"]),
        node("Relu", ["z"], ["a"]),
    ]
    follows = expect_same(nodes, {**CONV, **NORMALIZATION})
    assert [name for name, _ in follows.shifts] == ["b", "offset", "mean"]
    assert [name for name, _ in follows.skips] == ["skip"]
    assert (follows.end, follows.activation, follows.saturation) == ("z", "Relu", Saturation(0.0, INF))


def test_every_kind_of_arithmetic() -> None:
    constants = {
        "channels": normal(4, 1, 1, seed=2) + 3,
        "one": np.array(2.5, np.float32),
        "whole": normal(4, 4, 4, seed=9),
        "row": normal(4, seed=6),
    }
    nodes = [
        node("Mul", ["channels", "y"], ["a"]),
        node("Sub", ["one", "a"], ["c"]),
        node("Add", ["c", "whole"], ["d"]),
        node("Div", ["d", "channels"], ["e"]),
        node("Identity", ["e"], ["f"]),
        node("Sub", ["f", "skip"], ["g"]),
        node("Add", ["g", "row"], ["h"]),  # along the last axis, which is no channel
        node("MaxPool", ["h"], ["i"], kernel_shape=[2, 2]),
        node("Flatten", ["i"], ["j"]),
        node("Tanh", ["j"], ["k"]),
    ]
    follows = expect_same(nodes, {**CONV, **constants})
    assert [name for name, _ in follows.skips] == ["whole", "skip", "row"]
    assert (follows.end, follows.activation) == ("h", "Tanh")


@pytest.mark.parametrize(
    "nodes",
    [
        [node("Mul", ["y", "skip"], ["z"])],
        [node("Add", ["y", "y"], ["z"])],
        [node("Div", ["skip", "y"], ["z"])],
        [node("Mul", ["y", "one"], ["z"]), node("Add", ["y", "z"], ["u"])],
        [node("Relu", ["y"], ["z"]), node("Add", ["y", "z"], ["u"])],
    ],
)
def test_what_is_not_followed(nodes: list[onnx.NodeProto]) -> None:
    follows = expect_same(nodes, {**CONV, "one": np.array(2.5, np.float32)})
    assert (follows.end, follows.activation) == ("y", None)


def test_an_output_of_the_model_is_kept_as_it_is() -> None:
    model = model_of(
        [node("MatMul", ["x", "w"], ["y"]), node("Relu", ["y"], ["z"])],
        {"w": normal(3, 4)},
        {"x": [2, 3]},
        {"y": [2, 4], "z": [2, 4]},
    )
    assert found(model)[1].activation is None


def bounded(op_type: str, constants: dict[str, Array] | None = None, **given: Any) -> tuple[str | None, Saturation]:
    product = node("MatMul", ["x", "w"], ["y"])
    active = node(op_type, ["y", *(constants or {})], ["z"], **given)
    opset = {"Gelu": 20, "Mish": 18}.get(op_type, 14)
    model = model_of(
        [product, active], {"w": normal(3, 4), **(constants or {})}, {"x": [2, 3]}, {"z": [2, 4]}, opset=opset
    )
    follows = found(model)[1]
    return follows.activation, follows.saturation


@pytest.mark.parametrize(
    ("op_type", "constants", "given", "saturation", "tolerance"),
    [
        ("Relu", {}, {}, Saturation(0, INF), 0),
        ("Clip", {"low": 0, "high": 6}, {}, Saturation(0, 6), 0),
        ("Clip", {"low": -1}, {}, Saturation(-1, INF), 0),
        ("HardSwish", {}, {}, Saturation(-3, INF), 0),
        ("HardSigmoid", {}, {}, Saturation(-2.5, 2.5), 0),
        ("HardSigmoid", {}, {"alpha": 0.5, "beta": 0.25}, Saturation(-0.5, 1.5), 0),
        ("ThresholdedRelu", {}, {"alpha": 2.0}, Saturation(2, INF), 0),
        ("LeakyRelu", {}, {}, Saturation(), 0),
        ("Sigmoid", {}, {}, Saturation(-6, 6), 0.003),
        ("Tanh", {}, {}, Saturation(-3, 3), 0.005),
        ("Elu", {}, {}, Saturation(-6, INF), 0.003),
        ("Elu", {}, {"alpha": 100.0}, Saturation(-6 - math.log(50), INF), 0.006),
        ("Celu", {}, {"alpha": 10.0}, Saturation(-10 * (6 + math.log(5)), INF), 0.006),
        ("Selu", {}, {}, Saturation(-6, INF), 0.005),
        ("Softplus", {}, {}, Saturation(-6, INF), 0.003),
        ("Gelu", {}, {}, Saturation(-3, INF), 0.005),
        ("Mish", {}, {}, Saturation(-6, INF), 0.015),
    ],
)
def test_activations_are_flat_where_they_are_said_to_be(
    op_type: str, constants: dict[str, float], given: dict[str, Any], saturation: Saturation, tolerance: float
) -> None:
    arrays = {name: np.array(value, np.float32) for name, value in constants.items()}
    name, flat = bounded(op_type, arrays, **given)
    assert name == op_type
    assert tuple(flat) == pytest.approx(tuple(saturation))
    opset = {"Gelu": 20, "Mish": 18}.get(op_type, 14)
    model = model_of([node(op_type, ["x", *arrays], ["y"], **given)], arrays, {"x": ["n"]}, {"y": ["n"]}, opset=opset)
    for edge, away in ((saturation.low, -20.0), (saturation.high, 20.0)):
        if math.isfinite(edge):
            x = np.linspace(edge, edge + away, 100, dtype=np.float32)
            y = run(model, {"x": x}, optimised=False)["y"]
            assert np.ptp(y) <= tolerance + 1e-6


def branches(*nodes: onnx.NodeProto, **constants: Array) -> tuple[str | None, Saturation]:
    model = model_of(
        [node("MatMul", ["x", "w"], ["y"]), *nodes], {"w": normal(3, 4), **constants}, {"x": [2, 3]}, {"z": [2, 4]}
    )
    follows = found(model)[1]
    return follows.activation, follows.saturation


def test_activations_that_are_written_as_two_branches() -> None:
    swish = [node("Sigmoid", ["y"], ["s"]), node("Mul", ["y", "s"], ["z"])]
    assert branches(*swish) == ("x * Sigmoid(x)", Saturation(-6, INF))
    hard = [node("HardSigmoid", ["y"], ["s"], alpha=1 / 6), node("Mul", ["s", "y"], ["z"])]
    name, flat = branches(*hard)
    assert name == "x * HardSigmoid(x)"
    assert tuple(flat) == pytest.approx((-3, INF))
    gelu = [
        node("Div", ["y", "root"], ["d"]),
        node("Erf", ["d"], ["e"]),
        node("Add", ["e", "one"], ["f"]),
        node("Mul", ["y", "f"], ["g"]),
        node("Mul", ["g", "half"], ["z"]),
    ]
    constants = {"root": np.float32(2) ** 0.5, "one": np.float32(1), "half": np.float32(0.5)}
    arrays = {name: np.array(value, np.float32) for name, value in constants.items()}
    assert branches(*gelu, **arrays) == ("GELU", Saturation(-3, INF))


def test_a_gate_of_something_else_is_no_activation() -> None:
    other = [node("Sigmoid", ["y"], ["s"]), node("Mul", ["y", "y"], ["t"]), node("Add", ["s", "t"], ["z"])]
    assert branches(*other)[0] is None


def test_erf_that_multiplies_nothing_is_no_activation() -> None:
    other = [
        node("Mul", ["y", "some"], ["d"]),
        node("Erf", ["d"], ["e"]),
        node("Mul", ["y", "more"], ["t"]),
        node("Concat", ["e", "t"], ["z"], axis=0),
    ]
    numbers = {"some": np.array(0.1, np.float32), "more": np.array(2.0, np.float32)}
    assert branches(*other, **numbers)[0] is None


def test_what_is_computed_from_constants_is_not_followed() -> None:
    """Such as a bias that a file keeps in float16: the layer itself is kept as it is."""
    nodes = [
        node("MatMul", ["x", "w"], ["y"]),
        node("Cast", ["short"], ["b"], to=TensorProto.FLOAT),
        node("Add", ["y", "b"], ["z"]),
    ]
    held = {"w": normal(3, 4), "short": normal(4).astype(np.float16)}
    follows = found(model_of(nodes, held, {"x": [2, 3]}, {"z": [2, 4]}))[1]
    assert (follows.end, follows.skips) == ("y", ())


def test_infinite_masks_are_not_followed() -> None:
    nodes = [node("MatMul", ["x", "w"], ["y"]), node("Add", ["y", "mask"], ["z"])]
    mask = np.where(np.eye(2, 4) > 0, -np.inf, 0).astype(np.float32)
    follows = found(model_of(nodes, {"w": normal(3, 4), "mask": mask}, {"x": [2, 3]}, {"z": [2, 4]}))[1]
    assert (follows.end, follows.skips) == ("y", ())
