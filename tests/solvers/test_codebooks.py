"""Codebooks against trying everything: weighted, entropy-constrained, on a grid, and as a mixture."""

import itertools
import math
from collections.abc import Iterator

import numpy as np
import pytest

from graphshrink.ir.types import Array
from graphshrink.solvers.codebooks import cheapest, entropy_coded, uniform, weighted_kmeans
from graphshrink.solvers.levels import allocate
from graphshrink.solvers.mixture import mixture_of

DTYPE = np.dtype(np.float64)
CASES = range(5)


def drawn(seed: int, n: int) -> tuple[Array, Array]:
    rng = np.random.default_rng(seed)
    return rng.standard_normal(n).round(3), rng.uniform(0.1, 5.0, n)


def partitions(n: int, most: int) -> Iterator[list[int]]:
    """Every way to put n things into at most so many cells, as the cell of each."""
    if n == 0:
        yield []
        return
    for before in partitions(n - 1, most):
        for cell in range(min(max(before, default=-1) + 2, most)):
            yield [*before, cell]


def cost(values: Array, weights: Array, cells: Array, slope: float) -> float:
    """Of a partition with the best entries and ideal codes; the mean importance being 1."""
    total = 0.0
    weights = weights / weights.mean()
    for cell in np.unique(cells):
        v, w = values[cells == cell], weights[cells == cell]
        total += float(np.sum(w * (v - np.average(v, weights=w)) ** 2)) + slope * len(v) * math.log2(
            len(values) / len(v)
        )
    return total


@pytest.mark.parametrize("seed", CASES)
@pytest.mark.parametrize("k", [1, 2, 3])
def test_weighted_kmeans_is_the_best_partition(seed: int, k: int) -> None:
    values, weights = drawn(seed, 7)
    best = min(cost(values, weights, np.array(cells), 0.0) for cells in partitions(7, k))
    book = weighted_kmeans(values, weights, k, DTYPE)
    labels, found = cheapest(values, weights / weights.mean(), book)
    assert len(book.entries) <= k
    assert found == pytest.approx(best, rel=1e-3)
    assert cost(values, weights, labels, 0.0) == pytest.approx(best, rel=1e-3)


@pytest.mark.parametrize("seed", CASES)
@pytest.mark.parametrize("slope", [0.01, 0.1, 0.5])
@pytest.mark.parametrize("k", [2, 3, 8])
def test_entropy_coding_is_the_best_partition(seed: int, slope: float, k: int) -> None:
    values, _ = drawn(seed, 7)
    ones = np.ones(7)
    best = min(cost(values, ones, np.array(cells), slope) for cells in partitions(7, k))
    book = entropy_coded(values, ones, k, slope, DTYPE)
    _, found = cheapest(values, ones, book, slope)
    assert len(book.entries) <= k
    assert found == pytest.approx(best, rel=1e-9)


@pytest.mark.parametrize("seed", CASES)
def test_entropy_coding_of_unequal_importance_is_near_the_best(seed: int) -> None:
    values, weights = drawn(seed, 7)
    best = min(cost(values, weights, np.array(cells), 0.1) for cells in partitions(7, 4))
    book = entropy_coded(values, weights, 4, 0.1, DTYPE)
    _, found = cheapest(values, weights / weights.mean(), book, 0.1)
    assert best * (1 - 1e-9) <= found <= 1.15 * best


def test_entropy_coding_saves_bits_at_the_error_of_kmeans() -> None:
    values = np.random.default_rng(0).laplace(size=20_000)
    ones = np.ones(len(values))
    labels, plain = cheapest(values, ones, weighted_kmeans(values, ones, 16, DTYPE))
    slope = 2 * math.log(2) * plain / len(values)
    book = entropy_coded(values, ones, 32, slope, DTYPE)
    coded, _ = cheapest(values, ones, book, slope)
    error = float(np.sum((values - book.entries[coded]) ** 2))
    assert error < 1.02 * plain
    assert entropy(coded) < entropy(labels) - 0.25  # bits a weight


def entropy(labels: Array) -> float:
    shares = np.bincount(labels) / len(labels)
    shares = shares[shares > 0]
    return float(-np.sum(shares * np.log2(shares)))


@pytest.mark.parametrize("seed", CASES)
@pytest.mark.parametrize("k", [3, 4, 8, 15])
def test_grids_are_whole_multiples_and_near_the_best_step(seed: int, k: int) -> None:
    values, weights = drawn(seed, 200)
    book = uniform(values, weights, k, np.dtype(np.float32))
    most = (k - 1) // 2
    step = np.float32(book.entries[-1] / most)
    np.testing.assert_array_equal(book.entries, (np.arange(-most, most + 1).astype(np.float32) * step).astype(float))
    _, found = cheapest(values, weights, book)
    tried = np.linspace(1e-3, np.abs(values).max() / most, 4000)
    best = min(np.sum(weights * (values - np.clip(np.rint(values / s), -most, most) * s) ** 2) for s in tried)
    assert found <= 1.01 * best


def test_grids_of_nothing() -> None:
    np.testing.assert_array_equal(uniform(np.zeros(5), np.ones(5), 7, DTYPE).entries, [0.0])


def test_mixtures_find_the_components_that_made_the_values() -> None:
    rng = np.random.default_rng(0)
    parts = [
        0.05 * rng.standard_normal(6000),
        1 + 0.1 * rng.standard_normal(3000),
        -2 + 0.2 * rng.standard_normal(1000),
    ]
    values = np.concatenate(parts)
    made = mixture_of(values, np.ones(len(values)), 3)
    np.testing.assert_allclose(made.means, [-2, 0, 1], atol=0.05)
    assert 0.0 in made.means
    np.testing.assert_allclose(made.shares, [0.1, 0.6, 0.3], atol=0.02)
    np.testing.assert_array_equal(made.labels(np.array([-2.1, 0.02, 0.9])), [0, 1, 2])


def test_mixtures_of_few_values_have_few_components() -> None:
    made = mixture_of(np.repeat([0.0, 1.0], 50), np.ones(100), 8)
    assert len(made.means) < 8
    np.testing.assert_allclose(made.means[made.labels(np.array([0.0, 1.0]))], [0.0, 1.0], atol=1e-3)
    np.testing.assert_array_equal(mixture_of(np.zeros(4), np.ones(4), 4).means, [0.0])


@pytest.mark.parametrize("seed", CASES)
def test_allocation_is_the_best_choice(seed: int) -> None:
    rng = np.random.default_rng(seed)
    costs = [np.append(np.sort(rng.uniform(0, 9, 3)), 9.0) for _ in range(4)]
    # Whole parts of the budget, so that nothing is lost by rounding.
    loads = [np.append(np.sort(rng.integers(0, 6000, 3))[::-1], 0) / 10_000 for _ in range(4)]
    every = itertools.product(range(4), repeat=4)
    allowed = [c for c in every if round(sum(load[i] for load, i in zip(loads, c, strict=True)) * 10_000) <= 10_000]
    best = min(sum(cost[i] for cost, i in zip(costs, c, strict=True)) for c in allowed)
    found = allocate(costs, loads, 1.0)
    assert found is not None
    assert tuple(found) in allowed
    assert sum(cost[i] for cost, i in zip(costs, found, strict=True)) == pytest.approx(best)


def test_no_choice_is_within_the_budget() -> None:
    assert allocate([np.ones(1)], [np.array([2.0])], 1.0) is None
    assert allocate([], [], 1.0) == []


def test_of_a_budget_of_nothing_only_what_costs_nothing_is_chosen() -> None:
    costs, loads = [np.array([1.0, 5.0])] * 2, [np.array([1e-300, 0.0]), np.array([0.0, 0.0])]
    assert allocate(costs, loads, 0.0) == [1, 0]
    assert allocate(costs[:1], [np.array([1.0, 2.0])], 0.0) is None
    assert allocate(costs[:1], [np.array([1.0, 2.0])], 1.0) == [0]


def test_entries_that_rounding_makes_equal_are_one() -> None:
    random = np.random.default_rng(39)
    values = np.where(random.random(78) < 0.5, 1.0, 1e-3) * random.standard_normal(78) * 1e-7  # float16 steps by 6e-8
    book = weighted_kmeans(values, np.ones(78), 16, np.dtype(np.float16))
    assert 1 < len(book.entries) < 16
    assert np.all(np.diff(book.entries) > 0)
