"""Train and export two networks for Fashion-MNIST: a ResNet-20 and a small MobileNet.

Run once, by hand, in an environment with torch (`pip install -e .[train]`): `python -m testmodels.train_fashion`, or
with the name of one model. How they are trained is in `training`. Batch normalisations stay operators of their own.
"""

import sys
from pathlib import Path

import numpy as np
import torch
from torch import nn

from testmodels import training
from testmodels.checked_onnx import accuracy, image_model, save_checked
from testmodels.fashion import load_fashion
from testmodels.mnist import as_input
from testmodels.nodes import Nodes

EPOCHS = {"resnet-20": 8, "depthwise": 10}
REQUIRED = {"resnet-20": 0.91, "depthwise": 0.91}


class ConvNorm(nn.Module):
    """A padded convolution without bias, and its batch normalisation."""

    def __init__(self, inputs, outputs, size=3, stride=1, groups=1):
        super().__init__()
        self.conv = nn.Conv2d(inputs, outputs, size, stride, size // 2, groups=groups, bias=False)
        self.norm = nn.BatchNorm2d(outputs)

    def forward(self, x):
        return self.norm(self.conv(x))

    def write(self, nodes, name, source):
        size, stride, pad = ([*pair] for pair in (self.conv.kernel_size, self.conv.stride, self.conv.padding))
        shape = {"kernel_shape": size, "strides": stride, "pads": pad * 2, "group": self.conv.groups}
        source = nodes.add("Conv", f"{name}.conv", source, f"{name}.conv.weight", **shape)
        parts = [f"{name}.norm.{part}" for part in ("weight", "bias", "running_mean", "running_var")]
        return nodes.add("BatchNormalization", f"{name}.norm", source, *parts, epsilon=self.norm.eps)


class Block(nn.Module):
    """relu(norm(conv(relu(norm(conv(x))))) + x), with a 1x1 convolution for x where its shape has to change."""

    def __init__(self, inputs, outputs, stride):
        super().__init__()
        self.first = ConvNorm(inputs, outputs, stride=stride)
        self.second = ConvNorm(outputs, outputs)
        self.shortcut = ConvNorm(inputs, outputs, size=1, stride=stride) if inputs != outputs else None

    def forward(self, x):
        shortcut = x if self.shortcut is None else self.shortcut(x)
        return (self.second(self.first(x).relu()) + shortcut).relu()

    def write(self, nodes, name, source):
        hidden = nodes.add("Relu", f"{name}.relu1", self.first.write(nodes, f"{name}.first", source))
        hidden = self.second.write(nodes, f"{name}.second", hidden)
        if self.shortcut is not None:
            source = self.shortcut.write(nodes, f"{name}.shortcut", source)
        return nodes.add("Relu", f"{name}.relu2", nodes.add("Add", f"{name}.add", hidden, source))


class Relu6(nn.Module):
    """A ConvNorm whose result is held within 0..6."""

    def __init__(self, *shape, **options):
        super().__init__()
        self.inner = ConvNorm(*shape, **options)

    def forward(self, x):
        return nn.functional.relu6(self.inner(x))

    def write(self, nodes, name, source):
        return nodes.add("Clip", f"{name}.clip", self.inner.write(nodes, f"{name}.inner", source), "zero", "six")


class Classifier(nn.Module):
    """Parts one after the other, the mean over the image, and a linear layer for 10 classes."""

    def __init__(self, parts, channels):
        super().__init__()
        self.parts = nn.ModuleDict(parts)
        self.fc = nn.Linear(channels, 10)

    def forward(self, x):
        for part in self.parts.values():
            x = part(x)
        return self.fc(x.mean((2, 3)))

    def nodes(self):
        nodes, source = Nodes(), "input"
        for name, part in self.parts.items():
            source = part.write(nodes, f"parts.{name}", source)
        source = nodes.add("Flatten", "flatten", nodes.add("GlobalAveragePool", "mean", source), axis=1)
        nodes.add("Gemm", "fc", source, "fc.weight", "fc.bias", output="logits", transB=1)
        return nodes


class Stem(ConvNorm):
    """The first convolution of a ResNet."""

    def forward(self, x):
        return super().forward(x).relu()

    def write(self, nodes, name, source):
        return nodes.add("Relu", f"{name}.relu", super().write(nodes, name, source))


def resnet_20():
    """He et al.'s network for CIFAR with one input channel: widths 16, 32, 64, three blocks of two convolutions."""
    parts, channels = {"stem": Stem(1, 16)}, 16
    for width in (16, 32, 64):
        for i in range(3):
            parts[f"w{width}b{i}"] = Block(channels, width, stride=2 if width > channels else 1)
            channels = width
    return Classifier(parts, channels)


def depthwise():
    """A MobileNet: a convolution, then five pairs of a depthwise 3x3 and a pointwise 1x1 convolution."""
    parts, channels = {"stem": Relu6(1, 32)}, 32
    for i, (width, stride) in enumerate(((64, 2), (128, 1), (128, 1), (256, 2), (256, 1))):
        parts[f"depth{i}"] = Relu6(channels, channels, stride=stride, groups=channels)
        parts[f"point{i}"] = Relu6(channels, width, size=1)
        channels = width
    return Classifier(parts, channels)


MODELS = {"resnet-20": resnet_20, "depthwise": depthwise}
CONSTANTS = {"resnet-20": {}, "depthwise": {"zero": np.float32(0), "six": np.float32(6)}}


def train(name, data):
    """Train one model, save it beside this file, and return its accuracy on the test images through ONNX Runtime."""
    training.start()
    network = MODELS[name]().to(memory_format=torch.channels_last)  # trains twice as fast on a CPU
    training.fit(name, network, as_input(data.train_images), data.train_labels, EPOCHS[name])
    path = Path(__file__).with_name(f"{name}.onnx")
    save_checked(image_model(name, network.nodes(), training.weights_of(network) | CONSTANTS[name]), path)
    return accuracy(path, as_input(data.test_images), data.test_labels)


def main(names):
    """Train the named models, or both; exit code 1 when one falls short of its required accuracy."""
    data = load_fashion()
    return training.train_each(names or MODELS, lambda name: train(name, data), REQUIRED)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
