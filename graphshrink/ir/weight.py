"""Weights: the constants of a model, each with every use it has.

A tensor that is used twice is one Weight with two uses, also when a use lies in a nested graph, in a model-local function, or behind
operators that only move or retype it:

    embedding ──▶ Gather                        Weight("embedding", uses=[Gather.0,
        └──▶ Transpose ──▶ MatMul        ⇒                               MatMul.1 via (Transpose,)])
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

from graphshrink.ir.graph import CAPTURE, Function, Graph, constant_of
from graphshrink.ir.operator import Operator
from graphshrink.ir.tensor import Tensor
from graphshrink.ir.types import Array

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


@dataclass(frozen=True, slots=True)
class Weight:
    """A dense constant of the model and where it is used.

    Attributes:
        graph: the scope that holds it.
        name: its value name in that scope.
        label: name unique in the model, for reports and for include and exclude patterns.
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


def weights(graph: Graph) -> list[Weight]:
    """All dense constants of a model in file order: initializers first, then Constant operators; nested graphs and functions after."""
    functions = {f.key: f for f in graph.header.functions} if graph.header is not None else {}
    found: list[Weight] = []
    for path, scope in graph.scopes():
        for name, tensor in constants(scope):
            uses, exposed = _trace(scope, name, functions)
            found.append(
                Weight(
                    scope, name, f"{path}/{name}" if path else name, tensor, uses, exposed or _overridable(scope, name)
                )
            )
    return found


def constants(graph: Graph) -> Iterator[tuple[str, Tensor]]:
    """The dense constants of one scope by value name: initializers, then the outputs of Constant operators, in file order."""
    for value in graph.initializers():
        if isinstance(value.constant, Tensor):
            yield value.name, value.constant
    for _, operator in graph.operators():
        if (tensor := constant_of(operator)) is not None and operator.outputs:
            yield operator.outputs[0], tensor


def _overridable(graph: Graph, name: str) -> str | None:
    """Initializers that are inputs can be overridden by the caller, except below IR version 4, where all had to be listed."""
    header = graph.header
    if header is not None and (header.ir_version or 0) < 4:
        return None
    return (
        "the caller may override it (it is also an input)" if any(info.name == name for info in graph.inputs) else None
    )


def _trace(
    graph: Graph, name: str, functions: dict[tuple[str, str, str], Function]
) -> tuple[tuple[WeightUse, ...], str | None]:
    """Follow a constant through bodies, function calls and transparent operators to the operators that compute with it."""
    uses: list[WeightUse] = []
    exposed: str | None = None
    stack: list[tuple[Graph, str, tuple[Operator, ...]]] = [(graph, name, ())]
    seen: set[tuple[int, str]] = set()  # a function may be called twice, or call itself
    while stack:
        scope, value, via = stack.pop()
        if (id(scope), value) in seen:
            continue
        seen.add((id(scope), value))
        if any(info.name == value for info in scope.outputs):
            exposed = "it is an output of its graph"
        for number, index in reversed(scope.uses(value)):
            operator = scope.operator(number)
            if index == CAPTURE:
                stack.extend((body, value, via) for _, body in operator.subgraphs() if value in body.captured())
            elif operator.is_a(*TRANSPARENT) and (index == 0 or operator.op_type == "Concat"):
                stack.extend((scope, output, (*via, operator)) for output in operator.outputs if output)
            elif (
                called := functions.get((operator.domain or "", operator.op_type, operator.overload or ""))
            ) is not None:
                if index < len(called.inputs) and called.inputs[index] in called.body:
                    stack.append((called.body, called.inputs[index], via))
            else:
                uses.append(WeightUse(scope, number, index, via))
    return tuple(uses), exposed
