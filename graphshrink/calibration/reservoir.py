"""A bounded sample of rows, of several sources at the same positions."""

import math
from collections.abc import Mapping
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from graphshrink.errors import InternalError, UnfitError
from graphshrink.ir.types import Array

_FIRST: Final = 1024  # rows that there is room for at first
_STEP: Final = 0x9E3779B97F4A7C15
_MIX: Final = ((30, 0xBF58476D1CE4E5B9), (27, 0x94D049BB133111EB), (31, 1))


class Reservoir:
    """A sample of rows without replacement, each row as likely as any other.

    Which rows are kept depends on the seed and on the number of rows, not on how they are cut into batches: every
    position has a random number of its own, and the rows with the least ones stay.

    Args:
        most: rows to keep at most.
        memory: bytes that the kept rows of all sources may take together; at least one row is kept.
        seed: of the choice.

    Attributes:
        seen: rows so far.
    """

    def __init__(self, most: int, memory: int, seed: int = 0) -> None:
        self._most = most
        self._memory = memory
        self._seed = seed
        self._capacity = 0
        self._held: dict[str, Array] = {}
        self._count = 0
        self._positions = np.empty(0, np.int64)
        self._priorities = np.empty(0, np.uint64)
        self.seen = 0

    def add(self, sources: Mapping[str, Array]) -> None:
        """Look at further rows: arrays (rows, ...), as many rows of each source.

        Raises:
            UnfitError: sources have different numbers of rows.
            InternalError: they are others than before.
        """
        lengths = {len(rows) for rows in sources.values()}
        if self._held and self._held.keys() != sources.keys():
            raise InternalError(f"sources {sorted(sources)} are not those of before: {sorted(self._held)}")
        if len(lengths) > 1:  # where an operator such as NonZero gives as many as values make it
            raise UnfitError(f"{' and '.join(sources)} have different numbers of rows on the same samples")
        if not lengths or lengths == {0}:
            return
        [length] = lengths
        if not self._held:
            self._make_room(sources)
        positions = np.arange(self.seen, self.seen + length)
        self.seen += length
        free = min(self._capacity - self._count, length)
        self._fill(positions[:free], sources)
        self._replace(positions[free:], sources)

    def rows(self) -> dict[str, Array]:
        """The kept rows of each source, in the order in which they came; ends the sample."""
        order = np.argsort(self._positions[: self._count])
        self._positions = self._positions[: self._count][order]
        return {name: self._held.pop(name)[order] for name in list(self._held)}  # one by one, for the memory

    def _make_room(self, sources: Mapping[str, Array]) -> None:
        bytes_each = sum(_kept_type(rows).itemsize * math.prod(rows.shape[1:]) for rows in sources.values())
        self._capacity = max(1, min(self._most, self._memory // max(1, bytes_each)))
        self._held = {name: np.empty((0, *rows.shape[1:]), _kept_type(rows)) for name, rows in sources.items()}

    def _fill(self, positions: npt.NDArray[np.int64], sources: Mapping[str, Array]) -> None:
        """Keep all rows while there is room."""
        end = self._count + len(positions)
        room = len(self._positions)
        if end > room:
            room = min(self._capacity, max(_FIRST, end, 2 * room))
            for array in (self._positions, self._priorities, *self._held.values()):
                array.resize(
                    (room, *array.shape[1:]), refcheck=False
                )  # in place, where a copy would take twice as much
        first = self.seen - len(next(iter(sources.values())))
        self._put(np.arange(self._count, end), positions, first, sources)
        self._count = end

    def _replace(self, positions: npt.NDArray[np.int64], sources: Mapping[str, Array]) -> None:
        """Let rows in for kept ones with larger numbers."""
        if not len(positions):
            return
        priorities = _priorities(positions, self._seed)
        positions = positions[priorities < self._priorities.max()]
        if not len(positions):
            return
        together = np.concatenate([self._priorities, _priorities(positions, self._seed)])
        stay = np.zeros(len(together), np.bool_)
        stay[np.argpartition(together, self._capacity - 1)[: self._capacity]] = True
        free = np.flatnonzero(~stay[: self._capacity])
        first = self.seen - len(next(iter(sources.values())))
        self._put(free, positions[stay[self._capacity :]], first, sources)

    def _put(
        self, slots: npt.NDArray[np.int64], positions: npt.NDArray[np.int64], first: int, sources: Mapping[str, Array]
    ) -> None:
        self._positions[slots] = positions
        self._priorities[slots] = _priorities(positions, self._seed)
        for name, rows in sources.items():
            self._held[name][slots] = rows[positions - first]


def _kept_type(rows: Array) -> np.dtype[Any]:
    return rows.dtype if rows.dtype.name in ("float32", "float64", "uint8") else np.dtype(np.float32)


def _priorities(positions: npt.NDArray[np.int64], seed: int) -> npt.NDArray[np.uint64]:
    """Random numbers that are all different: splitmix64 of the positions."""
    mixed = positions.astype(np.uint64) * np.uint64(_STEP) + np.uint64(hash_of(seed))
    for shift, factor in _MIX:
        mixed = (mixed ^ (mixed >> np.uint64(shift))) * np.uint64(factor)
    return mixed


def hash_of(seed: int) -> int:
    """A seed of any size as 64 bits."""
    return int(np.random.SeedSequence(seed).generate_state(1, np.uint64)[0])
