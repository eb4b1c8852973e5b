"""The first half of the emission check: is what was written what was meant?"""

from pathlib import Path

import numpy as np

from graphshrink.encodings import Lifted, lift
from graphshrink.errors import InternalError, ModelError
from graphshrink.ir.check import check
from graphshrink.ir.compare import difference
from graphshrink.ir.graph import Graph
from graphshrink.ir.types import Array
from graphshrink.ir.weight import constants
from graphshrink.onnx_io.load import load_as_stored


def check_written(path: Path, graph: Graph) -> list[Lifted]:
    """Read a file back and compare it with the graph it was made from, encoded weights decoded, bit for bit.

    Returns:
        The weights that are encoded, and what it costs to decode them.

    Raises:
        InternalError: they differ.
    """
    meant = {(place, name): tensor for place, scope in graph.scopes() for name, tensor in constants(scope)}

    def intern(place: str, name: str, array: Array) -> Array:
        """The array that was meant, where the decoded one equals it: one decoded weight at a time is in memory."""
        tensor = meant.get((place, name))
        if tensor is None or tensor.dims != array.shape:
            return array
        known = tensor.array
        equal = known.dtype == array.dtype and np.array_equal(_bytes(known), _bytes(array))
        return known if equal else array

    try:
        again = load_as_stored(path)
        lifted = lift(again, intern)
        check(again)
    except ModelError as e:
        raise InternalError(f"the written model cannot be read back: {e}") from e
    found = difference(graph, again)
    if found is not None:
        raise InternalError(f"the written model is not the one that was made: {found}")
    return lifted


def _bytes(array: Array) -> Array:
    return np.ascontiguousarray(array).reshape(-1).view(np.uint8)
