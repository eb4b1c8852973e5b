from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import onnx
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from graphshrink.errors import InternalError
from graphshrink.ir import edit
from graphshrink.ir.check import check
from graphshrink.ir.compare import difference
from graphshrink.ir.graph import Annotation, Function, Graph, Header, Training
from graphshrink.ir.operator import Attribute, AttributeType, Operator, Record
from graphshrink.ir.tensor import SparseTensor, Tensor, tensor_of
from graphshrink.ir.types import ValueInfo
from graphshrink.onnx_io.load import load
from tests.rebuilding import rebuilt
from tests.strategies import models


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


def annotated() -> Graph:
    """The same with a declaration of nothing, and an annotation."""
    graph = sample()
    edit.set_value_info(graph, map(ValueInfo, ("a", "C", "ghost")))
    graph.annotations = (Annotation("a", (("SCALE_TENSOR", "C"),)),)
    return graph


PLACES = tensor_of(np.zeros(1, np.int64))
UNNAMED = SparseTensor(tensor_of(np.ones(1)), PLACES, (1,))
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
    ("a sparse Constant operator", lambda g: edit.set_constant(g, "C", SparseTensor(floats("C", 1.0), PLACES, (1,)))),
    ("a description with other inputs", lambda g: edit.describe_operator(g, 0, Operator("Add", ("W", "x"), ("a",)))),
    ("a description of another type", lambda g: edit.describe_operator(g, 0, Operator("Mul", ("x", "W"), ("a",)))),
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


# ---- descriptions


def test_an_operator_is_described_anew_and_its_first_name_is_remembered() -> None:
    graph = sample()
    edit.describe_operator(graph, 0, replace(graph.operator(0), name="first", doc="d"))
    assert graph.original_operator_name(0) == "first"
    edit.describe_operator(graph, 0, replace(graph.operator(0), name="second"))
    edit.describe_operator(graph, 0, replace(graph.operator(0), name=None, doc=None))
    assert (graph.operator(0).name, graph.original_operator_name(0)) == (None, "first")
    assert graph.copy().original_operator_name(0) == "first"
    assert difference(graph, sample()) is None


def test_a_body_may_not_change_with_a_description() -> None:
    graph = with_body()
    other = Attribute("then_branch", AttributeType.GRAPH, Graph("b"))
    with pytest.raises(InternalError):
        edit.describe_operator(graph, 3, graph.operator(3).with_attribute(other))
    assert difference(graph, with_body()) is None


def test_a_sparse_initializer_is_replaced() -> None:
    graph = sample()
    edit.add_initializer(graph, SparseTensor(floats("S", 1.0), PLACES, (4,)))
    edit.set_constant(graph, "S", SparseTensor(floats("ignored", 2.0), PLACES, (4,)))
    constant = graph.value("S").constant
    assert isinstance(constant, SparseTensor)
    assert (constant.name, constant.values.array.tolist()) == ("S", [2.0])


# ---- renaming


def with_body() -> Graph:
    """The sample, and an If whose branch captures `a` and `W`, and hides `C`."""
    graph, body = sample(), Graph("b")
    edit.add_operator(body, Operator("Add", ("a", "W"), ("C",)))
    edit.set_outputs(body, [ValueInfo("C")])
    branch = Attribute("then_branch", AttributeType.GRAPH, body)
    edit.add_operator(graph, Operator("If", ("x",), ("z",)).with_attribute(branch))
    return graph


def edges(graph: Graph) -> list[list[str]]:
    return [sorted(map(str, scope.net.edges(keys=True))) for _, scope in graph.scopes()]


TAKEN: list[tuple[str, dict[str, str]]] = [
    ("a name that is taken", {"x": "y"}),
    ("a name that is declared only", {"x": "ghost"}),
    ("one name for two", {"x": "k", "W": "k"}),
    ("no name", {"x": ""}),
    ("an annotated value", {"a": "k"}),
    ("a quantisation parameter", {"C": "k"}),
]


@pytest.mark.parametrize("mapping", [mapping for _, mapping in TAKEN], ids=[what for what, _ in TAKEN])
def test_names_that_cannot_be_given_are_refused(mapping: dict[str, str]) -> None:
    graph = annotated()
    with pytest.raises(InternalError):
        edit.rename_values(graph, mapping)
    assert difference(graph, annotated()) is None


def test_names_that_training_or_devices_speak_of_stay() -> None:
    graph = with_body()
    assert graph.header is not None
    algorithm = Graph("step")
    edit.add_operator(algorithm, Operator("Relu", ("W",), ("W_new",)))
    graph.header.training.append(Training(None, algorithm, (), (("x", "W_new"),)))
    edit.describe_operator(graph, 2, replace(graph.operator(2), devices=(Record("Device", ()),)))
    for name in ("W", "x", "a", "C", "y"):
        with pytest.raises(InternalError):
            edit.rename_values(graph, {name: "k"})
    edit.rename_values(graph, {"z": "k"})
    assert graph.operator(3).outputs == ("k",)


def test_values_are_renamed_in_every_scope_and_names_may_be_swapped() -> None:
    graph = with_body()
    edit.rename_values(graph, {"a": "C", "C": "a", "W": "w", "nothing": "n"})
    assert [(operator.inputs, operator.outputs) for _, operator in graph.operators()] == [
        (("x", "w"), ("C",)),
        ((), ("a",)),
        (("C", "a"), ("y",)),
        (("x",), ("z",)),
    ]
    (_, (_, body)) = graph.nested()
    assert body.operator(0).inputs == ("C", "w")
    assert body.captured() == ["C", "w"]
    assert [info.name for info in body.outputs] == ["a"]
    assert [info.name for info in graph.inputs] == ["x", "w"]
    assert [value.name for value in graph.initializers()] == ["w"]
    assert list(graph.value_info) == ["C", "a"]
    constant = graph.constant("w")
    assert constant is not None
    assert constant.name == "w"
    assert edges(graph) == edges(rebuilt(graph))
    check(graph)


def test_only_whole_graphs_and_functions_are_renamed() -> None:
    graph = with_body()
    (_, (_, body)) = graph.nested()
    for part in (body, Graph("no model around it")):
        with pytest.raises(InternalError):
            edit.rename_values(part, {"C": "k"})


def test_a_function_is_renamed_with_its_inputs_and_outputs() -> None:
    body = Graph()
    edit.set_inputs(body, map(ValueInfo, ("left", "right")))
    edit.add_operator(body, Operator("Add", ("left", "right"), ("sum",)))
    edit.set_outputs(body, [ValueInfo("sum")])
    function = Function("F", "local", None, ("left", "right"), ("sum",), (), (), body)
    edit.rename_values(function, {"left": "a", "sum": "b"})
    assert (function.inputs, function.outputs) == (("a", "right"), ("b",))
    assert [info.name for info in (*body.inputs, *body.outputs)] == ["a", "right", "b"]
    assert (body.operator(0).inputs, body.operator(0).outputs) == (("a", "right"), ("b",))


def test_first_names_are_remembered_through_renaming_and_forgotten_with_the_value() -> None:
    graph = with_body()
    edit.rename_values(graph, {"a": "p", "C": "q", "z": "r"})
    edit.rename_values(graph, {"p": "q", "q": "C"})
    copy = graph.copy()
    assert [copy.original_name(name) for name in ("q", "C", "r", "x")] == ["a", "C", "z", "x"]
    (_, (_, body)) = copy.nested()
    assert body.original_name("q") == "a"
    edit.remove_operators(graph, [3])
    edit.add_operator(graph, Operator("Relu", ("x",), ("r",)))
    assert graph.original_name("r") == "r"


def renamed_whole(graph: Graph, mapping: dict[str, str]) -> None:
    edit.rename_values(graph, mapping)
    assert graph.header is not None
    for function in graph.header.functions:
        edit.rename_values(function, mapping)


@settings(max_examples=100, deadline=None)
@given(model=models(), data=st.data())
def test_renaming_there_and_back_gives_the_same_model(model: onnx.ModelProto, data: Any) -> None:
    graph = load(model)
    names = sorted({value.name for _, scope in graph.scopes() for value in scope.values()})
    fresh = [f"fresh {index}" for index in range(len(names))]
    chosen = data.draw(st.permutations([*names, *fresh]))[: len(names)]
    # An old name is given to somebody else only if whoever had it gets another one, which a full mapping ensures.
    mapping = dict(zip(names, chosen, strict=True))
    renamed_whole(graph, mapping)
    check(graph)
    assert edges(graph) == edges(rebuilt(graph))
    assert {graph.original_name(info.name) for info in graph.inputs} == {info.name for info in load(model).inputs}
    renamed_whole(graph, {new: old for old, new in mapping.items()})
    assert difference(graph, load(model)) is None
    assert edges(graph) == edges(load(model))
