import numpy as np

from graphshrink.ir import edit
from graphshrink.ir.graph import Function, Graph, Header
from graphshrink.ir.operator import Attribute, AttributeType, Operator, attributes_of
from graphshrink.ir.tensor import Tensor, tensor_of
from graphshrink.ir.types import ValueInfo
from graphshrink.ir.weight import Weight, WeightUse, constants, weights


def ones(name: str, *shape: int) -> Tensor:
    return tensor_of(np.ones(shape or (2, 2), np.float32), name)


def graph_of(
    *operators: Operator,
    inputs: tuple[str, ...] = ("x",),
    outputs: tuple[str, ...] = ("y",),
    held: tuple[str, ...] = ("W",),
    ir_version: int | None = 8,
    functions: tuple[Function, ...] = (),
) -> Graph:
    graph = Graph("g", header=Header(ir_version=ir_version, functions=list(functions)))
    fill(graph, *operators, inputs=inputs, outputs=outputs, held=held)
    return graph


def fill(
    graph: Graph,
    *operators: Operator,
    inputs: tuple[str, ...] = (),
    outputs: tuple[str, ...] = (),
    held: tuple[str, ...] = (),
) -> Graph:
    edit.set_inputs(graph, map(ValueInfo, inputs))
    for name in held:
        edit.add_initializer(graph, ones(name))
    for operator in operators:
        edit.add_operator(graph, operator)
    edit.set_outputs(graph, map(ValueInfo, outputs))
    return graph


def with_bodies(operator: Operator, **bodies: Graph) -> Operator:
    for name, body in bodies.items():
        operator = operator.with_attribute(Attribute(name, AttributeType.GRAPH, body))
    return operator


def function(name: str, *operators: Operator, inputs: tuple[str, ...], outputs: tuple[str, ...]) -> Function:
    body = fill(Graph(), *operators, inputs=inputs, outputs=outputs)
    return Function(name, "local", None, inputs, outputs, (), (), body)


def call(name: str, *inputs: str, output: str) -> Operator:
    return Operator(name, inputs, (output,), domain="local")


def seen(use: WeightUse) -> tuple[str, int, tuple[str, ...]]:
    return use.operator.op_type, use.index, tuple(operator.op_type for operator in use.via)


def only(graph: Graph) -> Weight:
    (weight,) = weights(graph)
    return weight


def test_a_tensor_used_twice_is_one_weight_with_two_uses() -> None:
    weight = only(graph_of(Operator("MatMul", ("x", "W"), ("a",)), Operator("Gemm", ("a", "W", "W"), ("y",))))
    assert [seen(use) for use in weight.uses] == [("MatMul", 1, ()), ("Gemm", 1, ()), ("Gemm", 2, ())]
    assert (weight.label, weight.exposed) == ("W", None)
    assert not weight.array.flags.writeable


def test_ties_through_operators_that_only_move_or_retype() -> None:
    movers = ("Identity", "Transpose", "Cast", "Reshape", "Squeeze", "Unsqueeze", "Flatten", "Slice", "Split", "Concat")
    weight = only(
        graph_of(
            *(Operator(op_type, ("W",), (f"w{op_type}",)) for op_type in movers),
            *(Operator("MatMul", ("x", f"w{op_type}"), (f"y{op_type}",)) for op_type in movers),
        )
    )
    assert [seen(use) for use in weight.uses] == [("MatMul", 1, (op_type,)) for op_type in movers]


def test_ties_through_a_chain_of_movers() -> None:
    weight = only(
        graph_of(
            Operator("Cast", ("W",), ("f",), attributes_of(to=1)),
            Operator("Transpose", ("f",), ("t",), attributes_of(perm=(1, 0))),
            Operator("Split", ("t",), ("s0", "", "s2")),
            Operator("MatMul", ("x", "s0"), ("a",)),
            Operator("MatMul", ("a", "s2"), ("y",)),
        )
    )
    assert [seen(use) for use in weight.uses] == [
        ("MatMul", 1, ("Cast", "Transpose", "Split")),
        ("MatMul", 1, ("Cast", "Transpose", "Split")),
    ]


def test_only_the_data_input_of_a_mover_moves() -> None:
    weight = only(graph_of(Operator("Reshape", ("x", "W"), ("y",))))
    assert [seen(use) for use in weight.uses] == [("Reshape", 1, ())]


def test_any_input_of_a_concatenation_moves() -> None:
    graph = graph_of(Operator("Concat", ("V", "W"), ("c",)), Operator("MatMul", ("x", "c"), ("y",)), held=("V", "W"))
    assert [[seen(use) for use in weight.uses] for weight in weights(graph)] == [[("MatMul", 1, ("Concat",))]] * 2


def test_movers_of_other_domains_are_barriers() -> None:
    weight = only(graph_of(Operator("Transpose", ("W",), ("y",), domain="custom")))
    assert [seen(use) for use in weight.uses] == [("Transpose", 0, ())]


def test_uses_in_nested_graphs_two_deep() -> None:
    inner = fill(Graph(), Operator("MatMul", ("x", "t"), ("i",)), outputs=("i",))
    outer = fill(
        Graph(),
        Operator("Transpose", ("W",), ("t",)),
        with_bodies(Operator("If", ("flag",), ("o",)), then_branch=inner),
        outputs=("o",),
    )
    graph = graph_of(
        with_bodies(Operator("If", ("flag",), ("y",)), then_branch=outer, else_branch=fill(Graph(), outputs=("x",))),
        Operator("MatMul", ("x", "W"), ("z",)),
        inputs=("x", "flag"),
    )
    weight = only(graph)
    assert [seen(use) for use in weight.uses] == [("MatMul", 1, ("Transpose",)), ("MatMul", 1, ())]
    assert [use.graph for use in weight.uses] == [inner, graph]


def test_a_value_that_a_body_defines_itself_is_not_the_outer_one() -> None:
    shadowing = fill(Graph(), Operator("MatMul", ("x", "W"), ("o",)), outputs=("o",), held=("W",))
    using = fill(Graph(), Operator("Add", ("x", "W"), ("p",)), outputs=("p",))
    graph = graph_of(
        with_bodies(Operator("If", ("flag",), ("y",)), then_branch=shadowing, else_branch=using),
        inputs=("x", "flag"),
    )
    outer, inner = weights(graph)
    assert [seen(use) for use in outer.uses] == [("Add", 1, ())]
    assert [seen(use) for use in inner.uses] == [("MatMul", 1, ())]
    assert (outer.label, inner.label) == ("W", "/0:If/then_branch/W")


def test_uses_in_functions_also_when_called_twice() -> None:
    layer = function("Layer", Operator("MatMul", ("a", "b"), ("c",)), inputs=("a", "b"), outputs=("c",))
    graph = graph_of(
        call("Layer", "x", "W", output="h"),
        call("Layer", "h", "V", output="i"),
        call("Layer", "i", "W", output="y"),
        held=("W", "V"),
        functions=(layer,),
    )
    for weight in weights(graph):
        assert [seen(use) for use in weight.uses] == [("MatMul", 1, ())]
        assert weight.uses[0].graph is layer.body


def test_functions_that_call_functions_and_bodies_inside_them() -> None:
    branch = fill(Graph(), Operator("Gemm", ("a", "b"), ("o",)), outputs=("o",))
    inner = function(
        "Inner", with_bodies(Operator("If", ("f",), ("c",)), then_branch=branch), inputs=("a", "b", "f"), outputs=("c",)
    )
    outer = function("Outer", call("Inner", "p", "q", "r", output="s"), inputs=("p", "q", "r"), outputs=("s",))
    graph = graph_of(call("Outer", "x", "W", "flag", output="y"), inputs=("x", "flag"), functions=(outer, inner))
    assert [seen(use) for use in only(graph).uses] == [("Gemm", 1, ())]


def test_recursive_functions_do_not_hang() -> None:
    endless = function(
        "Endless",
        call("Endless", "a", "b", output="r"),
        Operator("MatMul", ("r", "b"), ("c",)),
        inputs=("a", "b"),
        outputs=("c",),
    )
    graph = graph_of(call("Endless", "x", "W", output="y"), functions=(endless,))
    assert [seen(use) for use in only(graph).uses] == [("MatMul", 1, ())]


def test_functions_that_double_do_not_explode() -> None:
    """2^64 calls of the last one: each calls the next one twice."""
    twice = [
        function(
            f"F{i}",
            call(f"F{i + 1}", "a", "b", output="m"),
            call(f"F{i + 1}", "m", "b", output="c"),
            inputs=("a", "b"),
            outputs=("c",),
        )
        for i in range(64)
    ]
    last = function("F64", Operator("MatMul", ("a", "b"), ("c",)), inputs=("a", "b"), outputs=("c",))
    graph = graph_of(call("F0", "x", "W", output="y"), functions=(*twice, last))
    assert [seen(use) for use in only(graph).uses] == [("MatMul", 1, ())]


def test_a_function_wins_over_a_standard_operator_of_its_name() -> None:
    own = function("Identity", Operator("MatMul", ("a", "a"), ("c",)), inputs=("a",), outputs=("c",))
    own.domain = "ai.onnx"
    graph = graph_of(Operator("Identity", ("W",), ("y",)), functions=(own,))
    assert [seen(use) for use in only(graph).uses] == [("MatMul", 0, ()), ("MatMul", 1, ())]


def test_surplus_inputs_of_a_call_lead_nowhere() -> None:
    layer = function("Layer", Operator("Relu", ("a",), ("c",)), inputs=("a",), outputs=("c",))
    assert only(graph_of(call("Layer", "x", "W", output="y"), functions=(layer,))).uses == ()


def test_constants_of_function_bodies_and_nested_graphs_are_weights() -> None:
    held = Operator("Constant", (), ("C",)).with_attribute(Attribute("value", AttributeType.TENSOR, ones("")))
    body = fill(Graph(), held, Operator("MatMul", ("x", "C"), ("o",)), outputs=("o",))
    layer = function(
        "Layer",
        Operator("Constant", (), ("C",)).with_attribute(Attribute("value", AttributeType.TENSOR, ones(""))),
        Operator("MatMul", ("a", "C"), ("c",)),
        inputs=("a",),
        outputs=("c",),
    )
    graph = graph_of(
        with_bodies(Operator("If", ("flag",), ("h",)), then_branch=body),
        call("Layer", "h", output="y"),
        inputs=("x", "flag"),
        held=(),
        functions=(layer,),
    )
    assert [weight.label for weight in weights(graph)] == ["/0:If/then_branch/C", "Layer()/C"]
    assert all(len(weight.uses) == 1 and weight.exposed is None for weight in weights(graph))


def test_initializers_come_before_constant_operators() -> None:
    held = Operator("Constant", (), ("C",)).with_attribute(Attribute("value", AttributeType.TENSOR, ones("")))
    graph = graph_of(held, Operator("Sum", ("C", "V", "W"), ("y",)), held=("W", "V"))
    assert [name for name, _ in constants(graph)] == ["W", "V", "C"]


def test_a_constant_without_an_output_is_no_weight() -> None:
    held = Operator("Constant", (), ("",)).with_attribute(Attribute("value", AttributeType.TENSOR, ones("")))
    assert weights(graph_of(held, held, held=())) == []


def test_overridable_initializers_are_exposed() -> None:
    weight = only(graph_of(Operator("MatMul", ("x", "W"), ("y",)), inputs=("x", "W")))
    assert weight.exposed == "the caller may override it (it is also an input)"


def test_below_ir_version_4_inputs_with_initializers_are_constants() -> None:
    for version in (3, 1, None):
        graph = graph_of(Operator("MatMul", ("x", "W"), ("y",)), inputs=("x", "W"), ir_version=version)
        assert only(graph).exposed is None


def test_below_ir_version_4_so_they_are_in_bodies() -> None:
    body = fill(Graph(), Operator("MatMul", ("x", "W"), ("o",)), inputs=("W",), outputs=("o",), held=("W",))
    old = graph_of(
        with_bodies(Operator("If", ("flag",), ("y",)), then_branch=body), inputs=("x", "flag"), held=(), ir_version=3
    )
    assert only(old).exposed is None
    assert old.header is not None
    old.header.ir_version = 4
    assert only(old).exposed is not None


def test_outputs_are_exposed_also_behind_movers_and_in_bodies() -> None:
    multiply = Operator("MatMul", ("x", "W"), ("y",))
    assert only(graph_of(multiply, outputs=("y", "W"))).exposed == "it is an output of its graph"
    moved = graph_of(multiply, Operator("Transpose", ("W",), ("t",)), outputs=("y", "t"))
    assert only(moved).exposed == "it is an output of its graph"
    body = fill(Graph(), outputs=("W",))
    given = graph_of(
        multiply, with_bodies(Operator("If", ("flag",), ("z",)), then_branch=body), inputs=("x", "flag"), outputs=("z",)
    )
    assert only(given).exposed == "it is an output of its graph"
    same = function("Same", inputs=("a",), outputs=("a",))
    passed = graph_of(call("Same", "W", output="t"), functions=(same,))
    assert only(passed).exposed == "it is an output of its graph"


def filling(shape: list[int] | None, value: Tensor | None = None) -> Graph:
    """x @ C -> y, with C from ConstantOfShape; its shape is the caller's where none is given."""
    attributes = {} if value is None else {"value": Attribute("value", AttributeType.TENSOR, value)}
    maker = Operator("ConstantOfShape", ("s",), ("C",), attributes, name="fill")
    graph = graph_of(maker, Operator("MatMul", ("x", "C"), ("y",)), inputs=("x",) if shape else ("x", "s"), held=())
    if shape is not None:
        edit.add_initializer(graph, tensor_of(np.array(shape, np.int64), "s"))
    return graph


def test_what_constant_of_shape_makes_of_a_constant_shape_is_a_weight() -> None:
    found = {weight.name: weight for weight in weights(filling([2, 3], tensor_of(np.array([1.5], np.float32))))}
    np.testing.assert_array_equal(found["C"].array, np.full((2, 3), 1.5, np.float32))
    assert list(map(seen, found["C"].uses)) == [("MatMul", 1, ())]
    assert found["C"].tensor.buffer == np.full(6, 1.5, np.float32).tobytes()
    default = {weight.name: weight for weight in weights(filling([2]))}["C"]
    assert default.array.tolist() == [0.0, 0.0] and default.array.dtype == np.float32


def test_a_filled_weight_of_any_size_takes_no_memory() -> None:
    huge = {weight.name: weight for weight in weights(filling([1 << 20, 1 << 20]))}["C"]
    assert huge.array.shape == (1 << 20, 1 << 20) and huge.array[-1, -1] == 0


def test_shapes_that_are_not_constant_or_absurd_make_no_weight() -> None:
    graphs = [filling(None), filling([-1]), filling([1 << 40, 1 << 40]), filling([2], ones("v", 2))]
    overridable = filling([2])
    edit.set_inputs(overridable, map(ValueInfo, ("x", "s")))
    for graph in (*graphs, overridable):
        assert "C" not in {weight.name for weight in weights(graph)}


def test_a_filled_weight_can_be_given_other_values() -> None:
    graph = filling([2, 2])
    edit.set_constant(graph, "C", tensor_of(np.eye(2, dtype=np.float32), "C"))
    np.testing.assert_array_equal({w.name: w for w in weights(graph)}["C"].array, np.eye(2))
    constant = graph.operator(graph.order[0])
    assert (constant.op_type, constant.inputs, constant.name) == ("Constant", (), "fill")
