"""Statistics of rows as they stream by, in float64, in memory that does not depend on how many there are.

    gram = Gram(bias=True)
    for batch in calibration.batches(graph, ["h"]):
        gram.add(batch["h"])
    gram.total

Rows are taken in blocks of a fixed size, whatever batches they come in, so that how they were cut changes no bit of the
result. Reading a result takes in the rows of the last, shorter block: read at the end.
"""

from abc import ABC, abstractmethod
from typing import ClassVar, Final, TypeAlias

import numpy as np
import numpy.typing as npt

from graphshrink.errors import CalibrationError, InternalError
from graphshrink.ir.types import Array

Floats: TypeAlias = npt.NDArray[np.float64]


class Statistic(ABC):
    """Something that is summed up over rows.

    Attributes:
        count: rows so far.
    """

    _block: ClassVar[int] = 1024  # rows

    def __init__(self) -> None:
        self.count = 0
        self._waiting: list[tuple[Array, ...]] = []
        self._rows_waiting = 0

    def _add(self, *sources: Array) -> None:
        """Take rows of each source, (rows, columns)."""
        lengths = {len(rows) for rows in sources}
        if len(lengths) > 1 or any(rows.ndim != 2 for rows in sources):
            raise InternalError(f"these are not the same rows: {[rows.shape for rows in sources]}")
        [length] = lengths
        self.count += length
        start = 0
        while self._rows_waiting + length - start >= self._block:
            end = start + self._block - self._rows_waiting
            self._waiting.append(tuple(rows[start:end] for rows in sources))
            self._flush()
            start = end
        if start < length:
            self._waiting.append(tuple(rows[start:].copy() for rows in sources))  # a view would keep the whole batch
            self._rows_waiting += length - start

    def _flush(self) -> None:
        """Take in what waits."""
        if not self._waiting:
            return
        blocks = tuple(np.concatenate(parts).astype(np.float64) for parts in zip(*self._waiting, strict=True))
        self._waiting, self._rows_waiting = [], 0
        if not all(bool(np.isfinite(block).all()) for block in blocks):
            raise CalibrationError("rows hold NaN or infinite values; remove the samples that cause them")
        self._take(*blocks)

    def _finish(self) -> None:
        """Make the result ready to be read."""
        if not self.count:
            raise InternalError("statistics of no rows")
        self._flush()

    @abstractmethod
    def _take(self, *blocks: Floats) -> None:
        """Add a block of each source."""


class Moments(Statistic):
    """Mean, variance, least and largest value of every column."""

    def __init__(self) -> None:
        super().__init__()
        self._taken = 0
        self._mean: Floats = np.zeros(0)
        self._squares: Floats = np.zeros(0)  # of distances from the mean
        self._least: Floats = np.zeros(0)
        self._largest: Floats = np.zeros(0)

    def add(self, rows: Array) -> None:
        """Look at rows (rows, columns)."""
        self._add(rows)

    def _take(self, *blocks: Floats) -> None:
        [block] = blocks
        mean = block.mean(axis=0)
        squares = np.square(block - mean).sum(axis=0)
        least, largest = block.min(axis=0), block.max(axis=0)
        before, self._taken = self._taken, self._taken + len(block)
        if not before:
            self._mean, self._squares, self._least, self._largest = mean, squares, least, largest
            return
        share = len(block) / self._taken
        apart = mean - self._mean
        self._mean = self._mean + share * apart
        self._squares = self._squares + squares + before * share * np.square(apart)
        self._least, self._largest = np.minimum(self._least, least), np.maximum(self._largest, largest)

    @property
    def mean(self) -> Floats:
        """Of every column."""
        self._finish()
        return self._mean

    @property
    def variance(self) -> Floats:
        """Of every column, as the mean of squared distances."""
        self._finish()
        return self._squares / self._taken

    @property
    def least(self) -> Floats:
        """Of every column."""
        self._finish()
        return self._least

    @property
    def largest(self) -> Floats:
        """Of every column."""
        self._finish()
        return self._largest


class _Products(Statistic):
    """A sum over rows of products of columns.

    Args:
        bias: add a last column of ones to the (left) source.
    """

    def __init__(self, *, bias: bool = False) -> None:
        super().__init__()
        self._bias = bias
        self._total: Floats | None = None

    def _left(self, block: Floats) -> Floats:
        return np.column_stack([block, np.ones(len(block))]) if self._bias else block

    def _sum_up(self, product: Floats) -> None:
        if self._total is None:
            self._total = product
        else:
            self._total += product

    @property
    def total(self) -> Floats:
        """The sum, (columns of the left, columns of the right)."""
        self._finish()
        assert self._total is not None
        return self._total


class Gram(_Products):
    """The second moment of one source: X^T X, or that of [X 1] with a bias."""

    def add(self, rows: Array) -> None:
        """Look at rows (rows, columns)."""
        self._add(rows)

    def _take(self, *blocks: Floats) -> None:
        block = self._left(blocks[0])
        self._sum_up(block.T @ block)


class CrossMoment(_Products):
    """The moment of two sources, such as a layer's inputs in two models: X^T Y, or that of [X 1] with a bias."""

    def add(self, left: Array, right: Array) -> None:
        """Look at rows (rows, columns) of both; the numbers of columns may differ."""
        self._add(left, right)

    def _take(self, *blocks: Floats) -> None:
        left, right = blocks
        self._sum_up(self._left(left).T @ right)


class Histogram(Statistic):
    """How many values lie where: bins of one width, a power of two, as narrow as the number of bins allows.

    Args:
        bins: how many there may be.
    """

    _block: ClassVar[int] = 1 << 16  # of one value each

    def __init__(self, bins: int = 2048) -> None:
        super().__init__()
        self._bins = bins
        self._exponent = _LOWEST
        self._first = 0
        self._counts = np.zeros(0, np.int64)

    def add(self, values: Array) -> None:
        """Look at values in an array of any shape."""
        self._add(values.reshape(-1, 1))

    def _take(self, *blocks: Floats) -> None:
        values = blocks[0][:, 0]
        self._widen(float(values.min()), float(values.max()))
        places = _bin(values, self._exponent) - self._first
        self._counts += np.bincount(places, minlength=len(self._counts))

    def _widen(self, least: float, largest: float) -> None:
        """Make the bins reach from one value to another as well."""
        exponent = max(self._exponent, _finest(least, largest))
        while True:
            first, last = _bin(np.array([least, largest]), exponent).tolist()
            if len(self._counts):
                shift = exponent - self._exponent
                first = min(first, self._first >> shift)
                last = max(last, (self._first + len(self._counts) - 1) >> shift)
            if last - first < self._bins:
                break
            exponent += 1
        counts = np.zeros(last - first + 1, np.int64)
        held = np.arange(self._first, self._first + len(self._counts)) >> (exponent - self._exponent)
        np.add.at(counts, held - first, self._counts)
        self._exponent, self._first, self._counts = exponent, first, counts

    @property
    def edges(self) -> Floats:
        """Where bins begin, and where the last one ends."""
        self._finish()
        return np.ldexp(np.arange(self._first, self._first + len(self._counts) + 1, dtype=np.float64), self._exponent)

    @property
    def counts(self) -> npt.NDArray[np.int64]:
        """Values from each edge up to the next."""
        self._finish()
        return self._counts


_LOWEST: Final = -1074  # exponent of the least float64 above zero


def _finest(least: float, largest: float) -> int:
    """The exponent of the narrowest bins whose numbers float64 can tell apart."""
    _, exponent = np.frexp(max(abs(least), abs(largest)))
    return max(_LOWEST, int(exponent) - 52)


def _bin(values: Floats, exponent: int) -> npt.NDArray[np.int64]:
    scaled = np.ldexp(values, -exponent)
    lost: npt.NDArray[np.bool_] = (scaled == 0) & (values < 0)  # below what float64 can hold, which is below zero still
    whole: npt.NDArray[np.int64] = np.floor(scaled).astype(np.int64)
    return whole - lost.astype(np.int64)
