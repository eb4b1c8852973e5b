"""Where value names stand, and the parts of a graph with other names in them."""

from collections.abc import Iterable, Mapping
from dataclasses import replace

from graphshrink.ir.graph import Graph, Value
from graphshrink.ir.operator import Operator
from graphshrink.ir.tensor import SparseTensor, Tensor
from graphshrink.ir.types import ValueInfo


def named_elsewhere(graph: Graph) -> dict[str, str]:
    """Values that parts of the file beside its graphs compute with, with who does."""
    named: dict[str, str] = {}
    for _, scope in graph.scopes():
        for annotation in scope.annotations:
            named |= {name: "a quantisation annotation names it" for _, name in annotation.parameters}
    for training in graph.header.training if graph.header is not None else ():
        names = {name for pair in (*training.initialization_binding, *training.update_binding) for name in pair}
        for part in (training.initialization, training.algorithm):
            names |= set(part.captured()) if part is not None else set()
        named |= dict.fromkeys(names, "training information names it")
    return named


def fixed_names(graph: Graph) -> set[str]:
    """Values that cannot be renamed, since something that is not rewritten speaks of them.

    These are annotations, training information, and the device placement of operators.
    """
    fixed = set(named_elsewhere(graph))
    for _, scope in graph.scopes():
        fixed.update(annotation.tensor_name or "" for annotation in scope.annotations)
        for _, operator in scope.operators():
            if operator.devices:
                fixed.update((*operator.inputs, *operator.outputs))
    return fixed - {""}


def all_names(graph: Graph) -> set[str]:
    """Every value name in any scope of a model, training information included."""
    graphs = [scope for _, scope in graph.scopes()]
    for training in graph.header.training if graph.header is not None else ():
        parts = [part for part in (training.initialization, training.algorithm) if part is not None]
        graphs += [scope for part in parts for _, scope in part.nested()]
    names: set[str] = set()
    for scope in graphs:
        names.update(value.name for value in scope.values())
        names.update(scope.value_info)
    return names


def renamed(payload: Value | Operator, mapping: Mapping[str, str]) -> Value | Operator:
    """A payload of the graph with its names looked up; those that are not found stay."""
    if isinstance(payload, Operator):
        inputs = tuple(mapping.get(name, name) for name in payload.inputs)
        outputs = tuple(mapping.get(name, name) for name in payload.outputs)
        same = (inputs, outputs) == (payload.inputs, payload.outputs)
        return payload if same else replace(payload, inputs=inputs, outputs=outputs)
    if payload.name not in mapping:
        return payload
    name = mapping[payload.name]
    return Value(name, None if payload.constant is None else named(payload.constant, name))


def renamed_infos(infos: Iterable[ValueInfo], mapping: Mapping[str, str]) -> tuple[ValueInfo, ...]:
    """Declarations under other names."""
    return tuple(replace(info, name=mapping.get(info.name, info.name)) for info in infos)


def named(constant: Tensor | SparseTensor, name: str) -> Tensor | SparseTensor:
    """A constant under another name."""
    if isinstance(constant, Tensor):
        return replace(constant, name=name)
    return replace(constant, values=replace(constant.values, name=name))
