import numpy as np
import pytest

from graphshrink.errors import ModelError
from graphshrink.ir import edit
from graphshrink.ir.check import check, problems
from graphshrink.ir.graph import Function, Graph, Header
from graphshrink.ir.operator import Attribute, AttributeType, Operator
from graphshrink.ir.tensor import SparseTensor, tensor_of
from graphshrink.ir.types import Dimension, TensorType, ValueInfo


def declared(name: str, *dims: int | str | None) -> ValueInfo:
    return ValueInfo(name, TensorType(1, tuple(map(Dimension, dims))))


def graph_of(*operators: Operator, inputs: tuple[ValueInfo, ...] = (ValueInfo("x"),), output: str = "y") -> Graph:
    graph = Graph("g", header=Header(ir_version=8))
    edit.set_inputs(graph, inputs)
    for operator in operators:
        edit.add_operator(graph, operator)
    edit.set_outputs(graph, [ValueInfo(output)])
    return graph


def branch(*operators: Operator, output: str) -> Operator:
    body = Graph("body")
    for operator in operators:
        edit.add_operator(body, operator)
    edit.set_outputs(body, [ValueInfo(output)])
    return Operator("If", ("x",), ("y",)).with_attribute(Attribute("then_branch", AttributeType.GRAPH, body))


def test_a_sound_graph_has_no_problems() -> None:
    graph = graph_of(branch(Operator("Relu", ("x",), ("o",)), output="o"))
    assert list(problems(graph)) == []
    check(graph)


def test_dangling_names() -> None:
    graph = graph_of(Operator("Add", ("x", "gone"), ("y",), name="sum"), Operator("Relu", ("lost",), ("z",)))
    assert list(problems(graph)) == [
        "Add 'sum' uses value 'gone', which nothing produces",
        "Relu '(unnamed)' uses value 'lost', which nothing produces",
    ]
    with pytest.raises(ModelError, match="gone"):
        check(graph)


def test_an_output_that_nothing_produces() -> None:
    assert list(problems(graph_of(output="gone"))) == ["output 'gone' is produced by nothing"]


def test_dangling_names_in_bodies_show_at_their_owner() -> None:
    graph = graph_of(branch(Operator("Add", ("x", "gone"), ("o",)), output="o"))
    assert list(problems(graph)) == ["If '(unnamed)' uses value 'gone', which nothing produces"]


def test_functions_capture_nothing() -> None:
    graph = graph_of(Operator("Relu", ("x",), ("y",)))
    body = Graph()
    edit.add_operator(body, Operator("Relu", ("x",), ("o",)))
    edit.set_outputs(body, [ValueInfo("o")])
    assert graph.header is not None
    graph.header.functions.append(Function("f", "local", None, (), ("o",), (), (), body))
    assert list(problems(graph)) == ["in f(): Relu '(unnamed)' uses value 'x', which nothing produces"]


def test_cycles() -> None:
    graph = graph_of(Operator("Add", ("x", "b"), ("a",)), Operator("Relu", ("a",), ("b",)), output="b")
    (problem,) = problems(graph)
    assert problem in (
        "Add with outputs ['a'] depends on itself",
        "Relu with outputs ['b'] depends on itself",
    )


def test_cycles_through_a_body() -> None:
    graph = graph_of(branch(Operator("Relu", ("y",), ("o",)), output="o"))
    assert list(problems(graph)) == ["If with outputs ['y'] depends on itself"]


def test_cycles_inside_a_body() -> None:
    graph = graph_of(branch(Operator("Relu", ("o",), ("o",)), output="o"))
    assert list(problems(graph)) == ["in /0:If/then_branch: Relu with outputs ['o'] depends on itself"]


def test_repeated_inputs() -> None:
    graph = graph_of(Operator("Relu", ("x",), ("y",)), inputs=(ValueInfo("x"), ValueInfo("x")))
    assert list(problems(graph)) == ["input 'x' is declared twice"]


@pytest.mark.parametrize("dims", [(3, 2), (2,), (2, 3, 1), ("n", 2)])
def test_shapes_that_contradict_a_constant(dims: tuple[int | str, ...]) -> None:
    graph = graph_of(Operator("Add", ("x", "W"), ("y",)), inputs=(ValueInfo("x"), declared("W", *dims)))
    edit.add_initializer(graph, tensor_of(np.zeros((2, 3), np.float32), "W"))
    assert list(problems(graph)) == [f"constant 'W' has shape [2, 3] but is declared as {list(dims)}"]


@pytest.mark.parametrize("dims", [(2, 3), ("n", 3), (None, None)])
def test_shapes_that_agree_with_a_constant(dims: tuple[int | str | None, ...]) -> None:
    graph = graph_of(Operator("Add", ("x", "W"), ("y",)))
    edit.add_initializer(graph, tensor_of(np.zeros((2, 3), np.float32), "W"))
    edit.set_value_info(graph, [declared("W", *dims), declared("nowhere", 5), declared("x", 7)])
    assert list(problems(graph)) == []


def test_declarations_of_constant_operators_and_outputs_count_too() -> None:
    held = Attribute("value", AttributeType.TENSOR, tensor_of(np.zeros(2, np.float32)))
    graph = graph_of(Operator("Constant", (), ("y",)).with_attribute(held))
    edit.set_outputs(graph, [declared("y", 3)])
    assert list(problems(graph)) == ["constant 'y' has shape [2] but is declared as [3]"]


def test_sparse_initializers_are_not_measured() -> None:
    graph = graph_of(Operator("Add", ("x", "S"), ("y",)))
    values, indices = tensor_of(np.ones(1, np.float32), "S"), tensor_of(np.zeros(1, np.int64))
    edit.add_initializer(graph, SparseTensor(values, indices, (4,)))
    edit.set_value_info(graph, [declared("S", 4)])
    assert list(problems(graph)) == []
