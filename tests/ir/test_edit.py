from collections.abc import Callable

import numpy as np
import pytest

from graphshrink.errors import InternalError
from graphshrink.ir import edit
from graphshrink.ir.compare import difference
from graphshrink.ir.graph import Graph, Header
from graphshrink.ir.operator import Attribute, AttributeType, Operator
from graphshrink.ir.tensor import SparseTensor, Tensor, tensor_of
from graphshrink.ir.types import ValueInfo


def floats(name: str, *values: float) -> Tensor:
    return tensor_of(np.array(values, np.float32), name)


def constant(output: str, *values: float) -> Operator:
    held = Attribute("value", AttributeType.TENSOR, floats("inside", *values), doc="kept")
    return Operator("Constant", (), (output,)).with_attribute(held)


def sample() -> Graph:
    """W + x -> a; a + C -> y, where C is a Constant operator and W an initializer that is an input too."""
    graph = Graph("g", header=Header(ir_version=8))
    edit.set_inputs(graph, map(ValueInfo, ("x", "W")))
    edit.add_initializer(graph, floats("W", 1.0))
    for operator in (
        Operator("Add", ("x", "W"), ("a",)),
        constant("C", 2.0),
        Operator("Add", ("a", "C"), ("y",)),
    ):
        edit.add_operator(graph, operator)
    edit.set_outputs(graph, [ValueInfo("y")])
    edit.set_value_info(graph, map(ValueInfo, ("a", "C")))
    return graph


UNNAMED = SparseTensor(tensor_of(np.ones(1)), tensor_of(np.zeros(1, np.int64)), (1,))
REFUSED: list[tuple[str, Callable[[Graph], object]]] = [
    ("two producers", lambda g: edit.add_operator(g, Operator("Relu", ("x",), ("y",)))),
    ("an initializer produced", lambda g: edit.add_operator(g, Operator("Relu", ("x",), ("W",)))),
    ("an input produced", lambda g: edit.add_operator(g, Operator("Relu", ("x",), ("x",)))),
    ("one value twice", lambda g: edit.add_operator(g, Operator("Split", ("x",), ("p", "p")))),
    ("replaced by a second producer", lambda g: edit.replace_operator(g, 0, Operator("Relu", ("x",), ("y",)))),
    ("an initializer for an output", lambda g: edit.add_initializer(g, floats("y", 1.0))),
    ("an initializer twice", lambda g: edit.add_initializer(g, floats("W", 1.0))),
    ("an initializer without a name", lambda g: edit.add_initializer(g, tensor_of(np.ones(1)))),
    ("a sparse one without a name", lambda g: edit.add_initializer(g, UNNAMED)),
    ("an initializer with an empty name", lambda g: edit.add_initializer(g, floats("", 1.0))),
    ("an output as input", lambda g: edit.set_inputs(g, [ValueInfo("y")])),
    ("a constant that is none", lambda g: edit.set_constant(g, "a", floats("a", 1.0))),
]


@pytest.mark.parametrize(("what", "change"), REFUSED, ids=[what for what, _ in REFUSED])
def test_what_would_break_the_graph_is_refused_and_leaves_it_alone(
    what: str, change: Callable[[Graph], object]
) -> None:
    graph = sample()
    with pytest.raises(InternalError):
        change(graph)
    assert difference(graph, sample()) is None
    assert sorted(map(str, graph.net.edges)) == sorted(map(str, sample().net.edges))
    assert sorted(map(str, graph.net.nodes)) == sorted(map(str, sample().net.nodes))


def test_an_operator_may_be_replaced_by_one_with_its_outputs() -> None:
    graph = sample()
    edit.replace_operator(graph, 0, Operator("Mul", ("x", "W"), ("a",)))
    assert graph.producer("a") == 0
    assert [use.operator for use in graph.uses("W")] == [0]
    assert graph.order == (0, 1, 2)


def test_replacing_forgets_names_that_nobody_uses() -> None:
    graph = sample()
    edit.replace_operator(graph, 2, Operator("Relu", ("a",), ("y",)))
    edit.remove_operators(graph, [1])
    assert "C" not in graph
    assert set(graph.value_info) == {"a"}


def test_outputs_of_removed_operators_stay_while_they_are_used() -> None:
    graph = sample()
    edit.remove_operators(graph, [0])
    assert graph.captured() == ["a"]
    assert graph.uses("W") == []
    edit.add_operator(graph, Operator("Relu", ("x",), ("a",)), 0)
    assert graph.captured() == []
    assert [operator.op_type for _, operator in graph.operators()] == ["Relu", "Constant", "Add"]


def test_operators_are_added_in_a_row() -> None:
    graph = sample()
    row = [Operator("Relu", ("x",), ("p",)), Operator("Relu", ("p",), ("q",))]
    edit.add_operators(graph, row, 1)
    assert [operator.outputs[0] for _, operator in graph.operators()] == ["a", "p", "q", "C", "y"]


def test_numbers_are_never_given_again() -> None:
    graph = sample()
    edit.remove_operators(graph, [2])
    assert edit.add_operator(graph, Operator("Relu", ("a",), ("y",))) == 3


def test_initializers_are_put_before_others() -> None:
    graph = sample()
    edit.add_initializer(graph, floats("last", 1.0))
    edit.add_initializer(graph, floats("first", 1.0), before="W")
    assert [value.name for value in graph.initializers()] == ["first", "W", "last"]


def test_a_removed_initializer_leaves_the_inputs() -> None:
    graph = sample()
    edit.remove_initializer(graph, "W")
    assert [info.name for info in graph.inputs] == ["x"]
    assert graph.captured() == ["W"]
    edit.add_operator(graph, constant("W", 3.0), 0)
    assert graph.captured() == []


def test_an_unused_initializer_is_forgotten() -> None:
    graph = sample()
    edit.add_initializer(graph, floats("unused", 1.0))
    edit.remove_initializer(graph, "unused")
    assert "unused" not in graph


def test_undeclared_inputs_and_outputs_are_forgotten() -> None:
    graph = sample()
    edit.set_inputs(graph, map(ValueInfo, ("x", "W", "spare")))
    edit.set_outputs(graph, map(ValueInfo, ("y", "nothing")))
    edit.set_inputs(graph, map(ValueInfo, ("x", "W")))
    edit.set_outputs(graph, [ValueInfo("y")])
    assert "spare" not in graph
    assert "nothing" not in graph
    assert difference(graph, sample()) is None


def test_an_input_that_is_no_longer_declared_may_be_produced() -> None:
    graph = sample()
    edit.set_inputs(graph, [ValueInfo("W")])
    edit.add_operator(graph, constant("x", 1.0), 0)
    assert graph.producer("x") is not None


def test_constants_are_replaced_where_they_are() -> None:
    graph = sample()
    edit.set_constant(graph, "W", floats("ignored", 5.0))
    edit.set_constant(graph, "C", floats("inside", 6.0))
    initializer, held = graph.constant("W"), graph.constant("C")
    assert initializer is not None
    assert held is not None
    assert (initializer.name, initializer.array.tolist()) == ("W", [5.0])
    assert (held.name, held.array.tolist()) == ("inside", [6.0])
    assert graph.operator(1).attributes["value"].doc == "kept"
