"""Reading encoded weights back: `lift` turns decode subgraphs into the plain weights they compute.

Marked operators are only candidates. What lies above one must be constants and the few operators that decode subgraphs
use, in the forms in which they use them; anything else is an ordinary part of the model and stays as it is. Operators
are computed once each, in file order, so that no subgraph can cost more than its length.
"""

import math
import re
from collections import Counter
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Final, NamedTuple, TypeAlias

import numpy as np

from graphshrink.encodings.base import MARK
from graphshrink.errors import ModelError
from graphshrink.ir import edit
from graphshrink.ir.graph import Graph, constant_of
from graphshrink.ir.operator import Attribute, AttributeType, Operator
from graphshrink.ir.tensor import DTYPES, ELEM_TYPES, StringData, T, Tensor, tensor_of
from graphshrink.ir.types import Array

# Bytes computed, intermediate ones included, for each byte stored: far above any encoding, far below a bomb.
_MAX_GROWTH: Final = 256
_MARKED: Final = re.compile(rf"{MARK}([a-z0-9-]+)/\w+", re.ASCII)  # "gs:codebook/gs7"
_SMALL_CHANGE: Final = 1 << 16


@dataclass(frozen=True, slots=True)
class Lifted:
    """A weight that was found in encoded form."""

    graph: Graph
    name: str
    encoding: str


Intern: TypeAlias = Callable[[str, str, Array], Array]
"""Given the path of a scope, a name and the decoded weight: the array to keep, an equal one that exists already."""

_Keep: TypeAlias = Callable[[str, Array], Array]


def lift(graph: Graph, intern: Intern = lambda path, name, array: array) -> list[Lifted]:
    """Turn every decode subgraph of a model into a plain weight of the same name; the graph is changed in place.

    Args:
        graph: a main graph.
        intern: may give an equal array for a decoded one, so that large models need not be in memory twice.

    Raises:
        ModelError: a decode subgraph is damaged and computes no tensor.
    """
    return [lifted for path, scope in graph.scopes() for lifted in _lift_scope(scope, partial(intern, path))]


def _lift_scope(scope: Graph, keep: _Keep) -> list[Lifted]:
    marked = _marked(scope)
    if not marked:
        return []
    needed = _needed(scope, marked)
    decoded = _decode(scope, needed, marked, keep)
    anchors = _anchors(scope, needed)
    operators = {number: scope.operator(number) for number in needed if scope.operator(number).outputs[0] in decoded}
    edit.remove_operators(scope, operators)
    for index, operator in enumerate(operators.values()):
        name = operator.outputs[0]
        plain = tensor_of(decoded[name], name)
        tensor = Tensor(name, plain.elem_type, plain.dims, plain.data, operator.doc, operator.metadata)
        if anchors[name] is not None:
            edit.add_initializer(scope, tensor, before=anchors[name])
        else:
            held = Attribute("value", AttributeType.TENSOR, tensor)
            edit.add_operator(scope, Operator("Constant", (), operator.outputs).with_attribute(held), index)
    _remove_unused(scope, [number for number in needed if number not in operators], operators.values())
    return [Lifted(scope, name, marked[name]) for name in decoded]


def _marked(scope: Graph) -> dict[str, str]:
    """Values that bear the mark of an encoding, known or a plug-in's, with its name; outputs are no weights."""
    outputs = {info.name for info in scope.outputs}
    found: dict[str, str] = {}
    for _, operator in scope.operators():
        mark = _MARKED.fullmatch(operator.name or "")
        if mark is not None and len(operator.outputs) == 1:
            found[operator.outputs[0]] = mark[1]
    return {name: encoding for name, encoding in found.items() if name and name not in outputs}


def _needed(scope: Graph, marked: Collection[str]) -> list[int]:
    """The operators from which marked values are computed, in file order, if constants are all they need."""
    overridable = {info.name for info in scope.inputs}
    constants = {v.name for v in scope.initializers() if isinstance(v.constant, Tensor) and v.name not in overridable}
    candidates: list[tuple[int, Operator]] = []
    for number, operator in scope.operators():
        held = constant_of(operator) is not None or (
            operator.is_a(*_RULES) and bool(operator.inputs) and constants.issuperset(operator.inputs)
        )
        if held and len(operator.outputs) == 1:
            constants.add(operator.outputs[0])
            candidates.append((number, operator))
    wanted = set(marked)
    needed: list[int] = []
    for number, operator in reversed(candidates):
        if operator.outputs[0] in wanted:
            needed.append(number)
            wanted.update(operator.inputs)
    return needed[::-1]


def _decode(scope: Graph, needed: Sequence[int], marked: Collection[str], keep: _Keep) -> dict[str, Array]:
    """The marked values that can be computed, in file order."""
    operators = [scope.operator(number) for number in needed]
    tensors = _constants(scope, operators)
    budget = _SMALL_CHANGE + _MAX_GROWTH * sum(tensor.nbytes for tensor in tensors.values())
    uses = Counter(name for operator in operators for name in operator.inputs)
    known: dict[str, Array] = {}
    for operator in operators:
        if not operator.inputs:
            continue
        inputs = [
            known[name] if name in known else tensors[name].array
            for name in operator.inputs
            if name in known or name in tensors
        ]
        if len(inputs) == len(operator.inputs):
            array, spent = _compute(operator, inputs, budget)
            budget -= spent
            name = operator.outputs[0]
            if array is not None:
                known[name] = keep(name, array) if name in marked else array
        uses.subtract(operator.inputs)
        for name in {name for name in operator.inputs if uses[name] == 0 and name not in marked}:
            known.pop(name, None)
    return {name: known[name] for operator in operators if (name := operator.outputs[0]) in known and name in marked}


def _constants(scope: Graph, operators: Iterable[Operator]) -> dict[str, Tensor]:
    """The constants among the inputs of operators. Texts are none: they have no bits."""
    found: dict[str, Tensor] = {}
    for name in {name: None for operator in operators for name in operator.inputs}:
        tensor = scope.constant(name)
        if tensor is not None and not isinstance(tensor.data, StringData):
            found[name] = tensor
    return found


def _compute(operator: Operator, inputs: list[Array], budget: int) -> tuple[Array | None, int]:
    """What an operator computes, None if no decode subgraph uses it in this form; and how many bytes that takes."""
    rule = _RULES[operator.op_type]
    problem: Exception | None = None
    try:
        size = rule.bytes(operator, inputs)
        if size <= budget:
            return rule.compute(operator, inputs), size
    except (IndexError, ValueError, TypeError, OverflowError, MemoryError) as e:
        problem = e
    place = f"{operator.op_type} {operator.name or ''!r} with output {operator.outputs[0]!r}"
    reason = "the result would be absurdly large" if problem is None else problem
    raise ModelError(f"an encoded weight is damaged: {place} fails ({reason}); get the file again") from problem


def _anchors(scope: Graph, needed: Iterable[int]) -> dict[str, str | None]:
    """For each value, the last of the initializers it is computed from.

    There the weight stood; those that it shares with others come earlier.
    """
    names = [value.name for value in scope.initializers()]
    positions = {name: index for index, name in enumerate(names)}
    for number in needed:
        operator = scope.operator(number)
        positions[operator.outputs[0]] = max((positions.get(name, -1) for name in operator.inputs), default=-1)
    return {name: names[at] if at >= 0 else None for name, at in positions.items()}


def _remove_unused(scope: Graph, numbers: Sequence[int], lifted: Collection[Operator]) -> None:
    """Drop the operators and constants that only decode subgraphs used."""
    outputs = {info.name for info in scope.outputs}
    candidates = {name for operator in lifted for name in operator.inputs}
    dead: set[int] = set()
    for number in reversed(numbers):
        operator = scope.operator(number)
        name = operator.outputs[0]
        if name in candidates and name not in outputs and all(use.operator in dead for use in scope.uses(name)):
            dead.add(number)
            candidates.update(operator.inputs)
    edit.remove_operators(scope, dead)
    unused = [v.name for v in scope.initializers() if v.name in candidates - outputs and not scope.uses(v.name)]
    for name in unused:
        edit.remove_initializer(scope, name)


# ---- what decode subgraphs may consist of, in NumPy


class _Rule(NamedTuple):
    """How an operator computes, None where it is used in a form that no decode subgraph has; and the bytes it takes."""

    compute: Callable[[Operator, list[Array]], Array | None]
    bytes: Callable[[Operator, list[Array]], int]


def _add(operator: Operator, inputs: list[Array]) -> Array | None:
    if len(inputs) != 2 or {array.dtype for array in inputs} != {np.dtype(np.int32)}:
        return None
    total: Array = inputs[0] + inputs[1]
    return total


def _added(operator: Operator, inputs: list[Array]) -> int:
    shape: tuple[int, ...] = np.broadcast_shapes(*(array.shape for array in inputs))
    return math.prod(shape) * inputs[0].itemsize


def _cast(operator: Operator, inputs: list[Array]) -> Array | None:
    to = operator.integer("to", 0)
    if to not in _CASTS.get(ELEM_TYPES[inputs[0].dtype], ()):
        return None
    with np.errstate(invalid="ignore"):
        if to != T.INT32 and np.isnan(inputs[0]).any():  # runtimes do not agree on what it becomes
            return None
    return inputs[0].astype(DTYPES[to])


def _casted(operator: Operator, inputs: list[Array]) -> int:
    to = DTYPES.get(operator.integer("to", 0))
    return 0 if to is None else to.itemsize * inputs[0].size


def _gather(operator: Operator, inputs: list[Array]) -> Array | None:
    if len(inputs) != 2 or inputs[1].dtype != np.int32:
        return None
    taken: Array = np.take(inputs[0], inputs[1], axis=operator.integer("axis", 0))
    return taken


def _gathered(operator: Operator, inputs: list[Array]) -> int:
    rows = inputs[0].shape[operator.integer("axis", 0)]
    each: int = inputs[0].nbytes // max(1, rows)
    return each * inputs[-1].size


def _reshape(operator: Operator, inputs: list[Array]) -> Array | None:
    if len(inputs) != 2 or inputs[1].dtype != np.int64 or inputs[1].ndim != 1 or (inputs[1] <= 0).any():
        return None
    return inputs[0].reshape(tuple(map(int, inputs[1])))


def _slice(operator: Operator, inputs: list[Array]) -> Array | None:
    if len(inputs) not in (1, 4) or any(part.dtype != np.int64 or part.ndim != 1 for part in inputs[1:]):
        return None
    stated = (operator.integers(name) or () for name in ("starts", "ends", "axes"))
    starts, ends, axes = (tuple(map(int, part)) for part in inputs[1:]) if len(inputs) == 4 else stated
    if not len(starts) == len(ends) == len(axes) or min((*starts, *ends, *axes), default=-1) < 0:
        return None
    cut = [slice(None)] * inputs[0].ndim
    for axis, start, end in zip(axes, starts, ends, strict=True):
        cut[axis] = slice(start, end)
    return inputs[0][tuple(cut)]


def _transpose(operator: Operator, inputs: list[Array]) -> Array | None:
    order = operator.integers("perm")
    return None if order is None else np.ascontiguousarray(inputs[0].transpose(order))


def _nothing(operator: Operator, inputs: list[Array]) -> int:
    return 0


def _the_same(operator: Operator, inputs: list[Array]) -> int:
    return inputs[0].nbytes


# The types between which decode subgraphs cast: codes become indices, and short floating types wide ones.
_CASTS: Final[Mapping[int, tuple[int, ...]]] = {
    T.UINT8: (T.INT32,),
    T.FLOAT16: (T.FLOAT, T.DOUBLE),
    T.BFLOAT16: (T.FLOAT, T.DOUBLE),
    T.FLOAT: (T.DOUBLE,),
}

_RULES: Final[Mapping[str, _Rule]] = {
    "Add": _Rule(_add, _added),
    "Cast": _Rule(_cast, _casted),
    "Gather": _Rule(_gather, _gathered),
    "Reshape": _Rule(_reshape, _nothing),
    "Slice": _Rule(_slice, _nothing),
    "Transpose": _Rule(_transpose, _the_same),
}
