"""Sets of numbers that are joined in pairs."""

from typing import Any

import numpy as np
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components

from graphshrink.ir.types import Array


def connected(count: int, left: Array, right: Array) -> Array:
    """(count,) the number of the set that each number from 0 on belongs to, when pairs (n,), (n,) are joined."""
    pairs: Any = coo_array((np.ones(len(left), np.bool_), (left, right)), shape=(count, count))
    _, labels = connected_components(pairs, directed=False)
    return np.asarray(labels, np.int64)
