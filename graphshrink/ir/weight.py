"""Weights: the constants of a model, each with every use it has.

A tensor that is used twice is one Weight with two uses, also when a use lies in a nested graph, in a model-local
function, or behind operators that only move or retype it:

    embedding ──▶ Gather                        Weight("embedding", uses=[Gather.0,
        └──▶ Transpose ──▶ MatMul        ⇒                               MatMul.1 via (Transpose,)])
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final, TypeAlias

from graphshrink.ir.graph import CAPTURE, Function, Graph, constant_of
from graphshrink.ir.naming import named_elsewhere
from graphshrink.ir.operator import Operator
from graphshrink.ir.tensor import T, Tensor, filled_tensor
from graphshrink.ir.types import Array

_MAX_RANK: Final = 64  # NumPy's

TRANSPARENT: Final = (
    "Identity",
    "Transpose",
    "Cast",
    "Reshape",
    "Squeeze",
    "Unsqueeze",
    "Flatten",
    "Slice",
    "Split",
    "Concat",
)
"""Operators that move or retype elements, so that a constant behind them is still the same weight."""


@dataclass(frozen=True, slots=True)
class WeightUse:
    """A use by an operator that computes: `operator` takes the weight as input `index` after the operators in `via`."""

    graph: Graph
    number: int
    index: int
    via: tuple[Operator, ...] = ()

    @property
    def operator(self) -> Operator:
        """The operator that uses the weight."""
        return self.graph.operator(self.number)

    @property
    def operator_name(self) -> str | None:
        """What the file calls that operator."""
        return self.graph.original_operator_name(self.number)


_Step: TypeAlias = WeightUse | tuple[Graph, str, tuple[Operator, ...]]
"""A use that was found, or a value yet to be followed, after the operators that lie behind."""


@dataclass(frozen=True, slots=True)
class Weight:
    """A dense constant of the model and where it is used.

    Attributes:
        graph: the scope that holds it.
        name: its value name in that scope.
        label: name unique in the model, for reports and for include and exclude patterns; made of the name that the
            weight has in the file, also where it was renamed since.
        tensor: its contents.
        uses: what computes with it.
        exposed: why its value is visible from outside (and must not change), or None.
    """

    graph: Graph
    name: str
    label: str
    tensor: Tensor
    uses: tuple[WeightUse, ...]
    exposed: str | None

    @property
    def array(self) -> Array:
        """The values, read-only."""
        return self.tensor.array

    @property
    def names(self) -> tuple[str, ...]:
        """What the file calls it, its label first, and the operators that use it."""
        return (self.label, self.graph.original_name(self.name), *(use.operator_name or "" for use in self.uses))

    @property
    def operator_types(self) -> tuple[str, ...]:
        """Types of the operators that use it."""
        return tuple(use.operator.op_type for use in self.uses)


def label_of(path: str, scope: Graph, name: str) -> str:
    """The label of a constant in the scope at `path`; see `Weight`."""
    original = scope.original_name(name)
    return f"{path}/{original}" if path else original


def weights(graph: Graph) -> list[Weight]:
    """All dense constants of a model in file order.

    Initializers come first, then Constant operators, then what ConstantOfShape makes of a constant shape; then those of
    nested graphs and of functions.
    """
    functions = {f.key: f for f in graph.header.functions} if graph.header is not None else {}
    named = named_elsewhere(graph)
    found: list[Weight] = []
    for path, scope in graph.scopes():
        for name, tensor in (*constants(scope), *filled(scope)):
            label = label_of(path, scope, name)
            uses, exposed = _trace(scope, name, functions)
            if name in named:
                exposed = named[name]
            found.append(Weight(scope, name, label, tensor, uses, exposed or overridable(scope, name)))
    return found


def constants(graph: Graph) -> Iterator[tuple[str, Tensor]]:
    """The dense constants of one scope by name: initializers, then outputs of Constant operators, in file order."""
    for value in graph.initializers():
        if isinstance(value.constant, Tensor):
            yield value.name, value.constant
    for _, operator in graph.operators():
        if (tensor := constant_of(operator)) is not None and operator.outputs and operator.outputs[0]:
            yield operator.outputs[0], tensor


def filled(graph: Graph) -> Iterator[tuple[str, Tensor]]:
    """What ConstantOfShape operators of one scope make of constant shapes, by name, in file order."""
    for _, operator in graph.operators():
        if not operator.is_a("ConstantOfShape") or len(operator.inputs) != 1 or not operator.outputs:
            continue
        shape = graph.constant(operator.inputs[0])
        if shape is None or shape.elem_type != T.INT64 or shape.size > _MAX_RANK or len(shape.dims) != 1:
            continue
        value = operator.attributes.get("value")
        held = value.value if value is not None else None
        if overridable(graph, operator.inputs[0]) is not None or not (held is None or isinstance(held, Tensor)):
            continue
        if (tensor := filled_tensor(operator.outputs[0], held, tuple(map(int, shape.array)))) is not None:
            yield operator.outputs[0], tensor


def overridable(graph: Graph, name: str) -> str | None:
    """Initializers that are inputs can be overridden, except below IR version 4, where all had to be listed."""
    header = graph.root.header
    if header is not None and (header.ir_version or 0) < 4:
        return None
    overridable = any(info.name == name for info in graph.inputs)
    return "the caller may override it (it is also an input)" if overridable else None


def _trace(
    graph: Graph, name: str, functions: dict[tuple[str, str, str], Function]
) -> tuple[tuple[WeightUse, ...], str | None]:
    """Follow a constant through bodies, calls and transparent operators to the operators that compute with it."""
    uses: list[WeightUse] = []
    exposed: str | None = None
    stack: list[_Step] = [(graph, name, ())]
    seen: set[tuple[int, str]] = set()  # a function may be called twice, or call itself
    while stack:
        item = stack.pop()
        if isinstance(item, WeightUse):
            uses.append(item)
            continue
        scope, value, via = item
        if (id(scope), value) in seen:
            continue
        seen.add((id(scope), value))
        if any(info.name == value for info in scope.outputs):
            exposed = "it is an output of its graph"
        found: list[_Step] = []
        for number, index in scope.uses(value):
            operator = scope.operator(number)
            if index == CAPTURE:
                found.extend((body, value, via) for _, body in operator.subgraphs() if body.captures(value))
            elif (called := functions.get((*operator.kind, operator.overload or ""))) is not None:
                if index < len(called.inputs) and called.inputs[index] in called.body:
                    found.append((called.body, called.inputs[index], via))
            elif operator.is_a(*TRANSPARENT) and (index == 0 or operator.op_type == "Concat"):
                found.extend((scope, output, (*via, operator)) for output in operator.outputs if output)
            else:
                found.append(WeightUse(scope, number, index, via))
        stack.extend(reversed(found))
    return tuple(uses), exposed
