"""Graphs that contradict themselves, and sound ones of an unusual build."""

from collections.abc import Callable, Sequence
from typing import Any, Final

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from graphshrink.ir.types import Array
from tests.hostile.cases import DONE, DONE_OR_REFUSED, REFUSED, UNVERIFIED, Case, Model, model_case, model_cases
from tests.models import model_of, normal, two_layers

INPUT: Final[dict[str, list[int | str]]] = {"x": ["n", 32]}
OUTPUT: Final[dict[str, list[int | str]]] = {"y": ["n", 64]}


def node(kind: str, inputs: Sequence[str], outputs: Sequence[str], **more: Any) -> onnx.NodeProto:
    """An operator; `more` are its attributes, name and domain."""
    return helper.make_node(kind, inputs, outputs, **more)


def with_nodes(*nodes: onnx.NodeProto, outputs: dict[str, list[int | str]] | None = None) -> onnx.ModelProto:
    """x (n, 32) -> MatMul W -> h (n, 64) -> the given nodes -> y."""
    first = node("MatMul", ["x", "W"], ["h"])
    return model_of([first, *nodes], {"W": normal(32, 64)}, INPUT, outputs or OUTPUT)


def changed(change: Callable[[onnx.ModelProto], object], model: Callable[[], onnx.ModelProto] = two_layers) -> Model:
    """A sound model, and what a function does to it."""
    made = model()
    change(made)
    return made


def _opsets(*imports: tuple[str, int]) -> Callable[[], Model]:
    def change(model: onnx.ModelProto) -> None:
        del model.opset_import[:]
        model.opset_import.extend(helper.make_opsetid(*entry) for entry in imports)

    return lambda: changed(change)


def _ir(version: int | None) -> Callable[[], Model]:
    def change(model: onnx.ModelProto) -> None:
        if version is None:
            model.ClearField("ir_version")
        else:
            model.ir_version = version

    return lambda: changed(change)


def _repeated(name: str) -> Callable[[], Model]:
    """A model whose graph says the first entry of a field twice."""

    def change(model: onnx.ModelProto) -> None:
        entries = getattr(model.graph, name)
        entries.append(entries[0])

    return lambda: changed(change)


def constant(array: Array, name: str) -> onnx.TensorProto:
    """An initializer."""
    return numpy_helper.from_array(array, name)


def _another(array: Array, name: str) -> Callable[[], Model]:
    return lambda: changed(lambda model: model.graph.initializer.append(constant(array, name)))


def _ring(length: int) -> Model:
    """y depends on a ring of operators."""
    nodes = [node("Add", ["h", f"v{(i + 1) % length}"], [f"v{i}"]) for i in range(length)]
    return with_nodes(*nodes, node("Identity", ["v0"], ["y"]))


def _chain(length: int) -> Model:
    names = ["h", *(f"v{i}" for i in range(length - 1)), "y"]
    return with_nodes(*(node("Relu", [names[i]], [names[i + 1]]) for i in range(length)))


def _diamonds(count: int) -> Model:
    """2^count paths from h to y."""
    nodes: list[onnx.NodeProto] = []
    for i in range(count):
        given = f"d{i}" if i else "h"
        nodes += [node("Relu", [given], [f"l{i}"]), node("Neg", [given], [f"r{i}"])]
        nodes.append(node("Max", [f"l{i}", f"r{i}"], [f"d{i + 1}" if i + 1 < count else "y"]))
    return with_nodes(*nodes)


def _fan(width: int) -> Model:
    nodes = [node("Relu", ["h"], [f"v{i}"]) for i in range(width)]
    return with_nodes(*nodes, node("Sum", [f"v{i}" for i in range(width)], ["y"]))


def _many_outputs(count: int) -> Model:
    nodes = [node("Relu", ["h"], [f"v{i}"]) for i in range(count)]
    return with_nodes(*nodes, outputs={f"v{i}": ["n", 64] for i in range(count)})


def _many_names(count: int) -> Model:
    """As many small initializers, most of them unused."""
    return changed(
        lambda model: model.graph.initializer.extend(constant(np.zeros(1, np.float32), f"c{i}") for i in range(count))
    )


def _broken_node(kind: str, inputs: Sequence[str], outputs: Sequence[str], **more: Any) -> Callable[[], Model]:
    """An operator between h and y."""
    return lambda: with_nodes(node(kind, inputs, outputs, **more))


def _node_with(attributes: Sequence[onnx.AttributeProto], kind: str = "Softmax") -> Callable[[], Model]:
    made = node(kind, ["h"], ["y"])
    made.attribute.extend(attributes)
    return lambda: with_nodes(made)


def _random() -> Model:
    return with_nodes(node("RandomNormalLike", ["h"], ["r"]), node("Add", ["h", "r"], ["y"]))


def _custom() -> Model:
    made = with_nodes(node("Fancy", ["h"], ["y"], domain="com.example"))
    made.opset_import.append(helper.make_opsetid("com.example", 1))
    return made


def _reversed() -> Model:
    def change(model: onnx.ModelProto) -> None:
        nodes = [*model.graph.node][::-1]
        del model.graph.node[:]
        model.graph.node.extend(nodes)

    return changed(change)


def _without(name: str) -> Callable[[], Model]:
    return lambda: changed(lambda model: model.graph.ClearField(name))


def _dangling_training() -> Model:
    def change(model: onnx.ModelProto) -> None:
        training = model.training_info.add()
        training.algorithm.CopyFrom(two_layers().graph)
        training.algorithm.initializer[0].raw_data = b"123"

    return changed(change)


def _constant_output() -> Model:
    """W is an output as well."""
    info = helper.make_tensor_value_info("W", TensorProto.FLOAT, [32, 64])
    made = with_nodes(node("Relu", ["h"], ["y"]))
    made.graph.output.append(info)
    return made


def _namesakes() -> Model:
    return with_nodes(*(node("Relu", [given], [made], name="same") for given, made in (("h", "z"), ("z", "y"))))


def _no_inputs() -> Model:
    nodes = [node("MatMul", ["c", "W"], ["y"])]
    return model_of(nodes, {"c": normal(4, 32), "W": normal(32, 64, seed=1)}, {}, {"y": [4, 64]})


def _clashes() -> Model:
    """Values that have the names which a compressor would give its own."""
    names = [f"W{suffix}" for suffix in ("_codes", "_codebook", "_decoded", "/codes", "__1", ".codes")]
    nodes = [node("Relu", [("h", *names)[i]], [name]) for i, name in enumerate(names)]
    return with_nodes(*nodes, node("Relu", [names[-1]], ["y"]))


_BROKEN: Final[tuple[tuple[str, Callable[[], Model]], ...]] = (
    ("no graph", lambda: changed(lambda model: model.ClearField("graph"))),
    ("an empty graph", lambda: changed(lambda model: model.graph.Clear())),
    ("no outputs", _without("output")),
    ("inputs undeclared", _without("input")),
    ("no operators", _without("node")),
    ("no opset", _opsets()),
    ("one opset twice", _opsets(("", 13), ("", 13))),
    ("contradictory opsets", _opsets(("", 13), ("", 9))),
    ("contradictory opsets under two names", _opsets(("", 13), ("ai.onnx", 9))),
    ("opset 0", _opsets(("", 0))),
    ("opset -1", _opsets(("", -1))),
    ("opset of the future", _opsets(("", 9999))),
    ("opset 2^62", _opsets(("", 1 << 62))),
    ("IR version of the future", _ir(9999)),
    ("no IR version", _ir(None)),
    ("an initializer twice", _repeated("initializer")),
    ("two initializers of one name", _another(normal(3), "W1")),
    ("an initializer without name", _another(normal(3), "")),
    ("an initializer that an operator makes", _another(normal(3), "h")),
    ("an input twice", _repeated("input")),
    ("an operator twice", _repeated("node")),
    ("an operator that needs itself", lambda: _ring(1)),
    ("a ring of two", lambda: _ring(2)),
    ("a ring of 3,000", lambda: _ring(3_000)),
    ("a value that nothing makes", _broken_node("Add", ["h", "nowhere"], ["y"])),
    ("an output that nothing makes", _broken_node("Relu", ["h"], ["z"])),
    ("one output name twice in an operator", _broken_node("Split", ["h"], ["y", "y"], axis=1)),
    ("an operator without type", _broken_node("", ["h"], ["y"])),
    ("an operator nobody knows", _broken_node("Fancy", ["h"], ["y"])),
    ("a domain that is not imported", _broken_node("Fancy", ["h"], ["y"], domain="com.example")),
    ("too few inputs", _broken_node("MatMul", ["h"], ["y"])),
    ("too many inputs", _broken_node("MatMul", ["h", "W", "W"], ["y"])),
    ("an attribute twice", _node_with([helper.make_attribute("axis", 1)] * 2)),
    ("an attribute of the wrong type", _node_with([helper.make_attribute("axis", "one")])),
    ("an attribute out of range", _node_with([helper.make_attribute("axis", 7)])),
    ("an attribute of a function outside of one", _node_with([onnx.AttributeProto(name="axis", ref_attr_name="a")])),
    ("an attribute of a type nobody knows", _node_with([onnx.AttributeProto(name="axis", i=1)])),
    ("shapes that do not fit", _broken_node("MatMul", ["h", "h"], ["y"])),
    ("broken training information", _dangling_training),
)

_SOUND: Final[tuple[tuple[str, Callable[[], Model]], ...]] = (
    ("without inputs", _no_inputs),
    ("a weight that is an output", _constant_output),
    ("a chain of 5,000 operators", lambda: _chain(5_000)),
    ("2^64 paths", lambda: _diamonds(64)),
    ("a fan-out of 3,000", lambda: _fan(3_000)),
    ("1,000 outputs", lambda: _many_outputs(1_000)),
    ("5,000 initializers", lambda: _many_names(5_000)),
    ("names a compressor would make", _clashes),
    ("an unused domain", _opsets(("", 13), ("com.example", 1))),
    ("values with blanks and quotes", lambda: with_nodes(node("Relu", ["h"], [" '\""]), node("Neg", [" '\""], ["y"]))),
)

# What ONNX forbids and ONNX Runtime runs all the same.
_DOUBTFUL: Final[tuple[tuple[str, Callable[[], Model]], ...]] = (
    ("operators in the wrong order", _reversed),
    ("opset of another domain alone", _opsets(("com.example", 1))),
    ("IR version -1", _ir(-1)),
    ("an output twice", _repeated("output")),
)

CASES: Final[tuple[Case, ...]] = (
    *model_cases(_BROKEN),
    *model_cases(_SOUND, DONE),
    *model_cases(_DOUBTFUL, DONE_OR_REFUSED),
    model_case("operators all of one name", _namesakes, UNVERIFIED, "--no-verify"),  # new ONNX Runtimes refuse it
    model_case("random outputs", _random, REFUSED),
    model_case("random outputs, unverified", _random, UNVERIFIED, "--no-verify"),
    model_case("a custom operator", _custom, REFUSED),
    model_case("a custom operator, unverified", _custom, UNVERIFIED, "--no-verify"),
)
