"""TensorProto and SparseTensorProto into tensors of the IR, and back."""

import math
from collections.abc import Callable, Iterable, Mapping
from typing import Any, Final

import numpy as np
import onnx

from graphshrink.errors import ModelError
from graphshrink.ir.basis import SpectralData
from graphshrink.ir.tensor import (
    DTYPES,
    PACKED_BITS,
    ExternalData,
    FieldData,
    RawData,
    SparseTensor,
    StringData,
    Tensor,
    TensorData,
    pack_codes,
    packed_size,
    unpack_codes,
)
from graphshrink.ir.types import Array
from graphshrink.onnx_io.external import locate
from graphshrink.onnx_io.fields import Relocate, Source, add_pairs, optional, pairs, set_fields

T = onnx.TensorProto

# ---- reading

_MAX_RANK: Final = 64  # NumPy's
MAX_ELEMENTS: Final = 1 << 59  # sizes in bytes still fit 64 bits
_MAX_DENSE: Final = 1 << 31  # elements of a sparse tensor once it is filled with zeros, as runtimes do

# Typed field for each element type, and the type its entries are narrowed to.
_FIELDS: Final[Mapping[int, tuple[str, Any]]] = {
    T.FLOAT: ("float_data", np.float32),
    T.COMPLEX64: ("float_data", np.float32),
    T.DOUBLE: ("double_data", np.float64),
    T.COMPLEX128: ("double_data", np.float64),
    T.INT64: ("int64_data", np.int64),
    T.UINT32: ("uint64_data", np.uint32),
    T.UINT64: ("uint64_data", np.uint64),
    T.INT32: ("int32_data", np.int32),
    T.INT16: ("int32_data", np.int16),
    T.INT8: ("int32_data", np.int8),
    T.UINT16: ("int32_data", np.uint16),
    T.FLOAT16: ("int32_data", np.uint16),
    T.BFLOAT16: ("int32_data", np.uint16),
}
# Every typed field, and the type of its entries in the protobuf.
_TYPED_FIELDS: Final[Mapping[str, Any]] = {
    "float_data": np.float32,
    "int32_data": np.int32,
    "string_data": object,
    "int64_data": np.int64,
    "double_data": np.float64,
    "uint64_data": np.uint64,
}


def typed_field(elem_type: int) -> tuple[str, Any]:
    """The typed field of TensorProto for an element type, and the NumPy type of its entries.

    Entries of anything below 16 bits are bytes.
    """
    return _FIELDS.get(elem_type, ("int32_data", np.uint8))


def read_tensor(proto: onnx.TensorProto, source: Source) -> Tensor:
    """Raises: ModelError, if type, dims and data do not belong together."""
    where = f"tensor {proto.name!r}"
    if proto.data_type != T.STRING and proto.data_type not in DTYPES:
        raise ModelError(f"{where} has unknown element type {proto.data_type}")
    dims = _sensible_dims(proto.dims, where, MAX_ELEMENTS)
    if proto.HasField("segment"):
        raise ModelError(f"{where} is stored in segments, which ONNX deprecated; export it again")
    states = proto.HasField("data_location") and proto.data_location == T.DEFAULT
    return Tensor(
        optional(proto, "name"),
        proto.data_type,
        dims,
        _read_data(proto, dims, source, where),
        optional(proto, "doc_string"),
        pairs(getattr(proto, "metadata_props", ())),
        states,
    )


def _sensible_dims(sizes: Iterable[int], where: str, most: int) -> tuple[int, ...]:
    """Raises: ModelError, if no tensor can have this shape."""
    dims = tuple(sizes)
    if any(d < 0 for d in dims):
        raise ModelError(f"{where} has a negative size in {list(dims)}")
    if len(dims) > _MAX_RANK:
        raise ModelError(f"{where} has {len(dims)} axes; at most {_MAX_RANK} can be handled")
    if math.prod(d for d in dims if d) >= most:  # a size of 0 beside others would hide it
        raise ModelError(f"{where} has an absurd shape, {list(dims)}")
    return dims


def _read_data(proto: onnx.TensorProto, dims: tuple[int, ...], source: Source, where: str) -> TensorData:
    filled = [name for name in _TYPED_FIELDS if len(getattr(proto, name))]
    outside = proto.data_location == T.EXTERNAL
    if outside and proto.data_type == T.STRING:
        raise ModelError(f"{where} holds strings, which cannot lie outside the file")
    if (outside and (filled or proto.HasField("raw_data"))) or (not outside and len(proto.external_data)):
        raise ModelError(f"{where} has data both inside and outside the file")
    if outside:
        return locate(pairs(proto.external_data), source.folder, packed_size(proto.data_type, dims), where)
    if len(filled) + proto.HasField("raw_data") > 1:
        twice = [*filled, *(["raw_data"] if proto.HasField("raw_data") else [])]
        raise ModelError(f"{where} has its data twice, in {' and '.join(twice)}")
    if proto.data_type == T.STRING:
        if proto.HasField("raw_data") or filled not in ([], ["string_data"]):
            raise ModelError(f"{where} holds strings, but not in string_data")
        _expect(len(proto.string_data), math.prod(dims), "strings", where)
        return StringData(tuple(proto.string_data))
    name, entry = typed_field(proto.data_type)
    if filled and filled[0] != name:
        raise ModelError(f"{where} keeps its data in {filled[0]} where its type asks for {name}")
    if proto.HasField("raw_data"):
        raw = source.resolve(proto.raw_data)
        _expect(len(raw), packed_size(proto.data_type, dims), "bytes", where)
        return RawData(raw)
    values = _entries(proto, name)
    narrow = values.astype(entry)
    if not np.array_equal(narrow.astype(values.dtype), values, equal_nan=values.dtype.kind == "f"):
        narrow = _sign_mended(values, proto.data_type, where)
    if PACKED_BITS.get(proto.data_type) == 6:  # the one packed type of which an entry holds one element
        if np.any(narrow >= 1 << 6):
            raise ModelError(f"{where} holds numbers that its element type cannot hold")
        _expect(len(narrow), math.prod(dims), "elements", where)
        return FieldData(pack_codes(narrow, proto.data_type))
    buffer = narrow.tobytes()
    _expect(len(buffer), packed_size(proto.data_type, dims), "bytes", where)
    return FieldData(buffer)


def _entries(proto: onnx.TensorProto, name: str) -> Array:
    """The entries of a typed field; if there are NaNs, from its bytes, as Python has no signalling ones."""
    values = np.array(getattr(proto, name), dtype=_TYPED_FIELDS[name])
    if values.dtype != np.float32 or not np.isnan(values).any():
        return values
    alone = T()
    alone.CopyFrom(proto)
    for field, _ in proto.ListFields():
        if field.name != name:
            alone.ClearField(field.name)
    return np.frombuffer(alone.SerializeToString()[-values.nbytes :], values.dtype)


def _sign_mended(values: Any, elem_type: int, where: str) -> Any:
    """Entries that do not fit their type: packed signed nibbles may come as negative bytes; all else is an error."""
    if elem_type in PACKED_BITS and bool(np.all((values >= -128) & (values < 256))):
        return values.astype(np.int8).view(np.uint8)
    raise ModelError(f"{where} holds numbers that its element type cannot hold")


def _expect(have: int, want: int, unit: str, where: str) -> None:
    if have != want:
        raise ModelError(f"{where} holds {have} {unit} where its shape and type ask for {want}")


def read_sparse(proto: onnx.SparseTensorProto, source: Source) -> SparseTensor:
    """A sparse tensor; its parts are ordinary tensors.

    Raises:
        ModelError: a part is missing or broken, or an index lies outside the shape or is not in ascending order.
    """
    where = f"sparse tensor {proto.values.name!r}"
    if not proto.HasField("values") or not proto.HasField("indices"):
        raise ModelError(f"{where} has no {'indices' if proto.HasField('values') else 'values'}")
    dims = _sensible_dims(proto.dims, where, _MAX_DENSE)
    if not dims:
        raise ModelError(f"{where} has no shape")
    values, indices = read_tensor(proto.values, source), read_tensor(proto.indices, source)
    count = values.size
    if len(values.dims) != 1 or indices.elem_type != T.INT64 or indices.dims not in ((count,), (count, len(dims))):
        shapes = f"{list(values.dims)} and {list(indices.dims)}"
        raise ModelError(f"{where} has values and indices of shapes {shapes}, which do not belong together")
    places: Array = indices.array
    if places.ndim == 2:
        if not (np.all(places >= 0) and np.all(places < np.array(dims, np.int64))):
            raise ModelError(f"{where} has an index outside its shape {list(dims)}")
        places = np.asarray(np.ravel_multi_index(tuple(places.T), dims)) if count else places[:, 0]
    if count and not (places[0] >= 0 and places[-1] < math.prod(dims) and np.all(np.diff(places) > 0)):
        raise ModelError(f"{where} has indices outside its shape {list(dims)}, or not in ascending order")
    return SparseTensor(values, indices, dims)


# ---- writing


def write_tensor(tensor: Tensor, proto: onnx.TensorProto, relocate: Relocate) -> None:
    """Fill a TensorProto."""
    proto.dims.extend(tensor.dims)
    proto.data_type = tensor.elem_type
    set_fields(proto, name=tensor.name, doc_string=tensor.doc)
    if tensor.states_location:
        proto.data_location = T.DEFAULT
    if tensor.metadata:
        add_pairs(proto.metadata_props, tensor.metadata)
    entries = relocate(tensor)
    if entries is not None:
        proto.data_location = T.EXTERNAL
        add_pairs(proto.external_data, entries)
    else:
        _DATA[type(tensor.data)](tensor, proto)


def _write_raw(tensor: Tensor, proto: onnx.TensorProto) -> None:
    proto.raw_data = bytes(tensor.buffer)


def _write_field(tensor: Tensor, proto: onnx.TensorProto) -> None:
    name, entry = typed_field(tensor.elem_type)
    one_an_entry = PACKED_BITS.get(tensor.elem_type) == 6
    entries = (
        unpack_codes(tensor.buffer, tensor.elem_type, tensor.size)
        if one_an_entry
        else np.frombuffer(tensor.buffer, entry)
    )
    if name == "float_data" and np.isnan(entries).any():
        # From their bytes: what `raw_data` would be, under another number.
        content = T(raw_data=bytes(tensor.buffer)).SerializeToString()
        proto.MergeFromString(bytes([T.DESCRIPTOR.fields_by_name[name].number << 3 | 2]) + content[1:])
        return
    getattr(proto, name).extend(entries.tolist())


def _write_strings(tensor: Tensor, proto: onnx.TensorProto) -> None:
    if isinstance(tensor.data, StringData):
        proto.string_data.extend(tensor.data.items)


_DATA: Final[Mapping[type[Any], Callable[[Tensor, onnx.TensorProto], None]]] = {
    RawData: _write_raw,
    ExternalData: _write_raw,
    SpectralData: _write_raw,
    FieldData: _write_field,
    StringData: _write_strings,
}


def write_sparse(sparse: SparseTensor, proto: onnx.SparseTensorProto, relocate: Relocate) -> None:
    """Fill a SparseTensorProto."""
    proto.dims.extend(sparse.dims)
    for tensor, part in ((sparse.values, proto.values), (sparse.indices, proto.indices)):
        part.SetInParent()
        write_tensor(tensor, part, relocate)
