"""weight-sharing: every weight becomes one of a few shared values."""

import math
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import ClassVar, Final, NamedTuple, Self

import numpy as np

from graphshrink.encodings import DECODE_BYTES, group_counts, stored_bytes
from graphshrink.errors import UsageError
from graphshrink.ir import edit
from graphshrink.ir.graph import Graph
from graphshrink.ir.types import Array
from graphshrink.ops import output_axis
from graphshrink.passing.base import Changed, Context, Layer, Outcome, Pass, PassResult, Skipped
from graphshrink.solvers.kmeans import cluster_rows

_ZEROS_KEPT: Final = 0.05
"""Share of exact zeros in a group from which zero is one of its shared values: somebody pruned it."""

_PROBE_GROUPS, _PROBE_COLUMNS = 64, 4096  # how much of a large tensor is looked at to choose its grouping
_CHUNK: Final = 1 << 22


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
    """Replace each weight by the nearest of 2**bits shared values (one-dimensional k-means, Han et al. 2016, arXiv:1510.00149).

    Given:  W = [0.11 0.09 -0.52 | 0.10 -0.49 -0.50]    bits=1
    Result: W = [0.10 0.10 -0.50 | 0.10 -0.50 -0.50]    stored as 6 bits and 2 values

    1. Values are chosen for the whole tensor, for groups of neighbouring output channels, or for each channel, by `granularity`.
       `auto` takes the division that lowers the error by more than its extra codebooks would if they were spent on more bits: halving the
       error's standard deviation is worth one bit a weight.
    2. A tensor that already has few enough values stays as it is, so the pass may be repeated.
    3. Exact zeros of pruned weights stay exact zeros.
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
        if self.granularity not in ("auto", "tensor", "channel") and not (self.granularity.isdecimal() and int(self.granularity) > 0):
            raise UsageError(f"weight-sharing: granularity={self.granularity!r} is none of auto, tensor, channel, or a number of channels")

    def gentler(self) -> Self | None:
        """Two more bits, up to 8."""
        return replace(self, bits=min(8, self.bits + 2)) if self.bits < 8 else None

    def run(self, graph: Graph, context: Context) -> PassResult:
        """Cluster every plain weight of the model."""
        layers, result = context.layers(graph, self)
        outcomes = context.map(self.name, lambda layer: _share(layer, context), layers)
        for layer, (outcome, array) in zip(layers, outcomes, strict=True):
            result.layers[layer.weight.label] = outcome
            if array is not None:
                edit.set_constant(layer.weight.graph, layer.weight.name, layer.weight.tensor.with_array(array))
        return result


def _share(layer: "Layer[WeightSharing]", context: Context) -> tuple[Outcome, Array | None]:
    """What becomes of one weight, and its new values if they change."""
    array, settings = layer.weight.array, layer.settings
    refusal = _refusal(array, settings, context)
    if refusal is not None:
        return Skipped(refusal), None
    axis = output_axis(layer.weight)
    grouping = _choose(array, axis, settings)
    if isinstance(grouping, Skipped):
        return grouping, None
    rows = _rows(array, grouping)
    clusters = cluster_rows(rows, 1 << settings.bits)
    if float(clusters.distortion.sum()) == 0.0:
        return Skipped(f"has at most {1 << settings.bits} values already ({grouping.label})"), None
    new = np.take_along_axis(_keep_zeros(rows, clusters.centroids, clusters.labels), clusters.labels, axis=1)
    error = _relative_error(rows, new)
    shape = np.moveaxis(array, grouping.axis, 0).shape
    return Changed(f"{settings.bits} bits, {grouping.label}", error), np.moveaxis(new.reshape(shape), 0, grouping.axis)


def _refusal(array: Array, settings: WeightSharing, context: Context) -> str | None:
    if array.size == 0:
        return "empty"
    entries = 1 << settings.bits
    if context.policy != "plain" and stored_bytes(array.size, 1, entries, array.itemsize) + DECODE_BYTES >= array.nbytes:
        return f"too small to gain from sharing ({array.size} weights)"
    flat = array.reshape(-1)
    if not all(np.isfinite(flat[start : start + _CHUNK]).all() for start in range(0, flat.size, _CHUNK)):
        return "holds NaN or infinity, which is stored exactly"
    return None


def _rows(array: Array, grouping: Grouping) -> Array:
    """(groups, weights) with the grouped axis first."""
    moved = np.moveaxis(array, grouping.axis, 0) if grouping.axis else array
    return np.ascontiguousarray(moved).reshape(grouping.groups, -1)


def _choose(array: Array, axis: int | None, settings: WeightSharing) -> Grouping | Skipped:
    whole = Grouping(0, 1)
    if settings.granularity == "tensor":
        return whole
    if axis is None:
        return whole if settings.granularity == "auto" else Skipped("its uses do not agree on an axis of output channels")
    channels = array.shape[axis]
    if settings.granularity == "channel":
        return Grouping(axis, channels)
    if settings.granularity != "auto":
        width = int(settings.granularity)
        return Grouping(axis, channels // width) if channels % width == 0 else Skipped(f"{channels} channels do not divide by {width}")
    return max(_scored(array, axis, settings.bits), key=lambda scored: scored[0])[1]


def _scored(array: Array, axis: int, bits: int) -> Iterator[tuple[float, Grouping]]:
    """Groupings with what they are worth, in bits a weight.

    By the rate-distortion slope of a scalar quantiser (6 dB a bit), dividing the distortion by 4 is worth one bit; from this the extra
    bytes of the codebooks are taken off, in bits a weight.
    """
    entries = 1 << bits
    whole = Grouping(0, 1)
    base = stored_bytes(array.size, 1, entries, array.itemsize)
    yield 0.0, whole
    for groups in group_counts(array.shape[axis]):
        grouping = Grouping(axis, groups)
        spent = 8 * (stored_bytes(array.size, groups, entries, array.itemsize) - base) / array.size
        if spent > bits:  # more for codebooks than for codes
            return
        coarse, fine = _probe(array, grouping, entries)
        gained = 0.5 * math.log2(coarse / fine) if min(coarse, fine) > 0 else (math.inf if coarse > 0 else 0.0)
        yield gained - spent, grouping


def _probe(array: Array, grouping: Grouping, entries: int) -> tuple[float, float]:
    """Distortion of a sample of the tensor with one codebook, and with one for each group."""
    rows = np.moveaxis(array, grouping.axis, 0).reshape(grouping.groups, -1)
    rows = rows[:: -(-grouping.groups // _PROBE_GROUPS)]
    sample = np.ascontiguousarray(rows[:, :: -(-rows.shape[1] // _PROBE_COLUMNS)])
    return float(cluster_rows(sample.reshape(1, -1), entries).distortion[0]), float(cluster_rows(sample, entries).distortion.sum())


def _keep_zeros(rows: Array, centroids: Array, labels: Array) -> Array:
    """The centroids, with the one that stands for zero set to zero in groups where zeros are no accident."""
    kept = centroids.copy()
    for row, codes, values in zip(rows, labels, kept, strict=True):
        zeros = row == 0
        if np.count_nonzero(zeros) >= _ZEROS_KEPT * row.size:
            values[codes[int(zeros.argmax())]] = 0
    return kept


def _relative_error(before: Array, after: Array) -> float:
    """||after - before|| / ||before||, in float64, a part at a time."""
    a, b = before.reshape(-1), after.reshape(-1)
    error = norm = 0.0
    for start in range(0, a.size, _CHUNK):
        x = a[start : start + _CHUNK].astype(np.float64)
        error += float(np.sum((b[start : start + _CHUNK] - x) ** 2))
        norm += float(np.sum(x**2))
    return math.sqrt(error / norm) if norm > 0 else 0.0
