"""Tensors of few distinct values, with every kind of bits in them."""

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


def few(*shape: int, entries: int = 16, seed: int = 0) -> Array:
    """Weights with few distinct values."""
    rng = np.random.default_rng(seed)
    values = (0.1 * rng.standard_normal(entries)).astype(np.float32)
    values[0] = 0.0
    array: Array = values[rng.integers(0, entries, shape)]
    return array
