"""Protobuf messages into the IR, message by message. The inverse stands in `to_proto`, in the same order."""

import math
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from types import MappingProxyType
from typing import Any, Final

import numpy as np
import onnx

from graphshrink.errors import InternalError, ModelError
from graphshrink.ir import edit
from graphshrink.ir.graph import Annotation, Function, Graph, Header, Training
from graphshrink.ir.operator import Attribute, AttributeType, AttributeValue, Operator, Record
from graphshrink.ir.tensor import (
    DTYPES,
    PACKED_BITS,
    FieldData,
    RawData,
    SparseTensor,
    StringData,
    Tensor,
    TensorData,
    pack_codes,
    packed_size,
)
from graphshrink.ir.types import (
    Array,
    Dimension,
    MapType,
    Metadata,
    OpaqueType,
    OptionalType,
    SequenceType,
    TensorType,
    Type,
    UnsetType,
    ValueInfo,
)
from graphshrink.onnx_io.external import locate
from graphshrink.onnx_io.wire import Chunk

T = onnx.TensorProto


@dataclass(frozen=True, slots=True)
class Source:
    """Where a model comes from: its folder (for external data), and how to get at tensors left in the file."""

    folder: Path | None = None
    resolve: Callable[[bytes], Chunk] = field(default=lambda raw: raw)


def _optional(message: Any, name: str) -> Any:
    """A field's value, or None where the file has no such field; not for bytes."""
    return _text(getattr(message, name)) if message.HasField(name) else None


def _text(value: Any) -> Any:
    """Raises: ModelError, if this is text that is no UTF-8, which protobuf hands out as bytes."""
    if isinstance(value, bytes):
        raise ModelError(f"not an ONNX model, or a damaged one: {value[:40]!r} is no text")
    return value


def _texts(values: Iterable[Any]) -> tuple[str, ...]:
    return tuple(map(_text, values))


def _pairs(entries: Iterable[Any]) -> Metadata:
    return tuple((_text(entry.key), _text(entry.value)) for entry in entries)


# ---- tensors

_MAX_RANK: Final = 64  # NumPy's
_MAX_ELEMENTS: Final = 1 << 59  # sizes in bytes still fit 64 bits
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
    dims = _sensible_dims(proto.dims, where, _MAX_ELEMENTS)
    if proto.HasField("segment"):
        raise ModelError(f"{where} is stored in segments, which ONNX deprecated; export it again")
    states = proto.HasField("data_location") and proto.data_location == T.DEFAULT
    return Tensor(
        _optional(proto, "name"),
        proto.data_type,
        dims,
        _read_data(proto, dims, source, where),
        _optional(proto, "doc_string"),
        _pairs(getattr(proto, "metadata_props", ())),
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
        return locate(_pairs(proto.external_data), source.folder, packed_size(proto.data_type, dims), where)
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
    values = np.array(getattr(proto, name), dtype=_TYPED_FIELDS[name])
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


# ---- types


def read_type(proto: onnx.TypeProto) -> Type:
    """A type of any kind."""
    kind = proto.WhichOneof("value")
    denotation = _optional(proto, "denotation")
    return UnsetType(denotation) if kind is None else _TYPES[kind](getattr(proto, kind), denotation)


def _tensor_type(sparse: bool) -> Callable[[Any, str | None], Type]:
    def read(proto: Any, denotation: str | None) -> Type:
        shape = tuple(map(_dimension, proto.shape.dim)) if proto.HasField("shape") else None
        return TensorType(_optional(proto, "elem_type"), shape, sparse, denotation)

    return read


def _dimension(proto: Any) -> Dimension:
    kind = proto.WhichOneof("value")
    return Dimension(None if kind is None else _text(getattr(proto, kind)), _optional(proto, "denotation"))


def _inner(proto: Any, name: str) -> Type | None:
    return read_type(getattr(proto, name)) if proto.HasField(name) else None


_TYPES: Final[Mapping[str, Callable[[Any, str | None], Type]]] = {
    "tensor_type": _tensor_type(sparse=False),
    "sparse_tensor_type": _tensor_type(sparse=True),
    "sequence_type": lambda p, d: SequenceType(_inner(p, "elem_type"), d),
    "optional_type": lambda p, d: OptionalType(_inner(p, "elem_type"), d),
    "map_type": lambda p, d: MapType(_optional(p, "key_type"), _inner(p, "value_type"), d),
    "opaque_type": lambda p, d: OpaqueType(_optional(p, "domain"), _optional(p, "name"), d),
}


def read_value_info(proto: onnx.ValueInfoProto) -> ValueInfo:
    """A declaration."""
    kind = read_type(proto.type) if proto.HasField("type") else None
    sizes = [d for d in (kind.dims or () if isinstance(kind, TensorType) else ()) if isinstance(d, int) and d > 0]
    if math.prod(sizes) >= _MAX_ELEMENTS:  # below zero means open, to some exporters
        raise ModelError(f"value {proto.name!r} is declared with an absurd shape, {sizes}")
    return ValueInfo(
        _text(proto.name), kind, _optional(proto, "doc_string"), _pairs(getattr(proto, "metadata_props", ()))
    )


# ---- attributes and operators

_ATTRIBUTE_FIELDS: Final[Mapping[AttributeType, str]] = {
    AttributeType.FLOAT: "f",
    AttributeType.INT: "i",
    AttributeType.STRING: "s",
    AttributeType.TENSOR: "t",
    AttributeType.GRAPH: "g",
    AttributeType.SPARSE_TENSOR: "sparse_tensor",
    AttributeType.TYPE_PROTO: "tp",
    AttributeType.FLOATS: "floats",
    AttributeType.INTS: "ints",
    AttributeType.STRINGS: "strings",
    AttributeType.TENSORS: "tensors",
    AttributeType.GRAPHS: "graphs",
    AttributeType.SPARSE_TENSORS: "sparse_tensors",
    AttributeType.TYPE_PROTOS: "type_protos",
}
REPEATED: Final = frozenset(t for t, name in _ATTRIBUTE_FIELDS.items() if name.endswith("s") and name != "s")


def attribute_field(kind: AttributeType) -> str:
    """The field of AttributeProto that holds a value of this type."""
    return _ATTRIBUTE_FIELDS[kind]


def _convert(kind: AttributeType, source: Source) -> Callable[[Any], Any] | None:
    if kind in (AttributeType.TENSOR, AttributeType.TENSORS):
        return lambda p: read_tensor(p, source)
    if kind in (AttributeType.GRAPH, AttributeType.GRAPHS):
        return lambda p: read_graph(p, source)
    if kind in (AttributeType.SPARSE_TENSOR, AttributeType.SPARSE_TENSORS):
        return lambda p: read_sparse(p, source)
    return read_type if kind in (AttributeType.TYPE_PROTO, AttributeType.TYPE_PROTOS) else None


def read_attribute(proto: onnx.AttributeProto, source: Source) -> Attribute:
    """Raises: ModelError, if the attribute holds values of several kinds, or of another kind than it says."""
    filled = [f.name for f, _ in proto.ListFields() if f.name not in ("name", "type", "doc_string", "ref_attr_name")]
    kind = AttributeType(proto.type)
    if (
        kind is AttributeType.UNDEFINED and not proto.HasField("type") and len(filled) == 1
    ):  # files of IR version 1 need not say the type
        kind = next(t for t, name in _ATTRIBUTE_FIELDS.items() if name == filled[0])
    if len(filled) > 1 or (filled and filled[0] != _ATTRIBUTE_FIELDS.get(kind)):
        raise ModelError(f"attribute {proto.name!r} is of type {kind.name} but holds {', '.join(filled)}")
    reference = _optional(proto, "ref_attr_name")
    value = _value(proto, kind, source, reference)
    return Attribute(_text(proto.name), kind, value, reference, _optional(proto, "doc_string"), proto.HasField("type"))


def _value(proto: onnx.AttributeProto, kind: AttributeType, source: Source, reference: str | None) -> AttributeValue:
    name = _ATTRIBUTE_FIELDS.get(kind)
    if name is None:
        return None
    convert = _convert(kind, source)
    raw: Any = getattr(proto, name)
    if kind in REPEATED:
        if reference and not len(raw):
            return None
        return tuple(raw) if convert is None else tuple(map(convert, raw))
    if not proto.HasField(name):
        return None
    value: AttributeValue = raw if convert is None else convert(raw)
    return value


def read_operator(proto: onnx.NodeProto, source: Source) -> Operator:
    """Raises: ModelError, if two attributes share a name."""
    attributes = {a.name: read_attribute(a, source) for a in proto.attribute}
    if len(attributes) != len(proto.attribute):
        raise ModelError(f"{proto.op_type} {proto.name!r} has an attribute twice")
    extra: dict[str, Any] = {"attributes": MappingProxyType(attributes)} if attributes else {}
    return Operator(
        _text(proto.op_type),
        _texts(proto.input),
        _texts(proto.output),
        domain=_optional(proto, "domain"),
        name=_optional(proto, "name"),
        overload=_optional(proto, "overload"),
        doc=_optional(proto, "doc_string"),
        metadata=_pairs(proto.metadata_props),
        devices=tuple(map(read_record, getattr(proto, "device_configurations", ()))),
        **extra,
    )


def read_record(proto: Any) -> Record:
    """Any message as plain data."""

    def plain(value: Any) -> Any:
        if hasattr(value, "DESCRIPTOR"):
            return read_record(value)
        repeated = hasattr(value, "__len__") and not isinstance(value, str | bytes)
        return tuple(map(plain, value)) if repeated else _text(value)

    return Record(proto.DESCRIPTOR.name, tuple((f.name, plain(value)) for f, value in proto.ListFields()))


# ---- graphs


def read_graph(proto: onnx.GraphProto, source: Source, header: Header | None = None) -> Graph:
    """A graph with everything in it.

    Raises:
        ModelError: a value has two producers, or a declaration or initializer occurs twice.
    """
    graph = Graph(
        _optional(proto, "name"),
        doc=_optional(proto, "doc_string"),
        metadata=_pairs(getattr(proto, "metadata_props", ())),
        header=header,
    )
    graph.annotations = tuple(
        Annotation(_optional(a, "tensor_name"), _pairs(a.quant_parameter_tensor_names))
        for a in proto.quantization_annotation
    )
    try:
        edit.set_inputs(graph, map(read_value_info, proto.input))
        for tensor in proto.initializer:
            edit.add_initializer(graph, read_tensor(tensor, source))
        for sparse in proto.sparse_initializer:
            edit.add_initializer(graph, read_sparse(sparse, source))
        for node in proto.node:
            edit.add_operator(graph, read_operator(node, source))
    except InternalError as e:
        raise ModelError(str(e)) from e
    edit.set_outputs(graph, map(read_value_info, proto.output))
    _read_declarations(graph, proto.value_info, f"graph {graph.name!r}")
    return graph


def _read_declarations(graph: Graph, entries: Iterable[onnx.ValueInfoProto], where: str) -> None:
    infos = list(map(read_value_info, entries))
    edit.set_value_info(graph, infos)
    if len(graph.value_info) != len(infos):
        raise ModelError(f"{where} declares a value twice in value_info")


def read_function(proto: onnx.FunctionProto, source: Source) -> Function:
    """A model-local function."""
    body = Graph()
    body.opsets = _opsets(proto)
    edit.set_inputs(body, map(ValueInfo, _texts(proto.input)))
    try:
        for node in proto.node:
            edit.add_operator(body, read_operator(node, source))
    except InternalError as e:
        raise ModelError(f"function {proto.name!r}: {e}") from e
    edit.set_outputs(body, map(ValueInfo, _texts(proto.output)))
    _read_declarations(body, proto.value_info, f"function {proto.name!r}")
    return Function(
        _text(proto.name),
        _optional(proto, "domain"),
        _optional(proto, "overload"),
        _texts(proto.input),
        _texts(proto.output),
        _texts(proto.attribute),
        tuple(read_attribute(a, source) for a in proto.attribute_proto),
        body,
        _optional(proto, "doc_string"),
        _pairs(proto.metadata_props),
    )


def _opsets(proto: Any) -> tuple[tuple[str | None, int | None], ...]:
    return tuple((_optional(o, "domain"), _optional(o, "version")) for o in proto.opset_import)


def _training(proto: onnx.TrainingInfoProto, source: Source) -> Training:
    def part(name: str) -> Graph | None:
        return read_graph(getattr(proto, name), source) if proto.HasField(name) else None

    return Training(
        part("initialization"), part("algorithm"), _pairs(proto.initialization_binding), _pairs(proto.update_binding)
    )


def read_model(proto: onnx.ModelProto, source: Source) -> Graph:
    """A whole model; its header hangs on the main graph."""
    header = Header(
        ir_version=_optional(proto, "ir_version"),
        producer_name=_optional(proto, "producer_name"),
        producer_version=_optional(proto, "producer_version"),
        domain=_optional(proto, "domain"),
        model_version=_optional(proto, "model_version"),
        doc=_optional(proto, "doc_string"),
        metadata=_pairs(proto.metadata_props),
        functions=[read_function(f, source) for f in proto.functions],
        training=[_training(t, source) for t in proto.training_info],
        configuration=tuple(map(read_record, getattr(proto, "configuration", ()))),
    )
    graph = read_graph(proto.graph, source, header)
    graph.opsets = _opsets(proto)
    return graph
