"""Compensated codes, fitted entries and single moves, against least squares and trying everything."""

import itertools

import numpy as np
import pytest

from graphshrink.ir.types import Array
from graphshrink.solvers.codebook_refit import descended, refitted, used_bits
from graphshrink.solvers.coded_rows import ZERO, Books, Codes, Rows, least_squares, nearest
from graphshrink.solvers.compensated import compensated, inverse_factor


def problem(seed: int, groups: int = 1, rows: int = 5, width: int = 12, density: float = 1.0) -> tuple[Rows, Array]:
    """Rows over correlated inputs, and the inputs."""
    rng = np.random.default_rng(seed)
    inputs = rng.standard_normal((groups, 60, 3)) @ rng.standard_normal((groups, 3, width))
    inputs += 0.2 * rng.standard_normal(inputs.shape)
    wanted = rng.standard_normal((groups, rows, width))
    kept = rng.random(wanted.shape) < density
    gram = np.swapaxes(inputs, 1, 2) @ inputs
    weight = rng.uniform(0.5, 2.0, (groups, rows))
    return Rows(gram, np.where(kept, wanted, 0.0) @ gram, weight, kept), inputs


def books(rows: Rows, *, each: bool = False, penalty: float = 0.0) -> Books:
    groups, height = rows.weight.shape
    of = np.arange(groups * height).reshape(groups, height) if each else np.zeros((groups, height), np.intp)
    entries = np.tile([-1.5, -0.5, 0.5, 1.5], (of.max() + 1, 1))
    return Books(entries, penalty * np.tile([3.0, 1.0, 2.0, 3.0], (of.max() + 1, 1)), of)


def cost(rows: Rows, own: Books, codes: Codes) -> float:
    """Above that of free weights."""
    return rows.cost(own.values(codes)) - rows.cost(least_squares(rows)) + own.spent(codes)


def test_the_factor_is_that_of_the_inverse() -> None:
    rows, _ = problem(0, groups=2)
    factor = inverse_factor(rows.gram)
    np.testing.assert_allclose(factor, np.triu(factor))
    np.testing.assert_allclose(np.swapaxes(factor, 1, 2) @ factor, np.linalg.inv(rows.gram), atol=1e-9)


@pytest.mark.parametrize("density", [1.0, 0.5])
def test_least_squares_are_those_of_numpy(density: float) -> None:
    rows, inputs = problem(1, groups=2, density=density)
    wanted = np.swapaxes(np.linalg.solve(rows.gram, np.swapaxes(rows.linear, 1, 2)), 1, 2)
    found = least_squares(rows)
    for group, row in itertools.product(range(2), range(5)):
        kept = rows.kept[group, row]
        target = inputs[group] @ wanted[group, row]
        np.testing.assert_allclose(
            found[group, row, kept], np.linalg.lstsq(inputs[group][:, kept], target)[0], atol=1e-8
        )
        assert not found[group, row, ~kept].any()


@pytest.mark.parametrize("seed", range(20))
@pytest.mark.parametrize("density", [1.0, 0.4])
def test_compensation_is_better_than_the_nearest(seed: int, density: float) -> None:
    rows, _ = problem(seed, groups=2, width=40, rows=20, density=density)
    own = books(rows)
    start = least_squares(rows)
    codes, plain = compensated(rows, start, own), nearest(rows, start, own)
    assert cost(rows, own, codes) < 0.6 * cost(rows, own, plain)
    for found in (codes, plain):
        np.testing.assert_array_equal(found == ZERO, ~rows.kept)


def test_costs_of_single_errors_add_up() -> None:
    """With one row the cost is the sum of (w - entry)^2 / U_jj^2, so no later error undoes an earlier one."""
    rows, _ = problem(3, rows=1, width=6)
    own = books(rows)
    values = own.values(compensated(rows, least_squares(rows), own))[0, 0]
    order = np.argsort(-np.diagonal(rows.gram[0]), kind="stable")
    factor = inverse_factor(rows.gram[0][np.ix_(order, order)])
    left, total = least_squares(rows)[0, 0][order], 0.0
    for place, entry in enumerate(values[order]):
        error = (left[place] - entry) / factor[place, place]
        total += error**2
        left = left - error * factor[place]
    difference = values - least_squares(rows)[0, 0]
    assert total == pytest.approx(difference @ rows.gram[0] @ difference)


def test_blocks_of_columns_change_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    rows, _ = problem(4, width=50, rows=7)
    start = least_squares(rows)
    at_once = compensated(rows, start, books(rows))
    monkeypatch.setattr("graphshrink.solvers.compensated._BLOCK", 7)
    np.testing.assert_array_equal(compensated(rows, start, books(rows)), at_once)


def test_sparse_rows_are_as_if_each_were_alone() -> None:
    rows, _ = problem(5, rows=6, width=30, density=0.5)
    codes = compensated(rows, least_squares(rows), books(rows))
    for row in range(6):
        kept = rows.kept[0, row]
        part = np.ix_(kept, kept)
        small = Rows(
            rows.gram[:, part[0], part[1]],
            rows.linear[:, [row]][..., kept],
            rows.weight[:, [row]],
            np.ones((1, 1, int(kept.sum())), np.bool_),
        )
        np.testing.assert_array_equal(compensated(small, least_squares(small), books(small))[0, 0], codes[0, row, kept])


def test_sparse_rows_that_share_a_factor_keep_their_zeros(monkeypatch: pytest.MonkeyPatch) -> None:
    rows, _ = problem(6, rows=6, width=30, density=0.5)
    monkeypatch.setattr("graphshrink.solvers.compensated._MOST_WORK", 0)
    codes = compensated(rows, least_squares(rows), books(rows))
    np.testing.assert_array_equal(codes == ZERO, ~rows.kept)
    assert cost(rows, books(rows), codes) < cost(rows, books(rows), nearest(rows, least_squares(rows), books(rows)))


@pytest.mark.parametrize("each", [False, True])
@pytest.mark.parametrize("density", [1.0, 0.5])
def test_entries_are_refitted_as_by_lstsq(each: bool, density: float) -> None:
    rows, inputs = problem(7, groups=2, density=density)
    own = books(rows, each=each)
    codes = nearest(rows, least_squares(rows), own)
    found = refitted(rows, own, codes, [np.eye(4)] * len(own.entries))
    wanted = np.swapaxes(np.linalg.solve(rows.gram, np.swapaxes(rows.linear, 1, 2)), 1, 2)
    for book in range(len(own.entries)):
        places = [(g, r) for g, r in itertools.product(range(2), range(5)) if own.of[g, r] == book]
        parts = [np.sqrt(rows.weight[p]) * inputs[p[0]] @ (codes[p][:, None] == np.arange(4)) for p in places]
        targets = [np.sqrt(rows.weight[p]) * inputs[p[0]] @ wanted[p] for p in places]
        used = np.isin(np.arange(4), codes[own.of == book])
        solved = np.linalg.lstsq(np.concatenate(parts)[:, used], np.concatenate(targets))[0]
        np.testing.assert_allclose(found[book, used], solved, rtol=1e-5, atol=1e-6)
        np.testing.assert_allclose(found[book, ~used], own.entries[book, ~used])


def test_grids_are_refitted_by_their_step_and_what_stays_stays() -> None:
    rows, _ = problem(8)
    whole = np.array([[-1.0, 0.0, 1.0, 2.0]])
    own = Books(0.7 * whole, np.zeros((1, 4)), np.zeros((1, 5), np.intp))
    codes = nearest(rows, least_squares(rows), own)
    grid = refitted(rows, own, codes, [whole.T])
    steps = np.linspace(0.3, 2, 10_000)
    best = min(rows.cost(own.with_entries(step * whole).values(codes)) for step in steps)
    assert rows.cost(own.with_entries(grid).values(codes)) <= best + 1e-6
    np.testing.assert_allclose(grid / grid[0, 2], whole)
    pinned = refitted(rows, own, codes, [np.eye(4)[:, [0, 2, 3]]])
    assert pinned[0, 1] == 0.0
    assert rows.cost(own.with_entries(pinned).values(codes)) <= rows.cost(own.with_entries(grid).values(codes)) + 1e-9


@pytest.mark.parametrize("penalty", [0.0, 0.5])
def test_descent_ends_where_no_single_move_gains(penalty: float) -> None:
    rows, _ = problem(9, rows=3, width=8, density=0.8)
    own = books(rows, penalty=penalty)
    codes, before = nearest(rows, least_squares(rows), own), np.inf
    for _ in range(50):
        now = cost(rows, own, codes)
        assert now <= before + 1e-9
        before, codes = now, descended(rows, own, codes)
    for row, column, code in itertools.product(range(3), range(8), range(4)):
        if rows.kept[0, row, column]:
            moved = codes.copy()
            moved[0, row, column] = code
            assert cost(rows, own, moved) >= before - 1e-9


@pytest.mark.parametrize("seed", range(5))
def test_compensation_and_descent_are_near_the_best_codes_of_all(seed: int) -> None:
    rows, _ = problem(seed, rows=1, width=6)
    own = books(rows)
    codes = compensated(rows, least_squares(rows), own)
    for _ in range(5):
        codes = descended(rows, own, codes)
    every = (np.array(c, np.int16).reshape(1, 1, 6) for c in itertools.product(range(4), repeat=6))
    best = min(cost(rows, own, c) for c in every)
    assert best - 1e-9 <= cost(rows, own, codes) <= 3 * best


def test_code_lengths_are_those_of_the_shares() -> None:
    rows, _ = problem(10, rows=1, width=8)
    codes = np.array([[[0, 0, 0, 0, 1, 1, 2, ZERO]]], np.int16)
    bits = used_bits(books(rows), codes)[0]
    np.testing.assert_allclose(bits[:3], -np.log2(np.array([4, 2, 1]) / 7))
    assert bits[3] == np.inf
