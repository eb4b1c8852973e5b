"""Computing decode subgraphs in NumPy, calls of the model's functions included, within a budget of bytes.

Operators are computed once each, in file order. What functions call is bounded when the file is read
(`onnx_io.limits`), and what is computed in them counts as well.
"""

from collections import Counter
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final, TypeAlias

import numpy as np

from graphshrink.encodings.base import FUNCTIONS, Builder, Encoded, FreshNames
from graphshrink.encodings.cost import Cost, cost_of
from graphshrink.encodings.rules import RULES, Results
from graphshrink.errors import ModelError
from graphshrink.ir.graph import Function, Graph, constant_of
from graphshrink.ir.operator import AttributeType, Operator
from graphshrink.ir.tensor import StringData
from graphshrink.ir.types import Array

_DEEPEST: Final = 8  # calls inside of calls; ours nest four deep
_MEGABYTE: Final = 1 << 20
_KINDS: Final = (AttributeType.INT, AttributeType.INTS, AttributeType.STRING, AttributeType.TENSOR)

Functions: TypeAlias = Mapping[str, Function]
"""The functions of our domain that a model has, by name."""


def functions_of(graph: Graph) -> Functions:
    """Those of the model of which this is the main graph."""
    found = graph.header.functions if graph.header is not None else ()
    return {function.name: function for function in found if function.key == (FUNCTIONS, function.name, "")}


@dataclass(slots=True)
class Budget:
    """Bytes that may still be computed (`all`), held at a time (`held`), and given out as weights (`kept`).

    All are far above what encodings need, and far below a bomb: tables of what every byte means take some megabytes for
    a weight of a kilobyte.
    """

    all: int
    held: int
    kept: int

    @classmethod
    def of(cls, stored: int) -> "Budget":
        """The budget for constants of so many bytes."""
        return cls(64 * _MEGABYTE + 16_384 * stored, 128 * _MEGABYTE + 256 * stored, 65_536 + 256 * stored)


@dataclass(slots=True)
class Evaluator:
    """Computes operators.

    Attributes:
        functions: that may be called.
        budget: what that may take.
        costs: what each operator cost that was run, those that it called included, by its first output.
        factors: of each MatMul that was run, by its output.
    """

    functions: Functions
    budget: Budget
    costs: dict[str, Cost] = field(default_factory=lambda: dict[str, Cost]())
    factors: dict[str, list[Array]] = field(default_factory=lambda: dict[str, list[Array]]())
    _running: str = ""

    def knows(self, operator: Operator) -> bool:
        """Whether operators of this kind occur within decode subgraphs; a MatMul can only be the end of one."""
        if operator.kind[0] == FUNCTIONS:
            called = self.functions.get(operator.op_type)
            return called is not None and called.inputs != () and not operator.attributes
        return operator.is_a(*RULES) and operator.op_type != "MatMul" and has_usual_attributes(operator)

    def run(
        self,
        operators: Sequence[Operator],
        known: Mapping[str, Array],
        wanted: Collection[str],
        keep: Callable[[str, Array], Array] = lambda name, array: array,
        depth: int = 0,
    ) -> dict[str, Array]:
        """Those of the wanted values that can be computed, in file order.

        Args:
            operators: in file order.
            known: values that they start from.
            wanted: names of outputs.
            keep: may give an equal array for a wanted one.
            depth: calls around these operators.

        Raises:
            ModelError: an operator fails on its inputs, or the budget does not suffice.
        """
        uses = Counter(name for operator in operators for name in operator.inputs)
        values, found = dict(known), dict[str, Array]()
        for operator in operators:
            inputs = [values[name] for name in operator.inputs if name in values]
            constant = _constant(operator)
            if constant is not None:
                values.setdefault(operator.outputs[0], constant)
                if depth and operator.outputs[0] in wanted:  # a function gives it out
                    found[operator.outputs[0]] = constant
            elif operator.inputs and len(inputs) == len(operator.inputs):
                self._running = self._running if depth else operator.outputs[0]
                if operator.op_type == "MatMul":
                    self.factors[operator.outputs[0]] = inputs
                for name, array in zip(operator.outputs, self._compute(operator, inputs, depth) or (), strict=False):
                    if name in wanted:
                        self.budget.kept -= 0 if depth else array.nbytes
                        array = found[name] = keep(name, array)
                    values[name] = array
                    self.budget.held -= array.nbytes
            uses.subtract(operator.inputs)
            for name in {name for name in operator.inputs if uses[name] == 0 and name not in wanted}:
                if name in values:
                    self.budget.held += 0 if name in known else values[name].nbytes
                    del values[name]
            self._expect_bounded(operator)
        for name, array in values.items():
            self.budget.held += 0 if name in known else array.nbytes
        return found

    def _expect_bounded(self, operator: Operator, ahead: int = 0) -> None:
        budget = self.budget
        if min(budget.all - ahead, budget.held - ahead, budget.kept) < 0:
            raise ModelError(f"{_damaged(operator)} (the result would be absurdly large); get the file again")

    def _compute(self, operator: Operator, inputs: list[Array], depth: int) -> Results | None:
        """What an operator computes; None if no decode subgraph uses it in this form."""
        if operator.kind[0] == FUNCTIONS:
            return self._call(self.functions[operator.op_type], inputs, depth)
        rule = RULES[operator.op_type]
        try:
            size = rule.bytes(operator, inputs)
            self._expect_bounded(operator, size)
            self.budget.all -= size
            results = rule.compute(operator, inputs)
        except (IndexError, ValueError, TypeError, OverflowError, MemoryError) as e:
            raise ModelError(f"{_damaged(operator)} ({e}); get the file again") from e
        cost = cost_of(operator, inputs, results or ())
        self.costs[self._running] = self.costs.get(self._running, Cost()).plus(cost)
        return results

    def _call(self, function: Function, inputs: list[Array], depth: int) -> Results | None:
        operators = [operator for _, operator in function.body.operators()]
        possible = all(_constant(operator) is not None or self.knows(operator) for operator in operators)
        if depth == _DEEPEST or not possible or len(inputs) != len(function.inputs):
            return None
        given = dict(zip(function.inputs, inputs, strict=True))
        found = self.run(operators, given, set(function.outputs), depth=depth + 1)
        return tuple(found[name] for name in function.outputs) if found.keys() >= set(function.outputs) else None


def has_usual_attributes(operator: Operator) -> bool:
    """Whether its attributes are of the kinds that occur in decode subgraphs, and have values."""
    return all(a.type in _KINDS and a.value is not None for a in operator.attributes.values())


def _constant(operator: Operator) -> Array | None:
    """What a Constant operator holds, if that is a tensor or spelled out as integers."""
    tensor = constant_of(operator)
    if tensor is not None:
        return None if isinstance(tensor.data, StringData) else tensor.array
    if not operator.is_a("Constant"):
        return None
    many = operator.integers("value_ints")
    if many is not None:
        return np.array(many, np.int64)
    one = operator.attributes["value_int"].value if "value_int" in operator.attributes else None
    return np.array(one, np.int64) if isinstance(one, int) else None


def _damaged(operator: Operator) -> str:
    place = f"{operator.op_type} {operator.name or ''!r} with output {operator.outputs[0]!r}"
    return f"an encoded weight is damaged: {place} fails"


def cost_of_decoding(encoded: Encoded, opset: int) -> Cost:
    """What it costs to decode a tensor; it is decoded for that."""
    builder = Builder(FreshNames(), opset)
    encoded.emit(builder, "weight")
    evaluator = Evaluator({}, Budget.of(sum(tensor.nbytes for tensor in builder.tensors)))
    known = {tensor.name: tensor.array for tensor in builder.tensors if tensor.name is not None}
    found = evaluator.run(builder.operators, known, {"weight"})
    total = Cost()
    for cost in evaluator.costs.values():
        total = total.plus(cost)
    return Cost(total.bytes - found["weight"].nbytes if found else total.bytes, total.seconds)
