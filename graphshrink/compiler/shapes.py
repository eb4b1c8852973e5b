"""Shapes of values in a model and in what passes make of it, for the figures of a report."""

from dataclasses import dataclass

from graphshrink.ir.graph import Graph
from graphshrink.ir.weight import weights
from graphshrink.metrics.macs import Known
from graphshrink.onnx_io.runtime import Runtime
from graphshrink.onnx_io.shapes import known_shapes
from graphshrink.onnx_io.temporary import written


@dataclass(frozen=True, slots=True)
class Shapes:
    """Shapes of the values of a model, and of what passes make of it, by the names that values had in the file.

    Attributes:
        runtime: infers shapes.
        graph: the model as it came.
        known: of its values.
    """

    runtime: Runtime
    graph: Graph
    known: Known

    def of(self, graph: Graph) -> Known:
        """The same, unless a pass made weights narrower."""
        before = {weight.label: weight.tensor.dims for weight in weights(self.graph)}
        if all(before.get(weight.label, weight.tensor.dims) == weight.tensor.dims for weight in weights(graph)):
            return self.known
        with written(graph) as path:
            return {graph.original_name(name): dims for name, dims in known_shapes(self.runtime, path).items()}
