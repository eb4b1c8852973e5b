from typing import Any

import ml_dtypes
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from graphshrink.calibration.random_inputs import random_samples
from graphshrink.errors import CalibrationError, UsageError
from graphshrink.ir.types import Dim, TensorSpec


def spec(name: str, dtype: Any, *shape: Dim) -> TensorSpec:
    return TensorSpec(name, np.dtype(dtype), shape)


UNKNOWN = TensorSpec("x", np.dtype(np.float32), None)


def shapes_of(inputs: list[TensorSpec], **shapes: tuple[int, ...]) -> dict[str, tuple[int, ...]]:
    return {name: array.shape for name, array in random_samples(inputs, count=1, shapes=shapes)[0].items()}


@pytest.mark.parametrize(
    ("shape", "wanted"),
    [
        ((), ()),
        ((2, 3), (2, 3)),
        (("batch", 3), (1, 3)),
        ((None, None), (1, 16)),
        (("batch", "length"), (1, 16)),
        ((2, "n", "n"), (2, 16, 16)),
        (("n", "n"), (1, 1)),
    ],
)
def test_sizes(shape: tuple[Dim, ...], wanted: tuple[int, ...]) -> None:
    assert shapes_of([spec("x", np.float32, *shape)]) == {"x": wanted}


def test_a_symbol_has_one_size_everywhere() -> None:
    inputs = [spec("a", np.float32, 3, "n"), spec("b", np.float32, "n", "m"), spec("c", np.int64, 2, "m", "n")]
    assert shapes_of(inputs) == {"a": (3, 1), "b": (1, 16), "c": (2, 16, 1)}


def test_a_given_shape_is_used_whole_and_binds_its_symbols() -> None:
    inputs = [spec("ids", np.int64, "batch", "length"), spec("mask", np.float32, "batch", 1, "length")]
    assert shapes_of(inputs, ids=(2, 7)) == {"ids": (2, 7), "mask": (2, 1, 7)}


def test_an_unknown_rank_needs_a_shape() -> None:
    assert shapes_of([UNKNOWN], x=(1, 0, 5)) == {"x": (1, 0, 5)}
    with pytest.raises(CalibrationError, match="--input-shape x:1,3,224,224"):
        random_samples([UNKNOWN])


@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64, ml_dtypes.bfloat16, ml_dtypes.float8_e4m3fn])
def test_floats_are_standard_normal(dtype: Any) -> None:
    values = random_samples([spec("x", dtype, 10_000)])[0]["x"]
    assert values.dtype == dtype
    wide = values.astype(np.float64)
    # Four standard errors of mean and deviation of 10,000 draws, and the rounding of an eight-bit float.
    assert abs(wide.mean()) < 0.04
    assert abs(wide.std() - 1) < 0.04


@pytest.mark.parametrize("dtype", [np.int8, np.uint8, np.int32, np.int64, np.uint64, ml_dtypes.int4, np.bool_])
def test_discrete_values_are_0_and_1_when_nothing_is_said(dtype: Any) -> None:
    values = random_samples([spec("x", dtype, 100)])[0]["x"]
    assert values.dtype == dtype
    assert set(values.astype(int).tolist()) == {0, 1}


@pytest.mark.parametrize(
    ("dtype", "low", "high"), [(np.int64, 5, 8), (np.int8, -128, -125), (np.uint64, 2**64 - 3, 2**64)]
)
def test_ranges_are_half_open(dtype: Any, low: int, high: int) -> None:
    values = random_samples([spec("x", dtype, 100)], ranges={"x": (low, high)})[0]["x"]
    assert set(values.tolist()) == set(range(low, high))


def test_strings_and_complex_numbers() -> None:
    inputs = [spec("text", object, 20), spec("z", np.complex64, 20)]
    sample = random_samples(inputs)[0]
    assert all(isinstance(text, str) and len(text) == 1 and text.islower() for text in sample["text"].tolist())
    assert sample["z"].dtype == np.complex64
    assert np.all(np.imag(sample["z"]) != 0)


def test_scalars_stay_arrays() -> None:
    inputs = [
        spec("f", np.float32),
        spec("i", np.int64),
        spec("s", object),
        spec("b", np.bool_),
        spec("z", np.complex64),
    ]
    sample = random_samples(inputs)[0]
    assert all(isinstance(array, np.ndarray) and array.shape == () for array in sample.values())
    assert [array.dtype for array in sample.values()] == [spec.dtype for spec in inputs]


@given(seed=st.integers(0, 2**70), index=st.integers(0, 4))
def test_a_sample_depends_on_seed_and_index_alone(seed: int, index: int) -> None:
    inputs = [spec("x", np.float32, "n", 3), spec("i", np.int64, "n", 4)]
    few, many = random_samples(inputs, count=5, seed=seed), random_samples(inputs, count=50, seed=seed)
    _ = many[7]
    for name in ("x", "i"):
        np.testing.assert_array_equal(few[index][name], many[index][name])
    assert not np.array_equal(few[index]["x"], few[(index + 1) % 5]["x"])
    assert not np.array_equal(few[index]["x"], random_samples(inputs, seed=seed + 1)[index]["x"])


def test_samples_can_be_read_again() -> None:
    samples = random_samples([spec("x", np.float32, 3)], count=3)
    assert len(samples) == len(list(samples)) == len(list(samples)) == 3
    assert "random" in samples.description
    with pytest.raises(IndexError):
        samples[3]


@pytest.mark.parametrize(
    ("shapes", "ranges"),
    [
        ({"x": (1, 3)}, {}),  # rank
        ({"x": (1, 4, 5)}, {}),  # fixed size
        ({"x": (1, 3, -1)}, {}),
        ({"x": (2, 3, 4), "i": (3, 4)}, {}),  # batch is 2 and 3
        ({"x": (2**40, 3, 2**40)}, {}),
        ({}, {"x": (0, 5)}),  # floats have no range
        ({}, {"i": (5, 5)}),
        ({}, {"i": (0, 300)}),  # uint8
        ({}, {"i": (-1, 3)}),
    ],
)
def test_contradictions_name_the_input(shapes: dict[str, tuple[int, ...]], ranges: dict[str, tuple[int, int]]) -> None:
    inputs = [spec("x", np.float32, "batch", 3, None), spec("i", np.uint8, "batch", "m")]
    with pytest.raises(CalibrationError, match=r"'[xi]'") as raised:
        random_samples(inputs, shapes=shapes, ranges=ranges)
    assert "\n" not in str(raised.value)


@pytest.mark.parametrize("option", ["shapes", "ranges"])
def test_unknown_names_are_errors(option: str) -> None:
    given: dict[str, Any] = {option: {"y": (1, 2)}}
    with pytest.raises(CalibrationError, match="'y'"):
        random_samples([spec("x", np.int64, "n", 2)], **given)


def test_a_hostile_fixed_size_is_an_error() -> None:
    with pytest.raises(CalibrationError, match="'x'"):
        random_samples([spec("x", np.float32, 2**62, 2**62)])


def test_types_without_random_values_are_errors() -> None:
    with pytest.raises(CalibrationError, match="'x'"):
        random_samples([spec("x", "M8[s]", 3)])


@pytest.mark.parametrize("options", [{"count": 0}, {"seed": -1}])
def test_options_that_cannot_be_meant(options: dict[str, int]) -> None:
    with pytest.raises(UsageError):
        random_samples([spec("x", np.float32, 3)], **options)  # type: ignore[arg-type]
