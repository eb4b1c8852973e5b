"""half: constants take the nearest values that two bytes hold."""

from dataclasses import dataclass
from typing import ClassVar, Final

import numpy as np

from graphshrink.encodings import Policy, most_distinct
from graphshrink.errors import UsageError
from graphshrink.ir import edit
from graphshrink.ir.graph import Graph
from graphshrink.ir.tensor import DTYPES, FilledData, T
from graphshrink.ir.types import Array
from graphshrink.ir.weight import Weight
from graphshrink.passes._layerwise import difference
from graphshrink.passing.base import Changed, Context, Outcome, Pass, PassResult, Skipped

_WORTH_IT: Final = 21  # elements: the operator that widens them takes 40 bytes
_BFLOAT16_SINCE: Final = 13  # opset
_TYPES: Final = {"float16": DTYPES[T.FLOAT16], "bfloat16": DTYPES[T.BFLOAT16]}


@dataclass(frozen=True)
class Half(Pass):
    """Round float32 constants to what float16 or bfloat16 holds exactly, so that they are stored in two bytes.

    Given:  b = [0.1        -0.52      ]    8 bytes
    Result: b = [0.09997559 -0.52001953]    4 bytes, cast to float32 when the model is loaded

    1. What is computed stays float32: operators, inputs and outputs are those they were.
    2. Each tensor takes the type that is closer to it; bfloat16 from opset 13 on.
    3. Meant for what other passes leave alone, biases and parameters of normalisations, and so for the end of a
       pipeline. Tensors with few values already stay: a codebook takes fewer bytes.

    Attributes:
        most: elements of the largest tensors that are rounded; 0 for all.
    """

    name: ClassVar[str] = "half"
    buys: ClassVar[str] = "disk"
    on_parameters: ClassVar[bool] = True
    most: int = 0

    def __post_init__(self) -> None:
        if self.most < 0:
            raise UsageError(f"half: most={self.most} is below 0")

    def refuses(self, weight: Weight, policy: Policy) -> str | None:
        """Weights of other types, too small or too large, or not finite; all where everything is stored plainly."""
        if policy == "plain":
            return "everything is to be stored plainly"
        if weight.tensor.elem_type != T.FLOAT:
            return "not float32"
        if isinstance(weight.tensor.data, FilledData):
            return "one value, which ConstantOfShape fills it with"
        if weight.tensor.size < _WORTH_IT:
            return "too small to gain"
        if 0 < self.most < weight.tensor.size:
            return f"more than most={self.most} elements"
        return None if bool(np.isfinite(weight.array).all()) else "holds NaN or infinity, which is stored exactly"

    def run(self, graph: Graph, context: Context) -> PassResult:
        """Round each tensor."""
        layers, result = context.layers(graph, self)
        for weight, _ in layers:
            result.layers[weight.label] = _rounded(weight, graph.opset >= _BFLOAT16_SINCE)
        return result


def _rounded(weight: Weight, has_bfloat16: bool) -> Outcome:
    array = weight.array
    if most_distinct(array, 0, 1, _few(array.size)) is not None:
        return Skipped("few distinct values already")
    types = ("float16", "bfloat16") if has_bfloat16 else ("float16",)
    with np.errstate(over="ignore"):  # what overflows is not chosen
        rounded: list[Array] = [array.astype(_TYPES[kind]).astype(array.dtype) for kind in types]
    finite = [(difference(array, one), place) for place, one in enumerate(rounded) if np.isfinite(one).all()]
    if not finite:
        return Skipped("out of float16's range, and bfloat16 needs opset 13")
    error, place = min(finite)
    if error == 0:
        return Skipped("two bytes hold it exactly")
    edit.set_constant(weight.graph, weight.name, weight.tensor.with_array(rounded[place]))
    return Changed(types[place], error)


def _few(size: int) -> int:
    """Distinct values up to which codes and a codebook of float32 take no more than two bytes an element."""
    return min(256, size // 4)
