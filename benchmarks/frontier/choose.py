"""Which setting of a tool counts: decided on development items alone."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

BAR: Final = 0.01
"""How far below the original's score a setting may stay: one point."""

_ROUNDING: Final = 1e-9  # two scores of one point apart count as one point, though floats may say a little more


@dataclass(frozen=True, slots=True)
class Tried:
    """A setting that gave a model: its size, and its score on development items."""

    size: int
    score: float


@dataclass(frozen=True, slots=True)
class Choice:
    """The index of the setting that counts, and whether it is within the bar."""

    index: int
    meets_bar: bool


def choose(tried: Sequence[Tried | None], original: float) -> Choice | None:
    """The smallest of those within the bar; where none is, the best, as one that misses it; None if all failed.

    Of equals, the first, which is the gentler.
    """
    there = [(index, result) for index, result in enumerate(tried) if result is not None]
    within = [(index, result) for index, result in there if result.score >= original - BAR - _ROUNDING]
    if within:
        return Choice(min(within, key=lambda pair: (pair[1].size, -pair[1].score))[0], True)
    if there:
        return Choice(min(there, key=lambda pair: (-pair[1].score, pair[1].size))[0], False)
    return None
