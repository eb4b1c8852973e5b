"""strip on small graphs: what it takes out, what it leaves alone and says why, and that models compute the same."""

import itertools
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import onnx
import pytest
from hypothesis import given, settings
from onnx import TensorProto, helper, numpy_helper

from graphshrink.errors import UsageError
from graphshrink.ir import edit
from graphshrink.ir.check import check
from graphshrink.ir.compare import difference, interface_difference
from graphshrink.ir.graph import Annotation, Graph, Training
from graphshrink.ir.operator import Record
from graphshrink.ir.types import Array
from graphshrink.ir.weight import weights
from graphshrink.onnx_io.emit import emit, text_bytes
from graphshrink.onnx_io.load import load
from graphshrink.passes.strip import Strip
from graphshrink.passing.base import Context, PassResult, Selection
from tests.models import DIGITS, TESTMODELS, model_of, normal
from tests.runners import OPTIMISED, run
from tests.strategies import WIDTH, models

Described = TypeVar("Described")

SHORT = {
    "encoder.weight": "b",  # used four times
    "/encoder/Layer_output": "c",
    "/encoder/MatMul_output": "d",  # these twice, in the order in which they come up
    "else_out": "e",
    "scale": "f",
    "then_out": "g",
    "left": "h",
    "right": "i",
    "product": "j",
    "result": "k",
}

DECLARED = {"/encoder/MatMul_output": "c", "/encoder/Layer_output": "d"}  # the declaration is one more use


def sample(
    short: Mapping[str, str] | None = None, *, declared: bool = True, docs: bool = True, named: bool = True
) -> onnx.ModelProto:
    """A weight that the main graph, a branch and a local function use; with all its texts, or without some."""

    def n(name: str) -> str:
        return (short or {}).get(name, name)

    def described(proto: Described, inner: bool = True) -> Described:
        if docs or not inner:
            message: Any = proto
            message.doc_string = "what it is"
        return proto

    def node(op_type: str, inputs: list[str], output: str, **attributes: Any) -> onnx.NodeProto:
        name = f"/encoder/{op_type}" if named else None
        return described(helper.make_node(op_type, list(map(n, inputs)), [n(output)], name, **attributes))

    def info(name: str, inner: bool = True) -> onnx.ValueInfoProto:
        return described(helper.make_tensor_value_info(n(name), TensorProto.FLOAT, ["n", 2]), inner)

    def tensor(array: np.ndarray, name: str) -> onnx.TensorProto:
        return described(numpy_helper.from_array(array, name))

    held = tensor(np.array([2, 3], np.float32), "a name inside" if named else "")
    if not named:
        held.ClearField("name")
    then_nodes = [
        node("Constant", [], "scale", value=held),
        node("Mul", ["/encoder/Layer_output", "scale"], "then_out"),
    ]
    else_nodes = [node("MatMul", ["/encoder/Layer_output", "encoder.weight"], "else_out")]
    branches = [(then_nodes, "then_out"), (else_nodes, "else_out")]
    bodies = [described(helper.make_graph(nodes, "branch", [], [info(output)])) for nodes, output in branches]
    graph = helper.make_graph(
        [
            node("MatMul", ["a", "encoder.weight"], "/encoder/MatMul_output"),
            node("Layer", ["/encoder/MatMul_output", "encoder.weight"], "/encoder/Layer_output", domain="local"),
            node("If", ["flag"], "logits", then_branch=bodies[0], else_branch=bodies[1]),
        ],
        "main",
        [info("a", inner=False), helper.make_tensor_value_info("flag", TensorProto.BOOL, [])],
        [info("logits", inner=False)],
        [tensor(normal(2, 2), n("encoder.weight"))],
        value_info=[info("/encoder/MatMul_output")] if declared else [],
    )
    layer = helper.make_function(
        "local",
        "Layer",
        [n("left"), n("right")],
        [n("result")],
        [node("MatMul", ["left", "right"], "product"), node("Relu", ["product"], "result")],
        [helper.make_opsetid("", 18)],
    )
    opsets = [helper.make_opsetid("", 18), helper.make_opsetid("local", 1)]
    model = helper.make_model(
        described(graph, inner=False), opset_imports=opsets, functions=[described(layer)], ir_version=10
    )
    model.metadata_props.add(key="author", value="somebody")
    return described(model, inner=False)


def stripped(model: onnx.ModelProto | Path, settings: Strip | None = None) -> tuple[Graph, PassResult]:
    """The graph after the pass, checked."""
    graph = load(model)
    result = (settings or Strip()).run(graph, Context())
    check(graph)
    assert interface_difference(graph, load(model)) is None
    return graph, result


def value_names(graph: Graph) -> set[str]:
    return {value.name for _, scope in graph.scopes() for value in scope.values()}


# ---- what it changes


@pytest.mark.parametrize(
    ("settings", "expected"),
    [
        (Strip(), sample(SHORT, declared=False, docs=False, named=False)),
        (Strip(docs=False, names=False), sample(declared=False)),
        (Strip(value_info=False, names=False), sample(docs=False)),
        (Strip(value_info=False, docs=False), sample(SHORT | DECLARED, named=False)),
    ],
    ids=["all", "value_info", "docs", "names"],
)
def test_texts_go_and_everything_else_stays(settings: Strip, expected: onnx.ModelProto) -> None:
    graph, result = stripped(sample(), settings)
    assert emit(graph) == expected
    assert result.did_anything and result.layers == {} and result.kept == []


@pytest.mark.parametrize("optimised", OPTIMISED)
@pytest.mark.parametrize("flag", [False, True])
def test_bodies_and_functions_compute_the_same(optimised: bool, flag: bool) -> None:
    feeds = {"a": normal(3, 2, seed=1), "flag": np.array(flag)}
    before = run(sample(), feeds, optimised=optimised)
    after = run(emit(stripped(sample())[0]), feeds, optimised=optimised)
    np.testing.assert_array_equal(after["logits"], before["logits"])


def test_reports_speak_of_the_original_names() -> None:
    graph, _ = stripped(sample())
    labels = [weight.label for weight in weights(graph)]
    assert labels == ["encoder.weight", "/2:If/then_branch/scale"]
    assert [use.operator_name for use in weights(graph)[0].uses] == [
        "/encoder/MatMul",
        "/encoder/MatMul",  # that of the function
        "/encoder/MatMul",
    ]


@pytest.mark.parametrize(
    ("pattern", "refused"),
    [("encoder.weight", True), ("/encoder/MatMul", True), ("MatMul", True), ("b", False), ("", False)],
)
def test_patterns_match_original_names_alone(pattern: str, refused: bool) -> None:
    weight = weights(stripped(sample())[0])[0]
    assert weight.name == "b"
    assert (Selection(exclude=(pattern,)).refuses(weight) is not None) == refused


def chain(names: list[str], **nodes: Any) -> onnx.ModelProto:
    """x -> Relu -> names[0] -> Relu -> names[1] ... -> y"""
    values = ["x", *names, "y"]
    steps = [helper.make_node("Relu", [one], [other], **nodes) for one, other in itertools.pairwise(values)]
    return model_of(steps, {}, {"x": ["n"]}, {"y": ["n"]})


def test_names_that_become_free_are_given_again_so_that_a_second_run_finds_nothing() -> None:
    """With 52 letters in use, there are less names of two letters than values: `zz` is needed when it becomes `a`."""
    long = [f"value{index}" for index in range(52 + 52 * 52)]
    graph, _ = stripped(chain(["zz", "bc", *long]))
    assert "zz" in value_names(graph)
    again, result = stripped(emit(graph))
    assert not result.did_anything
    assert difference(graph, again) is None


def test_names_that_start_like_those_of_decode_subgraphs_are_not_given() -> None:
    graph, _ = stripped(chain([f"value{index}" for index in range(500)]))
    names = value_names(graph)
    assert len(names) == 502
    assert {"gr", "gt", "x", "y"} <= names
    assert not any(name.startswith("gs") for name in names)


def test_a_name_is_no_shorter_than_its_bytes() -> None:
    graph, _ = stripped(chain(["é"]))
    assert value_names(graph) == {"x", "a", "y"}


# ---- what it leaves alone


def test_a_model_without_spare_text_is_left_alone_and_told_why() -> None:
    model = chain(["q", "r"])
    graph, result = stripped(model)
    assert emit(graph) == model
    assert not result.did_anything
    assert len(result.kept) == 1


def test_operators_of_unknown_domains_are_no_reason_where_nothing_is_declared() -> None:
    _, result = stripped(chain(["long"], domain="com.example"))
    assert result.did_anything and result.kept == []


def test_the_order_of_letters_is_no_reason_to_rename() -> None:
    graph, result = stripped(chain(["z", "long"]))
    assert value_names(graph) == {"x", "z", "a", "y"}
    assert result.did_anything


def test_declarations_stay_where_operators_of_unknown_domains_may_need_them() -> None:
    model = chain(["long", "longer"], domain="com.example")
    for name in ("long", "longer"):
        model.graph.value_info.append(helper.make_tensor_value_info(name, TensorProto.FLOAT, ["n"]))
    model.opset_import.append(helper.make_opsetid("com.example", 1))
    graph, result = stripped(model)
    assert set(graph.value_info) == {"a", "b"}
    assert len(result.kept) == 1 and "com.example" in result.kept[0]


def test_metadata_stays_with_the_declarations_that_carry_it() -> None:
    model = chain(["long", "longer"])
    for name in ("long", "longer"):
        model.graph.value_info.append(helper.make_tensor_value_info(name, TensorProto.FLOAT, ["n"], "doc"))
    model.graph.value_info[1].metadata_props.add(key="k", value="v")
    model.graph.node[0].metadata_props.add(key="k", value="v")
    graph, _ = stripped(model)
    (info,) = graph.value_info.values()
    assert (info.name, info.doc, info.metadata) == ("a", None, (("k", "v"),))
    assert graph.operator(0).metadata == (("k", "v"),)


def test_names_that_something_else_speaks_of_stay() -> None:
    graph = load(chain(["annotated", "scale", "placed", "trained", "plain"]))
    graph.annotations = (Annotation("annotated", (("SCALE_TENSOR", "scale"),)),)
    assert graph.header is not None
    graph.header.training.append(Training(Graph("s"), None, (("trained", "a"),), ()))
    edit.describe_operator(graph, 2, replace(graph.operator(2), devices=(Record("Device", ()),)))
    Strip().run(graph, Context())
    assert value_names(graph) == {"x", "annotated", "scale", "placed", "trained", "b", "y"}  # `a` is the training's


def test_names_inside_training_information_are_not_given() -> None:
    graph = load(chain(["long"]))
    inner = Graph("step")
    edit.add_operator(inner, replace(graph.operator(0), inputs=("x",), outputs=("a",)))
    assert graph.header is not None
    graph.header.training.append(Training(None, inner, (), ()))
    Strip().run(graph, Context())
    assert value_names(graph) == {"x", "b", "y"}


@pytest.mark.parametrize(("domain", "names"), [("", {"b"}), ("com.microsoft", {"input_ids", "logits"})])
def test_bodies_of_foreign_operators_keep_the_names_of_inputs_and_outputs(domain: str, names: set[str]) -> None:
    """ONNX Runtime's BeamSearch looks for `input_ids` in the graph it holds; Loop goes by the order."""
    info = [helper.make_tensor_value_info(name, TensorProto.FLOAT, ["n"]) for name in ("input_ids", "logits")]
    body_nodes = [helper.make_node("Relu", ["input_ids"], ["inside"]), helper.make_node("Relu", ["inside"], ["logits"])]
    body = helper.make_graph(body_nodes, "body", info[:1], info[1:])
    node = helper.make_node("Loop", ["x"], ["y"], domain=domain, body=body)
    graph, _ = stripped(model_of([node], {}, {"x": ["n"]}, {"y": ["n"]}))
    (_, (_, inner)) = graph.nested()
    assert names <= value_names(inner)
    assert "inside" not in value_names(inner)
    assert ("input_ids" in value_names(inner)) == (domain != "")


def test_weights_that_are_inputs_keep_their_names() -> None:
    inputs: dict[str, list[int | str]] = {"x": ["n", 2], "weight": [2, 2]}
    model = model_of(
        [helper.make_node("MatMul", ["x", "weight"], ["hidden"]), helper.make_node("Relu", ["hidden"], ["y"])],
        {"weight": normal(2, 2)},
        inputs,
        {"y": ["n", 2]},
        opset=9,
        ir_version=3,
    )
    assert value_names(stripped(model)[0]) == {"x", "weight", "a", "y"}


def test_asking_for_nothing_is_refused() -> None:
    with pytest.raises(UsageError):
        Strip(value_info=False, docs=False, names=False)


# ---- any model, and real ones


@settings(max_examples=60, deadline=None)
@given(model=models())
def test_any_model_is_stripped_and_a_second_run_finds_nothing(model: onnx.ModelProto) -> None:
    graph, result = stripped(model)
    smaller = emit(graph)
    assert result.did_anything == (smaller.ByteSize() < emit(load(model)).ByteSize())
    again, repeated = stripped(smaller)
    assert not repeated.did_anything
    assert emit(again) == smaller


@settings(max_examples=40, deadline=None)
@given(model=models(runnable=True))
def test_any_model_computes_the_same(model: onnx.ModelProto) -> None:
    smaller = emit(stripped(model)[0])
    for flag in (False, True):
        feeds = {"x": normal(3, WIDTH), "flag": np.array(flag)}
        before, after = (run(m, feeds, optimised=False) for m in (model, smaller))
        np.testing.assert_array_equal(after["y"], before["y"])


REAL = sorted(TESTMODELS.glob("*.onnx"))


@pytest.mark.parametrize("path", REAL, ids=lambda path: path.stem)
def test_real_models_get_smaller_and_give_the_same_bits(path: Path) -> None:
    model = onnx.load(path)
    graph, result = stripped(path)
    smaller = emit(graph)
    saved = emit(load(path)).ByteSize() - smaller.ByteSize()
    assert saved > 150  # lenet-300-100, with ten short names, has least
    # What is said of bytes leaves out the length fields around large tensors.
    assert abs(text_bytes(load(path)) - text_bytes(graph) - saved) <= 8
    assert result.did_anything
    feeds = feeds_of(model)
    for optimised in OPTIMISED:
        before, after = (run(m, feeds, optimised=optimised) for m in (model, smaller))
        assert before.keys() == after.keys()
        assert all(before[name].tobytes() == after[name].tobytes() for name in before)


def feeds_of(model: onnx.ModelProto) -> dict[str, Array]:
    """Two digits, or what a model takes instead; open sizes are 2, and 96 where pixels are counted."""
    feeds: dict[str, Array] = {}
    for value in model.graph.input:
        sizes = [max(0, dim.dim_value) for dim in value.type.tensor_type.shape.dim]
        if sizes[1:] == [1, 28, 28]:
            feeds[value.name] = np.load(DIGITS)["input"][:2]
        elif value.type.tensor_type.elem_type == onnx.TensorProto.INT64:
            feeds[value.name] = np.ones([size or 2 for size in sizes], np.int64)
        else:
            open_size = 96 if len(sizes) == 4 else 16_000
            shape = [size or (open_size if axis else 2) for axis, size in enumerate(sizes)]
            feeds[value.name] = np.asarray(normal(*shape), np.float32)
    return feeds
