"""Reading encoded weights back: `lift` turns decode subgraphs into the plain weights they compute.

Marked operators are only candidates. What lies above one must be constants and the few operators that decode subgraphs
use, in the forms in which they use them (`rules`); anything else is an ordinary part of the model and stays as it is.
"""

import re
from collections import Counter
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Final, TypeAlias

from graphshrink.encodings.base import FUNCTIONS, MARK
from graphshrink.encodings.cost import Cost
from graphshrink.encodings.evaluate import Budget, Evaluator, Functions, functions_of, has_usual_attributes
from graphshrink.encodings.shared import SharedEncoded
from graphshrink.encodings.size import operator_bytes, tensor_bytes
from graphshrink.encodings.spectral import SPECTRAL, data_of, product_of
from graphshrink.ir import edit
from graphshrink.ir.graph import Graph, constant_of
from graphshrink.ir.operator import Attribute, AttributeType, Operator
from graphshrink.ir.tensor import StringData, Tensor, tensor_of
from graphshrink.ir.types import Array
from graphshrink.ir.weight import label_of

_MARKED: Final = re.compile(rf"{MARK}([a-z0-9-]+)/\w+", re.ASCII)  # "gs:codebook/gs7"


_MULTIPLIED: Final = (SPECTRAL, SharedEncoded.encoding)  # what may be a product of matrices, or repeat one


@dataclass(frozen=True, slots=True)
class Lifted:
    """A weight that was found in encoded form.

    Attributes:
        graph: the scope it is in.
        name: of its value.
        label: see `Weight`.
        encoding: its name.
        stored_bytes: its constants and operators in the file; what it shares with others counts for the first.
        cost: of decoding it, likewise.
    """

    graph: Graph
    name: str
    label: str
    encoding: str
    stored_bytes: int
    cost: Cost


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
    functions = functions_of(graph)
    found = [
        lifted
        for path, scope in graph.scopes()
        for lifted in _lift_scope(path, scope, functions, partial(intern, path))
    ]
    if found and functions:
        edit.drop_functions(graph, FUNCTIONS)
    return found


def _lift_scope(path: str, scope: Graph, functions: Functions, keep: _Keep) -> list[Lifted]:
    marked = _marked(scope)
    if not marked:
        return []
    evaluator = Evaluator(functions, Budget.of(0))
    products = {
        name: product for name in marked if marked[name] in _MULTIPLIED and (product := product_of(scope, name))
    }
    needed = _needed(scope, marked, evaluator, set(products.values()))
    decoded = _decode(scope, needed, marked, evaluator, keep)
    sizes, costs = _shares(scope, needed, decoded, evaluator.costs)
    anchors = _anchors(scope, needed)
    operators = {number: scope.operator(number) for number in needed if scope.operator(number).outputs[0] in decoded}
    edit.remove_operators(scope, operators)
    for index, operator in enumerate(operators.values()):
        name = operator.outputs[0]
        plain = tensor_of(decoded[name], name)
        declared = data_of(evaluator.factors[products[name]]) if name in products else None
        tensor = Tensor(name, plain.elem_type, plain.dims, declared or plain.data, operator.doc, operator.metadata)
        if anchors[name] is not None:
            edit.add_initializer(scope, tensor, before=anchors[name])
        else:
            held = Attribute("value", AttributeType.TENSOR, tensor)
            edit.add_operator(scope, Operator("Constant", (), operator.outputs).with_attribute(held), index)
    _remove_unused(scope, [number for number in needed if number not in operators], operators.values())
    return [
        Lifted(scope, name, label_of(path, scope, name), marked[name], sizes[name], costs[name]) for name in decoded
    ]


def _shares(
    scope: Graph, needed: Sequence[int], decoded: Mapping[str, Array], each: Mapping[str, Cost]
) -> tuple[Counter[str], dict[str, Cost]]:
    """Bytes and costs of what each weight is computed from; what several are computed from is the first one's."""
    owner = {name: name for name in decoded}
    sizes: Counter[str] = Counter()
    costs = {name: Cost(-array.nbytes) for name, array in decoded.items()}  # the weight itself is there in any case
    operators = [scope.operator(number) for number in needed]
    for operator in reversed(operators):
        user = next((owner[name] for name in operator.outputs if name in owner), None)
        if user is not None:
            owner.update({name: name if name in decoded else user for name in operator.inputs})
    for operator in operators:
        mine = next((owner[name] for name in operator.outputs if name in owner), None)
        if mine is not None:
            sizes[mine] += operator_bytes(operator)
            costs[mine] = costs[mine].plus(each.get(operator.outputs[0], Cost()))
    for value in scope.initializers():
        if value.name in owner and isinstance(value.constant, Tensor):
            sizes[owner[value.name]] += tensor_bytes(value.constant)
    return sizes, costs


def _marked(scope: Graph) -> dict[str, str]:
    """Values that bear the mark of an encoding, known or a plug-in's, with its name; outputs are no weights."""
    outputs = {info.name for info in scope.outputs}
    found: dict[str, str] = {}
    for _, operator in scope.operators():
        mark = _MARKED.fullmatch(operator.name or "")
        if mark is not None and len(operator.outputs) == 1:
            found[operator.outputs[0]] = mark[1]
    return {name: encoding for name, encoding in found.items() if name and name not in outputs}


def _needed(scope: Graph, marked: Collection[str], evaluator: Evaluator, products: Collection[str]) -> list[int]:
    """The operators from which marked values are computed, in file order, if constants are all they need.

    Products of matrices are among them only where weights are known to be such.
    """
    overridable = {info.name for info in scope.inputs}
    constants = {v.name for v in scope.initializers() if isinstance(v.constant, Tensor) and v.name not in overridable}
    candidates: list[tuple[int, Operator]] = []
    for number, operator in scope.operators():
        held = (constant_of(operator) is not None and has_usual_attributes(operator)) or (
            (evaluator.knows(operator) or (operator.is_a("MatMul") and operator.outputs[0] in products))
            and bool(operator.inputs)
            and constants.issuperset(operator.inputs)
        )
        if held:
            constants.update(operator.outputs)
            candidates.append((number, operator))
    wanted = set(marked)
    needed: list[int] = []
    for number, operator in reversed(candidates):
        if not wanted.isdisjoint(operator.outputs):
            needed.append(number)
            wanted.update(operator.inputs)
    return needed[::-1]


def _decode(
    scope: Graph, needed: Sequence[int], marked: Collection[str], evaluator: Evaluator, keep: _Keep
) -> dict[str, Array]:
    """The marked values that can be computed, in file order."""
    operators = [scope.operator(number) for number in needed]
    tensors = _constants(scope, operators)
    evaluator.budget = Budget.of(sum(tensor.nbytes for tensor in tensors.values()))
    return evaluator.run(operators, {name: tensor.array for name, tensor in tensors.items()}, marked, keep)


def _constants(scope: Graph, operators: Iterable[Operator]) -> dict[str, Tensor]:
    """The constants among the inputs of operators. Texts are none: they have no bits."""
    found: dict[str, Tensor] = {}
    for name in {name: None for operator in operators for name in operator.inputs}:
        tensor = scope.constant(name)
        if tensor is not None and not isinstance(tensor.data, StringData):
            found[name] = tensor
    return found


def _anchors(scope: Graph, needed: Iterable[int]) -> dict[str, str | None]:
    """For each value, the last of the initializers it is computed from.

    There the weight stood; those that it shares with others come earlier.
    """
    names = [value.name for value in scope.initializers()]
    positions = {name: index for index, name in enumerate(names)}
    for number in needed:
        operator = scope.operator(number)
        last = max((positions.get(name, -1) for name in operator.inputs), default=-1)
        positions.update(dict.fromkeys(operator.outputs, last))
    return {name: names[at] if at >= 0 else None for name, at in positions.items()}


def _remove_unused(scope: Graph, numbers: Sequence[int], lifted: Collection[Operator]) -> None:
    """Drop the operators and constants that only decode subgraphs used."""
    outputs = {info.name for info in scope.outputs}
    candidates = {name for operator in lifted for name in operator.inputs}
    dead: set[int] = set()
    for number in reversed(numbers):
        operator = scope.operator(number)
        used = any(use.operator not in dead for name in operator.outputs for use in scope.uses(name))
        if not used and candidates.issuperset(operator.outputs) and outputs.isdisjoint(operator.outputs):
            dead.add(number)
            candidates.update(operator.inputs)
    edit.remove_operators(scope, dead)
    unused = [v.name for v in scope.initializers() if v.name in candidates - outputs and not scope.uses(v.name)]
    for name in unused:
        edit.remove_initializer(scope, name)
