"""The IR into protobuf messages, message by message, from the IR alone: the inverse of `from_proto`, in its order."""

from collections.abc import Callable, Iterable, Mapping
from typing import Any, Final, TypeAlias, cast

import numpy as np
import onnx

from graphshrink.ir.graph import Function, Graph, Header, Training
from graphshrink.ir.operator import Attribute, AttributeType, Operator, Record
from graphshrink.ir.tensor import (
    PACKED_BITS,
    ExternalData,
    FieldData,
    RawData,
    SparseTensor,
    StringData,
    Tensor,
    unpack_codes,
)
from graphshrink.ir.types import (
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
from graphshrink.onnx_io.from_proto import REPEATED, attribute_field, typed_field

T = onnx.TensorProto

Relocate: TypeAlias = Callable[[Tensor], tuple[tuple[str, str], ...] | None]
"""Says for a tensor where its data lies outside the file (entries of `external_data`), or None to keep it as it is."""


def keep_in_place(tensor: Tensor) -> tuple[tuple[str, str], ...] | None:
    """Tensors that were outside stay where they were."""
    return tensor.data.entries if isinstance(tensor.data, ExternalData) else None


def _set(message: Any, **values: Any) -> None:
    for name, value in values.items():
        if value is not None:
            setattr(message, name, value)


def _add_pairs(entries: Any, pairs: Metadata) -> None:
    for key, value in pairs:
        entries.add(key=key, value=value)


# ---- tensors


def write_tensor(tensor: Tensor, proto: onnx.TensorProto, relocate: Relocate) -> None:
    """Fill a TensorProto."""
    proto.dims.extend(tensor.dims)
    proto.data_type = tensor.elem_type
    _set(proto, name=tensor.name, doc_string=tensor.doc)
    if tensor.states_location:
        proto.data_location = T.DEFAULT
    if tensor.metadata:
        _add_pairs(proto.metadata_props, tensor.metadata)
    entries = relocate(tensor)
    if entries is not None:
        proto.data_location = T.EXTERNAL
        _add_pairs(proto.external_data, entries)
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
    getattr(proto, name).extend(entries.tolist())


def _write_strings(tensor: Tensor, proto: onnx.TensorProto) -> None:
    if isinstance(tensor.data, StringData):
        proto.string_data.extend(tensor.data.items)


_DATA: Final[Mapping[type[Any], Callable[[Tensor, onnx.TensorProto], None]]] = {
    RawData: _write_raw,
    ExternalData: _write_raw,
    FieldData: _write_field,
    StringData: _write_strings,
}


def write_sparse(sparse: SparseTensor, proto: onnx.SparseTensorProto, relocate: Relocate) -> None:
    """Fill a SparseTensorProto."""
    proto.dims.extend(sparse.dims)
    for tensor, part in ((sparse.values, proto.values), (sparse.indices, proto.indices)):
        part.SetInParent()
        write_tensor(tensor, part, relocate)


# ---- types


def write_type(kind: Type, proto: onnx.TypeProto) -> None:
    """Fill a TypeProto."""
    proto.SetInParent()
    _set(proto, denotation=kind.denotation)
    _TYPES[type(kind)](kind, proto)


def _write_tensor_type(kind: TensorType, proto: onnx.TypeProto) -> None:
    inner: Any = proto.sparse_tensor_type if kind.sparse else proto.tensor_type
    inner.SetInParent()
    _set(inner, elem_type=kind.elem_type)
    if kind.shape is None:
        return
    inner.shape.SetInParent()
    for dimension in kind.shape:
        _write_dimension(dimension, inner.shape.dim.add())


def _write_dimension(dimension: Dimension, proto: Any) -> None:
    _set(proto, denotation=dimension.denotation)
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
    _set(proto.map_type, key_type=kind.key_type)
    _write_inner(kind.value, proto.map_type.value_type)


def _write_opaque(kind: OpaqueType, proto: Any) -> None:
    proto.opaque_type.SetInParent()
    _set(proto.opaque_type, domain=kind.domain, name=kind.name)


_TYPES: Final[Mapping[type[Any], Callable[[Any, Any], None]]] = {
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
    _set(proto, doc_string=info.doc)
    if info.type is not None:
        write_type(info.type, proto.type)
    if info.metadata:
        _add_pairs(proto.metadata_props, info.metadata)


# ---- attributes and operators


def _writer(kind: AttributeType, relocate: Relocate) -> Callable[[Any, Any], None] | None:
    if kind in (AttributeType.TENSOR, AttributeType.TENSORS):
        return lambda value, proto: write_tensor(value, proto, relocate)
    if kind in (AttributeType.GRAPH, AttributeType.GRAPHS):
        return lambda value, proto: write_graph(value, proto, relocate)
    if kind in (AttributeType.SPARSE_TENSOR, AttributeType.SPARSE_TENSORS):
        return lambda value, proto: write_sparse(value, proto, relocate)
    return write_type if kind in (AttributeType.TYPE_PROTO, AttributeType.TYPE_PROTOS) else None


def write_attribute(attribute: Attribute, proto: onnx.AttributeProto, relocate: Relocate) -> None:
    """Fill an AttributeProto."""
    proto.name = attribute.name
    if attribute.states_type:
        proto.type = int(attribute.type)  # type: ignore[assignment]
    _set(proto, ref_attr_name=attribute.reference, doc_string=attribute.doc)
    value: Any = attribute.value
    if value is None:
        return
    name, write = attribute_field(attribute.type), _writer(attribute.type, relocate)
    if write is None and attribute.type in REPEATED:
        getattr(proto, name).extend(value)
    elif write is None:
        setattr(proto, name, value)
    elif attribute.type in REPEATED:
        for item in value:
            write(item, getattr(proto, name).add())
    else:
        getattr(proto, name).SetInParent()
        write(value, getattr(proto, name))


def write_operator(operator: Operator, proto: onnx.NodeProto, relocate: Relocate = keep_in_place) -> None:
    """Fill a NodeProto."""
    proto.op_type = operator.op_type
    proto.input.extend(operator.inputs)
    proto.output.extend(operator.outputs)
    _set(proto, domain=operator.domain, name=operator.name, overload=operator.overload, doc_string=operator.doc)
    for attribute in operator.attributes.values():
        write_attribute(attribute, proto.attribute.add(), relocate)
    if operator.metadata:
        _add_pairs(proto.metadata_props, operator.metadata)
    for record in operator.devices:
        write_record(record, proto.device_configurations.add())


def write_record(record: Record, proto: Any) -> None:
    """Fill any message."""
    for name, value in record.fields:
        if isinstance(value, Record):
            getattr(proto, name).SetInParent()
            write_record(value, getattr(proto, name))
        elif isinstance(value, tuple):
            _extend(getattr(proto, name), cast("Iterable[Any]", value))
        else:
            setattr(proto, name, value)


def _extend(repeated: Any, items: Iterable[Any]) -> None:
    for item in items:
        if isinstance(item, Record):
            write_record(item, repeated.add())
        else:
            repeated.append(item)


# ---- graphs


def write_graph(graph: Graph, proto: onnx.GraphProto, relocate: Relocate) -> None:
    """Fill a GraphProto."""
    _set(proto, name=graph.name, doc_string=graph.doc)
    for _, operator in graph.operators():
        write_operator(operator, proto.node.add(), relocate)
    for value in graph.initializers():
        if isinstance(value.constant, Tensor):
            write_tensor(value.constant, proto.initializer.add(), relocate)
        elif value.constant is not None:
            write_sparse(value.constant, proto.sparse_initializer.add(), relocate)
    for infos, entries in (
        (graph.inputs, proto.input),
        (graph.outputs, proto.output),
        (graph.value_info.values(), proto.value_info),
    ):
        for info in infos:
            write_value_info(info, entries.add())
    for annotation in graph.annotations:
        entry = proto.quantization_annotation.add()
        _set(entry, tensor_name=annotation.tensor_name)
        _add_pairs(entry.quant_parameter_tensor_names, annotation.parameters)
    if graph.metadata:
        _add_pairs(proto.metadata_props, graph.metadata)


def write_function(function: Function, proto: onnx.FunctionProto, relocate: Relocate) -> None:
    """Fill a FunctionProto."""
    proto.name = function.name
    _set(proto, domain=function.domain, overload=function.overload, doc_string=function.doc)
    proto.input.extend(function.inputs)
    proto.output.extend(function.outputs)
    proto.attribute.extend(function.attributes)
    for default in function.defaults:
        write_attribute(default, proto.attribute_proto.add(), relocate)
    for _, operator in function.body.operators():
        write_operator(operator, proto.node.add(), relocate)
    for info in function.body.value_info.values():
        write_value_info(info, proto.value_info.add())
    _write_opsets(function.body.opsets, proto)
    _add_pairs(proto.metadata_props, function.metadata)


def _write_opsets(opsets: tuple[tuple[str | None, int | None], ...], proto: Any) -> None:
    for domain, version in opsets:
        _set(proto.opset_import.add(), domain=domain, version=version)


def _write_training(training: Training, proto: onnx.TrainingInfoProto, relocate: Relocate) -> None:
    for name, graph in (("initialization", training.initialization), ("algorithm", training.algorithm)):
        if graph is not None:
            getattr(proto, name).SetInParent()
            write_graph(graph, getattr(proto, name), relocate)
    _add_pairs(proto.initialization_binding, training.initialization_binding)
    _add_pairs(proto.update_binding, training.update_binding)


def write_model(graph: Graph, relocate: Relocate) -> onnx.ModelProto:
    """A ModelProto of a main graph."""
    header = graph.header or Header()
    proto = onnx.ModelProto()
    _set(
        proto,
        ir_version=header.ir_version,
        producer_name=header.producer_name,
        producer_version=header.producer_version,
        domain=header.domain,
        model_version=header.model_version,
        doc_string=header.doc,
    )
    _write_opsets(graph.opsets, proto)
    proto.graph.SetInParent()
    write_graph(graph, proto.graph, relocate)
    _add_pairs(proto.metadata_props, header.metadata)
    for function in header.functions:
        write_function(function, proto.functions.add(), relocate)
    for training in header.training:
        _write_training(training, proto.training_info.add(), relocate)
    for record in header.configuration:
        write_record(record, proto.configuration.add())
    return proto
