"""How many bytes tensors and operators take in a file, without building it.

Follows protobuf's wire format: a field is a key byte (two from number 16 on), for texts and messages a length, and the
content.
"""

from collections.abc import Iterable

from graphshrink.errors import InternalError
from graphshrink.ir.graph import Function
from graphshrink.ir.operator import Attribute, AttributeType, Operator
from graphshrink.ir.tensor import Tensor
from graphshrink.ir.types import Metadata


def tensor_bytes(tensor: Tensor) -> int:
    """Bytes of an initializer in the file, stored raw."""
    return _framed(_tensor(tensor))


def operator_bytes(operator: Operator) -> int:
    """Bytes of a node in the file; for the attribute types that decode subgraphs use."""
    content = sum(_text(text) for text in (*operator.inputs, *operator.outputs, operator.op_type))
    content += sum(_text(text) for text in (operator.name, operator.domain, operator.doc) if text is not None)
    content += _pairs(operator.metadata)
    return _framed(content + sum(_framed(_attribute(attribute)) for attribute in operator.attributes.values()))


def function_bytes(function: Function) -> int:
    """Bytes of a function in the file; for those that decode subgraphs call."""
    content = sum(_text(text) for text in (function.name, *function.inputs, *function.outputs))
    content += sum(operator_bytes(operator) for _, operator in function.body.operators())
    content += 0 if function.domain is None else _text(function.domain)
    for domain, version in function.body.opsets:
        content += _framed((0 if domain is None else _text(domain)) + 1 + _varint(version or 1))
    return 1 + _framed(content)  # `functions` is field 25: two key bytes


def total_bytes(tensors: Iterable[Tensor], operators: Iterable[Operator]) -> int:
    """Bytes of all of them."""
    return sum(map(tensor_bytes, tensors)) + sum(map(operator_bytes, operators))


def _varint(value: int) -> int:
    return 10 if value < 0 else max(1, -(-value.bit_length() // 7))


def _framed(content: int) -> int:
    return 1 + _varint(content) + content


def _text(text: str) -> int:
    return _framed(len(text.encode()))


def _pairs(metadata: Metadata) -> int:
    return sum(_framed(_text(key) + _text(value)) for key, value in metadata)


def _tensor(tensor: Tensor) -> int:
    content = sum(1 + _varint(d) for d in tensor.dims)  # onnx.proto does not pack dims
    content += sum(_text(text) for text in (tensor.name, tensor.doc) if text is not None)
    content += _pairs(tensor.metadata) + len(tensor.metadata)  # `metadata_props` is field 16: two key bytes
    content += 2 * tensor.states_location + 1 + _varint(tensor.elem_type)
    return content + _framed(tensor.nbytes)


def _attribute(attribute: Attribute) -> int:
    named = _text(attribute.name) + 3  # `type` is field 20: two key bytes and the value
    value = attribute.value
    if isinstance(value, Tensor):
        return named + _framed(_tensor(value))
    if attribute.type is AttributeType.INT and isinstance(value, int):
        return named + 1 + _varint(value)
    if attribute.type is AttributeType.STRING and isinstance(value, bytes):
        return named + _framed(len(value))
    if attribute.type is AttributeType.INTS and isinstance(value, tuple):
        return named + sum(1 + _varint(v) for v in value if isinstance(v, int))
    raise InternalError(f"attribute {attribute.name!r} of type {attribute.type.name} in a decode subgraph")
