"""How the codebook packs codes, and which grouping it finds."""

import math
from typing import Any

import numpy as np
import pytest

from graphshrink.encodings import codebook
from graphshrink.encodings.codebook import Codebook, distinct, group_counts, most_distinct, packing, stored_bytes
from graphshrink.ir.types import Array


@pytest.mark.parametrize("entries", range(1, 257))
def test_every_code_can_be_spelled_in_few_bits(entries: int) -> None:
    planes = packing(entries)
    assert all(plane.radix**plane.per_byte <= 256 for plane in planes)
    spelled = {sum(digits) for digits in _all_sums([sorted(set(p.digits()[:, 0].tolist())) for p in planes])}
    assert spelled >= set(range(entries))
    assert max(spelled) < 256
    spent = sum(8 / plane.per_byte for plane in planes)
    assert spent <= math.ceil(math.log2(max(2, entries)))
    assert entries > 250 or spent >= math.log2(max(2, entries))


def _all_sums(alternatives: list[list[int]]) -> list[tuple[int, ...]]:
    if not alternatives:
        return [()]
    return [(first, *rest) for first in alternatives[0] for rest in _all_sums(alternatives[1:])]


@pytest.mark.parametrize("entries", range(1, 257))
def test_round_trip(entries: int) -> None:
    rng = np.random.default_rng(entries)
    values = rng.permutation(1 << 16)[:entries].astype(np.uint16).view(np.float16)
    array = values[np.concatenate([np.arange(entries), rng.integers(0, entries, 1013 - entries)])]
    encoded = Codebook().encode(array)
    assert encoded is not None
    assert encoded.decode().tobytes() == array.tobytes()
    stored = sum(codes.nbytes for codes in encoded.codes) + encoded.entries.nbytes
    assert stored == stored_bytes(array.size, 1, entries, array.itemsize) < array.nbytes


@pytest.mark.parametrize("entries", [2, 3, 4, 6, 8, 16, 128, 256])
def test_round_trip_in_parts(entries: int, monkeypatch: pytest.MonkeyPatch) -> None:
    array = np.random.default_rng(0).integers(0, entries, (7, 1003)).astype(np.float32)
    whole = Codebook().encode(array)
    monkeypatch.setattr(codebook, "_PART", 120)
    parts = Codebook().encode(array)
    assert whole is not None
    assert parts is not None
    assert [codes.tobytes() for codes in parts.codes] == [codes.tobytes() for codes in whole.codes]
    np.testing.assert_array_equal(parts.decode(), array)
    assert all(120 % plane.per_byte == 0 for plane in parts.planes)


def test_stored_bytes_grow_with_entries() -> None:
    """The search for a grouping relies on it."""
    for size, groups in [(1000, 1), (1000, 10), (999, 3)]:
        sizes = [stored_bytes(size, groups, entries, 4) for entries in range(1, 257)]
        assert sizes == sorted(sizes)


@pytest.mark.parametrize(
    ("channels", "counts"), [(1, []), (2, [2]), (7, [7]), (8, [2, 4, 8]), (12, [2, 4, 12]), (0, [])]
)
def test_group_counts(channels: int, counts: list[int]) -> None:
    assert list(group_counts(channels)) == counts


def per_index(shape: tuple[int, ...], axis: int, alike: int) -> Array:
    """Sixteen values of its own for every `alike` neighbours along an axis."""
    rng = np.random.default_rng(0)
    books = rng.standard_normal((shape[axis] // alike, 16)).astype(np.float32)
    rest = shape[:axis] + shape[axis + 1 :]
    parts = [books[i // alike][rng.integers(0, 16, rest)] for i in range(shape[axis])]
    array: Array = np.stack(parts, axis=axis)
    return array


@pytest.mark.parametrize(
    ("shape", "axis", "alike", "groups"),
    [
        ((32, 2000), 0, 1, 32),
        ((2000, 32), 1, 1, 32),
        ((32, 2000), 0, 8, 4),
        ((9, 2000), 0, 3, 9),
        ((2, 800, 30), 2, 15, 2),
    ],
)
def test_the_grouping_is_found(shape: tuple[int, ...], axis: int, alike: int, groups: int) -> None:
    encoded = Codebook().encode(per_index(shape, axis, alike))
    assert encoded is not None
    assert (encoded.layout.axis, len(encoded.entries), encoded.entries.shape[1]) == (axis, groups, 16)


def test_one_codebook_where_groups_share_their_values() -> None:
    rng = np.random.default_rng(0)
    array = rng.standard_normal(16).astype(np.float32)[rng.integers(0, 16, (64, 256))]
    encoded = Codebook().encode(array)
    assert encoded is not None
    assert encoded.entries.shape == (1, 16)


@pytest.mark.parametrize("dtype", [np.uint16, np.uint32, np.uint64])
@pytest.mark.parametrize("count", [1, 16, 255, 256, 257])
@pytest.mark.parametrize("size", [300, 5000, 40_000])
def test_distinct(dtype: Any, count: int, size: int) -> None:
    rng = np.random.default_rng(count)
    values = np.unique(rng.integers(0, np.iinfo(dtype).max, 1000, dtype=dtype, endpoint=True))[:count]
    vector = values[np.sort(np.concatenate([np.arange(count), rng.integers(0, count, size - count)]))]
    found = distinct(vector)
    if count > 256:
        assert found is None
    else:
        assert found is not None
        np.testing.assert_array_equal(found, values)
        assert distinct(vector, count) is not None
        assert distinct(vector, count - 1) is None


def test_distinct_without_a_perfect_hash(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(codebook, "_FACTORS", (0, 2))
    vector = np.random.default_rng(0).integers(1000, 1200, 40_000).astype(np.uint32)
    found = distinct(vector)
    assert found is not None
    np.testing.assert_array_equal(found, np.unique(vector))


def test_most_distinct_is_the_largest_over_groups() -> None:
    array = np.zeros((4, 100), np.float32)
    array[1, :7] = range(1, 8)
    array[3, :3] = range(20, 23)
    assert most_distinct(array, 0, 4, 256) == 8
    assert most_distinct(array, 0, 2, 256) == 8
    assert most_distinct(array, 0, 1, 256) == 11
    assert most_distinct(array, 0, 1, 10) is None
    assert most_distinct(array, 0, 4, 7) is None
    assert most_distinct(array, 1, 100, 3) == 3
    assert most_distinct(array, 1, 100, 0) is None
    assert most_distinct(np.array(1.5, np.float32), 0, 1, 1) == 1
