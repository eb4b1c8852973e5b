"""Scales and shifts behind a layer as part of its weights and bias, and constants as those who use them see them."""

import itertools
from collections.abc import Collection
from dataclasses import dataclass, replace
from typing import Final

import numpy as np

from graphshrink.ir import edit
from graphshrink.ir.graph import CAPTURE, Graph, constant_of
from graphshrink.ir.naming import all_names
from graphshrink.ir.operator import Operator
from graphshrink.ir.tensor import FilledData, T
from graphshrink.ir.types import Array
from graphshrink.ir.weight import Weight, overridable
from graphshrink.ops.affine import Affine, affine
from graphshrink.ops.coupling.surgery import add_constant
from graphshrink.ops.following import Following, beginning, channel_vector, steps
from graphshrink.ops.moving import moved

_WITH_BIAS: Final = ("Conv", "ConvTranspose", "Gemm")
_LAYERS: Final = (*_WITH_BIAS, "MatMul")
_TYPES: Final = (T.FLOAT, T.DOUBLE)  # in shorter ones a product that is rounded once more would show
_MOVES: Final = ("Flatten", "Identity", "Reshape", "Squeeze", "Transpose", "Unsqueeze")


@dataclass(frozen=True, slots=True)
class Foldable:
    """A layer with operators behind it that can become part of it.

    Attributes:
        weight, layer: of it.
        behind: the operators.
        following: what they and the layer's own bias make of its output.
    """

    weight: Weight
    layer: Affine
    behind: tuple[int, ...]
    following: Following

    @property
    def kinds(self) -> list[str]:
        """Types of the operators that go."""
        kinds = [self.layer.use.graph.operator(number).op_type for number in self.behind]
        if self._adds and "Add" in kinds:
            kinds.remove("Add")  # one stays, or comes
        return kinds

    @property
    def _adds(self) -> bool:
        """Whether the bias has to be added by an operator of its own."""
        return self.layer.use.operator.op_type not in _WITH_BIAS and bool(self.following.shifts)


def foldable(graph: Graph, weight: Weight, stay: Collection[str] = ()) -> Foldable | None:
    """What can be folded into the layer of a weight; None if nothing can.

    Args:
        graph: a main graph.
        weight: of it.
        stay: names of constants that are not to be touched, and of values that something else speaks of.
    """
    if len(weight.uses) != 1 or weight.exposed is not None or weight.tensor.elem_type not in _TYPES:
        return None
    if isinstance(weight.tensor.data, FilledData) or not weight.uses[0].operator.is_a(*_LAYERS):
        return None
    layer = affine(weight, weight.uses[0])
    if isinstance(layer, str) or layer.use.graph is not graph:
        return None
    form, is_matrix = layer.form, layer.use.operator.is_a("Gemm", "MatMul")
    found, behind = beginning(graph, layer), list[int]()
    if (is_matrix and form.channel_axis != -1) or found.skips or _is_held(graph, layer.use.operator.inputs[2:], stay):
        return None  # a bias of all places, or what is not ours to change
    rank = 1 if form.rank is None else form.rank  # a vector times a matrix has one axis
    for number, further in steps(graph, form, found):
        inputs = graph.operator(number).inputs
        if further.skips or found.end in stay or _is_held(graph, inputs, stay) or _most_axes(graph, inputs) > rank:
            break
        found = further
        behind.append(number)
    made = Foldable(weight, layer, tuple(behind), found)
    return made if len(made.kinds) > 0 else None


def _is_held(graph: Graph, names: Collection[str], stay: Collection[str]) -> bool:
    """Whether some of the constants among values may be changed by callers, or are not to be touched."""
    return any(
        name in stay or overridable(graph, name) is not None for name in names if graph.constant(name) is not None
    )


def _most_axes(graph: Graph, names: Collection[str]) -> int:
    return max((len(tensor.dims) for name in names if (tensor := graph.constant(name)) is not None), default=0)


def fold(graph: Graph, found: Foldable) -> bool:
    """Put what is behind a layer into it; False, and nothing changed, where numbers would not be finite.

    Args:
        graph: the main graph.
        found: the layer.
    """
    form, following, use = found.layer.form, found.following, found.layer.use
    dtype = found.weight.array.dtype
    with np.errstate(over="ignore", invalid="ignore"):  # what is not finite is looked for
        matrix = found.layer.matrix(found.weight.array.astype(np.float64)) * form.channels(following.scale)[:, None, :]
        stored = found.layer.stored(matrix).astype(dtype)
        shifts = [term.factor * channel_vector(graph, form, term.name) for term in following.shifts]
        bias = np.sum(shifts, axis=0, initial=0.0).astype(dtype) if shifts else None
    if not np.isfinite(stored).all() or (bias is not None and not np.isfinite(bias).all()):
        return False
    operators = [use.operator, *map(graph.operator, found.behind)]
    name = None if bias is None else _held(graph, bias, found)
    _set(graph, found.weight.name, stored)
    _rewired(graph, found, name)
    drop_unused(graph, {name for operator in operators for name in operator.inputs})
    return True


def _held(graph: Graph, bias: Array, found: Foldable) -> str:
    """Where the new bias is: in the place of one that the layer had for itself, or in a new constant."""
    numbers = {found.layer.use.number, *found.behind}
    for name, _ in found.following.shifts:
        is_ours = all(use.operator in numbers and use.input != CAPTURE for use in graph.uses(name))
        if is_ours and _may_hold(graph, name, bias.shape) and _comes_first(graph, name, found.layer.use.number):
            _set(graph, name, bias)
            return name
    taken = all_names(graph)
    name = next(name for number in itertools.count() if (name := f"bias_{number}") not in taken)
    add_constant(graph, bias, name)
    return name


def _comes_first(graph: Graph, name: str, number: int) -> bool:
    """Whether a constant stands before an operator in the file, as what the operator uses has to."""
    producer = graph.producer(name)
    return producer is None or graph.order.index(producer) < graph.order.index(number)


def _may_hold(graph: Graph, name: str, dims: tuple[int, ...]) -> bool:
    """Whether a constant may get another shape: what is declared for callers to see stays as it is."""
    if any(info.name == name for info in graph.outputs):
        return False
    tensor = graph.constant(name)
    is_input = any(info.name == name for info in graph.inputs)  # below IR version 4 all initializers are
    return tensor is not None and (tensor.dims == dims or not is_input)


def _set(graph: Graph, name: str, array: Array) -> None:
    """Give a constant other elements, and if need be another shape, which is declared nowhere then."""
    tensor = graph.constant(name)
    assert tensor is not None
    edit.set_constant(graph, name, tensor.with_array(array))
    if tensor.dims != array.shape:
        edit.set_value_info(graph, [info for info in graph.value_info.values() if info.name != name])


def _rewired(graph: Graph, found: Foldable, bias: str | None) -> None:
    use, end = found.layer.use, found.following.end
    operator = use.operator
    if operator.op_type not in _WITH_BIAS and bias is not None:
        last = found.behind[-1]
        edit.remove_operators(graph, found.behind[:-1])
        edit.replace_operator(graph, last, Operator("Add", (operator.outputs[0], bias), (end,)))
        return
    edit.remove_operators(graph, found.behind)
    inputs = operator.inputs[:2] if bias is None else (*operator.inputs[:2], bias)
    attributes = {name: held for name, held in operator.attributes.items() if name != "beta"}
    edit.replace_operator(graph, use.number, replace(operator, inputs=inputs, outputs=(end,), attributes=attributes))


@dataclass(frozen=True, slots=True)
class Movable:
    """A constant that its one user sees behind operators that only move it.

    Attributes:
        weight: the constant.
        seen: its array as it is seen.
        between: the operators.
    """

    weight: Weight
    seen: Array
    between: tuple[int, ...]

    @property
    def kinds(self) -> list[str]:
        """Types of the operators that go."""
        return [operator.op_type for operator in self.weight.uses[0].via]


def movable(graph: Graph, weight: Weight, stay: Collection[str] = ()) -> Movable | None:
    """What can be moved of a constant of a main graph; None if nothing can, or it is to stay."""
    if weight.name in stay or weight.exposed is not None or isinstance(weight.tensor.data, FilledData):
        return None
    if len(weight.uses) != 1:
        return None
    [use] = weight.uses
    if use.graph is not graph or not use.via or not all(operator.is_a(*_MOVES) for operator in use.via):
        return None
    way = moved(weight, use)
    between = [graph.producer(operator.outputs[0]) for operator in use.via if operator.outputs[0] in graph]
    known = tuple(number for number in between if number is not None)
    if isinstance(way, str) or len(known) < len(use.via) or not _may_hold(graph, weight.name, way.seen):
        return None
    return Movable(weight, way.forth(weight.array), known)


def move(graph: Graph, found: Movable) -> None:
    """Store a constant as its user sees it."""
    weight, [use] = found.weight, found.weight.uses
    _set(graph, weight.name, found.seen)
    inputs = [weight.name if index == use.index else name for index, name in enumerate(use.operator.inputs)]
    edit.replace_operator(graph, use.number, replace(use.operator, inputs=tuple(inputs)))
    edit.remove_operators(graph, found.between)
    drop_unused(graph, {name for operator in use.via for name in operator.inputs} - {weight.name})


def drop_unused(graph: Graph, names: Collection[str]) -> None:
    """Take out those of some constants that nobody uses any more, but for what callers see."""
    seen = {info.name for info in (*graph.inputs, *graph.outputs)}
    for name in sorted(set(names) - seen - {""}):
        if name not in graph or graph.uses(name) or graph.constant(name) is None:
            continue
        producer = graph.producer(name)
        if producer is None:
            edit.remove_initializer(graph, name)
        elif constant_of(graph.operator(producer)) is not None:
            edit.remove_operators(graph, [producer])
