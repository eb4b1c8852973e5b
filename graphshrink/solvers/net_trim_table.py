"""Net-Trim for a table whose rows are looked up: the inputs are unit vectors, and the program falls apart.

    minimise the number of weights   so that   sum over rows of count * ||row' - row||^2  <=  epsilon^2 * that of row

Each weight either stays as it is or is zero, so the fewest are found by sorting, with no norm to stand in for them.
"""

import numpy as np

from graphshrink.ir.types import Array


def fewest(table: Array, counts: Array, epsilon: float) -> Array:
    """The table with as many zeros as epsilon allows.

    Args:
        table: (rows, width).
        counts: (rows,), how often each row is looked up.
        epsilon: bound on the error, relative to what is looked up.
    """
    harm = _harm(table, counts)
    order = np.argsort(harm, axis=None)
    sums = np.cumsum(harm.reshape(-1)[order])
    return _without(table, order[: np.searchsorted(sums, epsilon**2 * sums[-1], side="right")])


def of_density(table: Array, counts: Array, density: float) -> Array:
    """The table with a share of its weights, those that matter most."""
    order = np.argsort(_harm(table, counts), axis=None)
    return _without(table, order[: table.size - round(density * table.size)])


def _harm(table: Array, counts: Array) -> Array:
    """Squared error that the loss of each weight makes."""
    harm: Array = counts[:, None] * table.astype(np.float64) ** 2
    return harm


def _without(table: Array, places: Array) -> Array:
    new = table.copy()
    new.reshape(-1)[places] = 0
    return new
