"""Tensors of few distinct values, with every kind of bits in them, and others that have some structure."""

from collections.abc import Iterator
from importlib import import_module
from typing import Any, Final

import numpy as np

from graphshrink.ir.types import Array

BFLOAT16: Final = np.dtype(import_module("ml_dtypes").bfloat16)
DTYPES: Final = [np.dtype(np.float32), np.dtype(np.float16), BFLOAT16, np.dtype(np.float64)]
UNSIGNED: Final[dict[int, Any]] = {2: np.uint16, 4: np.uint32, 8: np.uint64}
ENTRIES: Final = [1, 2, 3, 4, 5, 6, 7, 8, 9, 15, 16, 17, 32, 33, 64, 65, 100, 128, 129, 200, 255, 256]
SHAPES: Final = [(97,), (1, 64), (64, 1), (3, 37), (5, 7, 11), (2, 3, 5, 7), (3, 3, 3, 3, 3), (1, 1, 31, 1, 2), (509,)]
SHORTER: Final = {
    np.dtype(np.float32): [np.dtype(np.float16), BFLOAT16],
    np.dtype(np.float64): [np.dtype(np.float16), BFLOAT16, np.dtype(np.float32)],
}


def bits(array: Array) -> Array:
    unsigned: Array = np.ascontiguousarray(array).view(UNSIGNED[array.itemsize])
    return unsigned


def assert_same_bits(found: Array, wanted: Array) -> None:
    assert (found.dtype, found.shape) == (wanted.dtype, wanted.shape)
    np.testing.assert_array_equal(bits(found), bits(wanted))


def alphabet(dtype: np.dtype[Any], count: int, rng: np.random.Generator) -> Array:
    """Distinct values, signed zeros, infinities, subnormals and NaNs with a payload among them."""
    unsigned = UNSIGNED[dtype.itemsize]
    sign = 1 << (8 * dtype.itemsize - 1)
    infinity = int(bits(np.array([np.inf], dtype))[0])
    special = [sign, 0, infinity | 5, infinity, sign | infinity, 1, sign | infinity | 7]
    random = rng.integers(0, np.iinfo(unsigned).max, 2 * count + 10, dtype=unsigned, endpoint=True).tolist()
    chosen = list(dict.fromkeys([*special[: count // 2], *random]))[:count]
    values: Array = np.array(chosen, unsigned).view(dtype)
    return values


def drawn(values: Array, shape: tuple[int, ...], rng: np.random.Generator) -> Array:
    """A tensor in which every value occurs, if there is room."""
    size = int(np.prod(shape))
    labels = np.concatenate([np.arange(len(values)), rng.integers(0, len(values), size)])[:size]
    rng.shuffle(labels)
    array: Array = values[labels].reshape(shape)
    return array


def grouped(dtype: np.dtype[Any], shape: tuple[int, ...], axis: int, rng: np.random.Generator) -> Array:
    """Every index along an axis has values of its own."""
    values = alphabet(dtype, 4 * shape[axis], rng).reshape(shape[axis], 4)
    rest = shape[:axis] + shape[axis + 1 :]
    array: Array = np.stack([drawn(v, rest, rng) for v in values], axis=axis)
    return array


def tensors(dtype: np.dtype[Any]) -> Iterator[Array]:
    rng = np.random.default_rng(0)
    for entries in ENTRIES:
        yield drawn(alphabet(dtype, entries, rng), (1009,), rng)
    for shape in SHAPES:
        for entries in (2, 3, 5, 8, 12):
            yield drawn(alphabet(dtype, entries, rng), shape, rng)
    for shape, axis in [((4, 1201), 0), ((1201, 4), 1), ((3, 8, 211), 1), ((7, 3, 5, 67), 3), ((2, 3, 67, 2, 5), 4)]:
        yield grouped(dtype, shape, axis, rng)
    for axis in (0, 1, 2):
        yield np.asarray(np.repeat(grouped(dtype, (6, 10, 90), axis, rng), 2, axis=axis))  # neighbours share theirs
    for entries, shape in [(17, (4099,)), (32, (64, 64)), (33, (70, 241)), (64, (4, 3, 37, 37))]:  # as pairs
        yield drawn(alphabet(dtype, entries, rng), shape, rng)
    for entries, shape in [(2, (2049,)), (3, (61, 67)), (17, (3, 29, 31)), (60, (5, 1000)), (256, (2, 2, 1009))]:
        values = alphabet(dtype, entries, rng)
        yield drawn(values, shape, rng)
        for zeros in (0.5, 0.98):
            yield np.where(rng.random(shape) < zeros, dtype.type(0), drawn(values, shape, rng)).astype(dtype)
    yield far_between(dtype, rng)
    yield from on_grids(dtype, rng)
    for short in SHORTER.get(dtype, ()):
        for shape in SHAPES:
            for entries in (2, 7, 16, 100, 257, 300, 400, 500):
                yield widened(drawn(alphabet(short, entries, rng), shape, rng), dtype)


def widened(array: Array, dtype: np.dtype[Any]) -> Array:
    """The same numbers in a wider type, NaNs made zero."""
    with np.errstate(invalid="ignore"):  # signalling NaNs
        numbers: Array = np.where(np.isnan(array), array.dtype.type(0), array).astype(dtype)
    return numbers


def far_between(dtype: np.dtype[Any], rng: np.random.Generator) -> Array:
    """Non-zeros that are thousands of zeros apart, and one at either end."""
    array = np.zeros(20_011, dtype)
    places = [0, 5, 6, 4000, 13_000, 13_001, 20_010]
    array[places] = drawn(alphabet(dtype, 3, rng), (len(places),), rng)
    return array


def on_grids(dtype: np.dtype[Any], rng: np.random.Generator) -> Iterator[Array]:
    """Whole multiples of a scale: of all, or of each index along an axis."""
    for low, high in [(-128, 127), (0, 255), (-8, 7), (0, 15), (-200, 55), (-90, 90), (-1, 1), (3, 17)]:
        for shape, axis in [((11, 211), None), ((6, 401), 0), ((401, 6), 1), ((3, 5, 199), 1), ((2, 7, 3, 61), 3)]:
            steps = rng.integers(low, high, shape, endpoint=True)
            count = 1 if axis is None else shape[axis]
            scale = rng.uniform(0.01, 0.02, count).astype(dtype)
            spread = [1] * len(shape) if axis is None else [count if a == axis else 1 for a in range(len(shape))]
            yield np.asarray(steps.astype(dtype) * scale.reshape(spread))


def few(*shape: int, entries: int = 16, seed: int = 0) -> Array:
    """Weights with few distinct values."""
    rng = np.random.default_rng(seed)
    values = (0.1 * rng.standard_normal(entries)).astype(np.float32)
    values[0] = 0.0
    array: Array = values[rng.integers(0, entries, shape)]
    return array


def skewed(*shape: int, seed: int = 0) -> Array:
    """Weights of which most are zero or near it."""
    array: Array = np.round(np.random.default_rng(seed).laplace(size=shape)).astype(np.float32) / 16
    return array


def pruned(*shape: int, seed: int = 0) -> Array:
    """Weights of which one in twelve is left, each with a value of its own."""
    rng = np.random.default_rng(seed)
    array: Array = np.where(rng.random(shape) < 1 / 12, rng.standard_normal(shape), 0).astype(np.float32)
    return array
