"""How items become sets that share none."""

import hashlib
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Generic, TypeVar

from benchmarks.corpus.base import Split

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Sets(Generic[T]):
    """Items to calibrate with, to choose settings on, and to score once."""

    calibration: Sequence[T]
    development: Sequence[T]
    test: Sequence[T]

    def of(self, split: Split) -> Sequence[T]:
        """The items that are scored."""
        return self.test if split == "test" else self.development


def distinct(items: Iterable[T], key: Callable[[T], bytes]) -> list[T]:
    """Of items with equal keys the first, in the order of the SHA-256 of the keys, which follows nothing in them.

    The key is what the model sees, so that no set holds an item of another one in disguise.
    """
    found: dict[bytes, T] = {}
    for item in items:
        found.setdefault(hashlib.sha256(key(item)).digest(), item)
    return [found[digest] for digest in sorted(found)]


def cut(items: Sequence[T], *, test: int, development: int, calibration: int | None = None) -> Sets[T]:
    """The first for the test, the next for development, the next (all others if not given) for calibration."""
    first, second = test, test + development
    third = len(items) if calibration is None else second + calibration
    if third > len(items) or third <= second:
        raise ValueError(f"{len(items)} items are too few for {test}, {development} and some to calibrate with")
    return Sets(items[second:third], items[first:second], items[:first])
