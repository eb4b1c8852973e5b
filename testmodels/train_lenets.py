"""Train and export the two LeNets of the pruning literature: LeNet-300-100 and LeNet-5 in its Caffe shape.

Run once, by hand, in an environment with torch (`pip install -e .[train]`): `python -m testmodels.train_lenets`, or
with the name of one model. The exported files are committed; neither graphshrink nor its tests need this script.

The training is plain on purpose, so that the networks are not easier to compress than the published ones: Adam at 1e-3
with a cosine decay to zero, batches of 128, cross-entropy, seed 0; no weight decay, dropout, augmentation or sparsity.
"""

import sys
import time
from collections import OrderedDict
from pathlib import Path

import numpy as np
import torch
from onnx import helper
from torch import nn

from testmodels.checked_onnx import accuracy, digit_model, save_checked
from testmodels.mnist import as_input, load_mnist

BATCH = 128
LEARNING_RATE = 1e-3
SEED = 0
EPOCHS = {"lenet-300-100": 20, "lenet-5": 10}
REQUIRED = {"lenet-300-100": 0.981, "lenet-5": 0.991}


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


def _conv(name, source, target):
    inputs = [source, f"{name}.weight", f"{name}.bias"]
    return helper.make_node("Conv", inputs, [target], name, kernel_shape=[5, 5], strides=[1, 1], pads=[0, 0, 0, 0])


def _pool(name, source, target):
    return helper.make_node("MaxPool", [source], [target], name, kernel_shape=[2, 2], strides=[2, 2])


def _gemm(name, source, target):
    return helper.make_node("Gemm", [source, f"{name}.weight", f"{name}.bias"], [target], name, transB=1)


MODELS = {"lenet-300-100": lenet_300_100, "lenet-5": lenet_5}


def train(name, data):
    """Train one model, save it beside this file, and return its accuracy on the test images through ONNX Runtime."""
    torch.manual_seed(SEED)
    network, nodes = MODELS[name]()
    inputs = torch.from_numpy(as_input(data.train_images))
    labels = torch.from_numpy(data.train_labels.astype(np.int64))
    optimizer = torch.optim.Adam(network.parameters(), lr=LEARNING_RATE)
    steps = EPOCHS[name] * -(-len(inputs) // BATCH)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, T_max=steps)
    loss_of = nn.CrossEntropyLoss()
    started = time.monotonic()
    for epoch in range(EPOCHS[name]):
        total = 0.0
        for batch in torch.randperm(len(inputs)).split(BATCH):
            optimizer.zero_grad()
            loss = loss_of(network(inputs[batch]), labels[batch])
            loss.backward()
            optimizer.step()
            schedule.step()
            total += loss.item() * len(batch)
        seconds = time.monotonic() - started
        print(f"{name} epoch {epoch + 1}: loss {total / len(inputs):.5f}, {seconds:.0f} s", flush=True)

    path = Path(__file__).with_name(f"{name}.onnx")
    weights = {key: value.detach().numpy() for key, value in network.state_dict().items()}
    save_checked(digit_model(name, nodes, weights), path)
    return accuracy(path, as_input(data.test_images), data.test_labels)


def main(names):
    """Train the named models, or both; exit code 1 when one falls short of its required accuracy."""
    torch.set_num_threads(1)
    data = load_mnist()
    short = False
    for name in names or MODELS:
        reached = train(name, data)
        verdict = "as required" if reached >= REQUIRED[name] else "FALLS SHORT"
        short |= reached < REQUIRED[name]
        print(f"{name}: test accuracy {reached:.4f}, at least {REQUIRED[name]} wanted: {verdict}", flush=True)
    return int(short)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
