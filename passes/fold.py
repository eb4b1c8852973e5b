"""fold: what runtimes compute of constants when they load a model is computed now, and not stored."""

from collections import Counter
from collections.abc import Callable, Collection
from dataclasses import dataclass
from typing import ClassVar, TypeVar

from graphshrink.ir import edit
from graphshrink.ir.graph import Graph
from graphshrink.ir.naming import fixed_names
from graphshrink.ir.weight import Weight, weights
from graphshrink.onnx_io.emit import plain_bytes
from graphshrink.ops.folding import fold, foldable, movable, move
from graphshrink.passing.base import Context, Pass, PassResult

T = TypeVar("T")


@dataclass(frozen=True)
class Fold(Pass):
    """Fold normalisation, scales and shifts behind a layer into its weights and bias.

    Given:  Conv (x, W) -> BatchNormalization (gain, offset, mean, variance) -> Add (bias) -> Relu
    Result: Conv (x, W', b') -> Relu

    1. Behind Conv, ConvTranspose, Gemm and MatMul: BatchNormalization, and Add, Sub, Mul and Div by constants with one
       number for each output channel; Identity, Dropout (Jacob et al. 2018, arXiv:1712.05877, section 3.2).
    2. Reshape, Transpose, Squeeze, Unsqueeze, Flatten and Identity of a constant, where one operator uses it.
    3. Outputs differ by rounding: numbers are computed in float64. Layers of float16 stay, where that would show.
    4. Weights that several operators use, that callers may override, or that are not selected stay, and so does what
       stands before a layer.
    """

    name: ClassVar[str] = "fold"
    buys: ClassVar[str] = "disk"
    on_weights: ClassVar[bool] = False

    def run(self, graph: Graph, context: Context) -> PassResult:
        """Fold in the main graph; nested graphs and functions stay."""
        size = plain_bytes(graph)
        known = {value.name for value in graph.values()}
        gone: Counter[str] = Counter()
        for constant in _found(movable, graph, context):
            gone.update(constant.kinds)
            move(graph, constant)
        layers = 0
        for layer in _found(foldable, graph, context):
            kinds = layer.kinds
            if fold(graph, layer):
                gone.update(kinds)
                layers += 1
        declared = [info for name, info in graph.value_info.items() if name in graph or name not in known]
        edit.set_value_info(graph, declared)
        left = sum(operator.is_a("BatchNormalization") for _, operator in graph.operators())
        kept = [f"{left} BatchNormalization that no layer's output alone goes to"] if left else []
        if not gone:
            return PassResult(kept=[*kept, "all operators: none behind a layer or a constant could go"])
        what = ", ".join(f"{count} {kind}" for kind, count in gone.most_common())
        return PassResult(
            graph=[f"folded {what}, {layers} layers with new weights: {size - plain_bytes(graph):,} bytes"], kept=kept
        )


def _found(look: Callable[[Graph, Weight, Collection[str]], T | None], graph: Graph, context: Context) -> list[T]:
    """What can be done, of all weights; none of it stands in the way of the rest."""
    here = [weight for weight in weights(graph) if weight.graph is graph]
    stay = {weight.name for weight in here if context.selection.refuses(weight) is not None} | fixed_names(graph)
    return [found for weight in here if weight.name not in stay and (found := look(graph, weight, stay)) is not None]
