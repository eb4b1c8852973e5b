"""pack: weights stay as they are, and what structure they have already makes the file smaller."""

from dataclasses import dataclass
from typing import ClassVar

from graphshrink.encodings import Policy, Stored, encode_graph
from graphshrink.ir.graph import Graph
from graphshrink.ir.tensor import FilledData
from graphshrink.ir.weight import Weight, weights
from graphshrink.passing.base import Context, Found, Outcome, Pass, PassResult, Skipped


@dataclass(frozen=True)
class Pack(Pass):
    """Change nothing, and let the encodings find what structure the weights have.

    Given:  W = [0.1 0.1 -0.5 | 0.1 -0.5 -0.5]    that another tool has clustered, as six float32 numbers
    Result: W = [0.1 0.1 -0.5 | 0.1 -0.5 -0.5]    the same numbers, stored as 6 bits and 2 values

    1. Few distinct values, values that a shorter type holds exactly, tensors that repeat others: see docs/format.md.
    2. What the encodings would store is found by letting them do it on a copy; the file is written the same way.
    3. A weight in which they find nothing that saves bytes is left alone, and the report says so.
    """

    name: ClassVar[str] = "pack"
    buys: ClassVar[str] = "disk"
    on_parameters: ClassVar[bool] = True

    def refuses(self, weight: Weight, policy: Policy) -> str | None:
        """Weights that are empty or filled with one value; all of them where everything is to be stored plainly."""
        if policy == "plain":
            return "everything is to be stored plainly"
        if weight.tensor.size == 0:
            return "empty"
        if isinstance(weight.tensor.data, FilledData):
            return "one value, which ConstantOfShape fills it with"
        return None

    def run(self, graph: Graph, context: Context) -> PassResult:
        """Encode a copy, and tell how each weight came out."""
        layers, result = context.layers(graph, self)
        wanted = {layer.weight.label for layer in layers}
        trial = graph.copy()
        chosen = [weight for weight in weights(trial) if weight.label in wanted]
        context.progress(self.name, 0, 1)
        for stored in encode_graph(trial, chosen, context.storage):
            result.layers[stored.label] = _outcome(stored)
        return result


def _outcome(stored: Stored) -> Outcome:
    if stored.encoding == "plain":
        return Skipped("no structure that would save bytes")
    return Found(f"{stored.encoding}, {stored.plain_bytes:,} -> {stored.stored_bytes:,} bytes")
