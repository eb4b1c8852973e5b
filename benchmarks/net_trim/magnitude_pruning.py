"""The baseline: of each weight, the elements of the largest magnitude stay as they are, and the others become zero."""

from collections.abc import Mapping

import numpy as np

from graphshrink.ir import edit
from graphshrink.ir.graph import Graph
from graphshrink.ir.types import Array
from graphshrink.ir.weight import weights


def prune(graph: Graph, left: Mapping[str, int]) -> Graph:
    """A pruned copy of a graph.

    Args:
        graph: the model.
        left: how many elements stay, by label of the weight.
    """
    pruned = graph.copy()
    for weight in [weight for weight in weights(pruned) if weight.label in left]:
        array = largest(weight.array, left[weight.label])
        edit.set_constant(weight.graph, weight.name, weight.tensor.with_array(array))
    return pruned


def largest(array: Array, count: int) -> Array:
    """The elements of the largest magnitude, the first of equal ones, and zeros."""
    order = np.argsort(-np.abs(array.reshape(-1)), kind="stable")
    kept = np.zeros(array.size, array.dtype)
    kept[order[:count]] = array.reshape(-1)[order[:count]]
    return kept.reshape(array.shape)
