"""The linear problem behind a layer, against what ONNX Runtime makes of the layer."""

from typing import Any

import numpy as np
import onnx
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st
from onnx import helper

from graphshrink.ir.types import Array
from graphshrink.ir.weight import weights
from graphshrink.onnx_io.load import load
from graphshrink.ops.affine import Affine, affine, places
from tests.models import model_of, normal
from tests.runners import run

Draw = Any

PADS = ["NOTSET", "VALID", "SAME_UPPER", "SAME_LOWER"]


def problem(model: onnx.ModelProto) -> Affine | str:
    """The linear problem behind the one use of w."""
    weight = next(weight for weight in weights(load(model)) if weight.name == "w")
    [use] = weight.uses
    return affine(weight, use)


def layer(
    op_type: str, w: Array, x: tuple[int, ...], *, left: bool = False, bias: Array | None = None, **given: Any
) -> onnx.ModelProto:
    """y = op_type(x, w), or of (w, x), with a bias or none."""
    inputs = ["w", "x"] if left else ["x", "w"]
    extra = {} if bias is None else {"b": bias}
    node = helper.make_node(op_type, [*inputs, *extra], ["y"], **given)
    return model_of([node], {"w": w, **extra}, {"x": list(x)}, {"y": []}, opset=13)


def expect_explained(model: onnx.ModelProto, x: Array, *, most: int = 7) -> None:
    """rows @ matrix + what is added is what comes out, at the places asked for; and the way back leads back."""
    del model.graph.output[0].type.tensor_type.shape.dim[:]
    model.graph.output[0].type.tensor_type.ClearField("shape")
    found = problem(model)
    assert isinstance(found, Affine), found
    y = run(model, {"x": x}, optimised=False)["y"]
    form, constants = found.form, {t.name: onnx.numpy_helper.to_array(t) for t in model.graph.initializer}
    assert form.shape(x.shape) == y.shape
    samples, there = form.places(x.shape)
    at = places(form, x.shape, 3, seed=1, most=most)
    assert at.shape == (samples, min(there, most))
    matrix = found.matrix(constants["w"])
    made = form.rows(x, at) @ matrix
    if found.added is not None:
        shift = found.added.factor * np.broadcast_to(
            _per_channel(constants[found.added.name], form.channel_axis, y), y.shape
        )
        made = made + form.targets(np.ascontiguousarray(shift), at)
    np.testing.assert_allclose(made, form.targets(y, at), rtol=1e-4, atol=1e-4 * np.abs(y).max(initial=1))
    np.testing.assert_array_equal(found.stored(matrix), constants["w"])
    every = np.broadcast_to(np.arange(there), (samples, there))
    assert sorted(form.targets(y, every).reshape(-1)) == sorted(y.reshape(-1))


def _per_channel(bias: Array, axis: int, y: Array) -> Array:
    if bias.ndim == 1 and y.ndim > 2:
        shape = [1] * y.ndim
        shape[axis] = bias.size
        return bias.reshape(shape)
    return bias


# ---- MatMul and Gemm


@pytest.mark.parametrize(
    ("w", "x", "left"),
    [
        ((5, 3), (4, 5), False),
        ((5, 3), (5,), False),
        ((5, 3), (2, 4, 5), False),
        ((5, 3), (2, 3, 4, 5), False),
        ((1, 5, 3), (2, 4, 5), False),
        ((1, 1, 5, 3), (4, 5), False),
        ((6, 5, 3), (6, 4, 5), False),
        ((6, 5, 3), (2, 6, 4, 5), False),
        ((6, 5, 3), (2, 1, 4, 5), False),
        ((2, 3, 5, 4), (7, 2, 3, 6, 5), False),
        ((6, 5, 3), (5,), False),
        ((5, 3), (3, 4), True),
        ((5, 3), (3,), True),
        ((5, 3), (2, 3, 4), True),
        ((6, 5, 3), (2, 6, 3, 4), True),
        ((6, 5, 3), (3,), True),
    ],
)
def test_matmul(w: tuple[int, ...], x: tuple[int, ...], left: bool) -> None:
    expect_explained(layer("MatMul", normal(*w), x, left=left), normal(*x, seed=1))


@pytest.mark.parametrize("left", [False, True])
@pytest.mark.parametrize("turned", [(0, 0), (0, 1), (1, 0), (1, 1)])
@pytest.mark.parametrize("bias", [None, (), (6,), (1, 6), (4, 1), (4, 6)])
def test_gemm(left: bool, turned: tuple[int, int], bias: tuple[int, ...] | None) -> None:
    a, b = (5, 4) if turned[0] else (4, 5), (6, 5) if turned[1] else (5, 6)
    w, x = (a, b) if left else (b, a)
    added = None if bias is None else normal(*bias, seed=2)
    model = layer("Gemm", normal(*w), x, left=left, bias=added, transA=turned[0], transB=turned[1], alpha=0.5, beta=2.0)
    expect_explained(model, normal(*x, seed=1))


# ---- convolutions


@st.composite
def convolutions(draw: Draw, transposed: bool) -> tuple[onnx.ModelProto, Array]:
    small = st.integers(1, 3)
    axes, groups = draw(small), draw(st.sampled_from([1, 1, 2, 3]))
    kernel, strides, dilations = ([draw(small) for _ in range(axes)] for _ in range(3))
    inputs, outputs = draw(small), draw(small)
    w = (groups * inputs, outputs, *kernel) if transposed else (groups * outputs, inputs, *kernel)
    sizes = [draw(st.integers(1, 7)) for _ in range(axes)]
    given: dict[str, Any] = {"strides": strides, "dilations": dilations, "group": groups}
    how = draw(st.sampled_from(PADS))
    if how == "NOTSET":
        pads = [draw(st.integers(0, k - 1)) for k in [*kernel, *kernel]]
        assume(all(p < (k - 1) * d + 1 for p, k, d in zip(pads, [*kernel] * 2, [*dilations] * 2, strict=True)))
        given["pads"] = pads
    else:
        given["auto_pad"] = how
    reach = [(k - 1) * d + 1 for k, d in zip(kernel, dilations, strict=True)]
    if transposed:
        given["output_padding"] = [draw(st.integers(0, s - 1)) for s in strides]
        pads = given.get("pads", [0] * 2 * axes)
        whole = [s * (n - 1) + r for s, n, r in zip(strides, sizes, reach, strict=True)]
        assume(all(size - pads[i] - pads[i + axes] > 0 for i, size in enumerate(whole)))
        if how.startswith("SAME"):
            given.pop("output_padding")
            assume(all(n * s <= t for n, s, t in zip(sizes, strides, whole, strict=True)))
    elif not how.startswith("SAME"):
        pads = given.get("pads", [0] * 2 * axes)
        assume(all(n + pads[i] + pads[i + axes] >= r for i, (n, r) in enumerate(zip(sizes, reach, strict=True))))
    elif how.startswith("SAME"):
        given["dilations"] = [1] * axes
    x = normal(2, groups * inputs, *sizes, seed=draw(st.integers(0, 99)))
    bias = normal(groups * outputs, seed=3) if draw(st.booleans()) else None
    return layer("ConvTranspose" if transposed else "Conv", normal(*w), x.shape, bias=bias, **given), x


@given(convolutions(transposed=False))
def test_conv(case: tuple[onnx.ModelProto, Array]) -> None:
    expect_explained(*case)


@given(convolutions(transposed=True))
def test_conv_transpose(case: tuple[onnx.ModelProto, Array]) -> None:
    expect_explained(*case)


@pytest.mark.parametrize("how", ["NOTSET", "SAME_UPPER", "SAME_LOWER"])
def test_conv_transpose_of_a_stated_shape(how: str) -> None:
    model = layer(
        "ConvTranspose", normal(2, 3, 4, 3), (2, 2, 5, 5), strides=[3, 2], output_shape=[14, 10], auto_pad=how
    )
    expect_explained(model, normal(2, 2, 5, 5, seed=1))


# ---- behind operators that move numbers, and what is no linear problem


def test_behind_operators_that_only_move() -> None:
    nodes = [
        helper.make_node("Transpose", ["w"], ["t"], perm=[1, 0]),
        helper.make_node("Reshape", ["t", "shape"], ["r"]),
        helper.make_node("Cast", ["r"], ["c"], to=1),
        helper.make_node("MatMul", ["x", "c"], ["y"]),
    ]
    model = model_of(nodes, {"w": normal(6, 4), "shape": np.array([8, -1])}, {"x": [3, 8]}, {"y": [3, 3]})
    expect_explained(model, normal(3, 8, seed=1))


@pytest.mark.parametrize(
    ("nodes", "reason"),
    [
        ([helper.make_node("Mul", ["x", "w"], ["y"])], "Mul is no product of its input and a weight"),
        ([helper.make_node("MatMul", ["w", "w"], ["y"])], "it is multiplied with itself"),
        (
            [helper.make_node("Gather", ["w", "x"], ["y"], axis=1)],
            "input 0 of Gather along axis 1 is no table of rows",
        ),
        (
            [helper.make_node("Concat", ["w", "w"], ["v"], axis=0), helper.make_node("MatMul", ["x", "v"], ["y"])],
            "behind Concat, which takes it apart",
        ),
        (
            [helper.make_node("Reshape", ["w", "x"], ["v"]), helper.make_node("MatMul", ["x", "v"], ["y"])],
            "behind a Reshape of a shape that is not known",
        ),
    ],
)
def test_what_is_no_linear_problem(nodes: list[onnx.NodeProto], reason: str) -> None:
    model = model_of(nodes, {"w": normal(4, 4)}, {"x": [4, 4]}, {"y": [4, 4]})
    weight = next(weight for weight in weights(load(model)) if weight.name == "w")
    assert affine(weight, weight.uses[0]) == reason


def test_places_depend_on_the_number_of_the_sample_alone() -> None:
    found = problem(layer("Conv", normal(2, 3, 3, 3), (5, 3, 9, 9)))
    assert isinstance(found, Affine)
    whole = places(found.form, (5, 3, 9, 9), 0, seed=4)
    parts = [places(found.form, (n, 3, 9, 9), first, seed=4) for first, n in ((0, 2), (2, 3))]
    np.testing.assert_array_equal(whole, np.concatenate(parts))
    assert len({tuple(row) for row in whole}) == 5
    assert all(len(set(row)) == 10 and min(row) >= 0 and max(row) < 49 for row in whole.tolist())


# ---- recurrent layers


@pytest.mark.parametrize("direction", ["forward", "reverse", "bidirectional"])
def test_gates_of_recurrent_layers(direction: str) -> None:
    """An RNN without activation gives its gates: what inputs contribute, and what states do."""
    directions = 2 if direction == "bidirectional" else 1
    constants = {"W": normal(directions, 5, 4), "R": 0.4 * normal(directions, 5, 5, seed=1)}
    given: dict[str, Any] = {"activations": ["Affine"] * directions, "activation_alpha": [1.0] * directions}
    rnn = helper.make_node("RNN", ["x", "W", "R"], ["states"], hidden_size=5, direction=direction, **given)
    model = model_of([rnn], constants, {"x": [6, 3, 4]}, {"states": [6, directions, 3, 5]}, opset=13)
    x = normal(6, 3, 4, seed=2)
    states = run(model, {"x": x}, optimised=False)["states"]
    by_name = {weight.name: weight for weight in weights(load(model))}
    found = {name: affine(by_name[name], by_name[name].uses[0]) for name in constants}
    inputs, recurrence = found["W"], found["R"]
    assert isinstance(inputs, Affine) and isinstance(recurrence, Affine)
    assert (inputs.input, recurrence.input) == ("x", "states")
    assert inputs.form.places(x.shape) == (3, 6)
    assert recurrence.form.places(states.shape) == (3, 5)
    at = np.broadcast_to(np.array([0, 1, 2, 3, 4]), (3, 5))
    gates = np.transpose(states, (2, 0, 1, 3)).reshape(3, 6, -1)
    for group, backwards in enumerate([False, True] if directions == 2 else [direction == "reverse"]):
        # A step is made from the state before it, which is the next one in time for a direction that runs backwards.
        now = at if backwards else at + 1
        made = inputs.form.rows(x, now) @ inputs.matrix(constants["W"])
        made = made + recurrence.form.rows(states, at) @ recurrence.matrix(constants["R"])
        np.testing.assert_allclose(made[group], inputs.form.targets(gates, now)[group], rtol=1e-4, atol=1e-5)
    for name, layer in found.items():
        assert isinstance(layer, Affine)
        np.testing.assert_array_equal(layer.stored(layer.matrix(constants[name])), constants[name])
