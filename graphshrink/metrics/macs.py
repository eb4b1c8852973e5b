"""Multiply-accumulates of one inference."""

from collections.abc import Mapping

from graphshrink.ir.graph import Graph
from graphshrink.ir.operator import Operator
from graphshrink.ir.types import Dim
from graphshrink.ops import rule_of
from graphshrink.ops.base import Shape, Shapes

Known = Mapping[str, tuple[Dim, ...]]
"""Shapes by the names that values have in the file."""


def macs(graph: Graph, shapes: Known) -> dict[int, int]:
    """MACs of every operator of one scope that has any, by operator number.

    Symbolic sizes count as 1, and so does -1, which older exporters write for them; operators with unknown shapes are
    left out.
    """
    found = {
        number: count
        for number, operator in graph.operators()
        if (count := operator_macs(graph, operator, shapes)) is not None
    }
    return {number: count for number, count in found.items() if count > 0}


def shapes_in(graph: Graph, shapes: Known) -> Known:
    """What is known of shapes in a scope, given those of the main graph; elsewhere the same names mean other values."""
    return shapes if graph.header is not None else {}


def operator_macs(graph: Graph, operator: Operator, shapes: Known) -> int | None:
    """MACs of one operator; None where it is not known to have any, or a shape is missing."""
    rule = rule_of(operator)
    if rule is None:
        return None
    return rule.macs(operator, _shapes(graph, operator.inputs, shapes), _shapes(graph, operator.outputs, shapes))


def _shapes(graph: Graph, names: tuple[str, ...], shapes: Known) -> Shapes:
    """At least three, so that rules need not ask whether a broken model has that many inputs."""
    return [_shape(graph, name, shapes) for name in (*names, "", "", "")]


def _shape(graph: Graph, name: str, shapes: Known) -> Shape | None:
    tensor = graph.constant(name) if name else None
    dims = tensor.dims if tensor is not None else shapes.get(graph.original_name(name))
    return None if dims is None else tuple(d if isinstance(d, int) and d >= 0 else 1 for d in dims)
