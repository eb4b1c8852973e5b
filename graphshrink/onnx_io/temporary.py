"""Model files that exist for a moment, so that a judge can look at a graph."""

import tempfile
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

from graphshrink.ir.graph import Graph
from graphshrink.ir.weight import constants
from graphshrink.onnx_io.emit import save
from graphshrink.onnx_io.runtime import TEMPORARY

_EXTERNAL_FROM: Final = 50_000_000  # bytes of weights


@contextmanager
def written(graph: Graph) -> Generator[Path]:
    """A graph as a model file that exists for a moment; large weights go beside it, which takes no copy in memory."""
    with tempfile.TemporaryDirectory(prefix=TEMPORARY) as folder:
        path = Path(folder) / "model.onnx"
        save(graph, path, external=_is_large(graph), durable=False)
        yield path


def _is_large(graph: Graph) -> bool:
    sizes = (tensor.nbytes for _, scope in graph.scopes() for _, tensor in constants(scope))
    return sum(sizes) > _EXTERNAL_FROM
