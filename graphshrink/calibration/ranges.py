"""What integer inputs may hold, read off the graph: an index into an embedding must be one of its rows."""

from graphshrink.ir.graph import Graph
from graphshrink.ir.types import TensorType

_FOLLOWED = ("Identity", "Cast", "Reshape", "Squeeze", "Unsqueeze", "Flatten", "Transpose")


def input_ranges(graph: Graph) -> dict[str, tuple[int, int]]:
    """Half-open ranges for the inputs of a main graph that are used as indices into constants."""
    found: dict[str, tuple[int, int]] = {}
    for info in graph.inputs:
        if isinstance(info.type, TensorType):
            limits = list(_limits(graph, info.name))
            if limits:
                found[info.name] = (0, min(limits))
    return found


def _limits(graph: Graph, name: str) -> set[int]:
    """Sizes of the constant axes that a value indexes, directly or after being reshaped."""
    limits: set[int] = set()
    seen = {name}
    stack = [name]
    while stack:
        for number, index in graph.uses(stack.pop()):
            operator = graph.operator(number) if index >= 0 else None
            if operator is None:
                continue
            if operator.is_a("Gather") and index == 1 and (data := graph.constant(operator.inputs[0])) is not None and data.dims:
                limits.add(data.dims[operator.integer("axis", 0)])
            elif operator.is_a(*_FOLLOWED) and index == 0 and operator.outputs[0] not in seen:
                seen.add(operator.outputs[0])
                stack.append(operator.outputs[0])
    return limits
