"""What a model may ask for, at its bounds and beyond them."""

from collections.abc import Iterable

import onnx
import pytest
from onnx import TensorProto, helper

from graphshrink.errors import ModelError
from graphshrink.onnx_io import limits
from graphshrink.onnx_io.limits import MAX_NESTING, expect_bounded
from graphshrink.onnx_io.load import load
from tests.models import model_of, two_layers

DOMAIN = "local"


def identity(source: str, target: str) -> onnx.NodeProto:
    return helper.make_node("Identity", [source], [target])


def call(name: str, source: str, target: str, domain: str = DOMAIN) -> onnx.NodeProto:
    return helper.make_node(name, [source], [target], domain=domain)


def function(name: str, nodes: list[onnx.NodeProto]) -> onnx.FunctionProto:
    imports = [helper.make_opsetid("", 13), helper.make_opsetid(DOMAIN, 1)]
    return helper.make_function(DOMAIN, name, ["x"], ["y"], nodes, imports)


def calling(*nodes: onnx.NodeProto, functions: Iterable[onnx.FunctionProto]) -> onnx.ModelProto:
    model = model_of(list(nodes), {}, {"x": [1]}, {"y": [1]})
    model.opset_import.append(helper.make_opsetid(DOMAIN, 1))
    model.functions.extend(functions)
    return model


def doubling(depth: int) -> list[onnx.FunctionProto]:
    """Functions f0, f1, ..., of which each calls the one before it twice: 2**depth operators in all."""
    first = function("f0", [identity("x", "y")])
    rest = [
        function(f"f{level}", [call(f"f{level - 1}", "x", "h"), call(f"f{level - 1}", "h", "y")])
        for level in range(1, depth + 1)
    ]
    return [first, *rest]


def nested(depth: int) -> onnx.ModelProto:
    """If in If in If ..."""
    leaf = graph = helper.make_graph([identity("x", "a")], "g", [], [helper.make_empty_tensor_value_info("a")])
    for level in range(depth - 1):
        node = helper.make_node("If", ["c"], [f"v{level}"], then_branch=graph, else_branch=leaf)
        graph = helper.make_graph([node], "g", [], [helper.make_empty_tensor_value_info(f"v{level}")])
    model = model_of([], {}, {"x": [1]}, {})
    model.graph.input.append(helper.make_tensor_value_info("c", TensorProto.BOOL, []))
    model.graph.node.extend(graph.node)
    return model


def refused(model: onnx.ModelProto) -> str:
    with pytest.raises(ModelError) as caught:
        load(model)
    return str(caught.value)


def test_functions_that_expand_to_a_billion_operators_are_refused() -> None:
    assert "expand" in refused(calling(call("f30", "x", "y"), functions=doubling(30)))


def test_functions_that_expand_to_more_digits_than_python_prints_are_refused() -> None:
    assert "expand" in refused(calling(call("f3000", "x", "y"), functions=doubling(3000)))


def test_functions_that_expand_to_few_operators_are_loaded() -> None:
    assert len(load(calling(call("f10", "x", "y"), functions=doubling(10)))) == 1


def test_a_function_that_nobody_calls_may_be_of_any_size() -> None:
    assert len(load(calling(identity("x", "y"), functions=doubling(30)))) == 1


@pytest.mark.parametrize("length", [1, 2, 5])
def test_functions_that_call_each_other_in_a_circle_are_refused(length: int) -> None:
    names = [f"f{i}" for i in range(length)]
    ring = [function(name, [call(names[(i + 1) % length], "x", "y")]) for i, name in enumerate(names)]
    assert "calls itself" in refused(calling(call("f0", "x", "y"), functions=ring))


def test_functions_may_share_a_callee() -> None:
    shared = function("shared", [identity("x", "y")])
    left, right = (function(name, [call("shared", "x", "y")]) for name in ("left", "right"))
    top = function("top", [call("left", "x", "h"), call("right", "h", "k"), call("shared", "k", "y")])
    assert len(load(calling(call("top", "x", "y"), functions=[top, left, right, shared]))) == 1


def test_a_function_of_the_models_own_domain_has_to_be_defined() -> None:
    assert "not defined" in refused(calling(call("missing", "x", "y"), functions=doubling(0)))


def test_a_custom_operator_is_no_undefined_function() -> None:
    model = calling(call("Custom", "x", "h", "vendor"), call("f0", "h", "y"), functions=doubling(0))
    assert len(load(model)) == 2


def test_a_function_is_defined_once() -> None:
    assert "twice" in refused(calling(call("f0", "x", "y"), functions=[*doubling(0), *doubling(0)]))


@pytest.mark.parametrize("domains", [("", ""), ("", "ai.onnx"), ("vendor", "vendor")])
@pytest.mark.parametrize("versions", [(13, 13), (13, 14)])
def test_an_operator_set_is_imported_once(domains: tuple[str, str], versions: tuple[int, int]) -> None:
    model = two_layers()
    del model.opset_import[:]
    model.opset_import.extend(map(helper.make_opsetid, domains, versions))
    assert "twice" in refused(model)


def test_an_operator_set_has_a_version() -> None:
    model = two_layers()
    model.opset_import[0].version = 0
    assert "version 0" in refused(model)


def test_graphs_nest_down_to_the_limit_and_no_deeper() -> None:
    assert len(load(nested(MAX_NESTING))) == 1
    assert "deep" in refused(nested(MAX_NESTING + 1))


def test_operators_are_counted_wherever_they_are(monkeypatch: pytest.MonkeyPatch) -> None:
    model = calling(call("f1", "x", "y"), functions=doubling(1))  # 1 in the graph, 3 in functions
    monkeypatch.setattr(limits, "MAX_OPERATORS", 4)
    expect_bounded(model)
    monkeypatch.setattr(limits, "MAX_OPERATORS", 3)
    with pytest.raises(ModelError, match="more than 3 operators"):
        expect_bounded(model)
