"""Train and export the LeNets of the pruning literature: LeNet-300-100, LeNet-5 in its Caffe shape, and Net-Trim's.

Run once, by hand, in an environment with torch (`pip install -e .[train]`): `python -m testmodels.train_lenets`, or
with the name of one model. How they are trained is in `training`. The exported files are committed; neither graphshrink
nor its tests need this script.
"""

import sys
from collections import OrderedDict
from pathlib import Path

from onnx import helper
from torch import nn

from testmodels import training
from testmodels.checked_onnx import accuracy, image_model, save_checked
from testmodels.mnist import as_input, load_mnist

EPOCHS = {"lenet-300-100": 20, "lenet-5": 10, "net-trim-lenet": 8}
REQUIRED = {"lenet-300-100": 0.981, "lenet-5": 0.991, "net-trim-lenet": 0.99}


def lenet_300_100():
    """784 -> 300 -> 100 -> 10, ReLU between."""
    layers = [("flatten", nn.Flatten())]
    layers += [("fc1", nn.Linear(784, 300)), ("relu1", nn.ReLU())]
    layers += [("fc2", nn.Linear(300, 100)), ("relu2", nn.ReLU())]
    layers += [("fc3", nn.Linear(100, 10))]
    nodes = [
        helper.make_node("Flatten", ["input"], ["flat"], "flatten", axis=1),
        _gemm("fc1", "flat", "fc1_out"),
        helper.make_node("Relu", ["fc1_out"], ["relu1_out"], "relu1"),
        _gemm("fc2", "relu1_out", "fc2_out"),
        helper.make_node("Relu", ["fc2_out"], ["relu2_out"], "relu2"),
        _gemm("fc3", "relu2_out", "logits"),
    ]
    return nn.Sequential(OrderedDict(layers)), nodes


def lenet_5():
    """As in Caffe: 5x5 convolutions of 20 and 50 maps, each max-pooled, then 500 ReLU units; no other ReLU."""
    layers = [("conv1", nn.Conv2d(1, 20, 5)), ("pool1", nn.MaxPool2d(2))]
    layers += [("conv2", nn.Conv2d(20, 50, 5)), ("pool2", nn.MaxPool2d(2)), ("flatten", nn.Flatten())]
    layers += [("fc1", nn.Linear(800, 500)), ("relu1", nn.ReLU()), ("fc2", nn.Linear(500, 10))]
    nodes = [
        _conv("conv1", "input", "conv1_out"),
        _pool("pool1", "conv1_out", "pool1_out"),
        _conv("conv2", "pool1_out", "conv2_out"),
        _pool("pool2", "conv2_out", "pool2_out"),
        helper.make_node("Flatten", ["pool2_out"], ["flat"], "flatten", axis=1),
        _gemm("fc1", "flat", "fc1_out"),
        helper.make_node("Relu", ["fc1_out"], ["relu1_out"], "relu1"),
        _gemm("fc2", "relu1_out", "logits"),
    ]
    return nn.Sequential(OrderedDict(layers)), nodes


def net_trim_lenet():
    """As in the Net-Trim paper: padded 5x5 convolutions of 32 and 64 maps, each ReLU and max-pooled, then 512 units."""
    layers = [("conv1", nn.Conv2d(1, 32, 5, padding=2)), ("relu1", nn.ReLU()), ("pool1", nn.MaxPool2d(2))]
    layers += [("conv2", nn.Conv2d(32, 64, 5, padding=2)), ("relu2", nn.ReLU()), ("pool2", nn.MaxPool2d(2))]
    layers += [("flatten", nn.Flatten()), ("fc1", nn.Linear(3136, 512)), ("relu3", nn.ReLU())]
    layers += [("fc2", nn.Linear(512, 10))]
    nodes = [
        _conv("conv1", "input", "conv1_out", padding=2),
        helper.make_node("Relu", ["conv1_out"], ["relu1_out"], "relu1"),
        _pool("pool1", "relu1_out", "pool1_out"),
        _conv("conv2", "pool1_out", "conv2_out", padding=2),
        helper.make_node("Relu", ["conv2_out"], ["relu2_out"], "relu2"),
        _pool("pool2", "relu2_out", "pool2_out"),
        helper.make_node("Flatten", ["pool2_out"], ["flat"], "flatten", axis=1),
        _gemm("fc1", "flat", "fc1_out"),
        helper.make_node("Relu", ["fc1_out"], ["relu3_out"], "relu3"),
        _gemm("fc2", "relu3_out", "logits"),
    ]
    return nn.Sequential(OrderedDict(layers)), nodes


def _conv(name, source, target, padding=0):
    inputs = [source, f"{name}.weight", f"{name}.bias"]
    pads = [padding] * 4
    return helper.make_node("Conv", inputs, [target], name, kernel_shape=[5, 5], strides=[1, 1], pads=pads)


def _pool(name, source, target):
    return helper.make_node("MaxPool", [source], [target], name, kernel_shape=[2, 2], strides=[2, 2])


def _gemm(name, source, target):
    return helper.make_node("Gemm", [source, f"{name}.weight", f"{name}.bias"], [target], name, transB=1)


MODELS = {"lenet-300-100": lenet_300_100, "lenet-5": lenet_5, "net-trim-lenet": net_trim_lenet}


def train(name, data):
    """Train one model, save it beside this file, and return its accuracy on the test images through ONNX Runtime."""
    training.start()
    network, nodes = MODELS[name]()
    training.fit(name, network, as_input(data.train_images), data.train_labels, EPOCHS[name])
    path = Path(__file__).with_name(f"{name}.onnx")
    save_checked(image_model(name, nodes, training.weights_of(network)), path)
    return accuracy(path, as_input(data.test_images), data.test_labels)


def main(names):
    """Train the named models, or all; exit code 1 when one falls short of its required accuracy."""
    data = load_mnist()
    return training.train_each(names or MODELS, lambda name: train(name, data), REQUIRED)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
