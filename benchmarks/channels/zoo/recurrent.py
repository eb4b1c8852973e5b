"""Recurrent networks in the forms of torch's tracing exporter: sequences first, states of computed shapes.

Weights are uniform within 1 / sqrt(hidden), as torch starts them, but twice as large, so that gates do move.
"""

import math
from typing import Final

import onnx

from benchmarks.channels.zoo.layers import conv_norm, gemm, linear
from benchmarks.channels.zoo.maker import BATCH, INT64, Maker
from benchmarks.channels.zoo.norms import settled

_FEATURES: Final = 24
_HIDDEN: Final = 64
_STEPS: Final = 16
_CLASSES: Final = 10
_GATES: Final = {"LSTM": 4, "GRU": 3, "RNN": 1}


def _series(m: Maker) -> str:
    m.typical("time", _STEPS)
    x = m.input("input", BATCH, "time", _FEATURES)
    return m.op("Transpose", x, perm=[1, 0, 2])


def _layer(m: Maker, kind: str, x: str, inputs: int, states: list[str], *, directions: int = 1) -> list[str]:
    """The outputs of one layer; `states` are its initial ones, (directions, n, hidden)."""
    rows, bound = _GATES[kind] * _HIDDEN, 2 / math.sqrt(_HIDDEN)
    weights = [
        m.uniform(label, directions, *shape, low=-bound, high=bound)
        for label, shape in (("W", (rows, inputs)), ("R", (rows, _HIDDEN)), ("B", (2 * rows,)))
    ]
    direction = "bidirectional" if directions == 2 else "forward"
    attributes = {"linear_before_reset": 1} if kind == "GRU" else {}
    count = 3 if kind == "LSTM" else 2
    return m.several(kind, count, x, *weights, "", *states, direction=direction, hidden_size=_HIDDEN, **attributes)


def _zeros(m: Maker, x: str, count: int) -> str:
    """(count, n, hidden) of zeros, n being that of x, whose axis 1 it is: torch.zeros(count, x.size(0), hidden)."""
    return m.filled(m.shape(count, m.size(x, 1), _HIDDEN), 0.0)


def lstm() -> onnx.ModelProto:
    """Two layers; zeros for both layers' states, of which each takes its Slice; the last step by Gather."""
    m = Maker("lstm", constant_nodes=True)
    x = _series(m)
    states, width = _zeros(m, x, 2), _FEATURES
    for index in range(2):
        with m.scope("lstm", index):
            own = m.slice(states, 0, index, index + 1)
            x = m.op("Squeeze", _layer(m, "LSTM", x, width, [own, own])[0], m.ints(1))
        width = _HIDDEN
    last = m.op("Gather", m.op("Transpose", x, perm=[1, 0, 2]), m.index(-1), axis=1)
    with m.scope("fc"):
        m.output(gemm(m, last, _HIDDEN, _CLASSES, gain=2), "logits", BATCH, _CLASSES)
    return m.model()


def gru() -> onnx.ModelProto:
    """Two layers that start from a trained state, by Expand to the batch; all steps are normalised, the last states of
    both layers joined; the states are a second output."""
    m = Maker("gru")
    x, width, ends = _series(m), _FEATURES, list[str]()
    for index in range(2):
        with m.scope("gru", index):
            start = m.normal("h0", 1, 1, _HIDDEN, scale=0.5)
            start = m.op("Expand", start, m.shape(1, m.size(x, 1), _HIDDEN))
            y, end = _layer(m, "GRU", x, width, [start])
            x = m.op("Squeeze", y, m.ints(1))
        ends.append(end)
        width = _HIDDEN
    both = m.op("Concat", *ends, axis=0)
    rows = m.reshape(m.op("Transpose", both, perm=[1, 0, 2]), 0, 2 * _HIDDEN)
    with m.scope("fc"):
        m.output(gemm(m, rows, 2 * _HIDDEN, _CLASSES, gain=2), "logits", BATCH, _CLASSES)
    with m.scope("steps"):
        steps = linear(m, m.op("Transpose", x, perm=[1, 0, 2]), _HIDDEN, 4)
    m.output(steps, "steps", BATCH, "time", 4)
    return m.model()


def bilstm() -> onnx.ModelProto:
    """A tagger of words: two layers in both directions, whose states Transpose and Reshape [0, 0, -1] put beside each
    other; an embedding by Gather; a linear layer for every step."""
    m = Maker("bilstm", constant_nodes=True)
    words = 300
    m.typical("time", _STEPS)
    ids = m.input("input_ids", BATCH, "time", kind=INT64, below=words)
    table = m.normal("embedding.weight", words, _FEATURES)
    x, width = m.op("Transpose", m.op("Gather", table, ids), perm=[1, 0, 2]), _FEATURES
    states = _zeros(m, x, 4)
    for index in range(2):
        with m.scope("lstm", index):
            own = m.slice(states, 0, 2 * index, 2 * index + 2)
            y = _layer(m, "LSTM", x, width, [own, own], directions=2)[0]
            x = m.reshape(m.op("Transpose", y, perm=[0, 2, 1, 3]), 0, 0, -1)
        width = 2 * _HIDDEN
    with m.scope("tags"):
        tags = linear(m, m.op("Transpose", x, perm=[1, 0, 2]), 2 * _HIDDEN, _CLASSES, gain=2)
    m.output(tags, "tags", BATCH, "time", _CLASSES)
    return m.model()


def crnn() -> onnx.ModelProto:
    """A reader of lines of text (arXiv 1507.05717) in small: Conv down to a height of one, Squeeze, Transpose to
    steps, one LSTM in both directions, logits of each column."""
    m = Maker("crnn", constant_nodes=True)
    x, width = m.input("input", BATCH, 1, 16, 64), 1
    for index, outputs in enumerate((16, 32, 48, 64)):
        with m.scope("cnn", index):
            x, width = conv_norm(m, x, width, outputs, 3), outputs
        stride = [2, 2] if index < 2 else [2, 1]
        x = m.op("MaxPool", x, kernel_shape=stride, strides=stride)
    x = m.op("Transpose", m.op("Squeeze", x, m.ints(2)), perm=[2, 0, 1])
    with m.scope("rnn"):
        states = _zeros(m, x, 2)
        y = _layer(m, "LSTM", x, width, [states, states], directions=2)[0]
        y = m.reshape(m.op("Transpose", y, perm=[0, 2, 1, 3]), 0, 0, -1)
    with m.scope("embedding"):
        y = linear(m, y, 2 * _HIDDEN, 37, gain=2)
    m.output(m.op("Transpose", y, perm=[1, 0, 2]), "logits", BATCH, 16, 37)
    return settled(m.model())


def rnn() -> onnx.ModelProto:
    """A plain RNN without initial states, between two linear layers; its last state by Squeeze."""
    m = Maker("rnn")
    with m.scope("project"):
        x = m.op("Relu", linear(m, _series(m), _FEATURES, 48))
    with m.scope("rnn"):
        bound = 1 / math.sqrt(_HIDDEN)
        weights = [
            m.uniform(label, 1, *shape, low=-bound, high=bound)
            for label, shape in (("W", (_HIDDEN, 48)), ("R", (_HIDDEN, _HIDDEN)), ("B", (2 * _HIDDEN,)))
        ]
        last = m.several("RNN", 2, x, *weights, hidden_size=_HIDDEN)[1]
        last = m.op("Squeeze", last, m.ints(0))
    with m.scope("fc"):
        m.output(gemm(m, last, _HIDDEN, _CLASSES, gain=2), "logits", BATCH, _CLASSES)
    return m.model()
