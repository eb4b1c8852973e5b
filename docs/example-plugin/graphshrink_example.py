"""flush-small: weights close to zero become zero."""

from dataclasses import dataclass, replace
from typing import ClassVar, Self

import numpy as np

from graphshrink import Changed, Context, Graph, Pass, PassResult, UsageError
from graphshrink.ir import edit


@dataclass(frozen=True)
class FlushSmall(Pass):
    """Set weights to zero that are small beside the largest one of their layer.

    Attributes:
        below: share of the largest magnitude, 0 to 1.
    """

    name: ClassVar[str] = "flush-small"
    buys: ClassVar[str] = "disk, when zeros are packed"
    below: float = 0.01

    def __post_init__(self) -> None:
        if not 0 <= self.below <= 1:
            raise UsageError(f"flush-small: below={self.below} is outside 0 to 1")

    def gentler(self) -> Self | None:
        """Half as much, down to a thousandth."""
        return replace(self, below=self.below / 2) if self.below > 0.001 else None

    def run(self, graph: Graph, context: Context) -> PassResult:
        """Flush every weight of the model that may be changed."""
        layers, result = context.layers(graph, self)
        for weight, settings in layers:
            old = weight.array
            small = np.abs(old) < settings.below * np.abs(old).max()
            new = np.where(small, np.zeros_like(old), old)
            edit.set_constant(weight.graph, weight.name, weight.tensor.with_array(new))
            error = float(np.linalg.norm(new - old) / max(1e-30, float(np.linalg.norm(old))))
            result.layers[weight.label] = Changed(f"{small.mean():.1%} of the weights are zero now", error)
        return result
