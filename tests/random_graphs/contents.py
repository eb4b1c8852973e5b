"""What weights hold: dense and pruned ones, few values, signed zeros, numbers that are not finite."""

from collections.abc import Callable, Mapping
from typing import Any, Final

import ml_dtypes
import numpy as np

from graphshrink.ir.types import Array

_Fill = Callable[[np.random.Generator, tuple[int, ...]], Array]

UNSIGNED: Final[Mapping[int, Any]] = {2: np.uint16, 4: np.uint32, 8: np.uint64}


def _normal(rng: np.random.Generator, shape: tuple[int, ...]) -> Array:
    return 0.3 * rng.standard_normal(shape)


def _few(rng: np.random.Generator, shape: tuple[int, ...]) -> Array:
    values = _normal(rng, (int(rng.integers(1, 20)),))
    return _grid(values, rng.integers(0, len(values), shape))


def _few_in_each_channel(rng: np.random.Generator, shape: tuple[int, ...]) -> Array:
    """Every index along one axis has values of its own."""
    axis = int(rng.integers(0, len(shape)))
    books = _normal(rng, (shape[axis], 3))
    rest = shape[:axis] + shape[axis + 1 :]
    rows = [_grid(book, rng.integers(0, 3, rest)) for book in books]
    return np.stack(rows, axis) if rows else np.zeros(shape)


def _scaled_channels(rng: np.random.Generator, shape: tuple[int, ...]) -> Array:
    scales = np.exp(rng.uniform(-4, 0, (shape[0], *(1 for _ in shape[1:]))))
    return _grid(_normal(rng, shape) * scales, ...)


def _pruned(rng: np.random.Generator, shape: tuple[int, ...]) -> Array:
    kept: Array = rng.random(shape) < 0.1
    pruned: Array = np.where(kept, _normal(rng, shape), 0.0)
    return pruned


def _signed_zeros(rng: np.random.Generator, shape: tuple[int, ...]) -> Array:
    signed: Array = _normal(rng, shape).round(1) * rng.choice([-1.0, -0.0, 0.0, 1.0], shape)
    return signed


def _constant(rng: np.random.Generator, shape: tuple[int, ...]) -> Array:
    return np.full(shape, rng.standard_normal())


def _tiny(rng: np.random.Generator, shape: tuple[int, ...]) -> Array:
    """Subnormal in single and in half precision."""
    scaled: Array = _normal(rng, shape) * rng.choice([1e-39, 1e-6, 1.0], shape)
    return scaled


def _half_precise(rng: np.random.Generator, shape: tuple[int, ...]) -> Array:
    """Trained in half precision, and exported in single precision."""
    return _normal(rng, shape).astype(np.float16).astype(np.float64)


def _bfloat_precise(rng: np.random.Generator, shape: tuple[int, ...]) -> Array:
    """With a range that float16 does not have."""
    wide: Array = _normal(rng, shape) * 2.0 ** rng.integers(-30, 1, shape)
    return wide.astype(ml_dtypes.bfloat16).astype(np.float64)


def _not_finite(rng: np.random.Generator, shape: tuple[int, ...]) -> Array:
    odd = rng.choice([np.nan, np.inf, -np.inf, -np.nan], shape)
    return np.where(rng.random(shape) < 0.02, odd, _few(rng, shape))


def _grid(values: Array, where: Any) -> Array:
    taken: Array = values[where]
    return taken


FILLS: Final[Mapping[str, _Fill]] = {
    "normal": _normal,
    "few values": _few,
    "few values a channel": _few_in_each_channel,
    "scaled channels": _scaled_channels,
    "pruned": _pruned,
    "signed zeros": _signed_zeros,
    "constant": _constant,
    "tiny": _tiny,
    "exact in float16": _half_precise,
    "exact in bfloat16": _bfloat_precise,
    "not finite": _not_finite,
}


def filled(fill: str, shape: tuple[int, ...], dtype: np.dtype[Any], seed: int) -> Array:
    """An array of a kind; NaNs get payloads, which encodings have to keep."""
    rng = np.random.default_rng(seed)
    shaped = shape or (1,)
    array: Array = FILLS[fill](rng, shaped).astype(dtype).reshape(shape)
    odd = np.isnan(array)
    if odd.any():
        bits = np.ascontiguousarray(array).view(UNSIGNED[dtype.itemsize])
        bits[odd] |= rng.integers(0, 3, int(odd.sum())).astype(bits.dtype)
        array = bits.view(dtype)
    return array


def same_bits(a: Array, b: Array) -> bool:
    """Equal in type, shape and every bit."""
    return (a.dtype, a.shape) == (b.dtype, b.shape) and a.tobytes() == b.tobytes()
