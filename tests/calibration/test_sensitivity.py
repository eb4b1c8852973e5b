"""How much outputs depend on channels, where that can be written down, and where nothing is known."""

from collections.abc import Generator, Sequence

import numpy as np
import onnx
import pytest
from onnx import helper

from graphshrink.calibration.engine import Calibration
from graphshrink.calibration.samples import held
from graphshrink.calibration.sensitivity import sensitivities
from graphshrink.ir.types import Array
from graphshrink.onnx_io.load import load
from graphshrink.onnx_io.runtime import Runtime
from tests.layers import samples
from tests.models import model_of, normal

node = helper.make_node
X = normal(400, 6, seed=3)


@pytest.fixture(scope="module")
def runtime() -> Generator[Runtime]:
    with Runtime(timeout=60) as runtime:
        yield runtime


def found(model: onnx.ModelProto, runtime: Runtime, axes: dict[str, int], x: Array = X) -> dict[str, Array]:
    return sensitivities(Calibration(held(samples(x), "made"), runtime), load(model), axes)


def network(*, opset: int = 17, between: Sequence[onnx.NodeProto] = ()) -> tuple[onnx.ModelProto, dict[str, Array]]:
    """x (n, 6) -> MatMul 5 -> Relu -> MatMul 3 -> y."""
    constants = {"W1": normal(6, 5), "W2": normal(5, 3, seed=1) * np.array([1, 0.1, 2, 1, 0], np.float32)[:, None]}
    nodes = [node("MatMul", ["x", "W1"], ["h"]), *(between or [node("Relu", ["h"], ["a"])])]
    nodes.append(node("MatMul", ["a", "W2"], ["y"]))
    return model_of(nodes, constants, {"x": ["n", 6]}, {"y": ["n", 3]}, opset=opset), constants


def test_sensitivities_are_mean_squares_of_gradients(runtime: Runtime) -> None:
    model, constants = network()
    squares = found(model, runtime, {"h": -1, "a": -1, "y": -1})
    active = ((X @ constants["W1"]) > 0).mean(axis=0)
    exact = active * (constants["W2"] ** 2).sum(axis=1)
    # One pass backwards with random signs: 400 samples leave a few percent of noise.
    assert np.allclose(squares["h"] / squares["h"].sum(), exact / exact.sum(), atol=0.05)
    assert squares["h"][4] == 0 < squares["h"][1] < squares["h"][2]
    assert np.allclose(squares["y"] / squares["y"].mean(), 1.0)


def test_channels_of_images_sum_up_their_places(runtime: Runtime) -> None:
    w = np.ones((2, 2, 1, 1), np.float32) * np.array([3.0, 1.0], np.float32).reshape(1, 2, 1, 1)
    nodes = [node("Relu", ["x"], ["a"]), node("Conv", ["a", "w"], ["y"])]
    model = model_of(nodes, {"w": w}, {"x": ["n", 2, 4, 4]}, {"y": ["n", 2, 4, 4]})
    squares = found(model, runtime, {"a": -3}, np.abs(normal(30, 2, 4, 4)))
    assert squares["a"].shape == (2,)
    assert np.isclose(squares["a"][0] / squares["a"][1], 9.0)


def test_the_same_samples_give_the_same_numbers(runtime: Runtime) -> None:
    model, _ = network()
    assert np.array_equal(found(model, runtime, {"h": -1})["h"], found(model, runtime, {"h": -1})["h"])


def test_values_before_an_operator_without_a_rule_are_left_out(runtime: Runtime) -> None:
    model, _ = network(between=[node("Cos", ["h"], ["a"])])
    assert set(found(model, runtime, {"h": -1, "a": -1})) == {"a"}


def test_old_operators_and_gradients_that_are_not_finite_are_left_out(runtime: Runtime) -> None:
    assert found(network(opset=12)[0], runtime, {"h": -1}) == {}
    rooted = [node("Relu", ["h"], ["r"]), node("Sqrt", ["r"], ["a"])]  # its slope at 0 is infinite
    assert found(network(between=rooted)[0], runtime, {"h": -1}) == {}
