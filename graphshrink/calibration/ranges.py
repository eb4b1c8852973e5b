"""What integer inputs may hold, read off the graph: an index into an embedding must be one of its rows."""

from collections.abc import Iterator
from typing import Final

from graphshrink.ir.graph import CAPTURE, Graph
from graphshrink.ir.operator import Operator
from graphshrink.ir.types import TensorType

# Operators that only move or retype elements: what they give out are indices still.
_FOLLOWED: Final = (
    "Identity",
    "Cast",
    "Reshape",
    "Squeeze",
    "Unsqueeze",
    "Flatten",
    "Transpose",
    "Slice",
    "Expand",
    "Tile",
)


def input_ranges(graph: Graph) -> dict[str, tuple[int, int]]:
    """Half-open ranges for the inputs of a main graph that are used as indices into constants."""
    found: dict[str, tuple[int, int]] = {}
    for info in graph.inputs:
        if isinstance(info.type, TensorType):
            limits = list(_limits(graph, info.name))
            if limits:
                found[info.name] = (0, min(limits))
    return found


def _limits(graph: Graph, name: str) -> Iterator[int]:
    """Sizes of the constant axes that a value indexes, directly or after being moved, also inside bodies."""
    stack = [(graph, name)]
    seen = {(id(graph), name)}
    while stack:
        scope, value = stack.pop()
        for number, index in scope.uses(value):
            operator = scope.operator(number)
            following: list[tuple[Graph, str]] = []
            if index == CAPTURE:
                following = [(body, value) for _, body in operator.subgraphs() if value in body.captured()]
            elif operator.is_a("Gather") and index == 1:
                yield from _rows(scope, operator)
            elif operator.is_a(*_FOLLOWED) and index == 0:
                following = [(scope, output) for output in operator.outputs if output]
            stack += [place for place in following if (id(place[0]), place[1]) not in seen]
            seen.update((id(body), inner) for body, inner in following)


def _rows(scope: Graph, gather: Operator) -> Iterator[int]:
    """The size of the axis that a Gather picks from, if it is known and not empty."""
    data = _constant(scope, gather.inputs[0])
    axis = gather.integer("axis", 0)
    if data is not None and -len(data) <= axis < len(data) and data[axis] > 0:
        yield data[axis]


def _constant(scope: Graph, name: str) -> tuple[int, ...] | None:
    """The shape of a constant, also of one that an outer scope holds."""
    graph: Graph | None = scope
    while graph is not None:
        tensor = graph.constant(name)
        if tensor is not None:
            return tensor.dims
        graph = graph.owner[0] if graph.owner is not None else None
    return None
