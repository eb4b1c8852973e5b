"""How much second moments are shrunk, against the formula row by row and against moments that are known."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from graphshrink.calibration.shrinkage import Shrinkage, errors
from graphshrink.ir.types import Array


def seen(samples: list[Array], *, seed: int = 0) -> Shrinkage:
    """Samples (groups, P, N), each a batch of its own."""
    shrinkage = Shrinkage(len(samples[0]), samples[0].shape[2], seed)
    for rows in samples:
        shrinkage.add(rows, divisible=False)
    return shrinkage


def left(known: Array, new: Array) -> float:
    """Of each input, as regression on the others over `known` (n, N) tells it in `new`."""
    total = 0.0
    for i in range(known.shape[1]):
        others = np.delete(np.arange(known.shape[1]), i)
        told = np.linalg.lstsq(known[:, others], known[:, i])[0]
        total += float(np.sum((new[:, i] - new[:, others] @ told) ** 2))
    return total


@given(st.integers(0, 1000))
@settings(deadline=None, max_examples=30)
def test_errors_without_shrinking_are_those_of_regressions_on_the_other_half(seed: int) -> None:
    rng = np.random.default_rng(seed)
    mixed = rng.standard_normal((6, 6)) + 2 * np.eye(6)
    first, second = rng.standard_normal((2, 40, 6)) @ mixed
    found = errors(first.T[None] @ first, second.T[None] @ second)
    assert found[-1] == pytest.approx(left(first, second), rel=1e-3)
    assert found[0] == pytest.approx(np.sum(second**2), rel=1e-9)  # of each input alone, nothing is known


def test_many_samples_are_trusted_and_few_are_not() -> None:
    rng = np.random.default_rng(0)
    mixed = rng.standard_normal((40, 40))
    few, many = (seen([(rng.standard_normal((1, 1, 40)) @ mixed) for _ in range(n)]).intensity for n in (20, 2000))
    assert many < 0.001 < 0.05 < few


def test_repeating_rows_within_a_sample_changes_nothing() -> None:
    samples = list(np.random.default_rng(0).standard_normal((25, 1, 1, 8)))
    once, often = seen(samples), seen([np.repeat(rows, 50, axis=1) for rows in samples])
    assert often.intensity == pytest.approx(once.intensity, rel=1e-9)


def test_a_batch_of_several_samples_is_cut_into_parts() -> None:
    rows = np.random.default_rng(0).standard_normal((1, 400, 8))
    shrinkage = Shrinkage(1, 8, 0)
    shrinkage.add(rows, divisible=True)
    assert 0 < shrinkage.intensity <= 1


@pytest.mark.parametrize("rows", [np.ones((1, 5, 3)), np.zeros((2, 5, 3)), np.ones((1, 5, 1))])
def test_inputs_that_never_change_are_no_trouble(rows: Array) -> None:
    assert 0 <= seen([rows, rows]).intensity <= 1


def test_one_sample_is_compared_with_nothing() -> None:
    assert seen([np.random.default_rng(0).standard_normal((1, 9, 3))]).intensity == 0


def test_wide_rows_are_looked_at_in_part() -> None:
    rng = np.random.default_rng(0)
    samples = list(rng.standard_normal((40, 1, 2, 900)) @ (np.eye(900) + rng.standard_normal((900, 900)) / 30))
    assert 0 < seen(samples, seed=1).intensity <= 1


def test_no_rows_at_all() -> None:
    shrinkage = Shrinkage(1, 3, 0)
    shrinkage.add(np.zeros((1, 0, 3)), divisible=True)
    assert shrinkage.intensity == 0
