"""Finding the uniform grid that weights lie on."""

from typing import Any, Final

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from graphshrink.encodings import uniform
from graphshrink.encodings.uniform import MOST, find_grid
from graphshrink.ir.types import Array
from tests.models import normal

DTYPES: Final[list[Any]] = [np.float16, np.float32, np.float64]


def product(steps: Array, scale: Array, axis: int | None) -> Array:
    """What DequantizeLinear makes of steps."""
    shape = [1] * steps.ndim
    if axis is not None:
        shape[axis] = -1
    return np.asarray(steps.astype(scale.dtype) * scale.reshape(shape))


@st.composite
def grids(draw: st.DrawFn) -> tuple[Array, int | None]:
    """Weights on a grid, with its axis: channels that are constant or all zeros among them."""
    dtype = np.dtype(draw(st.sampled_from(DTYPES)))
    shape = tuple(draw(st.lists(st.integers(1, 12), min_size=1, max_size=4)))
    axis = draw(st.sampled_from([None, *range(len(shape))]))
    low = draw(st.integers(-MOST, MOST))
    high = draw(st.integers(low, MOST))
    rng = np.random.default_rng(draw(st.integers(0, 2**32)))
    steps = rng.integers(low, high, shape, endpoint=True)
    if draw(st.booleans()):
        steps[0] = draw(st.sampled_from([0, low]))
    smallest, largest = (-8, 0) if dtype == np.float16 else (-60, 60)
    scale = 2.0 ** rng.uniform(smallest, largest, 1 if axis is None else shape[axis])
    return product(steps, scale.astype(dtype), axis), axis


@settings(max_examples=300, deadline=None)
@given(grids())
def test_a_grid_is_found(case: tuple[Array, int | None]) -> None:
    array, axis = case
    found = find_grid(array, () if axis is None else (axis,))
    assert found is not None
    assert found.axis in (None, axis)
    assert np.abs(found.steps).max() <= MOST
    again = found.steps.astype(array.dtype) * found.along_axis(found.scale)
    assert (again.dtype, again.shape, again.tobytes()) == (array.dtype, array.shape, array.tobytes())


@settings(max_examples=200, deadline=None)
@given(st.integers(0, 2**32), st.integers(1, MOST), st.sampled_from(DTYPES[1:]))
def test_the_grid_is_the_coarsest(seed: int, most: int, dtype: Any) -> None:
    rng = np.random.default_rng(seed)
    steps = np.append(rng.integers(-most, most, 50, endpoint=True), [most, most - 1, 0])
    found = find_grid(product(steps, rng.uniform(1, 2, 1).astype(dtype), None), ())
    assert found is not None
    np.testing.assert_array_equal(found.steps, steps)


@pytest.mark.parametrize("rows", [1, 7, 300])
def test_in_parts(rows: int, monkeypatch: pytest.MonkeyPatch) -> None:
    rng = np.random.default_rng(0)
    array = product(rng.integers(-128, 128, (rows, 90)), rng.uniform(1, 2, rows).astype(np.float32), 0)
    whole = find_grid(array, (0,))
    monkeypatch.setattr(uniform, "_BLOCK", 31)
    monkeypatch.setattr(uniform, "_ROWS", 5)
    parts = find_grid(array, (0,))
    assert whole is not None
    assert parts is not None
    assert (parts.scale.tobytes(), parts.steps.tobytes()) == (whole.scale.tobytes(), whole.steps.tobytes())


def test_a_weight_that_is_off_by_one_bit_is_on_no_grid() -> None:
    rng = np.random.default_rng(0)
    array = product(rng.integers(-128, 128, (40, 500)), np.array([0.0123], np.float32), None)
    assert find_grid(array, ()) is not None
    array[39, 499] = np.nextafter(array[39, 498] + np.float32(0.0123), np.float32(np.inf))
    assert find_grid(array, ()) is None


@pytest.mark.parametrize("value", [-0.0, np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("place", [0, 5000])
def test_what_no_whole_number_gives(value: float, place: int) -> None:
    array = np.arange(6000, dtype=np.float32) % 100
    array[place] = value
    assert find_grid(array, ()) is None
    assert find_grid(array.reshape(60, 100), (0, 1)) is None


@pytest.mark.parametrize(
    "array",
    [
        np.arange(9, dtype=np.float32) * np.float32(1e-39),  # ONNX Runtime may be told to take such scales for 0
        np.array([256, 1], np.float32),
        np.array([3.4e38, np.pi * 1e37], np.float32),
        np.arange(9, dtype=np.int64),
        np.zeros((3, 0), np.float32),
        normal(50, 50),
        np.where(np.arange(10_000) < 9_990, np.float32(0), normal(10_000)),
    ],
)
def test_no_grid(array: Array) -> None:
    assert find_grid(array, ()) is None


def test_zeros_and_constants_have_one_step() -> None:
    for value in (0.0, 0.37, -0.37):
        found = find_grid(np.full((3, 4), value, np.float32), ())
        assert found is not None
        assert set(found.steps.reshape(-1).tolist()) == {int(np.sign(value))}


def test_extremes_of_each_channel() -> None:
    array = product(np.array([[-3, 1, 0], [7, 2, 7]]), np.array([0.1, np.pi], np.float32), 0)
    found = find_grid(array, (0,))
    assert found is not None
    assert [part.tolist() for part in found.extremes()] == [[-3, 2], [1, 7]]
