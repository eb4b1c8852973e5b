"""The baseline: SparseGPT as published, Frantar & Alistarh 2023, arXiv:2301.00774, without anything of ours behind it.

Columns from the first to the last in blocks of 128; in each block the lowest share of w² / U_ii² goes, over all rows;
what that does to the outputs is made up for by the columns behind. Biases stay, and nothing is fitted afterwards.
"""

import time
from dataclasses import dataclass
from typing import ClassVar, Final

import numpy as np
from numpy.typing import NDArray

from graphshrink.encodings import Policy
from graphshrink.ir.graph import Graph
from graphshrink.ir.weight import Weight
from graphshrink.ops.lookup import Lookup
from graphshrink.passes._layer_moments import LayerMoments, layer_moments
from graphshrink.passes._layer_states import named_states
from graphshrink.passes._layerwise import cannot_be_fitted, planned, put
from graphshrink.passing.base import Context, Pass, PassResult, Skipped

_BLOCK: Final = 128  # columns
_DAMPING: Final = 0.01  # of the mean of the diagonal

Floats = NDArray[np.float64]


@dataclass(frozen=True)
class PlainSparseGPT(Pass):
    """Prune every layer to one density.

    Attributes:
        density: share of each layer's weights to keep.
    """

    name: ClassVar[str] = "plain-sparse-gpt"
    buys: ClassVar[str] = "disk"
    density: float = 0.5

    def refuses(self, weight: Weight, policy: Policy) -> str | None:
        """As for our passes."""
        return cannot_be_fitted(weight)

    def run(self, graph: Graph, context: Context) -> PassResult:
        """Layer after layer, each on the inputs that the layers before it give by then."""
        layers, result = context.layers(graph, self)
        assert context.calibration is not None
        with named_states(graph):
            todo = planned(self, graph, layers, context, result)
            coming = [(layer.values, layer.values) for layer, _ in todo]
            with context.calibration.sequential(graph, coming=coming) as sequential:
                for layer, _ in todo:
                    if isinstance(layer.affine.form, Lookup):
                        result.layers[layer.weight.label] = Skipped("a table that is looked up")
                        continue
                    started = time.perf_counter()
                    made = layer_moments(layer, sequential, context.seed)
                    pruned = [self._pruned(made, group) for group in range(len(made.gram))]
                    stored = made.stored(layer, np.stack(pruned))
                    put(result, layer, stored, None, "", time.perf_counter() - started)
        return result

    def _pruned(self, made: LayerMoments, group: int) -> Floats:
        return sparse_gpt(made.weights[group], made.gram[group, :-1, :-1] / made.rows, self.density)


def sparse_gpt(weights: Floats, hessian: Floats, density: float) -> Floats:
    """Weights (N, M) of a layer with inputs' second moment (N, N), pruned to a density within every block."""
    rows = weights.T.copy()
    moment = hessian.copy()
    dead = np.diag(moment) == 0
    moment[dead, dead] = 1.0
    rows[:, dead] = 0.0
    moment[np.diag_indices_from(moment)] += _DAMPING * np.diag(moment).mean()
    factor = np.linalg.cholesky(np.linalg.inv(moment)).T  # upper
    for left in range(0, rows.shape[1], _BLOCK):
        _sweep(rows, factor, slice(left, min(left + _BLOCK, rows.shape[1])), density)
    return np.ascontiguousarray(rows.T)


def _sweep(rows: Floats, factor: Floats, block: slice, density: float) -> None:
    """One block of columns; its errors go to the columns behind it."""
    part, own = rows[:, block], factor[block, block]
    saliency = (part / np.diag(own)) ** 2
    gone = np.zeros(part.size, bool)
    gone[np.argsort(saliency, axis=None, kind="stable")[: round((1 - density) * part.size)]] = True
    gone = gone.reshape(part.shape)
    errors = np.zeros(part.shape)
    for column in range(part.shape[1]):
        errors[:, column] = np.where(gone[:, column], part[:, column], 0.0) / own[column, column]
        part[:, column:] -= errors[:, column, None] * own[column, column:]
        part[gone[:, column], column] = 0.0
    rows[:, block.stop :] -= errors @ factor[block, block.stop :]
