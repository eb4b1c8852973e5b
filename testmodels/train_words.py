"""Train and export two networks that count the syllables of a word: a transformer encoder and an LSTM.

Run once, by hand, in an environment with torch (`pip install -e .[train]`): `python -m testmodels.train_words`, or with
the name of one model. How they are trained is in `training`, and where the words come from in `words`.
"""

import math
import sys
from pathlib import Path

import numpy as np
import torch
from onnx import TensorProto, helper
from torch import nn

from testmodels import training
from testmodels.checked_onnx import accuracy, classifier_model, save_checked
from testmodels.nodes import Nodes
from testmodels.words import LENGTH, SYLLABLES, load_words

EPOCHS = {"transformer": 10, "lstm": 10}
REQUIRED = {"transformer": 0.9, "lstm": 0.9}
LETTERS = 27
OPSET = 17  # the first with LayerNormalization


class Encoder(nn.Module):
    """One layer with its normalisations first: x += attention(norm(x)), then x += linear(gelu(linear(norm(x))))."""

    def __init__(self, width, heads, hidden):
        super().__init__()
        self.heads, self.size = heads, width // heads
        self.norm1, self.norm2 = nn.LayerNorm(width), nn.LayerNorm(width)
        self.query, self.key, self.value, self.merge = (nn.Linear(width, width) for _ in range(4))
        self.widen, self.narrow = nn.Linear(width, hidden), nn.Linear(hidden, width)

    def forward(self, x, mask):
        normed = self.norm1(x)
        parts = (linear(normed).unflatten(2, (self.heads, self.size)) for linear in (self.query, self.key, self.value))
        query, key, value = (part.transpose(1, 2) for part in parts)
        scores = query @ key.transpose(2, 3) / math.sqrt(self.size) + mask
        x = x + self.merge((scores.softmax(3) @ value).transpose(1, 2).flatten(2))
        return x + self.narrow(nn.functional.gelu(self.widen(self.norm2(x))))

    def write(self, nodes, name, source):
        normed = write_norm(nodes, f"{name}.norm1", source)
        query, key, value = (self._write_head(nodes, f"{name}.{part}", normed) for part in ("query", "key", "value"))
        turned = nodes.add("Transpose", f"{name}.turn", key, perm=[0, 1, 3, 2])
        scores = nodes.add("MatMul", f"{name}.scores", query, turned)
        scaled = nodes.add("Div", f"{name}.scale", scores, "root")
        masked = nodes.add("Add", f"{name}.masked", scaled, "mask_out")
        mixed = nodes.add("MatMul", f"{name}.mix", nodes.add("Softmax", f"{name}.softmax", masked, axis=3), value)
        joined = nodes.add("Transpose", f"{name}.join", mixed, perm=[0, 2, 1, 3])
        flat = nodes.add("Reshape", f"{name}.flat", joined, "joined_shape")
        source = nodes.add("Add", f"{name}.add1", source, write_linear(nodes, f"{name}.merge", flat))
        hidden = write_linear(nodes, f"{name}.widen", write_norm(nodes, f"{name}.norm2", source))
        narrowed = write_linear(nodes, f"{name}.narrow", write_gelu(nodes, f"{name}.gelu", hidden))
        return nodes.add("Add", f"{name}.add2", source, narrowed)

    def _write_head(self, nodes, name, source):
        split = nodes.add("Reshape", f"{name}.split", write_linear(nodes, name, source), "heads_shape")
        return nodes.add("Transpose", f"{name}.heads", split, perm=[0, 2, 1, 3])


class Transformer(nn.Module):
    """Letters and places embedded, two encoder layers that do not look at padding, the mean, a linear layer."""

    def __init__(self, width=64, heads=4, hidden=256):
        super().__init__()
        self.letter, self.place = nn.Embedding(LETTERS, width), nn.Embedding(LENGTH, width)
        self.layer0, self.layer1 = (Encoder(width, heads, hidden) for _ in range(2))
        self.norm, self.fc = nn.LayerNorm(width), nn.Linear(width, SYLLABLES)

    def forward(self, letters):
        mask = torch.where(letters == 0, -1e4, 0.0)[:, None, None]
        x = self.letter(letters) + self.place.weight
        x = self.layer1(self.layer0(x, mask), mask)
        return self.fc(self.norm(x).mean(1))

    def nodes(self):
        nodes = Nodes()
        padding = nodes.add("Equal", "padding", "letters", "zero")
        nodes.add("Unsqueeze", "mask", nodes.add("Where", "mask_row", padding, "far", "near"), "mask_axes")
        source = nodes.add("Gather", "letter", "letter.weight", "letters", axis=0)
        source = nodes.add("Add", "place", source, "place.weight")
        source = self.layer0.write(nodes, "layer0", source)
        source = self.layer1.write(nodes, "layer1", source)
        source = nodes.add("ReduceMean", "mean", write_norm(nodes, "norm", source), axes=[1], keepdims=0)
        nodes.add("Gemm", "fc", source, "fc.weight", "fc.bias", output="logits", transB=1)
        return nodes

    def constants(self):
        """Linear layers on three axes are MatMul and Add, which take the weight the other way round."""
        weights = training.weights_of(self)
        turned = {key for key, weight in weights.items() if key.startswith("layer") and weight.ndim == 2}
        return {key: weight.T if key in turned else weight for key, weight in weights.items()} | {
            "zero": np.int64(0),
            "far": np.float32(-1e4),
            "near": np.float32(0),
            "mask_axes": np.array([1, 2]),
            "root": np.float32(math.sqrt(self.layer0.size)),
            "heads_shape": np.array([0, LENGTH, self.layer0.heads, self.layer0.size]),
            "joined_shape": np.array([0, LENGTH, self.layer0.heads * self.layer0.size]),
            "half": np.float32(0.5),
            "one": np.float32(1),
            "root_two": np.float32(math.sqrt(2)),
        }


def write_linear(nodes, name, source):
    product = nodes.add("MatMul", f"{name}.matmul", source, f"{name}.weight")
    return nodes.add("Add", f"{name}.add", product, f"{name}.bias")


def write_norm(nodes, name, source):
    parts = [f"{name}.weight", f"{name}.bias"]
    return nodes.add("LayerNormalization", name, source, *parts, axis=-1, epsilon=1e-5)


def write_gelu(nodes, name, source):
    """X / 2 * (1 + erf(x / sqrt 2)); the operator Gelu came with opset 20."""
    erf = nodes.add("Erf", f"{name}.erf", nodes.add("Div", f"{name}.div", source, "root_two"))
    product = nodes.add("Mul", f"{name}.mul", source, nodes.add("Add", f"{name}.add", erf, "one"))
    return nodes.add("Mul", f"{name}.half", product, "half")


class Lstm(nn.Module):
    """Letters embedded, an LSTM in both directions, a linear layer on its last two states."""

    def __init__(self, width=32, hidden=96):
        super().__init__()
        self.hidden = hidden
        self.letter = nn.Embedding(LETTERS, width)
        self.lstm = nn.LSTM(width, hidden, bidirectional=True)
        self.fc = nn.Linear(2 * hidden, SYLLABLES)

    def forward(self, letters):
        _, (states, _) = self.lstm(self.letter(letters.T))
        return self.fc(states.transpose(0, 1).flatten(1))

    def nodes(self):
        nodes = Nodes()
        turned = nodes.add("Transpose", "turn", "letters", perm=[1, 0])
        source = nodes.add("Gather", "letter", "letter.weight", turned, axis=0)
        inputs, outputs = [source, "lstm.W", "lstm.R", "lstm.B"], ["", "lstm_out"]  # not every step, only the last
        options = {"direction": "bidirectional", "hidden_size": self.hidden}
        nodes.append(helper.make_node("LSTM", inputs, outputs, "lstm", **options))
        states = nodes.add("Transpose", "states", "lstm_out", perm=[1, 0, 2])
        flat = nodes.add("Flatten", "flat", states, axis=1)
        nodes.add("Gemm", "fc", flat, "fc.weight", "fc.bias", output="logits", transB=1)
        return nodes

    def constants(self):
        weights = training.weights_of(self)
        theirs = {key: weights.pop(key) for key in list(weights) if key.startswith("lstm.")}

        def both_ways(kind):
            return np.stack([_onnx_gates(theirs[f"lstm.{kind}_l0{way}"]) for way in ("", "_reverse")])

        biases = np.concatenate([both_ways("bias_ih"), both_ways("bias_hh")], axis=1)
        return weights | {"lstm.W": both_ways("weight_ih"), "lstm.R": both_ways("weight_hh"), "lstm.B": biases}


def _onnx_gates(weight):
    """The gates in the order of ONNX: input, output, forget, cell. In torch it is input, forget, cell, output."""
    i, f, c, o = np.split(weight, 4)
    return np.concatenate([i, o, f, c])


MODELS = {"transformer": Transformer, "lstm": Lstm}


def train(name, data):
    """Train one model, save it beside this file, and return its accuracy on the test words through ONNX Runtime."""
    training.start()
    network = MODELS[name]()
    training.fit(name, network, data.train_letters, data.train_labels, EPOCHS[name])
    path = Path(__file__).with_name(f"{name}.onnx")
    source = helper.make_tensor_value_info("letters", TensorProto.INT64, ["n", LENGTH])
    save_checked(classifier_model(name, network.nodes(), network.constants(), source, SYLLABLES, OPSET), path)
    return accuracy(path, data.test_letters, data.test_labels)


def main(names):
    """Train the named models, or both; exit code 1 when one falls short of its required accuracy."""
    data = load_words()
    return training.train_each(names or MODELS, lambda name: train(name, data), REQUIRED)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
