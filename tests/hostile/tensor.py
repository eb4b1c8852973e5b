"""Tensors whose type, shape and data do not belong together, and weights of unusual values."""

from collections.abc import Callable
from pathlib import Path
from typing import Any, Final

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from graphshrink.ir.types import Array
from tests.hostile.cases import DONE, DONE_OR_REFUSED, Case, Model, Outcome, model_case, model_cases
from tests.hostile.graph import INPUT, OUTPUT, changed, constant, node, with_nodes
from tests.models import model_of, normal

T: Final = TensorProto
_BYTES: Final = normal(32, 64).tobytes()


def tensor(name: str = "W1", **fields: Any) -> TensorProto:
    """A float tensor of shape (32, 64) with its bytes, but for the given fields; None leaves one out."""
    made = TensorProto(name=name)
    for key, value in {"data_type": T.FLOAT, "dims": [32, 64], "raw_data": _BYTES, **fields}.items():
        if isinstance(value, list):
            getattr(made, key).extend(value)
        elif value is not None:
            setattr(made, key, value)
    return made


def _weight(**fields: Any) -> Callable[[], Model]:
    """The first weight of two_layers is another tensor."""
    return lambda: changed(lambda model: model.graph.initializer[0].CopyFrom(tensor(**fields)))


def _unused(**fields: Any) -> Callable[[], Model]:
    """A tensor that nobody uses."""
    return lambda: changed(lambda model: model.graph.initializer.append(tensor("unused", **fields)))


def _segment() -> Model:
    def change(model: onnx.ModelProto) -> None:
        model.graph.initializer[0].segment.begin = 0
        model.graph.initializer[0].segment.end = 2048

    return changed(change)


def _both_places() -> Model:
    def change(model: onnx.ModelProto) -> None:
        entry = model.graph.initializer[0].external_data.add()
        entry.key, entry.value = "location", "weights.bin"

    return changed(change)


def _attribute(attribute: onnx.AttributeProto, kind: str = "Constant") -> Model:
    """An operator without inputs beside the rest, with a tensor in an attribute."""
    made = node(kind, [], ["c"])
    made.attribute.append(attribute)
    return with_nodes(made, node("Relu", ["h"], ["y"]))


def _held(**fields: Any) -> Callable[[], Model]:
    return lambda: _attribute(
        onnx.AttributeProto(name="value", type=onnx.AttributeProto.TENSOR, t=tensor("", **fields))
    )


def _listed() -> Model:
    kind = onnx.AttributeProto.TENSORS
    return _attribute(onnx.AttributeProto(name="values", type=kind, tensors=[tensor("", raw_data=b"123")]))


def _sparse(
    values: list[float] | None = None,
    indices: Any = (0, 5, 63),
    dims: tuple[int, ...] = (64,),
    *,
    dtype: Any = np.int64,
) -> onnx.SparseTensorProto:
    made = onnx.SparseTensorProto(dims=dims)
    given = [1.0, 2.0, 3.0] if values is None else values
    made.values.CopyFrom(constant(np.array(given, np.float32), "s"))
    made.indices.CopyFrom(constant(np.array(indices, dtype), "s_indices"))
    return made


def _with_sparse(*arguments: Any, without: str | None = None, **options: Any) -> Callable[[], Model]:
    """A sparse initializer that is added to h."""

    def make() -> Model:
        made = with_nodes(node("Add", ["h", "s"], ["y"]))
        sparse = _sparse(*arguments, **options)
        if without is not None:
            sparse.ClearField(without)
        made.graph.sparse_initializer.append(sparse)
        return made

    return make


def _sparse_constant(*arguments: Any, **options: Any) -> Callable[[], Model]:
    """The same as a Constant operator."""

    def make() -> Model:
        made = node("Constant", [], ["s"])
        held = onnx.AttributeProto(name="sparse_value", type=onnx.AttributeProto.SPARSE_TENSOR)
        held.sparse_tensor.CopyFrom(_sparse(*arguments, **options))
        made.attribute.append(held)
        return with_nodes(made, node("Add", ["h", "s"], ["y"]))

    return make


def _sparse_twice() -> Model:
    made = with_nodes(node("Add", ["h", "s"], ["y"]))
    made.graph.sparse_initializer.append(_sparse())
    made.graph.initializer.append(constant(normal(64), "s"))
    return made


def _sharing(array: Array) -> Callable[[], Model]:
    """x -> MatMul with this weight -> y."""
    return lambda: model_of([node("MatMul", ["x", "W"], ["y"])], {"W": array}, INPUT, OUTPUT)


def _some(value: float, count: int = 5) -> Array:
    """Normal numbers, among which a few are this one."""
    array = normal(32, 64)
    array.flat[:: array.size // count] = value
    return array


def _added(array: Array) -> Callable[[], Model]:
    def make() -> Model:
        made = with_nodes(node("Add", ["h", "mask"], ["s"]), node("Softmax", ["s"], ["y"]))
        made.graph.initializer.append(constant(array, "mask"))
        return made

    return make


def _mask() -> Array:
    return np.where(np.arange(64 * 64).reshape(64, 64)[:4] % 7 == 3, -np.inf, 0).astype(np.float32)


def _typed(array: Array, kind: int) -> Callable[[], Model]:
    """x -> Cast -> MatMul in another type -> Cast -> y."""
    nodes = [node("Cast", ["x"], ["a"], to=kind), node("MatMul", ["a", "W"], ["b"]), node("Cast", ["b"], ["y"], to=1)]
    return lambda: model_of(nodes, {"W": array}, INPUT, OUTPUT)


def _overridable(ir_version: int) -> Callable[[], Model]:
    """The weights are inputs as well."""

    def change(model: onnx.ModelProto) -> None:
        model.ir_version = ir_version
        for weight in model.graph.initializer:
            model.graph.input.append(helper.make_tensor_value_info(weight.name, T.FLOAT, [*weight.dims]))

    return lambda: changed(change)


def _old_without_inputs() -> Model:
    return changed(lambda model: setattr(model, "ir_version", 3))


def _zero_size() -> Model:
    made = with_nodes(node("Concat", ["h", "empty"], ["y"], axis=0))
    made.graph.initializer.append(constant(np.zeros((0, 64), np.float32), "empty"))
    return made


def _unchanged(name: str) -> Outcome:
    """Exit code 0, and an initializer that is byte for byte what it was."""

    def same(folder: Path) -> str | None:
        found = [
            [numpy_helper.to_array(t).tobytes() for t in onnx.load(folder / file).graph.initializer if t.name == name]
            for file in ("model.onnx", "out.onnx")
        ]
        return None if found[0] == found[1] != [] else f"{name} is not what it was"

    return Outcome(frozenset({0}), holds=same)


def _exact_where_not_finite(folder: Path) -> str | None:
    """The weight as ONNX itself computes it has NaN and infinities where they were."""
    weights = [_weight_of(folder / file) for file in ("model.onnx", "out.onnx")]
    special = ~np.isfinite(weights[0])
    same = np.array_equal(weights[0][special], weights[1][special], equal_nan=True)
    return None if same and np.isfinite(weights[1][~special]).all() else "NaN or infinities moved"


def _weight_of(path: Path) -> Array:
    """W, read off the outputs for unit vectors would mix NaN in, so off the graph: everything but x is constant."""
    from onnx.reference import ReferenceEvaluator

    model = onnx.load(path)
    consumer = model.graph.node[-1]
    del model.graph.output[:], model.graph.input[:]
    model.graph.output.append(helper.make_tensor_value_info(consumer.input[1], T.FLOAT, [32, 64]))
    model.graph.node.remove(consumer)
    weight: Array = np.asarray(ReferenceEvaluator(model).run(None, {}), np.float32)
    return weight.reshape(32, 64)


_EXACT: Final = Outcome(frozenset({0}), holds=_exact_where_not_finite)

_BROKEN: Final[tuple[tuple[str, Callable[[], Model]], ...]] = (
    ("one byte short", _weight(raw_data=_BYTES[:-1])),
    ("one byte long", _weight(raw_data=_BYTES + b"0")),
    ("no data", _weight(raw_data=None)),
    ("empty raw data", _weight(raw_data=b"")),
    ("float_data short", _weight(raw_data=None, float_data=[1.0] * 7)),
    ("float_data long", _weight(raw_data=None, float_data=[1.0] * 2049)),
    ("data in two fields", _weight(float_data=[1.0] * 2048)),
    ("data in two typed fields", _weight(raw_data=None, float_data=[1.0] * 2048, double_data=[1.0] * 2048)),
    ("data in the field of another type", _weight(raw_data=None, int64_data=[1] * 2048)),
    ("float numbers in string_data", _weight(raw_data=None, string_data=[b"1"] * 2048)),
    ("strings in raw_data", _unused(data_type=T.STRING)),
    ("too few strings", _unused(data_type=T.STRING, raw_data=None, string_data=[b"a"])),
    ("segments", _segment),
    ("inside and outside the file", _both_places),
    ("no element type", _weight(data_type=None)),
    ("element type 99", _weight(data_type=99)),
    ("element type -1", _weight(data_type=-1)),
    ("element type 2^31 - 1", _unused(data_type=(1 << 31) - 1)),
    ("uint8 out of range", _unused(data_type=T.UINT8, dims=[2], raw_data=None, int32_data=[1, 300])),
    ("float16 out of range", _unused(data_type=T.FLOAT16, dims=[2], raw_data=None, int32_data=[1, 70_000])),
    ("int4 that lacks its last half byte", _unused(data_type=T.INT4, dims=[5], raw_data=b"12")),
    ("negative size", _weight(dims=[-32, 64])),
    ("two negative sizes", _weight(dims=[-32, -64])),
    ("2^62 x 2^62", _weight(dims=[1 << 62, 1 << 62])),
    ("2^32 x 2^32, nothing mod 2^64", _weight(dims=[1 << 32, 1 << 32], raw_data=b"")),
    ("bytes that are right mod 2^64", _weight(dims=[(1 << 62) + 8], raw_data=bytes(32))),
    ("0 x 2^62", _unused(dims=[0, 1 << 62, 1 << 62], raw_data=b"")),
    ("65 axes", _unused(dims=[1] * 65, raw_data=bytes(4))),
    ("100,000 axes", _unused(dims=[1] * 100_000, raw_data=bytes(4))),
    ("another rank than its use needs", _weight(dims=[32, 8, 8])),
    ("a scalar where a matrix is needed", _weight(dims=[], raw_data=bytes(4))),
    ("one byte short in an attribute", _held(raw_data=_BYTES[:-1])),
    ("2^62 x 2^62 in an attribute", _held(dims=[1 << 62, 1 << 62])),
    ("one byte short in a list of tensors", _listed),
    ("one byte short where nobody looks", _unused(raw_data=_BYTES[:-1])),
    ("sparse: index out of range", _with_sparse(indices=(0, 5, 64))),
    ("sparse: negative index", _with_sparse(indices=(-1, 5, 63))),
    ("sparse: index 2^62", _with_sparse(indices=(0, 5, 1 << 62))),
    ("sparse: unsorted indices", _with_sparse(indices=(5, 0, 63))),
    ("sparse: an index twice", _with_sparse(indices=(5, 5, 63))),
    ("sparse: more values than indices", _with_sparse((1, 2, 3, 4))),
    ("sparse: indices of two axes for one", _with_sparse(indices=((0, 0), (5, 5), (63, 63)))),
    ("sparse: two-axis index out of range", _with_sparse(indices=((0, 1), (0, 64), (0, 2)), dims=(1, 64))),
    ("sparse: fractional indices", _with_sparse(dtype=np.float32)),
    ("sparse: no values", _with_sparse(without="values")),
    ("sparse: no indices", _with_sparse(without="indices")),
    ("sparse: negative size", _with_sparse(dims=(-64,))),
    ("sparse: 2^40 elements", _with_sparse(dims=(1 << 40,))),
    ("sparse: 2^62 x 2^62", _with_sparse(dims=(1 << 62, 1 << 62))),
    ("sparse: a dense one of the same name", _sparse_twice),
    ("sparse constant: index out of range", _sparse_constant(indices=(0, 5, 64))),
    ("sparse constant: 2^40 elements", _sparse_constant(dims=(1 << 40,))),
)

_SOUND: Final[tuple[tuple[str, Callable[[], Model]], ...]] = (
    ("sparse", _with_sparse()),
    ("sparse constant", _sparse_constant()),
    ("all zeros", _sharing(np.zeros((32, 64), np.float32))),
    ("all one value", _sharing(np.full((32, 64), 0.1, np.float32))),
    ("denormals", _sharing(normal(32, 64) * np.float32(1e-42))),
    ("negative zeros", _sharing(_some(-0.0))),
    ("the largest numbers", _sharing(_some(3e38))),
    ("half precision", _typed(normal(32, 64).astype(np.float16), T.FLOAT16)),
    ("double precision", _typed(normal(32, 64).astype(np.float64), T.DOUBLE)),
    ("no elements", _zero_size),
)

CASES: Final[tuple[Case, ...]] = (
    *model_cases(_BROKEN),
    *model_cases(_SOUND, DONE),
    model_case("weights with NaN", _sharing(_some(np.nan)), Outcome(frozenset({0}), holds=_exact_where_not_finite)),
    model_case(
        "weights with infinities", _sharing(_some(np.inf)), Outcome(frozenset({0}), holds=_exact_where_not_finite)
    ),
    model_case("all NaN", _sharing(np.full((32, 64), np.nan, np.float32)), DONE_OR_REFUSED),
    model_case("a mask of -inf", _added(_mask()), _unchanged("mask")),
    model_case("weights that callers may override", _overridable(8), _unchanged("W1")),
    model_case("IR version 3: weights that are inputs", _overridable(3), Outcome(frozenset({0}), tolerance=0.25)),
    model_case("IR version 3: weights that are no inputs", _old_without_inputs, DONE_OR_REFUSED),
    model_case("overflow in half precision", _typed(np.full((32, 64), 6e4, np.float16), T.FLOAT16), DONE_OR_REFUSED),
    model_case("bool that is 2", _unused(data_type=T.BOOL, dims=[1], raw_data=b"\x02"), DONE_OR_REFUSED),
)
