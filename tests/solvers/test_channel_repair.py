"""Least squares through a ReLU, against grids."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from graphshrink.ir.types import Array
from graphshrink.solvers.channel_repair import before_relu, relu_refit
from tests.models import normal


def relu(x: Array) -> Array:
    return np.maximum(x, 0)


@given(st.floats(0, 10), st.floats(-10, 10), st.sampled_from([0.01, 0.1, 1.0, 7.0]))
def test_what_lies_before_the_relu_is_the_best_of_a_grid(wanted: float, output: float, lam: float) -> None:
    def cost(u: Array) -> Array:
        total: Array = (wanted - relu(u)) ** 2 + lam * (u - output) ** 2
        return total

    found = before_relu(np.array([wanted]), np.array([output]), lam)
    grid = np.linspace(-11, 11, 4401)
    assert cost(found)[0] <= cost(grid).min() + 1e-9


def sampled(seed: int, kept: int = 8) -> tuple[Array, Array]:
    """Targets of 12 inputs, of which the first are left."""
    mixing = normal(12, 12, seed=seed)
    x = relu(normal(400, 12, seed=seed + 1) @ mixing)
    return x[:, :kept], x @ normal(12, 6, seed=seed + 2) + normal(6, seed=seed + 3)


@pytest.mark.parametrize("seed", range(6))
def test_it_beats_least_squares_behind_the_relu(seed: int) -> None:
    x, y = sampled(seed)
    found = relu_refit(x, y)
    design = np.column_stack([x, np.ones(len(x))]).astype(np.float64)
    plain = design @ np.linalg.lstsq(design, y.astype(np.float64), rcond=None)[0]
    energy = float(np.square(relu(y), dtype=np.float64).sum())
    assert found.linear_error == pytest.approx(float(np.square(relu(y) - relu(plain)).sum()) / energy, rel=1e-5)
    ours = float(np.square(relu(y) - relu(x @ found.weights + found.bias)).sum()) / energy
    assert found.error == pytest.approx(ours, rel=1e-6)
    assert found.error < 0.99 * found.linear_error


def test_it_is_near_the_best_of_a_grid() -> None:
    """One input, one output: weight and bias on a grid."""
    x, y = sampled(1, kept=1)
    y = y[:, :1]
    found = relu_refit(x, y, ((0.1, 200), (1.0, 200)))
    weights, biases = np.meshgrid(np.linspace(-6, 6, 241), np.linspace(-12, 12, 241))
    outputs = relu(x[:, :1, None] * weights.reshape(1, 1, -1) + biases.reshape(1, 1, -1))[:, 0]
    best = float(np.square(relu(y) - outputs).sum(axis=0).min()) / float(np.square(relu(y)).sum())
    assert found.error <= 1.02 * best
    assert found.error <= found.linear_error


def test_what_can_be_met_is_met_and_dead_inputs_get_nothing() -> None:
    x = np.column_stack([normal(200, 3), np.zeros(200)])
    y = x[:, :3] @ normal(3, 4, seed=1) + normal(4, seed=2)
    found = relu_refit(x, y)
    assert found.error < 1e-10
    assert not found.weights[3].any()
    assert relu_refit(x, -np.ones((200, 2))).error == 0
