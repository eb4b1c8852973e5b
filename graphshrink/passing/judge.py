"""What the manager asks after every pass: how far is this graph from the original?"""

import math
import tempfile
from collections.abc import Generator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final

from graphshrink.calibration.samples import Samples
from graphshrink.ir.graph import Graph
from graphshrink.ir.weight import constants
from graphshrink.onnx_io.emit import save
from graphshrink.verify import Original, Verdict, some

_EXTERNAL_FROM: Final = 50_000_000  # bytes of weights


@dataclass(frozen=True, slots=True)
class Judge:
    """Judges graphs by their outputs on held-out samples.

    Attributes:
        original: the model to compare with.
        fit: samples that passes may fit to.
        held_out: samples that only judge.
        bound: the largest error allowed; None when errors are reported and bound nothing.
        random: whether the samples were made up.
        description: where the samples came from.
    """

    original: Original
    fit: Samples
    held_out: Samples
    bound: float | None
    random: bool = False
    description: str = ""

    def error(self, graph: Graph) -> float:
        """The worst output error of a graph with its weights plain, on the held-out samples.

        Raises:
            JudgeError: the graph does not run.
        """
        with written(graph) as path:
            return self.original.compare(path, self.held_out).worst

    def probing(self, count: int) -> "Judge":
        """The same judge with a few of the held-out samples, for looking at many graphs."""
        return replace(self, held_out=some(self.held_out, count))

    def verdicts(self, path: Path) -> tuple[Verdict, Verdict]:
        """A written model on the samples to fit and on those held out."""
        held_out = self.original.compare(path, self.held_out)
        return (held_out if self.fit is self.held_out else self.original.compare(path, self.fit)), held_out

    def allows(self, error: float) -> bool:
        """Whether an error is finite and within the bound."""
        return math.isfinite(error) and (self.bound is None or error <= self.bound)


@contextmanager
def written(graph: Graph) -> Generator[Path]:
    """A graph as a model file that exists for a moment; large weights go beside it, which takes no copy in memory."""
    with tempfile.TemporaryDirectory(prefix="graphshrink-") as folder:
        path = Path(folder) / "model.onnx"
        save(graph, path, external=_is_large(graph), durable=False)
        yield path


def _is_large(graph: Graph) -> bool:
    sizes = (tensor.nbytes for _, scope in graph.scopes() for _, tensor in constants(scope))
    return sum(sizes) > _EXTERNAL_FROM
