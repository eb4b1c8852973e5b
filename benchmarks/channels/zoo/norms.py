"""Batch normalisation as after training: statistics that are those of the data, and folded if an exporter folds it."""

from collections import Counter
from typing import Any, Final

import numpy as np
import onnx
import onnxruntime as ort
from onnx import helper, numpy_helper, shape_inference

from benchmarks.channels.zoo.feeds import feeds
from graphshrink.ir.types import Array

_ROWS: Final = 16
_DIGITS: Final = 4  # statistics are rounded to, so that other sums of floats rarely show


def settled(model: onnx.ModelProto) -> onnx.ModelProto:
    """Sets the mean and variance of every BatchNormalization outside bodies to what it gets on random inputs.

    Layers behind see their inputs normalised already, as in training. Changes the model, and gives it.
    """
    probe = _probe(model)
    wanted = [output.name for output in probe.graph.output]
    options: Any = ort.SessionOptions()
    options.intra_op_num_threads = 1
    options.log_severity_level = 3
    session: Any = ort.InferenceSession(probe.SerializeToString(), options, providers=["CPUExecutionProvider"])
    found = dict(zip(wanted, session.run(wanted, feeds(model, seed=0, batch=_ROWS)), strict=True))
    tensors = _tensors(model)
    for name, statistic in found.items():
        tensors[name].CopyFrom(numpy_helper.from_array(np.asarray(np.round(statistic, _DIGITS)), name))
    return model


def _probe(model: onnx.ModelProto) -> onnx.ModelProto:
    """The model with statistics that are computed; the names of the stored ones are its outputs."""
    probe, ranks = onnx.ModelProto(), _ranks(model)
    probe.CopyFrom(model)
    nodes: list[onnx.NodeProto] = []
    names: list[str] = []
    for node in probe.graph.node:
        if node.op_type == "BatchNormalization":
            source, mean, variance = node.input[0], node.input[3], node.input[4]
            axes = [axis for axis in range(ranks[source]) if axis != 1]
            nodes += [
                helper.make_node("ReduceMean", [source], [mean], axes=axes, keepdims=0),
                helper.make_node("Mul", [source, source], [f"{mean}.source^2"]),
                helper.make_node("ReduceMean", [f"{mean}.source^2"], [f"{mean}.power"], axes=axes, keepdims=0),
                helper.make_node("Mul", [mean, mean], [f"{mean}^2"]),
                helper.make_node("Sub", [f"{mean}.power", f"{mean}^2"], [variance]),
            ]
            names += [mean, variance]
        nodes.append(node)
    replaced = set(names)
    kept = [tensor for tensor in probe.graph.initializer if tensor.name not in replaced]
    inputs = [value for value in probe.graph.input if value.name not in replaced]
    nodes = [node for node in nodes if node.op_type != "Constant" or node.output[0] not in replaced]
    outputs = [helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, None) for name in names]
    probe.graph.CopyFrom(helper.make_graph(nodes, "probe", inputs, outputs, kept))
    return probe


def _ranks(model: onnx.ModelProto) -> dict[str, int]:
    graph = shape_inference.infer_shapes(model).graph
    return {
        value.name: len(value.type.tensor_type.shape.dim) for value in (*graph.value_info, *graph.input, *graph.output)
    }


def _tensors(model: onnx.ModelProto) -> dict[str, onnx.TensorProto]:
    """Initializers and values of Constant nodes, by name."""
    in_nodes = {node.output[0]: node.attribute[0].t for node in model.graph.node if node.op_type == "Constant"}
    return {tensor.name: tensor for tensor in model.graph.initializer} | in_nodes


def folded(model: onnx.ModelProto) -> onnx.ModelProto:
    """Puts every BatchNormalization that alone reads a Conv without bias into it, as exporters do in inference mode."""
    tensors = {tensor.name: tensor for tensor in model.graph.initializer}
    makers = {node.output[0]: node for node in model.graph.node}
    uses = Counter(name for node in model.graph.node for name in node.input)
    gone: list[onnx.NodeProto] = []
    for norm in model.graph.node:
        conv = makers.get(norm.input[0]) if norm.op_type == "BatchNormalization" else None
        if conv is None or conv.op_type != "Conv" or len(conv.input) > 2 or uses[norm.input[0]] > 1:
            continue
        gamma, beta, mean, variance = (_float64(tensors[name]) for name in norm.input[1:])
        factor = gamma / np.sqrt(variance + helper.get_node_attr_value(norm, "epsilon"))
        weight = _float64(tensors[conv.input[1]])
        _store(tensors[conv.input[1]], weight * factor.reshape(-1, 1, 1, 1))
        _store(tensors[norm.input[2]], beta - mean * factor)
        conv.input.append(norm.input[2])
        conv.output[0] = norm.output[0]
        gone.append(norm)
    for norm in gone:
        for name in (norm.input[1], *norm.input[3:]):
            model.graph.initializer.remove(tensors[name])
        model.graph.node.remove(norm)
    return model


def _float64(tensor: onnx.TensorProto) -> Array:
    return numpy_helper.to_array(tensor).astype(np.float64)


def _store(tensor: onnx.TensorProto, array: Array) -> None:
    tensor.CopyFrom(numpy_helper.from_array(array.astype(np.float32), tensor.name))
