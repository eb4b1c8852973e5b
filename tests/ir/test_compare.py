from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest

from graphshrink.ir import edit
from graphshrink.ir.compare import difference, interface_difference, same_tensor
from graphshrink.ir.graph import Annotation, Function, Graph, Header, Training
from graphshrink.ir.operator import Attribute, AttributeType, Operator, Record, attributes_of
from graphshrink.ir.tensor import FieldData, SparseTensor, Tensor, tensor_of
from graphshrink.ir.types import ValueInfo


def floats(name: str, *values: float) -> Tensor:
    return tensor_of(np.array(values, np.float32), name)


def held(op_type: str, output: str, **attributes: Attribute) -> Operator:
    return Operator(op_type, ("x",), (output,), attributes)


def body() -> Graph:
    graph = Graph("body")
    edit.add_operator(graph, Operator("Add", ("x", "W"), ("o",)))
    edit.set_outputs(graph, [ValueInfo("o")])
    return graph


def sample() -> Graph:
    function = Function("F", "local", None, ("x",), ("o",), (), (Attribute("a", AttributeType.INT, 1),), Graph())
    edit.set_inputs(function.body, [ValueInfo("x")])
    edit.add_operator(function.body, Operator("Relu", ("x",), ("o",)))
    edit.set_outputs(function.body, [ValueInfo("o")])
    training = Training(Graph("start"), None, (), (("a", "b"),))
    graph = Graph("g", header=Header(ir_version=8, functions=[function], training=[training]))
    graph.opsets = ((None, 13),)
    edit.set_inputs(graph, [ValueInfo("x")])
    edit.add_initializer(graph, floats("W", 1.0, np.nan))
    edit.add_initializer(graph, SparseTensor(floats("S", 1.0), tensor_of(np.zeros(1, np.int64)), (4,)))
    value = Attribute("value", AttributeType.TENSOR, floats("", 2.0))
    edit.add_operator(graph, Operator("Constant", (), ("C",), {"value": value}))
    edit.add_operator(graph, Operator("LeakyRelu", ("x",), ("l",), attributes_of(alpha=float("nan"), axes=(1, 2))))
    edit.add_operator(graph, held("If", "y", then_branch=Attribute("then_branch", AttributeType.GRAPH, body())))
    edit.set_outputs(graph, [ValueInfo("y")])
    edit.set_value_info(graph, [ValueInfo("l")])
    return graph


def function_of(graph: Graph) -> Function:
    assert graph.header is not None
    return graph.header.functions[0]


def header_of(graph: Graph) -> Header:
    assert graph.header is not None
    return graph.header


def replaced(graph: Graph, number: int, **changes: object) -> None:
    edit.replace_operator(graph, number, replace(graph.operator(number), **changes))  # type: ignore[arg-type]


def nested(graph: Graph) -> Graph:
    return dict(graph.nested())["/2:If/then_branch"]


CHANGES: list[tuple[str, Callable[[Graph], object]]] = [
    ("an element of an initializer", lambda g: edit.set_constant(g, "W", floats("W", 2.0, np.nan))),
    ("a sign of zero", lambda g: edit.set_constant(g, "C", floats("", -0.0))),
    ("the type of a constant", lambda g: edit.set_constant(g, "C", tensor_of(np.array([2.0])))),
    ("the shape of a constant", lambda g: edit.set_constant(g, "C", tensor_of(np.full((1, 1), 2, np.float32)))),
    ("one constant more", lambda g: edit.add_initializer(g, floats("V", 1.0))),
    ("one sparse initializer less", lambda g: edit.remove_initializer(g, "S")),
    ("an attribute", lambda g: replaced(g, 1, attributes=attributes_of(alpha=0.5, axes=(1, 2)))),
    ("a list attribute", lambda g: replaced(g, 1, attributes=attributes_of(alpha=float("nan"), axes=(1, 3)))),
    ("an attribute more", lambda g: replaced(g, 1, attributes=attributes_of(alpha=float("nan"), axes=(1,), z=1))),
    ("an operator's type", lambda g: replaced(g, 1, op_type="Elu")),
    ("an operator's domain", lambda g: replaced(g, 1, domain="custom")),
    ("an operator's name", lambda g: replaced(g, 1, name="n")),
    ("an operator's documentation", lambda g: replaced(g, 1, doc="d")),
    ("an operator's metadata", lambda g: replaced(g, 1, metadata=(("k", "v"),))),
    ("an operator's place", lambda g: replaced(g, 1, devices=(Record("Device", ()),))),
    ("an operator's inputs", lambda g: replaced(g, 1, inputs=("W",))),
    ("one operator more", lambda g: edit.add_operator(g, Operator("Relu", ("x",), ("z",)))),
    ("an operator of a body", lambda g: edit.replace_operator(nested(g), 0, Operator("Mul", ("x", "W"), ("o",)))),
    ("the outputs of a body", lambda g: edit.set_outputs(nested(g), [ValueInfo("o", doc="d")])),
    ("the inputs", lambda g: edit.set_inputs(g, [ValueInfo("x"), ValueInfo("z")])),
    ("the order of outputs", lambda g: edit.set_outputs(g, [ValueInfo("l"), ValueInfo("y")])),
    ("a declaration", lambda g: edit.set_value_info(g, [])),
    ("the operator sets", lambda g: setattr(g, "opsets", ((None, 14),))),
    ("the name", lambda g: setattr(g, "name", None)),
    ("the annotations", lambda g: setattr(g, "annotations", (Annotation("x", ()),))),
    ("the header", lambda g: setattr(g, "header", None)),
    ("the producer", lambda g: setattr(header_of(g), "producer_name", "p")),
    ("the metadata", lambda g: setattr(header_of(g), "metadata", (("k", "v"),))),
    ("the functions", lambda g: header_of(g).functions.clear()),
    ("the training", lambda g: header_of(g).training.clear()),
    ("a binding of the training", lambda g: setattr(header_of(g).training[0], "update_binding", ())),
    ("a graph of the training", lambda g: setattr(header_of(g).training[0], "initialization", Graph("other"))),
    ("the name of a function", lambda g: setattr(function_of(g), "name", "G")),
    ("the defaults of a function", lambda g: setattr(function_of(g), "defaults", ())),
    ("the body of a function", lambda g: edit.remove_operators(function_of(g).body, [0])),
]


def test_equal_models_do_not_differ() -> None:
    assert difference(sample(), sample()) is None
    assert difference(sample(), sample().copy()) is None


@pytest.mark.parametrize(("what", "change"), CHANGES, ids=[what for what, _ in CHANGES])
def test_a_difference_is_found_from_both_sides(what: str, change: Callable[[Graph], object]) -> None:
    changed = sample()
    change(changed)
    assert difference(sample(), changed) is not None
    assert difference(changed, sample()) is not None


SEEN: list[tuple[str, Callable[[Graph], object]]] = [
    ("an input more", lambda g: edit.set_inputs(g, [ValueInfo("x"), ValueInfo("z")])),
    ("an initializer that can be given", lambda g: edit.set_inputs(g, [ValueInfo("x"), ValueInfo("W")])),
    ("the documentation of an output", lambda g: edit.set_outputs(g, [ValueInfo("y", doc="d")])),
    ("the operator sets", lambda g: setattr(g, "opsets", ((None, 14),))),
    ("the name", lambda g: setattr(g, "name", None)),
    ("the documentation", lambda g: edit.set_doc(g, "d")),
    ("the producer", lambda g: setattr(header_of(g), "producer_name", "p")),
    ("the documentation of the model", lambda g: setattr(header_of(g), "doc", "d")),
    ("the metadata", lambda g: setattr(header_of(g), "metadata", (("k", "v"),))),
]
UNSEEN: list[tuple[str, Callable[[Graph], object]]] = [
    ("the ir version", lambda g: setattr(header_of(g), "ir_version", 10)),
    ("an operator", lambda g: replaced(g, 1, op_type="Elu")),
    ("a declaration", lambda g: edit.set_value_info(g, [])),
    ("an initializer", lambda g: edit.remove_initializer(g, "S")),
    ("the documentation of a function", lambda g: edit.set_doc(function_of(g), "d")),
]


@pytest.mark.parametrize("change", [change for _, change in SEEN], ids=[what for what, _ in SEEN])
def test_what_is_seen_from_outside(change: Callable[[Graph], object]) -> None:
    changed = sample()
    change(changed)
    assert interface_difference(sample(), changed) is not None


@pytest.mark.parametrize("change", [change for _, change in UNSEEN], ids=[what for what, _ in UNSEEN])
def test_what_is_not_seen_from_outside(change: Callable[[Graph], object]) -> None:
    changed = sample()
    change(changed)
    assert interface_difference(sample(), changed) is None


def test_below_ir_version_4_listed_constants_are_no_inputs() -> None:
    old, listed = sample(), sample()
    edit.set_inputs(listed, [ValueInfo("x"), ValueInfo("W")])
    for graph in (old, listed):
        header_of(graph).ir_version = 3
    assert interface_difference(old, listed) is None


def test_it_does_not_matter_where_a_constant_is_kept() -> None:
    graph = sample()
    edit.remove_operators(graph, [0])
    edit.add_initializer(graph, floats("C", 2.0))
    assert difference(sample(), graph) is None


def test_constants_may_leave_the_inputs_and_the_ir_version_may_rise() -> None:
    graph = sample()
    edit.set_inputs(graph, [ValueInfo("x"), ValueInfo("W")])
    header_of(graph).ir_version = 10
    assert difference(sample(), graph) is None


def test_tensors_are_compared_by_bits_not_by_storage() -> None:
    raw = floats("a", 1.0, np.nan, -0.0)
    typed = replace(raw, name="b", data=FieldData(bytes(raw.buffer)))
    assert same_tensor(raw, typed)
    assert not same_tensor(raw, floats("a", 1.0, np.nan, 0.0))
    assert not same_tensor(raw, replace(raw, dims=(3, 1)))


def test_strings_are_compared() -> None:
    names = np.array(["a", "b"], dtype=object)
    assert same_tensor(tensor_of(names), tensor_of(names.astype(object)))
    assert not same_tensor(tensor_of(names), tensor_of(names[::-1]))
    assert not same_tensor(tensor_of(names), floats("a", 1.0, 2.0))
