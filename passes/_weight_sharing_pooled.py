"""One codebook for several weights."""

from collections.abc import Sequence

import numpy as np

from graphshrink.ir.types import Array
from graphshrink.passes._weight_sharing_books import Wanted, kept_in
from graphshrink.solvers.codebooks import weighted_kmeans


def pooled(arrays: Sequence[Array], wanted: Wanted) -> tuple[float, ...]:
    """Entries for weights of one type, such that the sum of their relative squared errors is least.

    Args:
        arrays: the weights; zeros of pruned ones stay zeros without an entry.
        wanted: with how many entries.
    """
    values: list[Array] = []
    weights: list[Array] = []
    pruned = False
    for array in arrays:
        row = array.reshape(1, -1)
        kept = kept_in(row)
        own = row[kept].astype(np.float64)
        pruned = pruned or not kept.all()
        energy = float(np.sum(own**2))
        values.append(own)
        weights.append(np.full(own.size, 1.0 / energy if energy > 0 else 0.0))
    together = np.concatenate(values)
    if not together.size:
        return (0.0,)
    book = weighted_kmeans(together, np.concatenate(weights), wanted.entries(pruned), arrays[0].dtype)
    return tuple(map(float, book.entries))
