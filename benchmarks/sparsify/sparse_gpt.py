"""The baseline: SparseGPT as its authors run it (arXiv:2301.00774, and their code), without a fit afterwards.

Layer after layer, each with the same share of weights, on the inputs that the layers before now give. The outputs to be
kept are those of the layer's own old weights on these inputs; biases stay. Damping .01 of the mean diagonal, blocks of
128 inputs; inputs that are always zero lose their weights. Tables whose rows are looked up are pruned by magnitude.
"""

from collections.abc import Mapping

import numpy as np

from benchmarks.net_trim import magnitude_pruning
from graphshrink.calibration.engine import Calibration
from graphshrink.ir import edit
from graphshrink.ir.extract import dynamic_operators
from graphshrink.ir.graph import Graph
from graphshrink.ir.types import Array
from graphshrink.ir.weight import weights
from graphshrink.ops.lookup import Lookup
from graphshrink.passes._layer_moments import layer_moments
from graphshrink.passes._layer_plan import Plan, plan
from graphshrink.passes._layer_states import named_states

_DAMPING, _BLOCK = 0.01, 128


def prune(graph: Graph, densities: Mapping[str, float], calibration: Calibration) -> Graph:
    """A pruned copy of a graph.

    Args:
        graph: the model.
        densities: shares of weights to keep, by label of the weight.
        calibration: of the inputs.
    """
    pruned = graph.copy()
    with named_states(pruned):
        plans = _plans(pruned, densities)
        coming = [(layer.values, layer.values) for layer in plans]
        with calibration.sequential(pruned, coming=coming) as sequential:
            for layer in plans:
                if isinstance(layer.affine.form, Lookup):
                    continue
                moments = layer_moments(layer, sequential, 0)
                density = densities[layer.weight.label]
                hessians = moments.gram[:, :-1, :-1]
                new = [_pruned(w, h, density) for w, h in zip(moments.weights, hessians, strict=True)]
                tensor = layer.weight.tensor.with_array(moments.stored(layer, np.stack(new)))
                edit.set_constant(pruned, layer.weight.name, tensor)
    tables = [layer.weight for layer in plans if isinstance(layer.affine.form, Lookup)]
    return magnitude_pruning.prune(pruned, {w.label: round(densities[w.label] * w.tensor.size) for w in tables})


def _plans(graph: Graph, densities: Mapping[str, float]) -> list[Plan]:
    order = {number: place for place, number in enumerate(graph.order)}
    made = [plan(w, {}, dynamic_operators(graph)) for w in weights(graph) if w.label in densities]
    plans = [one for one in made if isinstance(one, Plan)]
    return sorted(plans, key=lambda one: order[one.affine.use.number])


def _pruned(start: Array, gram: Array, density: float) -> Array:
    """One layer: weights (N, M) and X^T X (N, N)."""
    w, hessian = start.copy(), gram.copy()
    inputs = np.arange(len(w), dtype=np.intp)
    dead = np.diagonal(hessian) == 0
    hessian[dead, dead] = 1
    w[dead] = 0
    hessian[inputs, inputs] += _DAMPING * np.diagonal(hessian).mean()
    factor: Array = np.swapaxes(np.linalg.cholesky(np.linalg.inv(hessian)), 0, 1)
    for first in range(0, len(w), _BLOCK):
        last = min(first + _BLOCK, len(w))
        saliency = (w[first:last] / np.diagonal(factor)[first:last, None]) ** 2
        gone = np.zeros(saliency.size, bool)
        gone[np.argsort(saliency, axis=None)[: round((1 - density) * saliency.size)]] = True
        for i, out in zip(range(first, last), gone.reshape(saliency.shape), strict=True):
            error = np.where(out, w[i], 0.0) / factor[i, i]
            w[i:] -= np.outer(factor[i, i:], error)
            w[i, out] = 0
    return w
