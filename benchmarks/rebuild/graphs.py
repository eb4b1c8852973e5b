"""What the rebuilt models share: how a graph becomes a model whose bytes are the same every time."""

from collections.abc import Mapping, Sequence
from typing import Any, Final

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

_OPSET: Final = 13
_IR_VERSION: Final = 8
_PRODUCER: Final = "graphshrink-benchmarks"

FLOAT: Final = TensorProto.FLOAT
INT64: Final = TensorProto.INT64


def value(name: str, kind: int, shape: Sequence[int | str]) -> onnx.ValueInfoProto:
    """An input or output; axes that have a name are open."""
    return helper.make_tensor_value_info(name, kind, shape)


def model(
    name: str,
    nodes: Sequence[onnx.NodeProto],
    inputs: Sequence[onnx.ValueInfoProto],
    outputs: Sequence[onnx.ValueInfoProto],
    weights: Mapping[str, NDArray[Any]],
) -> onnx.ModelProto:
    """The model of a graph."""
    initializers = [numpy_helper.from_array(np.array(array, order="C"), key) for key, array in weights.items()]
    graph = helper.make_graph(nodes, name, inputs, outputs, initializers)
    opset = helper.make_opsetid("", _OPSET)
    return helper.make_model(graph, opset_imports=[opset], ir_version=_IR_VERSION, producer_name=_PRODUCER)
