"""What every source of sample inputs becomes: a row of samples that can be read again and again."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Protocol

from graphshrink.ir.types import Feeds


class Samples(Protocol):
    """Sample inputs: indexed from 0, as often as wanted; the same index gives the same values.

    Samples may be read from disk each time they are asked for, so reading one can raise CalibrationError.
    """

    @property
    def description(self) -> str:
        """Where the samples come from and how many were taken, on one line, for the report."""
        ...

    def __len__(self) -> int: ...

    def __getitem__(self, index: int, /) -> Feeds: ...

    def __iter__(self) -> Iterator[Feeds]: ...


@dataclass(frozen=True, slots=True)
class Indexed:
    """Samples that `read` gives, one by one.

    Attributes:
        count: how many there are.
        read: gives the sample of an index in `range(count)`; the same one each time.
        description: see `Samples`.
    """

    count: int
    read: Callable[[int], Feeds]
    description: str

    def __len__(self) -> int:
        return self.count

    def __getitem__(self, index: int, /) -> Feeds:
        if not -self.count <= index < self.count:
            raise IndexError(f"sample {index} of {self.count}")
        return self.read(index % self.count)

    def __iter__(self) -> Iterator[Feeds]:
        return (self.read(index) for index in range(self.count))


def held(samples: Sequence[Feeds], description: str) -> Samples:
    """Samples that are in memory already."""
    return Indexed(len(samples), samples.__getitem__, description)


def describe(place: str, taken: int, total: int) -> str:
    """The usual description: the place, and how many of its samples are used."""
    return f"{place} ({taken} of {total} samples)" if taken < total else f"{place} ({total} samples)"


def evenly_spaced(total: int, limit: int) -> Sequence[int]:
    """At most `limit` indices, spread evenly over `range(total)` and rising; data is often sorted by class."""
    if total <= limit:
        return range(total)
    return [index * total // limit for index in range(limit)]


def split(samples: Samples) -> tuple[Samples, Samples]:
    """Part the samples into those that passes may fit to and those that judge the result.

    Every fifth sample judges (80 % to 20 %). Of fewer than five samples the last one judges, and a single sample does
    both.
    """
    total = len(samples)
    if total < 2:
        return samples, samples
    judging = list(range(4, total, 5)) or [total - 1]
    fitting = sorted(set(range(total)).difference(judging))
    return _part(samples, fitting, "to fit"), _part(samples, judging, "to judge")


def _part(samples: Samples, indices: Sequence[int], use: str) -> Samples:
    return Indexed(
        len(indices), lambda index: samples[indices[index]], f"{samples.description}, {len(indices)} of them {use}"
    )
