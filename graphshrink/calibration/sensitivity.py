"""How much the outputs of a model depend on each channel of its inner values: the diagonal of the Gauss-Newton matrix.

    s_c  =  mean over samples of  sum over outputs o and places p of  (d o / d value_cp)²

As optimal brain damage has it (LeCun et al. 1990), but summed up by channel, and without labels: the loss is the
squared change of the outputs, relative to their mean square. One pass backwards is enough for all outputs: with random
signs e, the mean of (sum_o e_o d o / d v)² is the sum of squares (Hutchinson 1989).
"""

from collections.abc import Mapping
from typing import Final

import numpy as np

from graphshrink.calibration.engine import Calibration
from graphshrink.errors import CalibrationError, JudgeError
from graphshrink.ir.graph import Graph
from graphshrink.ir.types import Array
from graphshrink.ops.gradient.backward import backward
from graphshrink.ops.gradient.base import OLDEST, Writer

_SEED: Final = 7.0
_LEAST: Final = 1e-30  # mean square of an output: less is nothing


def sensitivities(calibration: Calibration, graph: Graph, axes: Mapping[str, int]) -> dict[str, Array]:
    """(channels,) of each value, in an arbitrary unit that is the same for all of them.

    Args:
        calibration: the samples.
        graph: a model.
        axes: of values of its main graph, the axis of their channels, counted from the last, which is -1.

    Returns:
        Values are left out from which outputs are made by operators whose derivatives are not known; all of them, where
        operators are older than opset 13, or a gradient is not finite.
    """
    if graph.opset < OLDEST:
        return {}
    observed = calibration.observed(graph)
    model = graph.copy()
    writer = Writer(model, "gradient")
    starts = {
        info.name: _start(writer, info.name) for info in graph.outputs if _has_gradient(observed.dtypes, info.name)
    }
    gradients = backward(writer, starts, observed.shapes, observed.dtypes, observed.known)
    squares = {
        name: _squares(writer, gradients[name], len(observed.shapes[name]), axis)
        for name, axis in axes.items()
        if name in gradients and len(observed.shapes[name]) >= -axis
    }
    if not squares:
        return {}
    total: dict[str, Array] = {}
    try:
        for values in calibration.batches(model, squares.values()):
            for name, square in squares.items():
                total[name] = total.get(name, 0.0) + values[square].astype(np.float64)
    except (CalibrationError, JudgeError):
        return {}
    return total


def _has_gradient(dtypes: Mapping[str, np.dtype[np.generic]], name: str) -> bool:
    return dtypes.get(name) == np.float32


def _start(writer: Writer, name: str) -> str:
    """Random signs, over the root of an output's mean square."""
    signs = writer.add("Sign", writer.add("RandomUniformLike", name, low=-1.0, high=1.0, seed=_SEED))
    square = writer.add("Mul", name, name)
    count = writer.add("Cast", writer.add("Size", name), to=1)
    mean = writer.add("Div", writer.add("ReduceSum", square, keepdims=0), count)
    root = writer.add("Sqrt", writer.add("Max", mean, writer.number(_LEAST, np.dtype(np.float32))))
    return writer.add("Div", signs, root)


def _squares(writer: Writer, gradient: str, rank: int, axis: int) -> str:
    others = [number for number in range(rank) if number != rank + axis]
    square = writer.add("Mul", gradient, gradient)
    return writer.reduced("ReduceSum", square, others, keepdims=False) if others else square
