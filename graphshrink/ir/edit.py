"""The only functions that change a graph.

Each leaves it with one source a value, edges that match the operators, and captures that match the bodies; what would
break this is an InternalError, and the graph stays as it was.
"""

# The one friend of Graph's private parts.
# pyright: reportPrivateUsage=false

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from types import MappingProxyType
from typing import Any

import networkx as nx

from graphshrink.errors import InternalError
from graphshrink.ir.graph import CAPTURE, Function, Graph, Value, constant_of
from graphshrink.ir.naming import fixed_names, named, renamed, renamed_infos
from graphshrink.ir.operator import Attribute, AttributeType, Operator
from graphshrink.ir.tensor import SparseTensor, Tensor
from graphshrink.ir.types import ValueInfo


def set_inputs(graph: Graph, inputs: Iterable[ValueInfo]) -> None:
    """Declare the inputs of a graph. An input with an initializer of the same name is its default."""
    new = tuple(inputs)
    for info in new:
        if info.name in graph and graph.producer(info.name) is not None:
            raise InternalError(f"input {info.name!r} is also the output of an operator")
    old, graph._inputs = graph._inputs, new
    graph._input_names = frozenset(info.name for info in new)
    _declared(graph, old, new)


def set_outputs(graph: Graph, outputs: Iterable[ValueInfo]) -> None:
    """Declare the outputs of a graph."""
    old, graph._outputs = graph._outputs, tuple(outputs)
    _declared(graph, old, graph._outputs)


def set_value_info(graph: Graph, infos: Iterable[ValueInfo]) -> None:
    """Replace the declarations of inner values."""
    graph._value_info = {info.name: info for info in infos}


def set_doc(described: Graph | Function, doc: str | None) -> None:
    """Give a graph or a function another doc string, or none."""
    described.doc = doc


def add_operator(graph: Graph, operator: Operator, position: int | None = None) -> int:
    """Insert an operator, at the end or at a position in file order; returns its number."""
    _expect_free_outputs(graph, operator)
    number = graph._next_operator
    graph._next_operator += 1
    graph._net.add_node(number, payload=operator)
    graph._order.insert(len(graph._order) if position is None else position, number)
    _connect(graph, number, operator)
    _refresh_captures(graph)
    return number


def add_operators(graph: Graph, operators: Sequence[Operator], position: int) -> list[int]:
    """Insert several operators in a row; returns their numbers."""
    return [add_operator(graph, operator, position + offset) for offset, operator in enumerate(operators)]


def remove_operators(graph: Graph, numbers: Iterable[int]) -> None:
    """Take operators out. Their outputs stay as names while somebody uses or declares them."""
    gone = set(numbers)
    touched = {name for number in gone for name in (*graph._net.pred[number], *graph._net.succ[number])}
    for number in gone:
        _disown(graph, number)
    graph._net.remove_nodes_from(gone)
    graph._order = [number for number in graph._order if number not in gone]
    for number in gone:
        graph._origin.pop(number, None)
    _drop_unused_names(graph, touched)
    _refresh_captures(graph)


def replace_operator(graph: Graph, number: int, operator: Operator) -> None:
    """Put another operator in the place of one; nested graphs it holds become its own."""
    _expect_free_outputs(graph, operator, number)
    _disown(graph, number)
    touched = {*graph._net.pred[number], *graph._net.succ[number]}
    graph._net.remove_edges_from([*graph._net.in_edges(number, keys=True), *graph._net.out_edges(number, keys=True)])
    graph._net.nodes[number]["payload"] = operator
    _connect(graph, number, operator)
    _drop_unused_names(graph, touched)
    _refresh_captures(graph)


def describe_operator(graph: Graph, number: int, operator: Operator) -> None:
    """Put another operator in the place of one from which it differs in texts alone: names, doc strings, metadata."""
    old, first_name = graph.operator(number), graph.original_operator_name(number)
    if _meaning(old) != _meaning(operator):
        raise InternalError(f"{old.op_type} with outputs {list(old.outputs)} would not only be described differently")
    graph._net.nodes[number]["payload"] = operator
    _remember(graph, number, first_name, operator.name)


def rename_values(whole: Graph | Function, mapping: Mapping[str, str]) -> None:
    """Rename values wherever they stand in a main graph or a function, the graphs nested in it included.

    A name means the same value in every scope or is hidden by an inner one; both stay true, as all scopes are renamed
    alike and no two names become one. Names may be swapped; names that do not occur are ignored. The graph remembers
    what values were called first: see `Graph.original_name`.
    """
    graph = whole.body if isinstance(whole, Function) else whole
    if isinstance(whole, Graph) and (whole.header is None or whole.owner is not None):
        raise InternalError("values are renamed in a main graph or in a function as a whole")
    scopes = [(scope, _names_in(scope)) for _, scope in graph.nested()]
    known = {name for _, names in scopes for name in names}
    new = {name: mapping[name] for name in known if mapping.get(name, name) != name}
    _expect_renamable(graph, known, new)
    for scope, names in scopes:
        if not new.keys().isdisjoint(names):
            _rename_in_scope(scope, new)
    if isinstance(whole, Function):
        whole.inputs = tuple(new.get(name, name) for name in whole.inputs)
        whole.outputs = tuple(new.get(name, name) for name in whole.outputs)


def add_functions(graph: Graph, functions: Sequence[Function], domain: str) -> None:
    """Give a model functions of a domain, which is imported if it is not yet."""
    if graph.header is None:
        raise InternalError("functions belong to the main graph")
    known = {function.key for function in graph.header.functions}
    if twice := [function.name for function in functions if function.key in known]:
        raise InternalError(f"function {twice[0]!r} is there already")
    graph.header.functions = [*graph.header.functions, *functions]
    if all(imported != domain for imported, _ in graph.opsets):
        graph.opsets = (*graph.opsets, (domain, 1))


def drop_functions(graph: Graph, domain: str) -> None:
    """Take the functions of a domain from a model, and its import, if nothing outside of them calls them."""
    if graph.header is None:
        raise InternalError("functions belong to the main graph")
    inside = {id(function.body) for function in graph.header.functions if function.domain == domain}
    for _, scope in graph.scopes():
        if id(scope.root) not in inside and any(operator.domain == domain for _, operator in scope.operators()):
            return
    graph.header.functions = [function for function in graph.header.functions if function.domain != domain]
    graph.opsets = tuple(imported for imported in graph.opsets if imported[0] != domain)


def add_initializer(graph: Graph, constant: Tensor | SparseTensor, *, before: str | None = None) -> None:
    """Add an initializer, last or before another one; its name must not have a source yet, except an input."""
    name = constant.name
    if not name:
        raise InternalError("an initializer has no name")
    if name in graph._constants:
        raise InternalError(f"initializer {name!r} exists already")
    if name in graph and graph.producer(name) is not None:
        raise InternalError(f"initializer {name!r} is also the output of an operator")
    graph._net.nodes[_ensure_value(graph, name)]["payload"] = Value(name, constant)
    if before is None:
        graph._constants[name] = None
    else:
        keys = list(graph._constants)
        keys.insert(keys.index(before), name)
        graph._constants = dict.fromkeys(keys)
    _refresh_captures(graph)


def remove_initializer(graph: Graph, name: str) -> None:
    """Take an initializer out, and the graph input of the same name with it."""
    del graph._constants[name]
    graph._net.nodes[name]["payload"] = Value(name)
    if name in graph._input_names:
        graph._inputs = tuple(info for info in graph._inputs if info.name != name)
        graph._input_names -= {name}
    _drop_unused_names(graph, {name})
    _refresh_captures(graph)


def set_constant(graph: Graph, name: str, constant: Tensor | SparseTensor) -> None:
    """Give an initializer, or the Constant or ConstantOfShape behind a value, another tensor."""
    if name in graph._constants:
        graph._net.nodes[name]["payload"] = Value(name, named(constant, name))
        return
    number = graph.producer(name)
    if number is not None and isinstance(constant, Tensor) and graph.operator(number).is_a("ConstantOfShape"):
        attributes = MappingProxyType({"value": Attribute("value", AttributeType.TENSOR, constant)})
        instead = replace(graph.operator(number), op_type="Constant", inputs=(), attributes=attributes)
        replace_operator(graph, number, instead)
        return
    if number is None or constant_of(graph.operator(number)) is None or isinstance(constant, SparseTensor):
        raise InternalError(f"value {name!r} is not a constant, or not of this kind")
    operator = graph.operator(number)
    held = Attribute("value", AttributeType.TENSOR, constant, doc=operator.attributes["value"].doc)
    graph._net.nodes[number]["payload"] = operator.with_attribute(held)


def _meaning(operator: Operator) -> tuple[object, ...]:
    """What an operator is apart from its texts. Attributes by identity, where they are graphs."""
    bodies = [(label, id(body)) for label, body in operator.subgraphs()]
    return (operator.kind, operator.overload, operator.inputs, operator.outputs, list(operator.attributes), bodies)


def _expect_renamable(graph: Graph, known: set[str], mapping: Mapping[str, str]) -> None:
    new = set(mapping.values())
    clash = new & (known - mapping.keys())
    if clash or len(new) != len(mapping) or "" in new:
        raise InternalError(f"two values would have one name, or one would have none: {sorted(clash)[:3]}")
    fixed = fixed_names(graph) & (mapping.keys() | new)
    if fixed:
        raise InternalError(f"values {sorted(fixed)[:3]} are spoken of where they cannot be renamed")


def _names_in(graph: Graph) -> set[str]:
    return {value.name for value in graph.values()} | graph._value_info.keys()


def _rename_in_scope(graph: Graph, mapping: Mapping[str, str]) -> None:
    here = {value.name: mapping[value.name] for value in graph.values() if value.name in mapping}
    first_names = {new: graph.original_name(name) for name, new in here.items()}
    for name in here:
        graph._origin.pop(name, None)
    for name, first in first_names.items():
        _remember(graph, name, first, name)
    net: nx.MultiDiGraph[Any] = nx.MultiDiGraph()
    for key, held in graph._net.nodes.items():
        net.add_node(mapping.get(key, key), payload=renamed(held["payload"], mapping))
    for source, target, key in graph._net.edges(keys=True):
        net.add_edge(mapping.get(source, source), mapping.get(target, target), key=key)
    graph._net = net
    graph._inputs, graph._outputs = renamed_infos(graph._inputs, mapping), renamed_infos(graph._outputs, mapping)
    graph._input_names = frozenset(info.name for info in graph._inputs)
    set_value_info(graph, renamed_infos(graph._value_info.values(), mapping))
    graph._constants = {mapping.get(name, name): None for name in graph._constants}


def _remember(graph: Graph, key: str | int, first: str | None, now: str | None) -> None:
    """Keep the first name that a value or an operator had, as long as it has another one."""
    graph._origin.pop(key, None)
    if first and first != now:
        graph._origin[key] = first


def _expect_free_outputs(graph: Graph, operator: Operator, instead_of: int | None = None) -> None:
    named = [name for name in operator.outputs if name]
    for name in named:
        producer = graph.producer(name) if name in graph else None
        taken = producer is not None and producer != instead_of
        if taken or name in graph._constants or name in graph._input_names:
            raise InternalError(f"value {name!r} would have two producers")
    if len(named) > 1 and len(set(named)) != len(named):
        raise InternalError(f"{operator.op_type} would produce one value twice: {list(operator.outputs)}")


def _disown(graph: Graph, number: int) -> None:
    """Let go of the bodies of an operator that leaves the graph."""
    operator = graph.operator(number)
    if not operator.attributes:
        return
    for _, body in operator.subgraphs():
        if body.owner == (graph, number):
            body.owner = None


def _declared(graph: Graph, old: Iterable[ValueInfo], new: Iterable[ValueInfo]) -> None:
    for info in new:
        _ensure_value(graph, info.name)
    _drop_unused_names(graph, {info.name for info in old})
    _refresh_captures(graph)


def _ensure_value(graph: Graph, name: str) -> str:
    if name not in graph._net:
        graph._net.add_node(name, payload=Value(name))
    return name


def _connect(graph: Graph, number: int, operator: Operator) -> None:
    for index, name in enumerate(operator.inputs):
        if name:
            graph._net.add_edge(_ensure_value(graph, name), number, key=index)
    for index, name in enumerate(operator.outputs):
        if name:
            graph._net.add_edge(number, _ensure_value(graph, name), key=index)
    if not operator.attributes:
        return
    for _, body in operator.subgraphs():
        body.owner = (graph, number)
        for name in body.captured():
            graph._net.add_edge(_ensure_value(graph, name), number, key=CAPTURE)


def _refresh_captures(graph: Graph) -> None:
    """Make the capture edges of the operators around `graph` match what it captures now."""
    while graph.owner is not None:
        outer, number = graph.owner
        wanted = {name for _, body in outer.operator(number).subgraphs() for name in body.captured()}
        present: set[str] = {name for name, _, key in outer._net.in_edges(number, keys=True) if key == CAPTURE}
        if wanted == present:
            return
        for name in present - wanted:
            outer._net.remove_edge(name, number, CAPTURE)
        for name in sorted(wanted - present):
            outer._net.add_edge(_ensure_value(outer, name), number, key=CAPTURE)
        _drop_unused_names(outer, present - wanted)
        graph = outer


def _drop_unused_names(graph: Graph, names: set[str]) -> None:
    """Forget names that have neither source nor use nor declaration any more."""
    candidates = [n for n in names if n in graph._net and not graph._net.pred[n] and not graph._net.succ[n]]
    if not candidates:
        return
    declared = graph._input_names | {info.name for info in graph._outputs} | graph._constants.keys()
    for name in candidates:
        if name not in declared:
            graph._net.remove_node(name)
            graph._value_info.pop(name, None)
            graph._origin.pop(name, None)
