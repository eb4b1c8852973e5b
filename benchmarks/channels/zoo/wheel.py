"""The `light_*` models of the onnx wheel, with random weights in the place of its constant ones.

The wheel ships nine networks of the Caffe and Caffe2 time, exported in 2018 (opset 9, one image), at full width and
224 x 224 pixels. To be light, all but small weights are ConstantOfShape nodes, so that what they compute means little.
Here every weight is a random initializer: normal of variance 2 / fan-in where it multiplies, small where it adds, and
statistics of batch normalisation are those of a random image.

Small ones: squeezenet, shufflenet (1.4 M weights), inception_v1, densenet121, inception_v2, resnet50. Large ones:
bvlc_alexnet (61 M), zfnet512, vgg19 (144 M weights, 600 MB).
"""

import zlib
from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import Final

import numpy as np
import onnx
from onnx import helper, numpy_helper

from benchmarks.channels.zoo.norms import settled
from graphshrink.ir.types import Array

_FOLDER: Final = Path(onnx.__file__).parent / "backend" / "test" / "data" / "light"
_ADDING: Final = frozenset({("Conv", 2), ("Gemm", 2), ("Add", 0), ("Add", 1), ("BatchNormalization", 2)})
_SCALING: Final = frozenset({("Mul", 0), ("Mul", 1), ("BatchNormalization", 1)})


def light(name: str) -> onnx.ModelProto:
    """The wheel's `light_NAME.onnx`."""
    model = onnx.load(_FOLDER / f"light_{name}.onnx")
    rng = np.random.default_rng(zlib.crc32(name.encode()))
    roles = _roles(model.graph)
    for tensor_name, shape in _shapes(model.graph).items():
        if tensor_name in roles:
            array = _random(rng, roles[tensor_name], shape)
            model.graph.initializer.append(numpy_helper.from_array(array, tensor_name))
            model.graph.input.append(helper.make_tensor_value_info(tensor_name, onnx.TensorProto.FLOAT, shape))
    return settled(model) if any(node.op_type == "BatchNormalization" for node in model.graph.node) else model


def _shapes(graph: onnx.GraphProto) -> dict[str, tuple[int, ...]]:
    """Takes all float weights out of the graph, with the nodes that fill some of them; gives their shapes."""
    stored = {tensor.name: tensor for tensor in graph.initializer}
    fills = [node for node in graph.node if node.op_type == "ConstantOfShape"]
    shapes = {node.output[0]: tuple(map(int, numpy_helper.to_array(stored[node.input[0]]))) for node in fills}
    shapes |= {name: tuple(t.dims) for name, t in stored.items() if t.data_type == onnx.TensorProto.FLOAT}
    gone = {*shapes, *(node.input[0] for node in fills)}
    for node in fills:
        graph.node.remove(node)
    for tensor in [tensor for tensor in graph.initializer if tensor.name in gone]:
        graph.initializer.remove(tensor)
    for value in [value for value in graph.input if value.name in gone]:
        graph.input.remove(value)
    return shapes


def _roles(graph: onnx.GraphProto) -> dict[str, tuple[str, int]]:
    """What takes each value first, and as which operand, behind any Unsqueeze or Reshape."""
    roles: dict[str, tuple[str, int]] = {}
    for node in reversed(graph.node):
        for index, name in enumerate(node.input):
            through = node.op_type in ("Unsqueeze", "Reshape") and index == 0 and node.output[0] in roles
            roles[name] = roles[node.output[0]] if through else (node.op_type, index)
    return roles


def _random(rng: np.random.Generator, role: tuple[str, int], shape: tuple[int, ...]) -> Array:
    if role in _ADDING:
        return 0.1 * rng.standard_normal(shape, dtype=np.float32)
    if role in _SCALING:
        return rng.uniform(0.7, 1.3, shape).astype(np.float32)
    if role[0] == "BatchNormalization":  # its statistics, until they are settled
        return np.full(shape, role[1] - 3, np.float32)
    weight = rng.standard_normal(shape, dtype=np.float32)
    fan_in = shape[-1] if role[0] == "Gemm" else np.prod(shape[1:])
    weight *= np.float32(np.sqrt(2 / fan_in))
    return weight


NAMES: Final = (
    *("squeezenet", "shufflenet", "inception_v1", "densenet121", "inception_v2", "resnet50"),
    *("bvlc_alexnet", "zfnet512", "vgg19"),
)

WHEEL: Final[Mapping[str, partial[onnx.ModelProto]]] = {f"light_{name}": partial(light, name) for name in NAMES}
"""What loads each model; from light to heavy."""
