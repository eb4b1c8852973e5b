"""Rebuilding graphs node by node, so that a round trip proves that the IR holds everything and nothing is copied."""

from dataclasses import replace
from types import MappingProxyType
from typing import Any, cast

from graphshrink.ir import edit
from graphshrink.ir.graph import Function, Graph, Header, Training
from graphshrink.ir.operator import Attribute, AttributeType, Operator
from graphshrink.ir.tensor import SparseTensor, Tensor


def rebuilt(graph: Graph) -> Graph:
    """A fresh graph of fresh parts, made by the functions of `ir.edit` alone."""
    header = None if graph.header is None else _header(graph.header)
    new = Graph(graph.name, doc=graph.doc, metadata=graph.metadata, header=header)
    new.opsets, new.annotations = graph.opsets, graph.annotations
    edit.set_inputs(new, graph.inputs)
    for _, operator in graph.operators():
        edit.add_operator(new, _operator(operator))
    for value in graph.initializers():
        assert value.constant is not None
        edit.add_initializer(new, _constant(value.constant))
    edit.set_outputs(new, graph.outputs)
    edit.set_value_info(new, graph.value_info.values())
    return new


def _constant(constant: Tensor | SparseTensor) -> Tensor | SparseTensor:
    return replace(constant)


def _operator(operator: Operator) -> Operator:
    attributes = {name: _attribute(attribute) for name, attribute in operator.attributes.items()}
    return replace(operator, attributes=MappingProxyType(attributes))


def _attribute(attribute: Attribute) -> Attribute:
    if attribute.value is None:
        return replace(attribute)
    if attribute.type is AttributeType.GRAPH:
        return replace(attribute, value=rebuilt(cast(Any, attribute.value)))
    if attribute.type is AttributeType.GRAPHS:
        return replace(attribute, value=tuple(map(rebuilt, cast(Any, attribute.value))))
    return replace(attribute)


def _header(header: Header) -> Header:
    return replace(
        header, functions=list(map(_function, header.functions)), training=list(map(_training, header.training))
    )


def _function(function: Function) -> Function:
    return replace(function, defaults=tuple(map(_attribute, function.defaults)), body=rebuilt(function.body))


def _training(training: Training) -> Training:
    first, then = training.initialization, training.algorithm
    return replace(
        training,
        initialization=None if first is None else rebuilt(first),
        algorithm=None if then is None else rebuilt(then),
    )
