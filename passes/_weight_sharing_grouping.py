"""How weight-sharing divides a tensor among codebooks."""

import math
from collections.abc import Iterator
from typing import Any, Final, NamedTuple

import numpy as np

from graphshrink.encodings import group_counts, most_distinct, stored_bytes
from graphshrink.ir.types import Array
from graphshrink.passing.base import Skipped
from graphshrink.solvers.kmeans import cluster_rows

_PROBE_WORK, _PROBE_ROW = 1 << 20, 1 << 12  # how much is tried out: values times entries; and at least of a group
_PROBE_ENTRIES: Final = 64  # at most: beyond it the gain of finer groups hardly depends on the number of values
_DEAD: Final = 1e-4  # of the mean energy: groups below it count less and less
_MARGIN: Final = 0.01  # bits a weight that a finer division has to be worth; below it is the noise of trying out


class Grouping(NamedTuple):
    """How a tensor is divided: along which axis, and into how many groups of neighbouring channels."""

    axis: int
    groups: int

    @property
    def label(self) -> str:
        """For reports."""
        return "1 codebook" if self.groups == 1 else f"{self.groups} codebooks along axis {self.axis}"

    def rows(self, array: Array) -> Array:
        """(groups, weights) with the grouped axis first."""
        moved = np.moveaxis(array, self.axis, 0) if self.axis else array
        return np.ascontiguousarray(moved).reshape(self.groups, -1)

    def array(self, rows: Array, shape: tuple[int, ...]) -> Array:
        """The inverse of `rows`."""
        stored = (shape[self.axis], *shape[: self.axis], *shape[self.axis + 1 :])
        return np.ascontiguousarray(np.moveaxis(rows.reshape(stored), 0, self.axis))


def already(grouping: Grouping, bits: int) -> Skipped:
    """The reason to leave a tensor as it is."""
    return Skipped(f"has at most {1 << bits} values already ({grouping.label})")


def choose(array: Array, axis: int | None, granularity: str, bits: int, most: int) -> Grouping | Skipped:
    """How to divide a tensor, or why not to touch it; with at most so many values it stays as it is."""
    groupings = _groupings(array, axis, granularity, bits)
    if isinstance(groupings, Skipped):
        return groupings
    for grouping, _ in groupings:
        if most_distinct(array, grouping.axis, grouping.groups, most) is not None:
            return already(grouping, bits)
    best, worth = groupings[0][0], _MARGIN
    for grouping, spent in groupings[1:]:
        gained = _gained(array, grouping, min(_PROBE_ENTRIES, 1 << bits))
        if gained - spent > worth:
            best, worth = grouping, gained - spent
    return best


def _groupings(array: Array, axis: int | None, granularity: str, bits: int) -> list[tuple[Grouping, float]] | Skipped:
    """What there is to choose from: groupings, each with the extra bits a weight that its codebooks take."""
    whole = (Grouping(0, 1), 0.0)
    if granularity in ("tensor", "model") or (axis is None and granularity == "auto"):
        return [whole]
    if axis is None:
        return Skipped("its uses do not agree on an axis of output channels")
    channels = array.shape[axis]
    if granularity == "auto":
        return [whole, *_affordable(array, axis, bits)]
    width = 1 if granularity == "channel" else int(granularity)
    if channels % width != 0:
        return Skipped(f"{channels} channels do not divide by {width}")
    return [(Grouping(axis, channels // width), 0.0)]


def _affordable(array: Array, axis: int, bits: int) -> Iterator[tuple[Grouping, float]]:
    base = stored_bytes(array.size, 1, 1 << bits, array.itemsize)
    gaining = max(1, int(np.count_nonzero(array)))  # a weight that somebody pruned is zero by any codebook
    for groups in group_counts(array.shape[axis]):
        spent = 8 * (stored_bytes(array.size, groups, 1 << bits, array.itemsize) - base) / gaining
        if spent > bits:  # more for codebooks than for codes
            return
        yield Grouping(axis, groups), spent


def _gained(array: Array, grouping: Grouping, entries: int) -> float:
    """What a codebook for each group is worth, in bits a weight.

    By the rate-distortion slope of a scalar quantiser (6 dB a bit), dividing the distortion by 4 is worth one bit.
    """
    coarse, fine = _probe(array, grouping, entries)
    if fine > 0:
        return 0.5 * math.log2(coarse / fine) if coarse > 0 else -math.inf
    return math.inf if coarse > 0 else 0.0


def _probe(array: Array, grouping: Grouping, entries: int) -> tuple[float, float]:
    """Distortion of some of the tensor with one codebook, and with one for each group; relative to the groups' energy.

    Relative, since what follows a layer may scale its channels to its liking: in a depthwise convolution with a folded
    normalisation, small channels count as much as large ones, and one codebook would round them to nothing. Groups
    far below the mean do not count fully, since some are merely dead.

    Where only a part of each group is looked at, codebooks are made from one half of it and tried on the other: many
    codebooks fit any sample better than one does.
    """
    sample, complete = _sample(array, grouping, _PROBE_WORK // entries)
    fit, tried = (sample, sample) if complete else (np.ascontiguousarray(sample[:, ::2]), sample[:, 1::2])
    energy = np.sum(tried.astype(np.float64) ** 2, axis=1)
    weight = 1.0 / np.maximum(energy + _DEAD * energy.mean(), np.finfo(np.float64).tiny)
    pooled = cluster_rows(fit.reshape(1, -1), entries).centroids[0]
    coarse = np.array([_distortion(row, pooled) for row in tried])
    fine = np.array(list(map(_distortion, tried, cluster_rows(fit, entries).centroids)))
    return float(np.sum(coarse * weight)), float(np.sum(fine * weight))


def _sample(array: Array, grouping: Grouping, values: int) -> tuple[Array, bool]:
    """(groups, weights) of some of the groups, about so many values in all; and whether those groups are complete."""
    moved = np.moveaxis(array, grouping.axis, 0)
    divided = moved.reshape(grouping.groups, -1, *moved.shape[1:])  # a view: this only splits an axis
    size = math.prod(divided.shape[1:])
    divided = divided[:: max(1, math.ceil(grouping.groups * min(size, _PROBE_ROW) / values))]
    count = max(_PROBE_ROW, values // len(divided))
    if size <= count:
        return np.ascontiguousarray(divided).reshape(len(divided), -1), True
    # Multiples of the golden ratio, modulo 1: evenly spread, and in step with no axis.
    spread = (np.arange(count, dtype=np.uint64) * np.uint64(0x9E3779B97F4A7C15)) >> np.uint64(32)
    places = (spread * np.uint64(size)) >> np.uint64(32)
    index: tuple[Any, ...] = np.unravel_index(places.astype(np.intp), divided.shape[1:])
    return divided[(slice(None), *index)], False


def _distortion(values: Array, centroids: Array) -> float:
    """Sum of squared distances to the nearest of some ordered centroids."""
    exact = centroids.astype(np.float64)
    wide = values.astype(np.float64)
    nearest = exact[np.searchsorted((exact[1:] + exact[:-1]) / 2, wide)]
    return float(np.sum((wide - nearest) ** 2))
