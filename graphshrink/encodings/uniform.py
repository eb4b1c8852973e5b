"""Uniform grids: finding out that weights are whole multiples of a scale, and of which.

    weight == scale * step, rounded once, bit for bit; steps are whole numbers, none larger than 255

Nothing is fitted: quantisers leave such weights behind, with the scale forgotten. The largest weight of a row is
scale * m for one of 255 numbers m, and each m leaves at most three scales that round to it. A scale that does not
fit is refuted by a weight, which refutes most others with it; so a row takes few looks, and a row of arbitrary numbers
is given up after a glance.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np

from graphshrink.ir.types import Array

MOST: Final = 255
"""The largest step: what 8 bits with a zero point can span."""

_DTYPES: Final = (np.dtype(np.float16), np.dtype(np.float32), np.dtype(np.float64))
_SAMPLE: Final = 4096
_ROWS: Final = 2048  # looked at together: for each, 765 scales are in memory
_BLOCK: Final = 1 << 18  # weights looked at together
_LOOKS: Final = 32  # far more than real grids take


@dataclass(frozen=True, slots=True, eq=False)
class Grid:
    """Weights on a uniform grid.

    Attributes:
        axis: whose channels have a scale each; None where one serves all.
        scale: (channels,) or (1,), in the type of the weights.
        steps: int16, in the shape of the weights.
    """

    axis: int | None
    scale: Array
    steps: Array

    def along_axis(self, values: Array) -> Array:
        """One value for each channel (or one for all), in a shape that broadcasts to that of the weights."""
        if self.axis is None:
            return values.reshape(())
        return values.reshape((-1,) + (1,) * (self.steps.ndim - self.axis - 1))

    def extremes(self) -> tuple[Array, Array]:
        """The least and the largest step of each channel, (channels,) or (1,)."""
        others = tuple(axis for axis in range(self.steps.ndim) if axis != self.axis)
        return self.steps.min(axis=others).reshape(-1), self.steps.max(axis=others).reshape(-1)


def find_grid(array: Array, axes: Sequence[int]) -> Grid | None:
    """The grid that weights lie on: one for all of them, else one for each channel along the first axis that has it.

    Args:
        array: weights.
        axes: to be tried.

    Returns:
        None where there is no such grid, the scale would be subnormal, or a weight is -0.0 or not finite.
    """
    if array.dtype not in _DTYPES or array.size == 0:
        return None
    for axis in (None, *axes):
        if (grid := _grid_along(array, axis)) is not None:
            return grid
    return None


def _grid_along(array: Array, axis: int | None) -> Grid | None:
    moved = array[None] if axis is None else np.moveaxis(array, axis, 0)
    if _scales(moved[:1].reshape(1, -1)[:, :_SAMPLE]) is None:
        return None
    rows = moved.reshape(len(moved), -1)
    scale = _scales(rows)
    if scale is None:
        return None
    steps = np.empty(rows.shape, np.int16)
    for tile in _tiles(rows.shape):
        each = scale[tile[0], None]
        steps[tile] = _nearest(rows[tile], each)
        if (steps[tile].astype(array.dtype) * each).tobytes() != rows[tile].tobytes():  # a zero with a sign
            return None
    shaped = np.ascontiguousarray(np.moveaxis(steps.reshape(moved.shape), 0, axis or 0))
    return Grid(axis, scale, shaped.reshape(array.shape))


def _blocks(length: int, size: int) -> Iterator[slice]:
    return (slice(start, start + size) for start in range(0, length, size))


def _tiles(shape: tuple[int, ...]) -> Iterator[tuple[slice, slice]]:
    """Parts of a matrix that are small enough for the cache."""
    for rows in _blocks(shape[0], max(1, _BLOCK // shape[1])):
        for columns in _blocks(shape[1], _BLOCK):
            yield rows, columns


def _scales(rows: Array) -> Array | None:
    """A scale for each row, the coarsest there is; 1 for rows of zeros; None if any row has none."""
    scale = np.ones(len(rows), rows.dtype)
    for part in _blocks(len(rows), _ROWS):
        if not _settle(rows[part], scale[part]):
            return None
    return scale


def _settle(rows: Array, scale: Array) -> bool:
    """Find the scale of every row, in place; False if some row has none."""
    peaks = np.maximum(rows.max(axis=1), -rows.min(axis=1))
    if not np.isfinite(peaks).all():
        return False
    open_rows = np.flatnonzero(peaks)
    candidates = _candidates(peaks[open_rows])
    for _ in range(_LOOKS):
        if not len(open_rows):
            return True
        chosen = candidates[np.arange(len(candidates)), (candidates > 0).argmax(axis=1)]
        if not chosen.all():
            return False
        scale[open_rows] = chosen
        against = _misfits(rows, scale, open_rows)
        refuted = against != 0
        open_rows, candidates, against = open_rows[refuted], candidates[refuted], against[refuted]
        candidates[~_fits(against[:, None], candidates)] = 0
    return False


def _candidates(peaks: Array) -> Array:
    """(rows, 765) scales of which some multiple up to 255 rounds to the row's peak, coarsest first; else 0."""
    multiples = np.arange(1, MOST + 1).astype(peaks.dtype)
    middle = peaks[:, None] / multiples
    scales = np.stack([middle, np.nextafter(middle, 0), np.nextafter(middle, np.inf)], axis=2)
    with np.errstate(over="ignore"):  # peaks near the largest number there is
        good = (scales * multiples[:, None] == peaks[:, None, None]) & (scales >= np.finfo(peaks.dtype).tiny)
    return np.where(good, scales, peaks.dtype.type(0)).reshape(len(peaks), 3 * MOST)


def _fits(weights: Array, scales: Array) -> Any:
    """Whether weights are whole multiples of scales; none is of 0."""
    with np.errstate(all="ignore"):
        return _nearest(weights, scales) * scales == weights


def _nearest(weights: Array, scales: Array) -> Array:
    steps: Array = np.rint(weights / scales)
    return steps


def _misfits(rows: Array, scale: Array, chosen: Array) -> Array:
    """For each of the chosen rows, a weight that is no whole multiple of the row's scale, or 0."""
    found = np.zeros(len(chosen), rows.dtype)
    for part, columns in _tiles((len(chosen), rows.shape[1])):
        block = rows[chosen[part], columns]
        wrong = ~_fits(block, scale[chosen[part], None])
        first = np.take_along_axis(block, wrong.argmax(axis=1)[:, None], axis=1)[:, 0]
        found[part] = np.where(wrong.any(axis=1), first, found[part])
    return found
