"""Train and export `spirals.onnx`, the 2-200-200-2 network of the Net-Trim paper's nested spirals.

Run once, by hand, in an environment with torch (`pip install -e .[train]`): `python -m testmodels.train_spirals`. How
it is trained is in `training`, and where its points come from in `spirals`.
"""

import sys
from collections import OrderedDict
from pathlib import Path

from onnx import TensorProto, helper
from torch import nn

from testmodels import training
from testmodels.checked_onnx import accuracy, classifier_model, save_checked
from testmodels.nodes import Nodes
from testmodels.spirals import make_spirals

EPOCHS = 200
REQUIRED = {"spirals": 0.99}


def build():
    """2 -> 200 -> 200 -> 2, ReLU between."""
    layers = [("fc1", nn.Linear(2, 200)), ("relu1", nn.ReLU())]
    layers += [("fc2", nn.Linear(200, 200)), ("relu2", nn.ReLU()), ("fc3", nn.Linear(200, 2))]
    nodes, source = Nodes(), "input"
    for i in (1, 2):
        source = nodes.add("Gemm", f"fc{i}", source, f"fc{i}.weight", f"fc{i}.bias", transB=1)
        source = nodes.add("Relu", f"relu{i}", source)
    nodes.add("Gemm", "fc3", source, "fc3.weight", "fc3.bias", output="logits", transB=1)
    return nn.Sequential(OrderedDict(layers)), nodes


def train(name):
    """Train, save beside this file, and return the accuracy on the test points through ONNX Runtime."""
    data = make_spirals()
    training.start()
    network, nodes = build()
    training.fit(name, network, data.train_points, data.train_labels, EPOCHS)
    path = Path(__file__).with_name(f"{name}.onnx")
    source = helper.make_tensor_value_info("input", TensorProto.FLOAT, ["n", 2])
    save_checked(classifier_model(name, nodes, training.weights_of(network), source, 2), path)
    return accuracy(path, data.test_points, data.test_labels)


if __name__ == "__main__":
    sys.exit(training.train_each(["spirals"], train, REQUIRED))
