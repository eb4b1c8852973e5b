"""What is left of weights, fitted once more; and tables."""

import itertools

import numpy as np
import pytest

from graphshrink.ir.types import Array
from graphshrink.solvers.net_trim import AT_LEAST, AT_MOST, EQUAL, Problem
from graphshrink.solvers.net_trim_refit import refit
from graphshrink.solvers.net_trim_table import fewest, of_density
from tests.models import normal


def problem(*, kinds: bool, bias: bool) -> tuple[Problem, Array]:
    """A layer with a residual that cannot vanish, and weights a third of which are zero."""
    inputs, target = normal(80, 9) * np.geomspace(0.1, 10, 9, dtype=np.float32), normal(80, 5, seed=1)
    kind = np.random.default_rng(2).choice(3 if kinds else 1, (80, 5)).astype(np.uint8)
    weights = normal(9, 5, seed=3).astype(np.float64)
    weights[::3] = 0
    return Problem(inputs, target, kind, np.inf, bias), weights


def loss(of: Problem, weights: Array, bias: Array | None) -> float:
    residual = of.inputs.astype(np.float64) @ weights - of.target + (0 if bias is None else bias)
    counts = (of.kind == EQUAL) | ((of.kind == AT_MOST) & (residual > 0)) | ((of.kind == AT_LEAST) & (residual < 0))
    return float(np.sum(residual[counts] ** 2))


@pytest.mark.parametrize("bias", [False, True])
def test_least_squares_where_all_entries_count(bias: bool) -> None:
    of, weights = problem(kinds=False, bias=bias)
    found = refit(of, weights, np.zeros(5) if bias else None, rounds=100)
    kept = weights[:, 0] != 0
    design = np.hstack([of.inputs[:, kept], np.ones((80, int(bias)), np.float32)]).astype(np.float64)
    best = np.linalg.lstsq(design, of.target.astype(np.float64))[0]
    np.testing.assert_allclose(found.weights[kept], best[: kept.sum()], rtol=1e-2, atol=1e-3)
    assert not found.weights[~kept].any()
    assert found.residual**2 == pytest.approx(float(np.sum((design @ best - of.target) ** 2)), rel=1e-3)


@pytest.mark.parametrize("bias", [False, True])
def test_no_direction_leads_further_down_where_inequalities_count(bias: bool) -> None:
    """The loss is convex, so that a point from which no small step in any weight helps is the best one."""
    of, weights = problem(kinds=True, bias=bias)
    found = refit(of, weights, np.zeros(5) if bias else None, rounds=200)
    best = loss(of, found.weights, found.bias)
    assert found.residual**2 == pytest.approx(best, rel=1e-4)
    assert best < 0.9 * loss(of, weights, np.zeros(5) if bias else None)
    for row, column in zip(*np.nonzero(weights), strict=True):
        for step in (-1e-2, 1e-2):
            moved = found.weights.copy()
            moved[row, column] += step / np.abs(of.inputs[:, row]).max()
            assert loss(of, moved, found.bias) > best * (1 - 1e-4)


def test_dead_inputs_and_no_weights_at_all() -> None:
    of = Problem(np.zeros((6, 3), np.float32), normal(6, 2), np.zeros((6, 2), np.uint8), np.inf, True)
    found = refit(of, np.zeros((3, 2)), np.zeros(2))
    assert not found.weights.any()
    assert found.bias is not None
    np.testing.assert_allclose(found.bias, of.target.mean(axis=0), rtol=1e-4)


@pytest.mark.parametrize("epsilon", [0.0, 0.1, 0.4, 1.0])
def test_no_table_has_fewer_weights_within_epsilon(epsilon: float) -> None:
    table, counts = normal(3, 3), np.array([5.0, 1.0, 2.0])
    energy = counts[:, None] * table.astype(np.float64) ** 2
    allowed = [
        np.sum(dropped)
        for dropped in itertools.product([False, True], repeat=9)
        if np.sum(energy.reshape(-1)[list(dropped)]) <= epsilon**2 * energy.sum() * (1 + 1e-12)
    ]
    new = fewest(table, counts, epsilon)
    assert np.sum(new == 0) == max(allowed)
    np.testing.assert_array_equal(new[new != 0], table[new != 0])
    np.testing.assert_array_equal(of_density(table, counts, np.count_nonzero(new) / 9), new)
