"""weight-sharing: every weight becomes one of a few shared values."""

import math
import time
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any, ClassVar, Final, NamedTuple, Self

import numpy as np

from graphshrink.encodings import DECODE_BYTES, Policy, group_counts, most_distinct, stored_bytes, table_bytes
from graphshrink.errors import UsageError
from graphshrink.ir import edit
from graphshrink.ir.graph import Graph
from graphshrink.ir.tensor import FilledData, Tensor
from graphshrink.ir.types import Array
from graphshrink.ir.weight import Weight
from graphshrink.ops import output_axis
from graphshrink.passing.base import Changed, Context, Layer, Outcome, Pass, PassResult, Skipped
from graphshrink.solvers.kmeans import cluster_rows

_ZEROS_KEPT: Final = 0.05
"""Share of exact zeros in a group from which zero is one of its shared values: somebody pruned it."""

_TOO_SMALL: Final = "too small to gain from sharing"
_CHUNK: Final = 1 << 18  # weights: small beside any tensor for which memory matters
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


@dataclass(frozen=True)
class WeightSharing(Pass):
    """Replace each weight by the nearest of 2**bits shared values.

    One-dimensional k-means, as in Han et al. 2016, arXiv:1510.00149.

    Given:  W = [0.11 0.09 -0.52 | 0.10 -0.49 -0.50]    bits=1
    Result: W = [0.10 0.10 -0.50 | 0.10 -0.50 -0.50]    stored as 6 bits and 2 values

    1. Values are chosen for the whole tensor, for groups of neighbouring output channels, or for each channel, by
       `granularity`. `auto` takes the division that lowers the error by more than its extra codebooks would if they
       were spent on more bits: halving the error's standard deviation is worth one bit a weight.
    2. A tensor that already has few enough values stays as it is, so the pass may be repeated.
    3. Exact zeros of pruned weights (from 5 % of a group on) stay exact zeros.
    4. A tensor so small that its codebook would outweigh the gain is left alone.

    Attributes:
        bits: bits a weight, 1 to 8.
        granularity: "auto", "tensor", "channel", or the number of channels that share a codebook.
    """

    name: ClassVar[str] = "weight-sharing"
    buys: ClassVar[str] = "disk"
    bits: int = 4
    granularity: str = "auto"

    def __post_init__(self) -> None:
        if not 1 <= self.bits <= 8:
            raise UsageError(f"weight-sharing: bits={self.bits} is outside 1 to 8")
        number = self.granularity.isascii() and self.granularity.isdecimal() and len(self.granularity) < 10
        if self.granularity not in ("auto", "tensor", "channel") and not (number and int(self.granularity) > 0):
            choices = "auto, tensor, channel, or a number of channels"
            raise UsageError(f"weight-sharing: granularity={self.granularity!r} is none of {choices}")

    def refuses(self, weight: Weight, policy: Policy) -> str | None:
        """Weights that are empty, too small to gain, or not finite."""
        if weight.tensor.size == 0:
            return "empty"
        if isinstance(weight.tensor.data, FilledData):
            return "one value, which ConstantOfShape fills it with"
        if policy != "plain" and _gain(weight.tensor, self.bits) <= 0:
            return _TOO_SMALL
        return None if _all_finite(weight.array) else "holds NaN or infinity, which is stored exactly"

    def gentler(self) -> Self | None:
        """One more bit, up to 8."""
        return replace(self, bits=self.bits + 1) if self.bits < 8 else None

    def run(self, graph: Graph, context: Context) -> PassResult:
        """Cluster every plain weight of the model."""
        return _run(self, graph, context)


def _run(settings: WeightSharing, graph: Graph, context: Context) -> PassResult:
    candidates, result = context.layers(graph, settings)
    layers: list[Layer[WeightSharing]] = []
    for layer in candidates:
        if context.policy == "plain" or _pays_with_its_table(layer, candidates):
            layers.append(layer)
        else:
            result.layers[layer.weight.label] = Skipped(_TOO_SMALL)
    for layer, (outcome, array) in zip(layers, context.map(settings.name, _share, layers), strict=True):
        result.layers[layer.weight.label] = outcome
        if array is not None:
            edit.set_constant(layer.weight.graph, layer.weight.name, layer.weight.tensor.with_array(array))
    return result


def _gain(tensor: Tensor, bits: int) -> int:
    """Bytes that sharing saves at best, without the tables that layers of the same number of bits have in common."""
    itemsize = tensor.nbytes // max(1, tensor.size)
    return tensor.nbytes - stored_bytes(tensor.size, 1, 1 << bits, itemsize) - DECODE_BYTES


def _pays_with_its_table(layer: Layer[WeightSharing], layers: list[Layer[WeightSharing]]) -> bool:
    """Whether all layers of as many bits together save more than their common tables take."""
    bits = layer.settings.bits
    together = sum(_gain(other.weight.tensor, bits) for other in layers if other.settings.bits == bits)
    return together > table_bytes(1 << bits)


def _all_finite(array: Array) -> bool:
    flat = array.reshape(-1)
    return all(np.isfinite(flat[start : start + _CHUNK]).all() for start in range(0, flat.size, _CHUNK))


def _share(layer: Layer[WeightSharing]) -> tuple[Outcome, Array | None]:
    """What becomes of one weight, and its new values if they change."""
    started = time.perf_counter()
    array, settings = layer.weight.array, layer.settings
    grouping = _choose(array, output_axis(layer.weight), settings)
    if isinstance(grouping, Skipped):
        return grouping, None
    rows = _rows(array, grouping)
    clusters = cluster_rows(rows, 1 << settings.bits)
    if float(clusters.distortion.sum()) == 0.0:
        return _already(grouping, settings), None
    _keep_zeros(rows, clusters.centroids, clusters.labels)
    new, error = _replaced(rows, clusters.centroids, clusters.labels)
    shape = np.moveaxis(array, grouping.axis, 0).shape
    new = np.ascontiguousarray(np.moveaxis(new.reshape(shape), 0, grouping.axis))
    return Changed(f"{settings.bits} bits, {grouping.label}", error, time.perf_counter() - started), new


def _already(grouping: Grouping, settings: WeightSharing) -> Skipped:
    return Skipped(f"has at most {1 << settings.bits} values already ({grouping.label})")


def _rows(array: Array, grouping: Grouping) -> Array:
    """(groups, weights) with the grouped axis first."""
    moved = np.moveaxis(array, grouping.axis, 0) if grouping.axis else array
    return np.ascontiguousarray(moved).reshape(grouping.groups, -1)


# ---- the grouping


def _choose(array: Array, axis: int | None, settings: WeightSharing) -> Grouping | Skipped:
    """How to divide a tensor, or why not to touch it."""
    groupings = _groupings(array, axis, settings)
    if isinstance(groupings, Skipped):
        return groupings
    for grouping, _ in groupings:
        if most_distinct(array, grouping.axis, grouping.groups, 1 << settings.bits) is not None:
            return _already(grouping, settings)
    best, worth = groupings[0][0], _MARGIN
    for grouping, spent in groupings[1:]:
        gained = _gained(array, grouping, min(_PROBE_ENTRIES, 1 << settings.bits))
        if gained - spent > worth:
            best, worth = grouping, gained - spent
    return best


def _groupings(array: Array, axis: int | None, settings: WeightSharing) -> list[tuple[Grouping, float]] | Skipped:
    """What there is to choose from: groupings, each with the extra bits a weight that its codebooks take."""
    whole = (Grouping(0, 1), 0.0)
    if settings.granularity == "tensor" or (axis is None and settings.granularity == "auto"):
        return [whole]
    if axis is None:
        return Skipped("its uses do not agree on an axis of output channels")
    channels = array.shape[axis]
    if settings.granularity == "auto":
        return [whole, *_affordable(array, axis, settings.bits)]
    width = 1 if settings.granularity == "channel" else int(settings.granularity)
    if channels % width != 0:
        return Skipped(f"{channels} channels do not divide by {width}")
    return [(Grouping(axis, channels // width), 0.0)]


def _affordable(array: Array, axis: int, bits: int) -> Iterator[tuple[Grouping, float]]:
    base = stored_bytes(array.size, 1, 1 << bits, array.itemsize)
    for groups in group_counts(array.shape[axis]):
        spent = 8 * (stored_bytes(array.size, groups, 1 << bits, array.itemsize) - base) / array.size
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


# ---- the new values


def _keep_zeros(rows: Array, centroids: Array, labels: Array) -> None:
    """Set the centroid that stands for zero to zero in groups where zeros are no accident."""
    for row, codes, values in zip(rows, labels, centroids, strict=True):
        zeros = row == 0
        if np.count_nonzero(zeros) >= _ZEROS_KEPT * row.size:
            values[codes[int(zeros.argmax())]] = 0


def _replaced(rows: Array, centroids: Array, labels: Array) -> tuple[Array, float]:
    """Every weight's shared value, and ||after - before|| / ||before||; in float64, a part at a time."""
    groups, size = rows.shape
    new = rows if rows.flags.writeable else np.empty_like(rows)  # a copy of our own may be written over
    error = norm = 0.0
    height = max(1, _CHUNK // size)
    for top in range(0, groups, height):
        group = slice(top, top + height)
        for left in range(0, size, _CHUNK):
            part = slice(left, left + _CHUNK)
            shared = np.take_along_axis(centroids[group], labels[group, part].astype(np.intp), axis=1)
            before = rows[group, part].astype(np.float64)
            error += float(np.sum((shared - before) ** 2))
            norm += float(np.sum(before**2))
            new[group, part] = shared
    return new, math.sqrt(error / norm) if norm > 0 else 0.0
