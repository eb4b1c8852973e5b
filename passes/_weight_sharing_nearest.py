"""Weights that take the nearest of the centroids of exact k-means."""

import math
from typing import Final

import numpy as np

from graphshrink.ir.types import Array
from graphshrink.solvers.kmeans import cluster_rows

ZEROS_KEPT: Final = 0.05
"""Share of exact zeros in a group from which zero is one of its shared values: somebody pruned it."""

_CHUNK: Final = 1 << 18  # weights: small beside any tensor for which memory matters


def clustered(rows: Array, entries: int) -> tuple[Array, float] | None:
    """Every weight's shared value, and ||after - before|| / ||before||; None where nothing would change.

    Args:
        rows: (groups, weights); they are written over where they can be.
        entries: of each group.
    """
    clusters = cluster_rows(rows, entries)
    if float(clusters.distortion.sum()) == 0.0:
        return None
    _keep_zeros(rows, clusters.centroids, clusters.labels)
    return _replaced(rows, clusters.centroids, clusters.labels)


def _keep_zeros(rows: Array, centroids: Array, labels: Array) -> None:
    """Set the centroid that stands for zero to zero in groups where zeros are no accident."""
    for row, codes, values in zip(rows, labels, centroids, strict=True):
        zeros = row == 0
        if np.count_nonzero(zeros) >= ZEROS_KEPT * row.size:
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
