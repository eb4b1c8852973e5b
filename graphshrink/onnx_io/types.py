"""TypeProto and ValueInfoProto into types and declarations of the IR, and back."""

import math
from collections.abc import Callable, Mapping
from typing import Any, Final

import onnx

from graphshrink.errors import ModelError
from graphshrink.ir.types import (
    Dimension,
    MapType,
    OpaqueType,
    OptionalType,
    SequenceType,
    TensorType,
    Type,
    UnsetType,
    ValueInfo,
)
from graphshrink.onnx_io.fields import add_pairs, optional, pairs, set_fields, text
from graphshrink.onnx_io.tensors import MAX_ELEMENTS

# ---- reading


def read_type(proto: onnx.TypeProto) -> Type:
    """A type of any kind."""
    kind = proto.WhichOneof("value")
    denotation = optional(proto, "denotation")
    return UnsetType(denotation) if kind is None else _READERS[kind](getattr(proto, kind), denotation)


def _tensor_type(sparse: bool) -> Callable[[Any, str | None], Type]:
    def read(proto: Any, denotation: str | None) -> Type:
        shape = tuple(map(_dimension, proto.shape.dim)) if proto.HasField("shape") else None
        return TensorType(optional(proto, "elem_type"), shape, sparse, denotation)

    return read


def _dimension(proto: Any) -> Dimension:
    kind = proto.WhichOneof("value")
    return Dimension(None if kind is None else text(getattr(proto, kind)), optional(proto, "denotation"))


def _inner(proto: Any, name: str) -> Type | None:
    return read_type(getattr(proto, name)) if proto.HasField(name) else None


_READERS: Final[Mapping[str, Callable[[Any, str | None], Type]]] = {
    "tensor_type": _tensor_type(sparse=False),
    "sparse_tensor_type": _tensor_type(sparse=True),
    "sequence_type": lambda p, d: SequenceType(_inner(p, "elem_type"), d),
    "optional_type": lambda p, d: OptionalType(_inner(p, "elem_type"), d),
    "map_type": lambda p, d: MapType(optional(p, "key_type"), _inner(p, "value_type"), d),
    "opaque_type": lambda p, d: OpaqueType(optional(p, "domain"), optional(p, "name"), d),
}


def read_value_info(proto: onnx.ValueInfoProto) -> ValueInfo:
    """A declaration."""
    kind = read_type(proto.type) if proto.HasField("type") else None
    sizes = [d for d in (kind.dims or () if isinstance(kind, TensorType) else ()) if isinstance(d, int) and d > 0]
    if math.prod(sizes) >= MAX_ELEMENTS:  # below zero means open, to some exporters
        raise ModelError(f"value {proto.name!r} is declared with an absurd shape, {sizes}")
    return ValueInfo(text(proto.name), kind, optional(proto, "doc_string"), pairs(getattr(proto, "metadata_props", ())))


# ---- writing


def write_type(kind: Type, proto: onnx.TypeProto) -> None:
    """Fill a TypeProto."""
    proto.SetInParent()
    set_fields(proto, denotation=kind.denotation)
    _WRITERS[type(kind)](kind, proto)


def _write_tensor_type(kind: TensorType, proto: onnx.TypeProto) -> None:
    inner: Any = proto.sparse_tensor_type if kind.sparse else proto.tensor_type
    inner.SetInParent()
    set_fields(inner, elem_type=kind.elem_type)
    if kind.shape is None:
        return
    inner.shape.SetInParent()
    for dimension in kind.shape:
        _write_dimension(dimension, inner.shape.dim.add())


def _write_dimension(dimension: Dimension, proto: Any) -> None:
    set_fields(proto, denotation=dimension.denotation)
    if isinstance(dimension.size, str):
        proto.dim_param = dimension.size
    elif dimension.size is not None:
        proto.dim_value = dimension.size


def _write_inner(kind: Type | None, proto: onnx.TypeProto) -> None:
    if kind is not None:
        write_type(kind, proto)


def _write_sequence(kind: SequenceType, proto: onnx.TypeProto) -> None:
    proto.sequence_type.SetInParent()
    _write_inner(kind.elem, proto.sequence_type.elem_type)


def _write_optional(kind: OptionalType, proto: onnx.TypeProto) -> None:
    proto.optional_type.SetInParent()
    _write_inner(kind.elem, proto.optional_type.elem_type)


def _write_map(kind: MapType, proto: onnx.TypeProto) -> None:
    proto.map_type.SetInParent()
    set_fields(proto.map_type, key_type=kind.key_type)
    _write_inner(kind.value, proto.map_type.value_type)


def _write_opaque(kind: OpaqueType, proto: Any) -> None:
    proto.opaque_type.SetInParent()
    set_fields(proto.opaque_type, domain=kind.domain, name=kind.name)


_WRITERS: Final[Mapping[type[Any], Callable[[Any, Any], None]]] = {
    TensorType: _write_tensor_type,
    SequenceType: _write_sequence,
    OptionalType: _write_optional,
    MapType: _write_map,
    OpaqueType: _write_opaque,
    UnsetType: lambda kind, proto: None,
}


def write_value_info(info: ValueInfo, proto: onnx.ValueInfoProto) -> None:
    """Fill a ValueInfoProto."""
    proto.name = info.name
    set_fields(proto, doc_string=info.doc)
    if info.type is not None:
        write_type(info.type, proto.type)
    if info.metadata:
        add_pairs(proto.metadata_props, info.metadata)
