"""The gradients of a model's values, from those of its outputs."""

from collections.abc import Iterable, Mapping
from typing import Any, Final

import numpy as np

from graphshrink.ir.extract import dynamic_operators
from graphshrink.ir.operator import Operator
from graphshrink.ir.types import Array
from graphshrink.ops.gradient import contraction, elementwise, moving, reducing
from graphshrink.ops.gradient.base import Node, Rule, Writer, is_floating

RULES: Final[Mapping[str, Rule]] = {**contraction.RULES, **elementwise.RULES, **moving.RULES, **reducing.RULES}
"""Operator of the standard domain -> how the gradient of its result goes back to its inputs."""

_DIVIDING: Final = ("Split",)
_NOTHING: Final[Mapping[int, str]] = {}


def backward(
    writer: Writer,
    starts: Mapping[str, str],
    shapes: Mapping[str, tuple[int, ...]],
    dtypes: Mapping[str, np.dtype[Any]],
    known: Mapping[str, Array],
) -> dict[str, str]:
    """Add the gradients of values to a main graph.

    Args:
        writer: of the graph.
        starts: gradients of outputs, by name.
        shapes: of all values, as they were on one sample.
        dtypes: likewise.
        known: small values that do not depend on the graph's inputs.

    Returns:
        The name of each value's gradient. Values are left out that something else is made of by an operator without a
        rule, since their gradient would be a part of the whole.
    """
    graph = writer.graph
    dynamic = dynamic_operators(graph)
    parts: dict[str, list[str]] = {name: [start] for name, start in starts.items()}
    found: dict[str, str] = {}
    unknown: set[str] = set()
    for number in reversed(graph.order[:]):
        operator = graph.operator(number)
        if number not in dynamic:
            continue
        gradient = _gathered(writer, operator, parts, found)
        lost = not unknown.isdisjoint(operator.outputs)
        if gradient is None and not lost:
            continue  # no output depends on it
        node = Node(graph, operator, shapes, dtypes, known)
        handed = _NOTHING if lost or gradient is None else _handed(writer, node, gradient)
        for name in dict.fromkeys((*operator.inputs, *graph.used_by(number))):
            indices = [index for index, given in enumerate(operator.inputs) if given == name]
            if not name or (indices and not any(node.moves(index) for index in indices)):
                continue
            if indices and all(index in handed for index in indices):
                parts.setdefault(name, []).extend(handed[index] for index in indices)
            else:
                unknown.add(name)
    for info in graph.inputs:
        if parts.get(info.name):
            found[info.name] = _total(writer, parts[info.name])
    return {name: gradient for name, gradient in found.items() if name not in unknown}


def _gathered(writer: Writer, operator: Operator, parts: Mapping[str, list[str]], found: dict[str, str]) -> str | None:
    """The gradient of what an operator makes: of its first output, or of the pieces of Split, put together again."""
    for name in operator.outputs:
        if name and parts.get(name):
            found[name] = _total(writer, parts[name])
    made = [name for name in operator.outputs if name]
    if not any(name in found for name in made):
        return None
    if not operator.is_a(*_DIVIDING):
        return found.get(made[0])
    zero = writer.integers(0)
    pieces = [found.get(name) or writer.add("CastLike", zero, name) for name in made]
    whole = [piece if name in found else writer.spread(piece, name) for name, piece in zip(made, pieces, strict=True)]
    return writer.add("Concat", *whole, axis=operator.integer("axis", 0))


def _handed(writer: Writer, node: Node, gradient: str) -> Mapping[int, str]:
    """What the inputs of an operator get; nothing where there is no rule for it."""
    rule = RULES.get(node.operator.op_type) if node.operator.kind[0] == "" else None
    known = all(name in node.shapes for name in (*node.operator.inputs, *node.operator.outputs[:1]) if name)
    if rule is None or not known or not is_floating(node.dtypes.get(node.y)) or _several(node):
        return _NOTHING
    try:
        return rule(writer, node, gradient)
    except (IndexError, ValueError):  # it is not what it should be
        return _NOTHING


def _several(node: Node) -> bool:
    """Whether more than the first output is used, of an operator whose rule knows of no others."""
    more = node.operator.outputs[1:] if not node.operator.is_a(*_DIVIDING) else ()
    return any(name and node.graph.uses(name) for name in more)


def _total(writer: Writer, parts: Iterable[str]) -> str:
    several = list(parts)
    return several[0] if len(several) == 1 else writer.add("Sum", *several)
