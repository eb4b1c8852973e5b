"""Protobuf messages into the IR, message by message. The inverse stands in `to_proto`, in the same order."""

from collections.abc import Callable, Iterable, Mapping
from types import MappingProxyType
from typing import Any, Final

import onnx

from graphshrink.errors import InternalError, ModelError
from graphshrink.ir import edit
from graphshrink.ir.graph import Annotation, Function, Graph, Header, Training
from graphshrink.ir.operator import Attribute, AttributeType, AttributeValue, Operator, Record
from graphshrink.ir.types import (
    ValueInfo,
)
from graphshrink.onnx_io.fields import Source, optional, pairs, text, texts
from graphshrink.onnx_io.tensors import read_sparse, read_tensor
from graphshrink.onnx_io.types import read_type, read_value_info

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
    reference = optional(proto, "ref_attr_name")
    value = _value(proto, kind, source, reference)
    return Attribute(text(proto.name), kind, value, reference, optional(proto, "doc_string"), proto.HasField("type"))


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
        text(proto.op_type),
        texts(proto.input),
        texts(proto.output),
        domain=optional(proto, "domain"),
        name=optional(proto, "name"),
        overload=optional(proto, "overload"),
        doc=optional(proto, "doc_string"),
        metadata=pairs(proto.metadata_props),
        devices=tuple(map(read_record, getattr(proto, "device_configurations", ()))),
        **extra,
    )


def read_record(proto: Any) -> Record:
    """Any message as plain data."""

    def plain(value: Any) -> Any:
        if hasattr(value, "DESCRIPTOR"):
            return read_record(value)
        repeated = hasattr(value, "__len__") and not isinstance(value, str | bytes)
        return tuple(map(plain, value)) if repeated else text(value)

    return Record(proto.DESCRIPTOR.name, tuple((f.name, plain(value)) for f, value in proto.ListFields()))


# ---- graphs


def read_graph(proto: onnx.GraphProto, source: Source, header: Header | None = None) -> Graph:
    """A graph with everything in it.

    Raises:
        ModelError: a value has two producers, or a declaration or initializer occurs twice.
    """
    graph = Graph(
        optional(proto, "name"),
        doc=optional(proto, "doc_string"),
        metadata=pairs(getattr(proto, "metadata_props", ())),
        header=header,
    )
    graph.annotations = tuple(
        Annotation(optional(a, "tensor_name"), pairs(a.quant_parameter_tensor_names))
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
    edit.set_inputs(body, map(ValueInfo, texts(proto.input)))
    try:
        for node in proto.node:
            edit.add_operator(body, read_operator(node, source))
    except InternalError as e:
        raise ModelError(f"function {proto.name!r}: {e}") from e
    edit.set_outputs(body, map(ValueInfo, texts(proto.output)))
    _read_declarations(body, proto.value_info, f"function {proto.name!r}")
    return Function(
        text(proto.name),
        optional(proto, "domain"),
        optional(proto, "overload"),
        texts(proto.input),
        texts(proto.output),
        texts(proto.attribute),
        tuple(read_attribute(a, source) for a in proto.attribute_proto),
        body,
        optional(proto, "doc_string"),
        pairs(proto.metadata_props),
    )


def _opsets(proto: Any) -> tuple[tuple[str | None, int | None], ...]:
    return tuple((optional(o, "domain"), optional(o, "version")) for o in proto.opset_import)


def _training(proto: onnx.TrainingInfoProto, source: Source) -> Training:
    def part(name: str) -> Graph | None:
        return read_graph(getattr(proto, name), source) if proto.HasField(name) else None

    return Training(
        part("initialization"), part("algorithm"), pairs(proto.initialization_binding), pairs(proto.update_binding)
    )


def read_model(proto: onnx.ModelProto, source: Source) -> Graph:
    """A whole model; its header hangs on the main graph."""
    header = Header(
        ir_version=optional(proto, "ir_version"),
        producer_name=optional(proto, "producer_name"),
        producer_version=optional(proto, "producer_version"),
        domain=optional(proto, "domain"),
        model_version=optional(proto, "model_version"),
        doc=optional(proto, "doc_string"),
        metadata=pairs(proto.metadata_props),
        functions=[read_function(f, source) for f in proto.functions],
        training=[_training(t, source) for t in proto.training_info],
        configuration=tuple(map(read_record, getattr(proto, "configuration", ()))),
    )
    graph = read_graph(proto.graph, source, header)
    graph.opsets = _opsets(proto)
    return graph
