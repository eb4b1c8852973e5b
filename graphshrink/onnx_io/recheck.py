"""The first half of the emission check: is what was written what was meant?"""

from pathlib import Path

from graphshrink.errors import InternalError, ModelError
from graphshrink.ir.compare import difference
from graphshrink.ir.graph import Graph
from graphshrink.onnx_io.load import load


def check_written(path: Path, graph: Graph) -> None:
    """Read a file back and compare it with the graph it was made from, encoded weights decoded, bit for bit.

    Raises:
        InternalError: they differ.
    """
    try:
        found = difference(graph, load(path))
    except ModelError as e:
        raise InternalError(f"the written model cannot be read back: {e}") from e
    if found is not None:
        raise InternalError(f"the written model is not the one that was made: {found}")
