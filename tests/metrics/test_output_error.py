import json
import math
from dataclasses import asdict

import ml_dtypes
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from graphshrink.ir.types import Array
from graphshrink.metrics.output_error import OutputComparison, OutputError


def compare(expected: object, actual: object) -> OutputError:
    comparison = OutputComparison()
    comparison.add({"y": expected}, {"y": actual})
    return comparison.results()["y"]


def floats(*values: float) -> np.ndarray[tuple[int], np.dtype[np.float32]]:
    return np.array(values, dtype=np.float32)


def test_the_figures_of_floats() -> None:
    assert compare(floats(3.0, 4.0), floats(3.0, 3.0)) == OutputError(
        error=1.0 / (5.0 + 1e-6 * math.sqrt(2)),
        relative_l2=1.0 / (5.0 + 1e-6 * math.sqrt(2)),
        max_absolute=1.0,
        sqnr_db=10 * math.log10(25),
        cosine=21 / (5 * math.sqrt(18)),
        agreement=None,
        top1_agreement=None,
        elements=2,
        comparable=2,
        samples=1,
        note=None,
    )


def test_equal_floats() -> None:
    result = compare(floats(0.0, -2.0), floats(0.0, -2.0))
    assert (result.error, result.max_absolute, result.sqnr_db, result.cosine) == (0.0, 0.0, math.inf, 1.0)


def test_zeros_are_measured_against_the_floor() -> None:
    result = compare(floats(0.0, 0.0, 0.0, 0.0), floats(1e-6, 0.0, 0.0, 0.0))
    assert result.error == pytest.approx(0.5)
    assert (result.sqnr_db, result.cosine) == (-math.inf, 0.0)


def test_samples_are_summed_not_averaged() -> None:
    comparison = OutputComparison()
    comparison.add({"y": floats(3.0)}, {"y": floats(3.0)})
    comparison.add({"y": floats(4.0, 0.0)}, {"y": floats(4.0, 1.0)})  # samples may differ in shape
    result = comparison.results()["y"]
    assert result.error == pytest.approx(1.0 / 5.0, rel=1e-5)  # the floor is 1e-6 of 5
    assert (result.elements, result.samples) == (3, 2)


@given(st.lists(st.lists(st.tuples(*[st.floats(-1e6, 1e6)] * 2), min_size=1, max_size=5), min_size=1, max_size=5))
def test_streaming_equals_the_formula_over_everything(samples: list[list[tuple[float, float]]]) -> None:
    comparison = OutputComparison()
    for sample in samples:
        pairs = np.array(sample)
        comparison.add({"y": pairs[:, 0]}, {"y": pairs[:, 1]})
    whole = np.concatenate([np.array(sample) for sample in samples])
    noise = np.linalg.norm(whole[:, 1] - whole[:, 0])
    wanted = noise / (np.linalg.norm(whole[:, 0]) + 1e-6 * math.sqrt(len(whole)))
    # Two orders of summing at most 25 float64 squares; subnormal squares may vanish, hence the absolute part.
    assert comparison.worst == pytest.approx(wanted, rel=1e-12, abs=1e-150)


def test_sums_are_in_float64() -> None:
    many = np.full(1_500_000, 1.0, dtype=np.float16)  # overflows float16, and spans two blocks
    result = compare(many, many * np.float16(1.5))
    assert result.error == pytest.approx(0.5, rel=1e-5)
    assert result.elements == 1_500_000


@pytest.mark.parametrize("value", [math.inf, -math.inf, math.nan])
def test_same_non_finite_values_are_equal(value: float) -> None:
    result = compare(floats(value, 2.0), floats(value, 1.0))
    assert result.error == pytest.approx(0.5, rel=1e-5)
    assert result.max_absolute == 1.0


@pytest.mark.parametrize(
    ("expected", "actual"),
    [(1.0, math.nan), (math.nan, 1.0), (math.inf, 1.0), (math.inf, -math.inf), (math.inf, math.nan)],
)
def test_other_non_finite_values_are_infinitely_wrong(expected: float, actual: float) -> None:
    result = compare(floats(expected, 2.0), floats(actual, 2.0))
    assert (result.error, result.relative_l2, result.max_absolute) == (math.inf, math.inf, math.inf)
    assert result.sqnr_db == -math.inf
    assert result.note is None


def test_squares_that_overflow_are_no_small_error() -> None:
    huge = np.array([1e200, 1.0])
    assert compare(huge, huge).error == 0.0
    assert compare(huge, huge * 2).error == math.inf
    assert compare(huge, huge + np.array([0.0, 1.0])).error == math.inf


def test_complex_and_ml_dtypes_are_floats() -> None:
    assert compare(np.array([3 + 4j]), np.array([3 + 3j])).error == pytest.approx(0.2, rel=1e-5)
    rows = np.array([[1.0, 2.0]], dtype=ml_dtypes.bfloat16)
    result = compare(rows, rows)
    assert (result.error, result.top1_agreement) == (0.0, 1.0)


@pytest.mark.parametrize(
    ("expected", "actual", "largest"),
    [
        (np.array([1, 2, 3, 4]), np.array([1, 2, 3, 7]), 3.0),
        (np.array([0, 1, 2, 255], dtype=np.uint8), np.array([0, 1, 2, 254], dtype=np.uint8), 1.0),
        (np.array([True, True, False, True]), np.array([True, True, False, False]), None),
        (np.array(["a", "b", "c", "d"], dtype=object), np.array(["a", "b", "c", "e"], dtype=object), None),
        (np.array([1, 2, 3, 4], dtype=ml_dtypes.int4), np.array([1, 2, 3, -4], dtype=ml_dtypes.int4), 8.0),
    ],
)
def test_other_types_report_agreement(expected: object, actual: object, largest: float | None) -> None:
    result = compare(expected, actual)
    assert (result.agreement, result.error, result.max_absolute) == (0.75, 0.25, largest)
    assert (result.relative_l2, result.sqnr_db, result.cosine, result.top1_agreement) == (None, None, None, None)
    assert compare(expected, expected).error == 0.0


def test_top1_counts_rows() -> None:
    expected = np.array([[0.0, 1.0, 0.5], [3.0, 1.0, 0.0]], dtype=np.float32)
    actual = np.array([[0.0, 1.0, 0.9], [0.5, 1.0, 0.0]], dtype=np.float32)
    assert compare(expected, actual).top1_agreement == 0.5


@pytest.mark.parametrize("shape", [(3,), (2, 1), (1, 100_001), (1, 2, 3)])
def test_top1_is_for_classifiers_only(shape: tuple[int, ...]) -> None:
    array = np.zeros(shape, dtype=np.float32)
    assert compare(array, array).top1_agreement is None


def test_top1_needs_every_sample_to_look_like_a_classifier() -> None:
    comparison = OutputComparison()
    for shape in [(1, 3), (3,), (1, 3)]:
        comparison.add({"y": np.zeros(shape, np.float32)}, {"y": np.zeros(shape, np.float32)})
    assert comparison.results()["y"].top1_agreement is None


@pytest.mark.parametrize(
    ("expected", "actual"),
    [
        (floats(1.0), floats(1.0, 1.0)),
        (np.zeros((1, 2)), np.zeros((2, 1))),
        (floats(1.0), np.array([1])),
        (np.array([1]), np.array([True])),
        (floats(1.0), None),
        ([floats(1.0)], [floats(1.0), floats(1.0)]),
        ([floats(1.0)], floats(1.0)),
        ([], None),
        ({"a": 1.0}, {"b": 1.0}),
        (floats(1.0), np.zeros(1, dtype="M8[s]")),
    ],
)
def test_what_cannot_be_compared_is_noted(expected: object, actual: object) -> None:
    for result in (compare(expected, actual), compare(actual, expected)):
        assert result.error == math.inf
        assert result.note


def test_a_missing_output_and_one_too_many() -> None:
    comparison = OutputComparison()
    comparison.add({"y": floats(1.0), "gone": floats(1.0)}, {"y": floats(1.0), "new": floats(1.0)})
    results = comparison.results()
    assert [name for name, result in results.items() if result.note] == ["gone", "new"]
    assert results["y"].error == 0.0
    assert comparison.worst == math.inf


def test_the_first_reason_is_kept() -> None:
    comparison = OutputComparison()
    comparison.add({"y": floats(1.0)}, {"y": None})
    first = comparison.results()["y"].note
    comparison.add({"y": floats(1.0)}, {"y": floats(1.0, 2.0)})
    assert comparison.results()["y"].note == first


def test_one_bad_sample_is_not_forgotten() -> None:
    comparison = OutputComparison()
    comparison.add({"y": floats(1.0)}, {"y": floats(1.0, 2.0)})
    comparison.add({"y": floats(1.0)}, {"y": floats(1.0)})
    assert comparison.worst == math.inf


def test_sequences_mappings_and_empty_optionals() -> None:
    assert compare([floats(3.0), [floats(4.0)]], [floats(3.0), [floats(3.0)]]).error == pytest.approx(0.2, rel=1e-5)
    assert compare([{"a": 3.0, "b": 4.0}], [{"b": 3.0, "a": 3.0}]).error == pytest.approx(0.2, rel=1e-5)
    assert compare(None, None).error == 0.0
    assert compare([], []).error == 0.0


def test_mixed_outputs_count_the_worse_part() -> None:
    scores = np.array([[1.0, 2.0]])
    result = compare([scores, np.array([1, 2])], [scores, np.array([1, 3])])
    assert (result.relative_l2, result.agreement, result.error, result.elements) == (0.0, 0.5, 0.5, 4)
    assert result.top1_agreement is None


def test_empty_outputs_are_equal() -> None:
    assert compare(np.zeros((0, 4), np.float32), np.zeros((0, 4), np.float32)).error == 0.0
    assert compare(np.zeros((0, 4), np.int64), np.zeros((0, 4), np.int64)).agreement == 1.0


def test_worst_is_the_largest_error() -> None:
    comparison = OutputComparison()
    comparison.add({"a": floats(1.0), "b": np.array([1, 2])}, {"a": floats(1.1), "b": np.array([1, 3])})
    assert comparison.worst == 0.5


def test_nothing_compared_proves_nothing() -> None:
    assert OutputComparison().worst == math.inf


def test_figures_are_plain_numbers() -> None:
    result = compare(np.array([[1.0, 2.0]], np.float32), np.array([[1.0, 3.0]], np.float32))
    assert json.loads(json.dumps(asdict(result), allow_nan=False))["samples"] == 1


def test_arrays_that_do_not_lie_in_order() -> None:
    array = np.arange(12.0).reshape(3, 4).T
    assert compare(array, np.ascontiguousarray(array)).error == 0.0


def test_a_sequence_of_tensors_may_come_as_an_array_of_arrays() -> None:
    def sequence(*parts: list[int]) -> Array:
        array = np.empty(len(parts), object)
        for index, part in enumerate(parts):
            array[index] = np.array(part, np.float32)
        return array

    same, other = OutputComparison(), OutputComparison()
    same.add({"y": sequence([3, 4], [12])}, {"y": sequence([3, 4], [12])})
    other.add({"y": sequence([3, 4], [12])}, {"y": sequence([3, 4], [25])})
    assert same.worst == 0.0
    assert other.worst == pytest.approx(1.0)
