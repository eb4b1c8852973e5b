"""Declared types and shapes: contradictory, absurd, or rare."""

from collections.abc import Callable, Sequence
from typing import Any, Final

import ml_dtypes
import numpy as np
import onnx
from onnx import TensorProto, TypeProto, helper

from tests.hostile.cases import DONE, DONE_OR_REFUSED, REFUSED, Case, Model, Outcome, model_case, model_cases
from tests.hostile.file import field
from tests.hostile.graph import changed, constant, node, with_nodes
from tests.models import model_of, normal, two_layers

T: Final = TensorProto


def _input(change: Callable[[onnx.ValueInfoProto], object]) -> Callable[[], Model]:
    return lambda: changed(lambda model: change(model.graph.input[0]))


def _output(change: Callable[[onnx.ValueInfoProto], object]) -> Callable[[], Model]:
    return lambda: changed(lambda model: change(model.graph.output[0]))


def _element(kind: int) -> Callable[[onnx.ValueInfoProto], object]:
    return lambda info: setattr(info.type.tensor_type, "elem_type", kind)


def _shape(*sizes: int | str) -> Callable[[onnx.ValueInfoProto], object]:
    def change(info: onnx.ValueInfoProto) -> None:
        info.CopyFrom(helper.make_tensor_value_info(info.name, info.type.tensor_type.elem_type, sizes))

    return change


def _replaced(kind: TypeProto) -> Callable[[onnx.ValueInfoProto], object]:
    return lambda info: info.type.CopyFrom(kind)


def _declared(name: str, kind: int, sizes: Sequence[int | str]) -> Callable[[], Model]:
    """A declaration of an inner value, initializer or input on top of the rest."""
    info = helper.make_tensor_value_info(name, kind, sizes)
    return lambda: changed(lambda model: model.graph.value_info.append(info))


def _declared_twice() -> Model:
    info = helper.make_tensor_value_info("h", T.FLOAT, ["n", 64])
    return changed(lambda model: model.graph.value_info.extend([info, info]))


def _weight_input(kind: int, sizes: Sequence[int]) -> Callable[[], Model]:
    """W1 is declared as an input that it does not fit."""
    info = helper.make_tensor_value_info("W1", kind, sizes)
    return lambda: changed(lambda model: model.graph.input.append(info))


def _map() -> TypeProto:
    return helper.make_map_type_proto(T.STRING, helper.make_tensor_type_proto(T.FLOAT, None))


def _sequence() -> TypeProto:
    return helper.make_sequence_type_proto(helper.make_tensor_type_proto(T.FLOAT, None))


def _opaque() -> TypeProto:
    made = TypeProto()
    made.opaque_type.name = "secret"
    return made


def _nested_sequences(depth: int) -> bytes:
    """An input that is a sequence of sequences of ..., which protobuf itself would not write so deep."""
    kind = helper.make_tensor_type_proto(T.FLOAT, [1]).SerializeToString()
    for _ in range(depth):
        kind = field(4, field(1, kind))
    info = field(1, b"deep") + field(2, kind)
    return two_layers().SerializeToString() + field(7, field(11, info))


def _embedding() -> Model:
    """Indices into a table of 50 rows."""
    made = model_of([node("Gather", ["W", "x"], ["y"])], {"W": normal(50, 16)}, {"x": ["n"]}, {"y": ["n", 16]})
    _element(T.INT64)(made.graph.input[0])
    return made


def _integers() -> Model:
    """No floating number anywhere."""
    made = model_of([node("Add", ["x", "c"], ["y"])], {"c": np.arange(64, dtype=np.int64)}, {"x": [64]}, {"y": [64]})
    for info in (*made.graph.input, *made.graph.output):
        _element(T.INT64)(info)
    return made


def _strings() -> Model:
    """Text in, text out, beside an ordinary branch."""
    made = with_nodes(node("Relu", ["h"], ["y"]), node("Identity", ["text"], ["same"]))
    made.graph.input.append(helper.make_tensor_value_info("text", T.STRING, [2]))
    made.graph.output.append(helper.make_tensor_value_info("same", T.STRING, [2]))
    return made


def _sequence_output() -> Model:
    made = with_nodes(node("Relu", ["h"], ["y"]), node("SequenceConstruct", ["h", "y"], ["both"]))
    made.graph.output.append(helper.make_value_info("both", _sequence()))
    return made


def _brain_floats() -> Model:
    nodes = [
        node("Cast", ["x"], ["a"], to=T.BFLOAT16),
        node("MatMul", ["a", "W"], ["b"]),
        node("Cast", ["b"], ["y"], to=1),
    ]
    weight = {"W": normal(32, 64).astype(ml_dtypes.bfloat16)}
    return model_of(nodes, weight, {"x": ["n", 32]}, {"y": ["n", 64]})


def _mixed() -> Model:
    made = with_nodes(node("Add", ["h", "c"], ["y"]))
    made.graph.initializer.append(constant(normal(64).astype(np.float16), "c"))
    return made


def _same_symbol() -> Model:
    """Two inputs that share a size."""
    made = with_nodes(node("Add", ["h", "more"], ["y"]))
    made.graph.input.append(helper.make_tensor_value_info("more", T.FLOAT, ["n", 64]))
    return made


def _forty_inputs() -> Model:
    more = [f"more{i}" for i in range(40)]
    made = with_nodes(node("Sum", ["h", *more], ["y"]))
    made.graph.input.extend(helper.make_tensor_value_info(name, T.FLOAT, [1]) for name in more)
    return made


def _clear(name: str) -> Callable[[Any], object]:
    return lambda message: message.ClearField(name)


_BROKEN: Final[tuple[tuple[str, Callable[[], Model]], ...]] = (
    ("an input without element type", _input(_element(0))),
    ("an input of element type 99", _input(_element(99))),
    ("an input of integers for MatMul with floats", _input(_element(T.INT64))),
    ("an input of text for MatMul", _input(_element(T.STRING))),
    ("an input that is a map", _input(_replaced(_map()))),
    ("an input that is a sequence", _input(_replaced(_sequence()))),
    ("an input of a secret type", _input(_replaced(_opaque()))),
    ("an input of the wrong width", _input(_shape("n", 33))),
    ("an input of 2^62 rows", _input(_shape(1 << 62, 32))),
    ("an input of 2^62 x 2^62", _input(_shape(1 << 62, 1 << 62))),
    ("an input of 2^40 rows", _input(_shape(1 << 40, 32))),
    ("an output of other type", _output(_element(T.INT64))),
    ("an output that is a map", _output(_replaced(_map()))),
    ("an inner value of other type", _declared("h", T.INT64, ["n", 64])),
    ("a weight of other declared shape", _declared("W1", T.FLOAT, [64, 32])),
    ("an inner value declared twice", _declared_twice),
    ("an input that its weight does not fit", _weight_input(T.FLOAT, [64, 32])),
    ("an input of other type than its weight", _weight_input(T.DOUBLE, [32, 64])),
    ("half and single precision in one operator", _mixed),
    ("500 nested sequences", lambda: _nested_sequences(500)),
    ("100,000 nested sequences", lambda: _nested_sequences(100_000)),
)

_SOUND: Final[tuple[tuple[str, Callable[[], Model]], ...]] = (
    ("an input of unnamed sizes", _input(_shape("", 32))),
    ("a size with an odd name", _input(_shape("batch size (N) % {0} \\ \"'", 32))),
    ("two inputs of one size", _same_symbol),
    ("41 inputs", _forty_inputs),
    ("indices into a table", _embedding),
    ("integers alone", _integers),
    ("text as input and output", _strings),
)

_DOUBTFUL: Final[tuple[tuple[str, Callable[[], Model]], ...]] = (
    ("an input without type", _input(_clear("type"))),
    ("an input of three axes for a fixed output of two", _input(_shape(2, 2, 32))),
    ("an input of any rank", _input(lambda info: info.type.tensor_type.ClearField("shape"))),
    ("an input of negative size", _input(_shape(-1, 32))),
    ("an input of no rows", _input(_shape(0, 32))),
    ("an output without type", _output(_clear("type"))),
    ("an output of other size", _output(_shape("n", 11))),
    ("an output of other rank", _output(_shape("n", 10, 1))),
    ("a value declared that is not there", _declared("nowhere", T.FLOAT, [1])),
    ("an inner value of other size", _declared("h", T.FLOAT, ["n", 63])),
    ("an output that is a sequence", _sequence_output),
    ("20 nested sequences", lambda: _nested_sequences(20)),
    ("bfloat16 weights", _brain_floats),
)

_TOO_LARGE: Final = Outcome(frozenset({1, 2}))

CASES: Final[tuple[Case, ...]] = (
    *model_cases(_BROKEN, REFUSED),
    *model_cases(_SOUND, DONE),
    *model_cases(_DOUBTFUL, DONE_OR_REFUSED),
    model_case("2^40 rows by --input-shape", two_layers, _TOO_LARGE, "--input-shape", f"x:{1 << 40},32"),
    model_case("2^62 rows by --input-shape", two_layers, _TOO_LARGE, "--input-shape", f"x:{1 << 62},32"),
)
