"""Rows out of activations: what a layer's problem is made of."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TypeAlias

from graphshrink.calibration.reservoir import Reservoir
from graphshrink.ir.types import Array

Rows: TypeAlias = Callable[[Sequence[Array]], Array]
"""Makes an array (rows, ...) of the values of one batch."""


def along_last_axis(arrays: Sequence[Array]) -> Array:
    """The rows of one value as MatMul sees them: its last axis, for all places along the others."""
    [value] = arrays
    return value.reshape(-1, value.shape[-1])


@dataclass(frozen=True, slots=True)
class Wanted:
    """Rows that are wanted of some values.

    Attributes:
        key: under which they are given.
        values: names of values in the main graph.
        rows: makes rows of these values on one batch.
        group: rows of the same group are sampled at the same positions, so each of it gives as many on every batch.
    """

    key: str
    values: tuple[str, ...]
    rows: Rows = along_last_axis
    group: str = ""


def values_of(wanted: Sequence[Wanted]) -> list[str]:
    """All values that are wanted, each once."""
    return list(dict.fromkeys(name for one in wanted for name in one.values))


class RowSample:
    """A bounded sample of all rows that are wanted.

    Args:
        wanted: what is wanted.
        most: rows of each group.
        memory: bytes for all groups together.
        seed: of the sample.
    """

    def __init__(self, wanted: Sequence[Wanted], most: int, memory: int, seed: int) -> None:
        groups = {one.group for one in wanted}
        share = memory // max(1, len(groups))
        self._reservoirs = {group: Reservoir(most, share, seed) for group in groups}

    def add(self, *parts: tuple[Sequence[Wanted], Mapping[str, Array]]) -> None:
        """Look at one batch: what is wanted of it, and its values; several such where they come of several models."""
        rows: dict[str, dict[str, Array]] = {group: {} for group in self._reservoirs}
        for wanted, values in parts:
            for one in wanted:
                rows[one.group][one.key] = one.rows([values[name] for name in one.values])
        for group, sources in rows.items():
            self._reservoirs[group].add(sources)

    def rows(self) -> dict[str, Array]:
        """The rows by key; ends the sample."""
        return {key: rows for reservoir in self._reservoirs.values() for key, rows in reservoir.rows().items()}
