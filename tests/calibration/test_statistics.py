"""Statistics of streams."""

from collections.abc import Callable
from itertools import pairwise
from typing import Any

import ml_dtypes
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from graphshrink.calibration.statistics import CrossMoment, Gram, Histogram, Moments
from graphshrink.errors import CalibrationError, InternalError
from graphshrink.ir.types import Array
from tests.models import normal

_ROWS = normal(3000, 4) * np.array([1, 1e-3, 1e4, 0], np.float32) + np.array([0, 1, -1e5, 2.5], np.float32)
_OTHERS = normal(3000, 2, seed=1)


def fed(statistic: Any, *sources: Array, cuts: list[int]) -> Any:
    places = sorted(cut % (len(sources[0]) + 1) for cut in cuts)
    for parts in zip(*(np.split(source, places) for source in sources), strict=True):
        statistic.add(*parts)
    return statistic


_READ: dict[str, Callable[[list[int]], list[Array]]] = {
    "moments": lambda cuts: (lambda m: [m.mean, m.variance, m.least, m.largest])(fed(Moments(), _ROWS, cuts=cuts)),
    "gram": lambda cuts: [fed(Gram(bias=True), _ROWS, cuts=cuts).total],
    "cross": lambda cuts: [fed(CrossMoment(), _ROWS, _OTHERS, cuts=cuts).total],
    "histogram": lambda cuts: (lambda h: [h.edges, h.counts])(fed(Histogram(64), _ROWS, cuts=cuts)),
}


@pytest.mark.parametrize("name", _READ)
@given(cuts=st.lists(st.integers(0, 3000), max_size=6))
def test_not_a_bit_depends_on_how_rows_are_cut(name: str, cuts: list[int]) -> None:
    assert all(np.array_equal(a, b) for a, b in zip(_READ[name](cuts), _READ[name]([]), strict=True))


def test_moments() -> None:
    """Also of a column far from zero, where squares less the squared mean would have no digit left."""
    exact = _ROWS.astype(np.float64)
    moments = fed(Moments(), _ROWS, cuts=[7, 2000])
    np.testing.assert_allclose(moments.mean, exact.mean(axis=0), rtol=1e-12)
    np.testing.assert_allclose(moments.variance, exact.var(axis=0), rtol=1e-9, atol=0)
    assert np.array_equal(moments.least, exact.min(axis=0))
    assert np.array_equal(moments.largest, exact.max(axis=0))
    assert moments.count == 3000


def test_gram_with_a_bias() -> None:
    exact = np.column_stack([_ROWS.astype(np.float64), np.ones(3000)])
    np.testing.assert_allclose(fed(Gram(bias=True), _ROWS, cuts=[1500]).total, exact.T @ exact, rtol=1e-12)
    np.testing.assert_allclose(fed(Gram(), _ROWS, cuts=[1500]).total, exact.T[:4] @ exact[:, :4], rtol=1e-12)


def test_cross_moment_of_two_sources() -> None:
    left, right = _ROWS.astype(np.float64), _OTHERS.astype(np.float64)
    scale = np.linalg.norm(left, axis=0)[:, None] * np.linalg.norm(right, axis=0)
    found = fed(CrossMoment(bias=True), _ROWS, _OTHERS, cuts=[10]).total
    assert np.all(abs(found[:4] - left.T @ right) <= 1e-13 * scale)  # sums of both signs: relative to their terms
    np.testing.assert_allclose(found[4], right.sum(axis=0), rtol=1e-12)


def test_half_precision_is_summed_in_double() -> None:
    rows = normal(2000, 3).astype(ml_dtypes.bfloat16)
    exact = rows.astype(np.float64)
    np.testing.assert_allclose(fed(Gram(), rows, cuts=[]).total, exact.T @ exact, rtol=1e-13)


@given(st.lists(st.floats(-1e300, 1e300), min_size=1, max_size=50), st.integers(2, 64))
def test_a_histogram_counts_every_value_where_it_is(values: list[float], bins: int) -> None:
    array = np.array(values)
    histogram = Histogram(bins)
    histogram.add(array[:7])
    histogram.add(array[7:])
    edges, counts = histogram.edges, histogram.counts
    assert len(counts) <= bins
    assert np.array_equal(counts, [np.sum((array >= a) & (array < b)) for a, b in pairwise(edges)])
    assert counts.sum() == len(array)
    assert counts[0] and counts[-1]


def test_bins_are_as_narrow_as_their_number_allows() -> None:
    histogram = Histogram(100)
    histogram.add(np.linspace(0, 1, 1001))
    assert len(histogram.counts) > 50


@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_no_statistic_takes_what_is_not_finite(bad: float) -> None:
    rows = normal(4, 2)
    rows[3, 1] = bad
    moments = Moments()
    moments.add(rows)
    with pytest.raises(CalibrationError):
        _ = moments.mean


def test_rows_have_to_match() -> None:
    with pytest.raises(InternalError):
        CrossMoment().add(normal(3, 2), normal(4, 2))


def test_nothing_is_known_of_no_rows() -> None:
    with pytest.raises(InternalError):
        _ = Gram().total
