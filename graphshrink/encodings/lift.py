"""Reading encoded weights back: `lift` turns decode subgraphs into the plain weights they compute.

Marked operators are only candidates. What lies above one must be constants and the few operators that decode subgraphs use; anything else
is an ordinary part of the model and stays as it is.
"""

import math
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Final

import numpy as np

from graphshrink.encodings.base import MARK
from graphshrink.errors import ModelError
from graphshrink.ir import edit
from graphshrink.ir.graph import Graph, constant_of
from graphshrink.ir.operator import Attribute, AttributeType, Operator
from graphshrink.ir.tensor import DTYPES, tensor_of
from graphshrink.ir.types import Array

_MAX_GROWTH: Final = 4096  # bytes computed for each byte stored: far above any encoding, far below a bomb


def _slice(operator: Operator, inputs: list[Array]) -> Array:
    if len(inputs) > 1:
        starts, ends, axes = (tuple(map(int, part)) for part in inputs[1:4])
    else:
        starts, ends, axes = (operator.integers(name) or () for name in ("starts", "ends", "axes"))
    cut = [slice(None)] * inputs[0].ndim
    for axis, start, end in zip(axes, starts, ends, strict=True):
        cut[axis] = slice(start, end)
    return inputs[0][tuple(cut)]


_MAX_STEPS: Final = 1000  # a decode subgraph has some tens of operators; a diamond of diamonds has 2^n paths

# What decode subgraphs may consist of, in NumPy.
_OPERATORS: Final[Mapping[str, Callable[[Operator, list[Array]], Array]]] = {
    "Add": lambda _, inputs: inputs[0] + inputs[1],
    "Cast": lambda operator, inputs: inputs[0].astype(DTYPES[operator.integer("to", 0)]),
    "Gather": lambda operator, inputs: np.take(inputs[0], inputs[1], axis=operator.integer("axis", 0)),
    "Reshape": lambda _, inputs: inputs[0].reshape(tuple(map(int, inputs[1]))),
    "Slice": _slice,
    "Transpose": lambda operator, inputs: np.ascontiguousarray(inputs[0].transpose(operator.integers("perm"))),
}


@dataclass(frozen=True, slots=True)
class Lifted:
    """A weight that was found in encoded form."""

    graph: Graph
    name: str
    encoding: str


def lift(graph: Graph) -> list[Lifted]:
    """Turn every decode subgraph of a model into a plain weight of the same name; the graph is changed in place.

    Raises:
        ModelError: a decode subgraph is damaged and computes no tensor.
    """
    return [lifted for _, scope in graph.scopes() for lifted in _lift_scope(scope)]


def _lift_scope(scope: Graph) -> list[Lifted]:
    marked = [number for number, operator in scope.operators() if (operator.name or "").startswith(MARK)]
    found = {number: parts for number in marked if (parts := _parts(scope, number)) is not None}
    if not found:
        return []
    positions = {value.name: index for index, value in enumerate(scope.initializers())}
    operators = {number: scope.operator(number) for number in found}
    arrays = {number: _evaluate(scope, number, parts) for number, parts in found.items()}
    # The last of its own constants stands where the weight stood; shared ones come earlier.
    anchors = {
        number: max((name for part in parts for name in scope.operator(part).inputs if name in positions), key=positions.__getitem__, default=None)
        for number, parts in found.items()
    }
    edit.remove_operators(scope, found)
    for index, (number, operator) in enumerate(operators.items()):
        tensor = tensor_of(arrays[number], operator.outputs[0])
        if anchors[number] is not None:
            edit.add_initializer(scope, tensor, before=anchors[number])
        else:
            held = Attribute("value", AttributeType.TENSOR, tensor)
            edit.add_operator(scope, Operator("Constant", (), operator.outputs).with_attribute(held), index)
    _remove_unused(scope, {part for parts in found.values() for part in parts} - found.keys(), operators.values())
    return [Lifted(scope, operator.outputs[0], (operator.name or "").removeprefix(MARK).partition("/")[0]) for operator in operators.values()]


def _parts(scope: Graph, number: int) -> list[int] | None:
    """Numbers of the operators of a decode subgraph, each after those it needs; None if this is none."""
    parts: dict[int, None] = {}
    stack = [number]
    for _ in range(_MAX_STEPS):
        if not stack:
            return list(reversed(parts))
        at = stack.pop()
        parts.pop(at, None)
        parts[at] = None
        operator = scope.operator(at)
        if constant_of(operator) is not None:
            continue
        if not operator.is_a(*_OPERATORS) or len(operator.outputs) != 1:
            return None
        for name in operator.inputs:
            producer = scope.producer(name) if name in scope else None
            if producer is not None:
                stack.append(producer)
            elif scope.constant(name) is None:
                return None
    return None


def _evaluate(scope: Graph, number: int, parts: list[int]) -> Array:
    known: dict[str, Array] = {}
    name = scope.operator(number).outputs[0]
    budget = 1 << 16
    for part in parts:
        operator = scope.operator(part)
        for needed in operator.inputs:
            if needed not in known and (tensor := scope.constant(needed)) is not None:
                known[needed] = tensor.array
                budget += _MAX_GROWTH * tensor.nbytes
        try:
            known[operator.outputs[0]] = _compute(operator, [known[needed] for needed in operator.inputs], budget)
        except (IndexError, ValueError, KeyError, TypeError, OverflowError) as e:
            raise ModelError(f"encoded weight {name!r} is damaged: its {operator.op_type} fails ({e}); get the file again") from e
    return known[name]


def _compute(operator: Operator, inputs: list[Array], budget: int) -> Array:
    held = constant_of(operator)
    if held is not None:
        return held.array
    if operator.op_type in _GROWING and _GROWING[operator.op_type](operator, inputs) > budget:
        raise ValueError("the result would be absurdly large")
    return _OPERATORS[operator.op_type](operator, inputs)


def _gathered(operator: Operator, inputs: list[Array]) -> int:
    return inputs[0].nbytes // max(1, inputs[0].shape[operator.integer("axis", 0)]) * inputs[1].size


def _added(operator: Operator, inputs: list[Array]) -> int:
    return math.prod(np.broadcast_shapes(inputs[0].shape, inputs[1].shape)) * inputs[0].itemsize


# Operators whose result can be much larger than what goes in: its bytes.
_GROWING: Final[Mapping[str, Callable[[Operator, list[Array]], int]]] = {"Gather": _gathered, "Add": _added}


def _remove_unused(scope: Graph, parts: set[int], lifted: Iterable[Operator]) -> None:
    """Drop the operators and constants that only decode subgraphs used."""
    outputs = {info.name for info in scope.outputs}
    candidates = {name for operator in lifted for name in operator.inputs}
    dead: set[int] = set()
    for number in reversed(scope.order):
        operator = scope.operator(number) if number in parts else None
        if operator is None or any(name in outputs or any(use.operator not in dead for use in scope.uses(name)) for name in operator.outputs):
            continue
        dead.add(number)
        candidates.update(operator.inputs)
    edit.remove_operators(scope, dead)
    unused = [v.name for v in scope.initializers() if v.name in candidates and not scope.uses(v.name) and v.name not in outputs]
    for name in unused:
        edit.remove_initializer(scope, name)
