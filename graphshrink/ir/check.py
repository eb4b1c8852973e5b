"""check(graph): the invariants that every load and every pass must leave intact."""

from collections.abc import Iterable, Iterator
from typing import Any

import networkx as nx

from graphshrink.errors import ModelError
from graphshrink.ir.graph import Graph
from graphshrink.ir.types import TensorType


def check(graph: Graph) -> None:
    """Check a main graph, its nested graphs and its functions.

    Raises:
        ModelError: the graph has a cycle, a name nobody produces, a repeated input, or a constant whose shape
            contradicts its declaration.
    """
    for problem in problems(graph):
        raise ModelError(problem)


def problems(graph: Graph) -> Iterator[str]:
    """Every broken invariant as one line."""
    for path, scope in graph.scopes():
        where = f"in {path}: " if path else ""
        for rule in (_dangling, _repeated_inputs, _cycles, _contradictions):
            for problem in rule(scope):
                yield where + problem


def _dangling(graph: Graph) -> Iterator[str]:
    if graph.owner is not None:  # what a body lacks is looked up in its owner, at last in the main graph
        return
    outputs = {info.name for info in graph.outputs}
    for name in graph.captured():
        uses = graph.uses(name)
        if uses:
            operator = graph.operator(uses[0].operator)
            yield f"{operator.op_type} {operator.name or '(unnamed)'!r} uses value {name!r}, which nothing produces"
        elif name in outputs:
            yield f"output {name!r} is produced by nothing"


def _repeated_inputs(graph: Graph) -> Iterator[str]:
    seen: set[str] = set()
    for info in graph.inputs:
        if info.name in seen:
            yield f"input {info.name!r} is declared twice"
        seen.add(info.name)


def _cycles(graph: Graph) -> Iterator[str]:
    if nx.is_directed_acyclic_graph(graph.net):
        return
    algorithms: Any = nx  # its stubs leave find_cycle untyped
    cycle: Iterable[tuple[str | int, str | int, int]] = algorithms.find_cycle(graph.net)
    number = next(source for source, _, _ in cycle if isinstance(source, int))
    yield f"{graph.operator(number).op_type} with outputs {list(graph.operator(number).outputs)} depends on itself"


def _contradictions(graph: Graph) -> Iterator[str]:
    for info in (*graph.inputs, *graph.outputs, *graph.value_info.values()):
        if not isinstance(info.type, TensorType) or info.dims is None:
            continue
        constant = graph.constant(info.name)
        if constant is None:
            continue
        agree = len(constant.dims) == len(info.dims) and all(
            have == said for have, said in zip(constant.dims, info.dims, strict=True) if isinstance(said, int)
        )
        if not agree:
            yield f"constant {info.name!r} has shape {list(constant.dims)} but is declared as {list(info.dims)}"
