"""Activations that are kept between two parts of a model, on disk, so that memory does not grow with the samples."""

from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from graphshrink.errors import CalibrationError
from graphshrink.ir.types import Array


class _Place(NamedTuple):
    offset: int
    shape: tuple[int, ...]
    dtype: np.dtype[Any]


class Column:
    """One value on every batch: a file that is written in order, and read at any batch.

    The system keeps in memory what of the file it likes; unlike memory of our own, it can take it back.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._places: list[_Place] = []
        self._end = 0

    def append(self, array: Array) -> None:
        """Add the value on the next batch.

        Raises:
            CalibrationError: the disk is full.
        """
        plain = np.ascontiguousarray(array).reshape(-1).view(np.uint8)
        try:
            with self._path.open("ab") as file:
                file.write(plain.data)
        except OSError as e:
            cure = "give fewer samples, or let TMPDIR name a folder with more room"
            raise CalibrationError(
                f"{self._path.parent}: activations cannot be kept ({e.strerror or e}); {cure}"
            ) from e
        self._places.append(_Place(self._end, array.shape, array.dtype))
        self._end += plain.nbytes

    def read(self, batch: int) -> Array:
        """The value on a batch."""
        place = self._places[batch]
        size = int(np.prod(place.shape, dtype=np.int64)) * place.dtype.itemsize
        if not size:
            return np.empty(place.shape, place.dtype)
        return np.fromfile(self._path, np.uint8, size, offset=place.offset).view(place.dtype).reshape(place.shape)

    @property
    def dtype(self) -> np.dtype[Any]:
        """Its element type."""
        return self._places[0].dtype

    @property
    def rank(self) -> int | None:
        """Its number of axes; None where that varies."""
        ranks = {len(place.shape) for place in self._places}
        return ranks.pop() if len(ranks) == 1 else None

    def drop(self) -> None:
        """Remove the file."""
        self._path.unlink(missing_ok=True)
