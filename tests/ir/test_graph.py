import numpy as np
import pytest

from graphshrink.ir import edit
from graphshrink.ir.check import check, problems
from graphshrink.ir.graph import CAPTURE, Function, Graph, Header, Training, Use, constant_of
from graphshrink.ir.operator import Attribute, AttributeType, Operator
from graphshrink.ir.tensor import Tensor, tensor_of
from graphshrink.ir.types import Dimension, TensorType, ValueInfo
from graphshrink.ir.weight import weights


def ones(name: str, *shape: int) -> Tensor:
    return tensor_of(np.ones(shape, np.float32), name)


def graph_of(
    operators: list[Operator], inputs: tuple[str, ...] = ("x",), outputs: tuple[str, ...] = ("y",), *constants: Tensor
) -> Graph:
    graph = Graph("g", header=Header(ir_version=8))
    edit.set_inputs(graph, map(ValueInfo, inputs))
    for constant in constants:
        edit.add_initializer(graph, constant)
    for operator in operators:
        edit.add_operator(graph, operator)
    edit.set_outputs(graph, map(ValueInfo, outputs))
    return graph


def body_of(*operators: Operator, output: str) -> Graph:
    body = Graph("body")
    for operator in operators:
        edit.add_operator(body, operator)
    edit.set_outputs(body, [ValueInfo(output)])
    return body


def holding(op_type: str, inputs: tuple[str, ...], outputs: tuple[str, ...], **bodies: Graph) -> Operator:
    operator = Operator(op_type, inputs, outputs)
    for name, body in bodies.items():
        operator = operator.with_attribute(Attribute(name, AttributeType.GRAPH, body))
    return operator


def two_deep() -> tuple[Graph, Graph, Graph]:
    """If(flag) { If(flag) { x + W } }: the inner body captures x and W, and so does the outer one, for its sake."""
    inner = body_of(Operator("Add", ("x", "W"), ("i",)), output="i")
    outer = body_of(holding("If", ("flag",), ("o",), then_branch=inner), output="o")
    main = graph_of([holding("If", ("flag",), ("y",), then_branch=outer)], ("x", "flag"), ("y",), ones("W", 3))
    return main, outer, inner


def test_operators_keep_their_order_and_numbers() -> None:
    graph = graph_of([Operator("Relu", ("x",), ("a",)), Operator("Sigmoid", ("a",), ("y",))])
    number = edit.add_operator(graph, Operator("Tanh", ("x",), ("t",)), 0)
    assert [operator.op_type for _, operator in graph.operators()] == ["Tanh", "Relu", "Sigmoid"]
    assert graph.order == (number, 0, 1)
    assert len(graph) == 3
    assert graph.operator(number).op_type == "Tanh"


def test_edges_carry_the_index_of_the_input() -> None:
    graph = graph_of([Operator("Custom", ("x", "", "x"), ("", "y"))])
    assert graph.uses("x") == [Use(0, 0), Use(0, 2)]
    assert graph.producer("y") == 0
    assert graph.producer("x") is None
    assert "" not in graph


def test_names_of_operators_identify_nothing() -> None:
    graph = graph_of([Operator("Relu", ("x",), ("a",), name="n"), Operator("Relu", ("a",), ("y",), name="n")])
    assert [graph.producer(name) for name in ("a", "y")] == [0, 1]


def test_captures_are_uses_two_levels_up() -> None:
    main, outer, inner = two_deep()
    assert sorted(inner.captured()) == ["W", "x"]
    assert sorted(outer.captured()) == ["W", "flag", "x"]
    assert main.captured() == []
    assert main.uses("W") == [Use(0, CAPTURE)]
    assert main.uses("flag") == [Use(0, 0), Use(0, CAPTURE)]
    assert inner.root is main
    assert [path for path, _ in main.nested()] == ["", "/0:If/then_branch", "/0:If/then_branch/0:If/then_branch"]


def test_captures_follow_when_a_body_changes() -> None:
    main, outer, inner = two_deep()
    edit.replace_operator(inner, 0, Operator("Add", ("x", "x"), ("i",)))
    assert main.uses("W") == []
    assert "W" in main  # it is still an initializer
    assert "W" not in outer
    added = edit.add_operator(inner, Operator("Mul", ("i", "W"), ("j",)))
    assert main.uses("W") == [Use(0, CAPTURE)]
    edit.remove_operators(inner, [added])
    assert main.uses("W") == []


def test_an_initializer_or_input_inside_ends_the_capture() -> None:
    main, outer, inner = two_deep()
    edit.add_initializer(inner, ones("W", 3))
    assert main.uses("W") == []
    assert not outer.captures("W")
    edit.remove_initializer(inner, "W")
    assert main.uses("W") == [Use(0, CAPTURE)]
    edit.set_inputs(inner, [ValueInfo("W")])
    assert main.uses("W") == []
    edit.set_inputs(inner, [])
    assert main.uses("W") == [Use(0, CAPTURE)]


def test_a_captured_output_is_a_capture() -> None:
    body = body_of(output="x")
    graph = graph_of([holding("If", ("flag",), ("y",), then_branch=body)], ("x", "flag"))
    assert graph.uses("x") == [Use(0, CAPTURE)]
    edit.set_outputs(body, [ValueInfo("flag")])
    assert graph.uses("x") == []
    assert "x" not in body


def test_a_loop_body_captures_beside_its_own_inputs() -> None:
    body = Graph("body")
    edit.set_inputs(body, map(ValueInfo, ("i", "c", "state")))
    edit.add_operator(body, Operator("MatMul", ("state", "W"), ("next",)))
    edit.add_operator(body, Operator("Identity", ("c",), ("again",)))
    edit.set_outputs(body, map(ValueInfo, ("again", "next")))
    graph = graph_of([holding("Loop", ("n", "", "x"), ("y",), body=body)], ("x", "n"), ("y",), ones("W", 2, 2))
    assert body.captured() == ["W"]
    assert graph.uses("x") == [Use(0, 2)]
    assert graph.uses("W") == [Use(0, CAPTURE)]
    check(graph)


def test_a_removed_operator_lets_go_of_its_bodies() -> None:
    main, outer, inner = two_deep()
    edit.remove_operators(main, [0])
    assert outer.owner is None
    edit.remove_operators(outer, [0])
    assert inner.owner is None
    edit.replace_operator(inner, 0, Operator("Relu", ("z",), ("i",)))  # no owner to tell


def test_a_replaced_operator_keeps_bodies_that_it_shares() -> None:
    main, outer, _ = two_deep()
    edit.replace_operator(main, 0, holding("If", ("x",), ("y",), else_branch=outer))
    assert outer.owner == (main, 0)
    assert main.uses("W") == [Use(0, CAPTURE)]


def test_constants_are_initializers_and_constant_operators() -> None:
    held = Operator("Constant", (), ("c",)).with_attribute(Attribute("value", AttributeType.TENSOR, ones("", 2)))
    other = Operator("Constant", (), ("f",)).with_attribute(Attribute("value_float", AttributeType.FLOAT, 1.0))
    graph = graph_of([held, other, Operator("Add", ("x", "c"), ("y",))], ("x",), ("y",), ones("W", 3))
    assert constant_of(held) is graph.constant("c")
    assert graph.constant("W") is graph.value("W").constant
    assert [graph.constant(name) for name in ("f", "x", "y", "nowhere")] == [None] * 4
    assert graph.type_of("W") == TensorType(1, (Dimension(3),))
    assert graph.type_of("x") is None


def test_snapshots_share_tensors_but_not_structure() -> None:
    main, _, inner = two_deep()
    snapshot = main.copy()
    twin = dict(snapshot.nested())["/0:If/then_branch/0:If/then_branch"]
    assert twin is not inner
    assert twin.root is snapshot
    assert snapshot.constant("W") is main.constant("W")
    edit.replace_operator(inner, 0, Operator("Add", ("x", "x"), ("i",)))
    edit.set_constant(main, "W", ones("W", 3).with_array(np.zeros(3, np.float32)))
    edit.add_operator(main, Operator("Relu", ("y",), ("z",)))
    edit.set_value_info(main, [ValueInfo("y")])
    assert snapshot.uses("W") == [Use(0, CAPTURE)]
    assert snapshot.constant("W") is not main.constant("W")
    assert (len(snapshot), len(main)) == (1, 2)
    assert dict(snapshot.value_info) == {}
    check(snapshot)


def test_snapshots_own_functions_and_training_too() -> None:
    graph = graph_of([Operator("Relu", ("x",), ("y",))])
    assert graph.header is not None
    body = body_of(Operator("Relu", ("a",), ("b",)), output="b")
    graph.header.functions.append(Function("f", None, None, ("a",), ("b",), (), (), body))
    graph.header.training.append(Training(None, Graph("empty"), (), ()))
    snapshot = graph.copy()
    assert snapshot.header is not None
    assert snapshot.header.functions[0].body is not body
    assert snapshot.header.training[0].algorithm is not graph.header.training[0].algorithm
    assert snapshot.header.training[0].initialization is None
    edit.remove_operators(body, [0])
    assert len(snapshot.header.functions[0].body) == 1


def test_paths_of_functions_of_one_name_differ() -> None:
    graph = graph_of([Operator("Relu", ("x",), ("y",))])
    assert graph.header is not None
    for domain, overload in (("a", None), ("b", None), ("b", "2")):
        body = body_of(Operator("Relu", ("a",), ("b",)), output="b")
        graph.header.functions.append(Function("f", domain, overload, ("a",), ("b",), (), (), body))
    paths = [path for path, _ in graph.scopes()]
    assert len(set(paths)) == len(paths) == 4


def test_the_networkx_view_cannot_be_changed() -> None:
    graph = graph_of([Operator("Relu", ("x",), ("y",))])
    assert sorted(map(str, graph.net.nodes)) == ["0", "x", "y"]
    with pytest.raises(Exception, match=r"[Ff]rozen"):
        graph.net.add_node("z")


def test_long_chains_need_no_recursion() -> None:
    length = 5000
    names = ["x", *(f"v{i}" for i in range(1, length)), "y"]
    graph = graph_of(
        [Operator("Add", (names[i], "W"), (names[i + 1],)) for i in range(length)], ("x",), ("y",), ones("W", 1)
    )
    check(graph)
    assert len(graph.copy()) == length
    assert len(weights(graph)[0].uses) == length


def test_long_chains_of_transparent_operators_need_no_recursion() -> None:
    names = ["W", *(f"v{i}" for i in range(5000))]
    chain = [Operator("Identity", (names[i],), (names[i + 1],)) for i in range(5000)]
    graph = graph_of([*chain, Operator("MatMul", ("x", names[-1]), ("y",))], ("x",), ("y",), ones("W", 1, 1))
    (weight,) = weights(graph)
    assert [(use.operator.op_type, use.index, len(use.via)) for use in weight.uses] == [("MatMul", 1, 5000)]


def test_wide_fan_out_keeps_every_use() -> None:
    wide = [Operator("Add", ("x", "W"), (f"v{i}",)) for i in range(3000)]
    total = Operator("Sum", tuple(f"v{i}" for i in range(3000)), ("y",))
    graph = graph_of([*wide, total], ("x",), ("y",), ones("W", 1))
    assert graph.uses("x") == [Use(i, 0) for i in range(3000)]
    assert len(weights(graph)[0].uses) == 3000
    check(graph)


def test_diamonds_are_walked_once() -> None:
    """2^64 paths from x to y, and from W to its use."""
    operators = [Operator("Concat", (f"w{i}", f"w{i}"), (f"w{i + 1}",)) for i in range(64)]
    operators += [Operator("Add", (f"v{i}", f"v{i}"), (f"v{i + 1}",)) for i in range(64)]
    graph = graph_of([*operators, Operator("MatMul", ("v64", "w64"), ("y",))], ("v0",), ("y",), ones("w0", 1))
    assert list(problems(graph)) == []
    assert len(weights(graph)[0].uses) == 1
