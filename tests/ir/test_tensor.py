from typing import Any

import ml_dtypes
import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from graphshrink.errors import InternalError, ModelError
from graphshrink.ir.tensor import DTYPES, ELEM_TYPES, ExternalData, StringData, Tensor, packed_size, tensor_of
from graphshrink.ir.types import Array
from graphshrink.onnx_io.fields import Source, keep_in_place
from graphshrink.onnx_io.tensors import read_tensor, write_tensor

KNOWN = [number for number in DTYPES if number in TensorProto.DataType.values()]
SHAPES = [(), (0,), (1,), (5,), (3, 3), (2, 0, 4)]


def values(elem_type: int, shape: tuple[int, ...]) -> Array:
    """All kinds of bit patterns of a type."""
    dtype, size = DTYPES[elem_type], int(np.prod(shape))
    array: Array
    if dtype.kind == "b":
        array = (np.arange(size) % 2 == 1).reshape(shape)
        return array
    if "int" in dtype.name or "float4" in dtype.name or "e8m0" in dtype.name:
        signed = np.arange(size) - 2
        return (np.abs(signed) if dtype.name.startswith("u") else signed).astype(np.int8).astype(dtype).reshape(shape)
    numbers = np.linspace(-3, 3, size) if size else np.zeros(0)
    return numbers.astype(dtype).reshape(shape)


def proto_of(tensor: Tensor) -> onnx.TensorProto:
    proto = TensorProto()
    write_tensor(tensor, proto, keep_in_place)
    return proto


def same_bits(a: Array, b: Array) -> bool:
    return a.dtype == b.dtype and a.shape == b.shape and a.tobytes() == b.tobytes()


@pytest.mark.parametrize("shape", SHAPES, ids=str)
@pytest.mark.parametrize("elem_type", KNOWN, ids=TensorProto.DataType.Name)
class TestEveryElementType:
    def test_is_written_as_numpy_helper_does(self, elem_type: int, shape: tuple[int, ...]) -> None:
        array = values(elem_type, shape)
        ours, theirs = proto_of(tensor_of(array, "t")), numpy_helper.from_array(array, "t")
        assert ours == theirs

    def test_is_read_as_numpy_helper_does(self, elem_type: int, shape: tuple[int, ...]) -> None:
        proto = numpy_helper.from_array(values(elem_type, shape), "t")
        array = read_tensor(proto, Source()).array
        assert same_bits(array, numpy_helper.to_array(proto))
        assert not array.flags.writeable

    def test_is_read_from_typed_fields(self, elem_type: int, shape: tuple[int, ...]) -> None:
        array = values(elem_type, shape)
        flat: list[Any] = array.reshape(-1).astype(array.dtype if array.dtype.kind == "c" else np.float64).tolist()
        proto = helper.make_tensor("t", elem_type, shape, flat)
        tensor = read_tensor(proto, Source())
        assert not proto.HasField("raw_data")
        assert same_bits(tensor.array, array)
        assert proto_of(tensor) == proto

    def test_takes_the_bytes_it_says(self, elem_type: int, shape: tuple[int, ...]) -> None:
        tensor = tensor_of(values(elem_type, shape))
        assert len(tensor.buffer) == tensor.nbytes == packed_size(elem_type, shape)
        assert tensor.size == int(np.prod(shape))


def test_every_type_of_this_onnx_is_known() -> None:
    left_out = {"UNDEFINED", "STRING"}
    assert {TensorProto.DataType.Name(number) for number in TensorProto.DataType.values()} - left_out == {
        TensorProto.DataType.Name(number) for number in KNOWN
    }


@pytest.mark.parametrize("dtype", [ml_dtypes.int4, ml_dtypes.uint4, ml_dtypes.int2, ml_dtypes.uint2])
def test_every_small_integer_survives(dtype: type) -> None:
    bits = np.dtype(dtype).name[-1]
    low = 0 if np.dtype(dtype).name.startswith("u") else -(1 << int(bits) - 1)
    array: Array = np.arange(low, low + (1 << int(bits))).astype(np.int8).astype(dtype)
    assert same_bits(tensor_of(array).array, array)


def test_every_pattern_of_float4_survives() -> None:
    array = np.arange(16).astype(np.uint8).view(ml_dtypes.float4_e2m1fn)
    assert same_bits(tensor_of(array[::-1]).array, array[::-1])


def test_the_first_element_is_in_the_low_bits() -> None:
    assert bytes(tensor_of(np.array([1, -1, 7]).astype(ml_dtypes.int4)).buffer) == b"\xf1\x07"
    assert bytes(tensor_of(np.array([1, 2, 3, 0, 1]).astype(ml_dtypes.uint2)).buffer) == b"\x39\x01"


def test_bits_of_nan_survive() -> None:
    bits = np.array([0x7FA00001, 0xFFC12345, 0x80000000], np.uint32)
    proto = numpy_helper.from_array(bits.view(np.float32))
    assert read_tensor(proto, Source()).array.view(np.uint32).tolist() == bits.tolist()


def test_arrays_may_be_strided_or_big_endian() -> None:
    array = np.arange(24, dtype=np.float32).reshape(4, 6)
    assert same_bits(tensor_of(array.T[::2]).array, np.ascontiguousarray(array.T[::2]))
    assert same_bits(tensor_of(array.astype(">f4")).array, array)


def test_an_array_is_not_copied() -> None:
    array = np.arange(4, dtype=np.float32)
    assert np.shares_memory(tensor_of(array).array, array)
    assert array.flags.writeable  # the caller's own view


def test_strings_survive() -> None:
    array = np.array([["a", "ü"], ["", "b"]], dtype=object)
    proto = numpy_helper.from_array(array, "t")
    tensor = read_tensor(proto, Source())
    assert tensor.data == StringData((b"a", "ü".encode(), b"", b"b"))
    assert tensor.array.tolist() == [[b"a", "ü".encode()], [b"", b"b"]]
    assert not tensor.array.flags.writeable
    assert tensor.nbytes == 4
    assert proto_of(tensor) == proto
    assert proto_of(tensor_of(array, "t")) == proto
    assert proto_of(tensor.with_array(tensor.array)) == proto
    with pytest.raises(ModelError, match="strings"):
        _ = tensor.buffer


def test_strings_that_are_no_text_survive() -> None:
    proto = TensorProto(data_type=TensorProto.STRING, dims=[1], string_data=[b"\xff\x00"])
    assert proto_of(read_tensor(proto, Source())) == proto


def test_other_elements_keep_name_and_documentation() -> None:
    tensor = Tensor("t", 1, (1,), tensor_of(np.zeros(1, np.float32)).data, "doc", (("k", "v"),), states_location=True)
    new = tensor.with_array(np.ones((2, 2), np.float16))
    assert (new.name, new.doc, new.metadata, new.dims) == ("t", "doc", (("k", "v"),), (2, 2))
    assert new.elem_type == TensorProto.FLOAT16


def test_a_type_that_onnx_lacks_is_a_bug_of_ours() -> None:
    with pytest.raises(InternalError, match="datetime64"):
        tensor_of(np.zeros(1, "datetime64[s]"), "t")


def test_external_data_without_a_folder_says_so() -> None:
    tensor = Tensor("t", 1, (1,), ExternalData((("location", "w.bin"),), None, 0, 4))
    with pytest.raises(ModelError, match=r"'w.bin': the model came without a folder; load it by its path"):
        _ = tensor.array


def test_element_types_and_numpy_types_are_one_to_one() -> None:
    assert len(ELEM_TYPES) == len(DTYPES)
