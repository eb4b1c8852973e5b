"""Orthonormal transforms: bases, what they make of a quadratic form, and multiples of a step as coarse as allowed."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from graphshrink.ir.types import Array
from graphshrink.solvers.coded_rows import Rows, least_squares
from graphshrink.solvers.rate_coded import Problem, step_within
from graphshrink.solvers.transform import Rotation, block_moment, coding_gain, cosine, cosine_of, eigenbasis


def rows_of(seed: int, n: int = 12, outputs: int = 5, groups: int = 2) -> Rows:
    rng = np.random.default_rng(seed)
    x = rng.normal(size=(groups, 40, n)) @ rng.normal(size=(n, n))
    gram = np.swapaxes(x, 1, 2) @ x + np.eye(n)
    best = rng.normal(size=(groups, outputs, n))
    return Rows(gram, best @ gram, rng.uniform(0.5, 2, (groups, outputs)), np.ones(best.shape, np.bool_))


@given(st.lists(st.integers(1, 11), min_size=1, max_size=2))
def test_cosines_are_orthonormal(sizes: list[int]) -> None:
    basis = cosine_of(tuple(sizes))
    np.testing.assert_allclose(basis @ basis.T, np.eye(len(basis)), atol=1e-13)
    assert np.ptp(basis[0]) < 1e-13


def test_cosines_are_those_of_the_definition() -> None:
    wanted = [
        [np.sqrt((1 if i == 0 else 2) / 4) * np.cos(np.pi * (2 * j + 1) * i / 8) for j in range(4)] for i in range(4)
    ]
    np.testing.assert_allclose(cosine(4), wanted, atol=1e-15)


def test_two_axes_are_transformed_one_after_the_other() -> None:
    image = np.random.default_rng(1).normal(size=(3, 5))
    np.testing.assert_allclose(
        cosine_of((3, 5)) @ image.reshape(-1), (cosine(3) @ image @ cosine(5).T).reshape(-1), atol=1e-13
    )


@given(st.integers(0, 2**32 - 1), st.sampled_from([2, 3, 4, 6]))
def test_coefficients_cost_what_their_weights_cost(seed: int, block: int) -> None:
    rng, rows = np.random.default_rng(seed), rows_of(seed)
    rotation = Rotation(rng.permutation(12), cosine(block).astype(np.float32))
    coefficients = rng.normal(size=rows.linear.shape)
    cost, scale = rows.cost(rotation.back(coefficients)), float(np.sum(np.abs(rows.linear)))
    assert rotation.rows(rows).cost(coefficients) == pytest.approx(cost, abs=1e-6 * scale)
    np.testing.assert_allclose(rotation.back(rotation.forth(coefficients)), coefficients, atol=1e-6)


def test_the_gram_matrix_becomes_that_of_the_whole_transform() -> None:
    rows, order = rows_of(3), np.random.default_rng(0).permutation(12)
    whole = np.kron(np.eye(4), cosine(3).astype(np.float32).astype(np.float64))[:, np.argsort(order)]
    np.testing.assert_allclose(
        Rotation(order, cosine(3).astype(np.float32)).rows(rows).gram, whole @ rows.gram @ whole.T, atol=1e-9
    )


def test_the_basis_of_a_moment_makes_it_diagonal_and_gains_most() -> None:
    rng = np.random.default_rng(2)
    blocks = rng.normal(size=(500, 4)) @ rng.normal(size=(4, 4))
    basis = eigenbasis(blocks.T @ blocks)
    turned = basis @ (blocks.T @ blocks) @ basis.T
    assert np.abs(turned - np.diag(np.diag(turned))).max() < 1e-9 * turned[0, 0]
    assert (np.diff(np.diag(turned)) <= 0).all()
    assert coding_gain(blocks @ basis.T, 4) >= max(coding_gain(blocks, 4), coding_gain(blocks @ cosine(4).T, 4)) >= 1


def test_the_moment_of_blocks_is_the_mean_of_the_diagonal_blocks() -> None:
    gram, order = rows_of(4).gram, np.arange(12)
    wanted = np.mean([g[i : i + 3, i : i + 3] for g in gram for i in range(0, 12, 3)], axis=0)
    np.testing.assert_allclose(block_moment(gram, order, 3), wanted)


@given(st.integers(0, 2**32 - 1), st.sampled_from([0.01, 0.1, 0.5]))
def test_the_error_that_is_allowed_is_kept_and_nearly_used(seed: int, allowed: float) -> None:
    rows = rows_of(seed, outputs=20)
    problem = Problem.of(rows, least_squares(rows))
    energy = problem.excess(np.zeros(problem.start.shape))

    def error(values: Array) -> float:
        return float(np.sqrt(problem.excess(values) / energy))

    values = step_within(problem, allowed, 0.1, error)
    assert values is not None
    # With few values left one step more or less makes the error jump.
    assert (0.5 * allowed if allowed < 0.5 else 0.0) < error(values) <= allowed
    assert (values == values.astype(np.float32)).all()
    assert len(np.unique(values)) <= 255


def test_longer_codes_for_less_error() -> None:
    """Unlike rounding to the same step, values that cost more bits than they are worth become zero."""
    rows = rows_of(5, n=24, outputs=60)
    problem = Problem.of(rows, least_squares(rows))
    free, priced = problem.coded(0.5, worth=1e-9), problem.coded(0.5, worth=2.0)
    assert np.count_nonzero(priced) < np.count_nonzero(free)
    assert problem.excess(free) < problem.excess(priced)


def test_no_step_keeps_an_error_that_cannot_be_had() -> None:
    rows = rows_of(6)
    assert step_within(Problem.of(rows, least_squares(rows)), 1e-9, 1.0, lambda values: 1.0) is None
