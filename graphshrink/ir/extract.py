"""Parts of a main graph, as models of their own: the operators between some of its values."""

from collections.abc import Collection, Iterable, Iterator

from graphshrink.errors import InternalError
from graphshrink.ir import edit
from graphshrink.ir.graph import Graph, Header
from graphshrink.ir.types import TensorType, Type, ValueInfo

_WITHOUT_INPUTS = 4  # IR version from which initializers need not be inputs


def extract(graph: Graph, given: Iterable[ValueInfo], wanted: Iterable[str]) -> Graph:
    """The part of a main graph that computes some values from others.

    Args:
        graph: a main graph; not changed.
        given: declarations of the values that the part may take as inputs; it has those that it needs.
        wanted: names of the values to compute, the outputs of the part.

    Raises:
        InternalError: a value is needed that is neither given nor computed nor constant.
    """
    header = graph.header
    if header is None:
        raise InternalError("parts are taken of main graphs alone")
    declared = {info.name: info for info in given}
    names = list(wanted)
    numbers = operators_behind(graph, names, declared)
    version = max(header.ir_version or _WITHOUT_INPUTS, _WITHOUT_INPUTS)
    part = Graph(
        graph.name,
        header=Header(version, functions=list(header.functions), configuration=header.configuration),
    )
    part.opsets = graph.opsets
    leaves = dict.fromkeys(_leaves(graph, numbers, names, declared))
    edit.set_inputs(part, (declared[name] for name in leaves if name in declared))
    for name in leaves:
        constant = graph.value(name).constant
        if name not in declared and constant is None:
            raise InternalError(f"value {name!r} is needed, and neither given nor computed")
        if name not in declared and constant is not None:
            edit.add_initializer(part, constant)
    for number, operator in graph.operators():
        if number in numbers:
            edit.add_operator(part, operator.with_bodies(Graph.copy))
    edit.set_outputs(part, (ValueInfo(name, _without_shape(graph.type_of(name))) for name in names))
    return part


def operators_behind(graph: Graph, wanted: Iterable[str], given: Collection[str]) -> set[int]:
    """Numbers of the operators that compute some values, as far as others are not given."""
    found: set[int] = set()
    pending = [name for name in wanted if name not in given]
    while pending:
        number = graph.producer(pending.pop())
        if number is None or number in found:
            continue
        found.add(number)
        pending += [name for name in graph.used_by(number) if name not in given]
    return found


def fed_inputs(graph: Graph) -> tuple[ValueInfo, ...]:
    """The inputs that have no default."""
    return tuple(info for info in graph.inputs if graph.value(info.name).constant is None)


def dynamic_operators(graph: Graph) -> set[int]:
    """Numbers of the operators whose results depend on the inputs of the graph; all others only retell constants."""
    dynamic = {info.name for info in fed_inputs(graph)}
    found: set[int] = set()
    for number, operator in graph.operators():
        if not dynamic.isdisjoint(graph.used_by(number)):
            found.add(number)
            dynamic.update(operator.outputs)
    return found


def _leaves(graph: Graph, numbers: set[int], wanted: Iterable[str], given: Collection[str]) -> Iterator[str]:
    """The values that the part does not compute, in the order in which they are first used."""
    for number in graph.order:
        if number in numbers:
            yield from (n for n in graph.used_by(number) if n in given or graph.producer(n) is None)
    yield from (name for name in wanted if name in given or graph.producer(name) is None)


def _without_shape(declared: Type | None) -> Type | None:
    """Part of a model may be run with batches of another size than the model declares."""
    return TensorType(declared.elem_type) if isinstance(declared, TensorType) else declared
