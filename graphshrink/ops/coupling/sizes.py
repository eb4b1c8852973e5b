"""Where an element of a vector of sizes comes from: a number that is written down, or the size of some axis."""

from typing import Final, TypeAlias

from graphshrink.ir.graph import Graph
from graphshrink.ir.operator import Operator

Origin: TypeAlias = int | tuple[str, int]
"""A number, or (value, axis)."""

_SAME: Final = ("Cast", "Identity", "Reshape", "Squeeze", "Unsqueeze")
_LONGEST: Final = 64  # operators on the way


def origin_of(graph: Graph, name: str, place: int) -> Origin | None:
    """The origin of one element of a vector, or of a number (whose place is 0); None where it is computed."""
    for _ in range(_LONGEST):
        constant = graph.constant(name)
        if constant is not None:
            return int(constant.array.reshape(-1)[place]) if place < constant.size else None
        number = graph.producer(name)
        if number is None:
            return None
        operator = graph.operator(number)
        if operator.is_a("Shape"):
            return (operator.inputs[0], operator.integer("start", 0) + place)
        step = _step(graph, operator, place)
        if step is None:
            return None
        name, place = step
    return None


def _step(graph: Graph, operator: Operator, place: int) -> tuple[str, int] | None:
    """The value before an operator, and the place in it."""
    if operator.is_a(*_SAME):
        return operator.inputs[0], place
    if operator.is_a("Concat"):
        return _part(graph, operator, place)
    if operator.is_a("Gather") and (indices := graph.constant(operator.inputs[1])) is not None:
        return (operator.inputs[0], int(indices.array.reshape(-1)[place])) if place < indices.size else None
    if operator.is_a("Slice") and len(operator.inputs) == 3:  # of one axis, by steps of 1
        start = graph.constant(operator.inputs[1])
        return None if start is None or int(start.array[0]) < 0 else (operator.inputs[0], place + int(start.array[0]))
    return None


def _part(graph: Graph, operator: Operator, place: int) -> tuple[str, int] | None:
    for name in operator.inputs:
        length = _length(graph, name)
        if length is None:
            return None
        if place < length:
            return name, place
        place -= length
    return None


def _length(graph: Graph, name: str) -> int | None:
    """Of a vector, as far as it is seen at once."""
    constant = graph.constant(name)
    if constant is not None:
        return constant.size
    number = graph.producer(name)
    operator = None if number is None else graph.operator(number)
    if operator is None:
        return None
    if operator.is_a("Unsqueeze"):
        return 1
    if operator.is_a("Gather"):
        indices = graph.constant(operator.inputs[1])
        return None if indices is None or len(indices.dims) != 1 else indices.size
    return None
