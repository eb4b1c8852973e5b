"""The IR into protobuf messages, message by message, from the IR alone: the inverse of `from_proto`, in its order."""

from collections.abc import Callable, Iterable
from typing import Any, cast

import onnx

from graphshrink.ir.graph import Function, Graph, Header, Training
from graphshrink.ir.operator import Attribute, AttributeType, Operator, Record
from graphshrink.ir.tensor import (
    Tensor,
)
from graphshrink.onnx_io.fields import Relocate, add_pairs, keep_in_place, set_fields
from graphshrink.onnx_io.from_proto import REPEATED, attribute_field
from graphshrink.onnx_io.tensors import write_sparse, write_tensor
from graphshrink.onnx_io.types import write_type, write_value_info

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
    set_fields(proto, ref_attr_name=attribute.reference, doc_string=attribute.doc)
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
    set_fields(proto, domain=operator.domain, name=operator.name, overload=operator.overload, doc_string=operator.doc)
    for attribute in operator.attributes.values():
        write_attribute(attribute, proto.attribute.add(), relocate)
    if operator.metadata:
        add_pairs(proto.metadata_props, operator.metadata)
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
    set_fields(proto, name=graph.name, doc_string=graph.doc)
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
        set_fields(entry, tensor_name=annotation.tensor_name)
        add_pairs(entry.quant_parameter_tensor_names, annotation.parameters)
    if graph.metadata:
        add_pairs(proto.metadata_props, graph.metadata)


def write_function(function: Function, proto: onnx.FunctionProto, relocate: Relocate) -> None:
    """Fill a FunctionProto."""
    proto.name = function.name
    set_fields(proto, domain=function.domain, overload=function.overload, doc_string=function.doc)
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
    add_pairs(proto.metadata_props, function.metadata)


def _write_opsets(opsets: tuple[tuple[str | None, int | None], ...], proto: Any) -> None:
    for domain, version in opsets:
        set_fields(proto.opset_import.add(), domain=domain, version=version)


def _write_training(training: Training, proto: onnx.TrainingInfoProto, relocate: Relocate) -> None:
    for name, graph in (("initialization", training.initialization), ("algorithm", training.algorithm)):
        if graph is not None:
            getattr(proto, name).SetInParent()
            write_graph(graph, getattr(proto, name), relocate)
    add_pairs(proto.initialization_binding, training.initialization_binding)
    add_pairs(proto.update_binding, training.update_binding)


def write_model(graph: Graph, relocate: Relocate) -> onnx.ModelProto:
    """A ModelProto of a main graph."""
    header = graph.header or Header()
    proto = onnx.ModelProto()
    set_fields(
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
    add_pairs(proto.metadata_props, header.metadata)
    for function in header.functions:
        write_function(function, proto.functions.add(), relocate)
    for training in header.training:
        _write_training(training, proto.training_info.add(), relocate)
    for record in header.configuration:
        write_record(record, proto.configuration.add())
    return proto
