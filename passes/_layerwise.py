"""What passes that fit one layer after the other have in common: which layers, in what order, and putting back."""

from collections.abc import Callable, Iterable
from typing import Final, TypeVar

import numpy as np

from graphshrink.calibration.engine import Calibration
from graphshrink.errors import NotFiniteError, UnfitError
from graphshrink.ir import edit
from graphshrink.ir.extract import dynamic_operators
from graphshrink.ir.graph import Graph
from graphshrink.ir.tensor import FilledData
from graphshrink.ir.types import Array
from graphshrink.ir.weight import Weight, weights
from graphshrink.passes._layer_plan import Plan, plan
from graphshrink.passing.base import Changed, Context, Layer, Pass, PassResult, Skipped

_NO_SAMPLES: Final = "there are no sample inputs to fit to; give --calibration"
_NOT_RUN: Final = "nothing is run, so that its inputs are not known (--no-verify)"

P = TypeVar("P", bound=Pass)
T = TypeVar("T")


def no_samples(calibration: Calibration | None) -> str | None:
    """Why there is nothing that layers could be fitted to; None if there is."""
    if calibration is None:
        return _NOT_RUN
    return _NO_SAMPLES if calibration.random else None


def to_fit_to(context: Context, layers: Iterable[Layer[P]], result: PassResult) -> Calibration | None:
    """The samples that layers can be fitted to; None where there are none, which the result says of each."""
    reason = no_samples(context.calibration)
    if reason is None:
        return context.calibration
    result.layers |= {layer.weight.label: Skipped(reason) for layer in layers}
    return None


def cannot_be_fitted(weight: Weight) -> str | None:
    """Why a weight is left alone by every pass that fits layers: empty, filled with one value, or not finite."""
    if weight.tensor.size == 0:
        return "empty"
    if isinstance(weight.tensor.data, FilledData):
        return "one value, which ConstantOfShape fills it with"
    return None if np.isfinite(weight.array).all() else "holds NaN or infinity, which is stored exactly"


def planned(
    step: P, graph: Graph, layers: list[Layer[P]], context: Context, result: PassResult
) -> list[tuple[Plan, P]]:
    """What can be fitted, in the order in which it runs; the rest goes into the result, with reasons."""
    known = {weight.name: weight for weight in weights(graph) if weight.graph is graph and _may(step, weight, context)}
    dynamic = dynamic_operators(graph)
    found: list[tuple[Plan, P]] = []
    for weight, settings in layers:
        made = plan(weight, known, dynamic)
        if isinstance(made, str):
            result.layers[weight.label] = Skipped(made)
        else:
            found.append((made, settings))
    order = {number: place for place, number in enumerate(graph.order)}
    return sorted(found, key=lambda pair: order[pair[0].affine.use.number])


def attempted(layer: Plan, function: Callable[[], T | str]) -> T | str:
    """What a function makes of a layer; or why it cannot.

    Raises:
        CalibrationError: what the layer is fed is not finite.
    """
    try:
        return function()
    except UnfitError as e:
        return str(e)
    except np.linalg.LinAlgError as e:
        return f"its program was not solved: {e}"
    except NotFiniteError as e:
        if e.value == layer.affine.input:
            raise
        return f"what is added to its outputs is not finite ({e})"


def _may(step: Pass, weight: Weight, context: Context) -> bool:
    """Whether a constant may be changed, as a bias of some layer."""
    own = context.settings(step, weight)
    return own is not None and context.selection.refuses(weight) is None and cannot_be_fitted(weight) is None


def put(result: PassResult, layer: Plan, stored: Array, bias: Array | None, detail: str, seconds: float) -> None:
    """Change a layer, and say so.

    Args:
        result: where to.
        layer: the layer.
        stored: its new weights, in the shape and of the type of the old ones.
        bias: those of its bias, in its shape, or None where it stays.
        detail: what was done, in a few words.
        seconds: how long it took.
    """
    weight = layer.weight
    result.layers[weight.label] = Changed(detail, difference(weight.array, stored), seconds)
    if bias is not None and layer.bias is not None:
        own = layer.bias.weight
        moved_by = difference(own.array, bias)
        result.layers[own.label] = Changed(f"bias of {weight.label}", moved_by, part_of=weight.label)
    replaced(layer, stored, bias)


def replaced(layer: Plan, stored: Array, bias: Array | None) -> None:
    """Change the weight of a layer, and its bias where there is a new one."""
    weight = layer.weight
    edit.set_constant(weight.graph, weight.name, weight.tensor.with_array(stored))
    if bias is not None and layer.bias is not None:
        own = layer.bias.weight
        edit.set_constant(own.graph, own.name, own.tensor.with_array(bias.astype(own.tensor.array.dtype)))


def difference(old: Array, new: Array) -> float:
    """||new - old|| / ||old||, Frobenius norms; 0 where there was nothing."""
    before = old.astype(np.float64)
    norm = float(np.linalg.norm(before))
    return float(np.linalg.norm(new.astype(np.float64) - before)) / norm if norm > 0 else 0.0
