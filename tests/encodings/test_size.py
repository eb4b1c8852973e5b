"""Sizes by arithmetic against sizes by protobuf."""

from types import MappingProxyType
from typing import Any

import numpy as np
import onnx
import pytest

from graphshrink.encodings import ENCODINGS
from graphshrink.encodings.base import Builder, FreshNames
from graphshrink.encodings.huffman import Huffman
from graphshrink.encodings.size import function_bytes, operator_bytes, tensor_bytes, total_bytes
from graphshrink.errors import InternalError
from graphshrink.ir.graph import Function
from graphshrink.ir.operator import Attribute, AttributeType, Operator, attributes_of
from graphshrink.ir.tensor import Tensor, tensor_of
from graphshrink.ir.types import Array
from graphshrink.onnx_io.fields import keep_in_place
from graphshrink.onnx_io.tensors import write_tensor
from graphshrink.onnx_io.to_proto import write_function, write_operator

LONG = "n" * 200  # its length takes two bytes


def in_file(parts: list[Tensor | Operator]) -> int:
    """What a graph grows by."""
    proto = onnx.GraphProto()
    for part in parts:
        if isinstance(part, Tensor):
            write_tensor(part, proto.initializer.add(), keep_in_place)
        else:
            write_operator(part, proto.node.add(), keep_in_place)
    return proto.ByteSize()


def tensor(array: Array, name: str | None = "w", **rest: Any) -> Tensor:
    plain = tensor_of(array, name)
    return Tensor(name, plain.elem_type, plain.dims, plain.data, **rest)


@pytest.mark.parametrize(
    "part",
    [
        tensor(np.zeros((), np.float32)),
        tensor(np.zeros((0, 3), np.float64)),
        tensor(np.zeros((1, 127, 2), np.float16), "é"),
        tensor(np.zeros((128, 129), np.uint8), LONG),
        tensor(np.zeros(20_000, np.int32), None),
        tensor(np.zeros(3, np.int64), "", doc="said", metadata=(("a", "b"), (LONG, LONG)), states_location=True),
        tensor(np.zeros(3, np.int64), "", doc=""),
    ],
)
def test_tensors(part: Tensor) -> None:
    assert tensor_bytes(part) == in_file([part])


@pytest.mark.parametrize(
    "part",
    [
        Operator("Identity", ("a",), ("b",)),
        Operator("Gather", ("a", "b", ""), (LONG,), attributes_of(axis=0), name="gs:codebook/gs7"),
        Operator("Cast", ("a",), ("b",), attributes_of(to=6), domain="", name=""),
        Operator("Cast", ("a",), ("b",), attributes_of(to=-1, other=1 << 40)),
        Operator("Slice", ("a",), ("b",), attributes_of(starts=(0,), ends=(1 << 62, -1), axes=())),
        Operator(
            "Transpose", ("a",), ("é",), attributes_of(perm=(1, 300, 0)), doc=LONG, metadata=(("k", LONG), ("", ""))
        ),
        Operator("Constant", (), ("b",)).with_attribute(
            Attribute("value", AttributeType.TENSOR, tensor_of(np.zeros((3, 300), np.float32), "b"))
        ),
    ],
)
def test_operators(part: Operator) -> None:
    assert operator_bytes(part) == in_file([part])


def test_attributes_of_other_kinds_are_our_mistake() -> None:
    text = Attribute("mode", AttributeType.FLOATS, (0.5,))
    with pytest.raises(InternalError, match="mode"):
        operator_bytes(Operator("Pad", ("a",), ("b",), MappingProxyType({"mode": text})))


def short(rng: np.random.Generator, count: int) -> Array:
    """Distinct float64 numbers that every floating type holds exactly."""
    numbers: Array = (rng.permutation(256)[:count] - 128) / 128
    return numbers


@pytest.mark.parametrize("encoding", ENCODINGS, ids=[encoding.name for encoding in ENCODINGS])
@pytest.mark.parametrize("opset", [9, 10, 11, 13, 18])
@pytest.mark.parametrize("inline", [False, True])
def test_everything_that_decode_subgraphs_use(encoding: Any, opset: int, inline: bool) -> None:
    if opset < encoding.min_opset:
        pytest.skip("not possible")
    rng = np.random.default_rng(0)
    builder = Builder(FreshNames(), opset, inline)
    for entries in (1, 2, 3, 4, 6, 8, 16, 32, 64, 128, 256):
        for shape in [(5, 7, 97), (200, 33), (4096,)]:
            codes, zero = rng.integers(0, entries, shape), rng.random(shape) < 0.9
            for values in (short(rng, entries), np.arange(entries) * 0.37):  # exact in a shorter type; on a grid
                for case in (values[codes], np.where(zero, 0.0, values[codes])):
                    found = encoding.encode(case.astype(np.float32))
                    if found is not None:
                        found.emit(builder, f"w{len(builder.operators)}")
    grouped = rng.integers(0, 16, (3001, 7)) * rng.uniform(1, 2, 7)
    found = encoding.encode(grouped.astype(np.float32))
    if found is not None:
        found.emit(builder, "grouped")
    assert len(builder.operators) > 60
    assert total_bytes(builder.tensors, builder.operators) == in_file([*builder.tensors, *builder.operators])


@pytest.mark.parametrize("opset", [11, 13, 18])
def test_functions(opset: int) -> None:
    rng = np.random.default_rng(0)
    functions: dict[str, Function] = {}
    builder = Builder(FreshNames(), opset, functions=functions)
    for size in (5000, 6_000_000):  # narrow and wide lanes
        found = Huffman().encode(rng.integers(0, 3, size).astype(np.float32))
        assert found is not None
        found.emit(builder, f"w{size}")
    assert {"h32", "h64"} <= functions.keys()
    model = onnx.ModelProto()
    for function in functions.values():
        write_function(function, model.functions.add(), keep_in_place)
    assert sum(map(function_bytes, functions.values())) == model.ByteSize()
    assert total_bytes(builder.tensors, builder.operators) == in_file([*builder.tensors, *builder.operators])
