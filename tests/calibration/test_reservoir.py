"""Samples of rows."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from graphshrink.calibration.reservoir import Reservoir
from graphshrink.errors import InternalError, UnfitError
from graphshrink.ir.types import Array
from tests.models import normal

_ROWS = np.arange(5000, dtype=np.float32)[:, None] * np.ones(3, np.float32)


def sample(rows: Array, most: int, cuts: list[int], seed: int = 0, memory: int = 1 << 30) -> Array:
    reservoir = Reservoir(most, memory, seed)
    for part in np.split(rows, sorted(cut % (len(rows) + 1) for cut in cuts)):
        reservoir.add({"rows": part})
    assert reservoir.seen == len(rows)
    return reservoir.rows()["rows"]


@given(st.lists(st.integers(0, 10_000), max_size=8), st.integers(0, 5000), st.integers(1, 3000))
def test_the_sample_does_not_depend_on_how_rows_are_cut(cuts: list[int], count: int, most: int) -> None:
    rows = _ROWS[:count]
    found = sample(rows, most, cuts) if count else rows
    assert len(found) == min(count, most)
    if count:
        assert np.array_equal(found, sample(rows, most, []))
        assert np.all(np.diff(found[:, 0]) > 0)


def test_seeds_choose_other_rows() -> None:
    first, second = (sample(_ROWS, 100, [], seed)[:, 0].tolist() for seed in (0, 2**70))
    assert 0 < len(set(first) & set(second)) + 1 < 20  # 2 expected
    assert first == sample(_ROWS, 100, [], 0)[:, 0].tolist()


def test_every_row_is_as_likely() -> None:
    """The mean of 400 positions of 5000 has a deviation of 69; early, late and middle rows are all there."""
    means = [float(sample(_ROWS, 400, [100, 4000], seed).mean()) for seed in range(30)]
    assert abs(np.mean(means) - 2499.5) < 4 * 69 / np.sqrt(30)
    quarters = np.histogram(np.concatenate([sample(_ROWS, 400, [], s)[:, 0] for s in range(30)]), 4, (0, 5000))[0]
    assert np.all(abs(quarters - 3000) < 4 * np.sqrt(3000 * 0.75))


def test_sources_are_kept_at_the_same_positions() -> None:
    reservoir = Reservoir(64, 1 << 20)
    left, right = normal(1000, 5), normal(1000, 2, 3, seed=1)
    for start in range(0, 1000, 90):
        reservoir.add({"left": left[start : start + 90], "right": right[start : start + 90].astype(np.float16)})
    rows = reservoir.rows()
    positions = [int(np.flatnonzero((left == row).all(axis=1))[0]) for row in rows["left"]]
    assert np.array_equal(rows["right"], right[positions].astype(np.float16).astype(np.float32))
    assert rows["right"].dtype == np.float32


def test_memory_bounds_the_rows() -> None:
    assert len(sample(_ROWS, 1000, [], memory=12 * 70)) == 70
    assert len(sample(_ROWS, 1000, [], memory=1)) == 1


def test_memory_is_shared_by_sources() -> None:
    reservoir = Reservoir(1000, 800)
    reservoir.add({"left": normal(50, 3), "right": normal(50, 5).astype(np.float64)})  # 12 and 40 bytes
    assert {name: rows.shape for name, rows in reservoir.rows().items()} == {"left": (15, 3), "right": (15, 5)}


def test_kinds_of_regions_stay_bytes() -> None:
    reservoir = Reservoir(10, 1 << 20)
    reservoir.add({"kind": np.arange(20, dtype=np.uint8).reshape(10, 2)})
    assert reservoir.rows()["kind"].dtype == np.uint8


@pytest.mark.parametrize(
    ("second", "error"),
    [({"left": normal(4, 2)}, InternalError), ({"left": normal(4, 2), "right": normal(3, 2)}, UnfitError)],
)
def test_sources_have_to_match(second: dict[str, Array], error: type[Exception]) -> None:
    reservoir = Reservoir(10, 1 << 20)
    reservoir.add({"left": normal(4, 2), "right": normal(4, 2)})
    with pytest.raises(error):
        reservoir.add(second)


def test_no_rows_are_no_sample() -> None:
    reservoir = Reservoir(10, 1 << 20)
    reservoir.add({"x": normal(0, 2)})
    assert reservoir.rows() == {}
