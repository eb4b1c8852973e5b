"""Networks that read sound: WaveNet and a Conformer. Conv of one axis, gates that take half of the channels each."""

import math
from typing import Final

import onnx

from benchmarks.channels.zoo.layers import SWISH, attention, batch_norm, conv_1d, layer_norm, linear, silu
from benchmarks.channels.zoo.maker import BATCH, Maker
from benchmarks.channels.zoo.norms import settled

_BRANCH: Final = 0.5  # gain of the last layer of a residual branch, so that sums do not grow


# ---- WaveNet (arXiv 1609.03499)

_RESIDUAL: Final = 32
_SKIP: Final = 48


def wavenet() -> onnx.ModelProto:
    """Eight layers: a causal Pad, a dilated Conv of two taps whose halves are gate (Sigmoid) and filter (Tanh), one
    1x1 Conv that is added to the layer's input, and one that is added to what all layers skip."""
    m = Maker("wavenet")
    with m.scope("first"):
        x = conv_1d(m, m.input("input", BATCH, 1, 128), 1, _RESIDUAL, gain=1)
    skipped: list[str] = []
    for index in range(8):
        with m.scope("layer", index):
            x, skip = _wavenet_layer(m, x, dilation=1 << index % 4)
        skipped.append(skip)
    total = skipped[0]
    for skip in skipped[1:]:
        total = m.op("Add", total, skip)
    with m.scope("last", 0):
        y = m.op("Relu", conv_1d(m, m.op("Relu", total), _SKIP, _SKIP))
    with m.scope("last", 1):
        m.output(conv_1d(m, y, _SKIP, 16), "logits", BATCH, 16, 128)
    return m.model()


def _wavenet_layer(m: Maker, x: str, *, dilation: int) -> tuple[str, str]:
    padded = m.op("Pad", x, m.ints(0, 0, dilation, 0, 0, 0), m.scalar(0), mode="constant")
    with m.scope("dilated"):
        y = conv_1d(m, padded, _RESIDUAL, 2 * _RESIDUAL, 2, dilation=dilation, pad=0, gain=1)
    filtered, gate = m.several("Split", 2, y, m.ints(_RESIDUAL, _RESIDUAL), axis=1)
    y = m.op("Mul", m.op("Tanh", filtered), m.op("Sigmoid", gate))
    with m.scope("residual"):
        x = m.op("Add", conv_1d(m, y, _RESIDUAL, _RESIDUAL, gain=1), x)
    with m.scope("skip"):
        return x, conv_1d(m, y, _RESIDUAL, _SKIP, gain=1)


# ---- Conformer (arXiv 2005.08100)

_WIDTH: Final = 64
_HEADS: Final = 4


def conformer() -> onnx.ModelProto:
    """Two blocks: half a feed-forward layer, attention, a convolution with GLU (Split, Sigmoid, Mul) between
    Transposes, half a feed-forward layer, LayerNormalization."""
    m = Maker("conformer", constant_nodes=True)
    m.typical("time", 20)
    with m.scope("project"):
        x = linear(m, m.input("features", BATCH, "time", 40), 40, _WIDTH)
    for index in range(2):
        with m.scope("layers", index):
            x = _conformer_block(m, x)
    with m.scope("head"):
        m.output(m.op("LogSoftmax", linear(m, x, _WIDTH, 30), axis=-1), "log_probs", BATCH, "time", 30)
    return settled(m.model())


def _conformer_block(m: Maker, x: str) -> str:
    with m.scope("ffn1"):
        x = _half_feed_forward(m, x)
    with m.scope("self_attn"):
        x = m.op("Add", x, _self_attention(m, layer_norm(m, x, _WIDTH, fused=True)))
    with m.scope("conv"):
        x = m.op("Add", x, _convolved(m, layer_norm(m, x, _WIDTH, fused=True)))
    with m.scope("ffn2"):
        return layer_norm(m, _half_feed_forward(m, x), _WIDTH, fused=True)


def _half_feed_forward(m: Maker, x: str) -> str:
    y = layer_norm(m, x, _WIDTH, fused=True)
    with m.scope("fc1"):
        y = silu(m, linear(m, y, _WIDTH, 4 * _WIDTH))
    with m.scope("fc2"):
        return m.op("Add", x, m.op("Mul", linear(m, y, 4 * _WIDTH, _WIDTH, gain=SWISH), m.scalar(0.5)))


def _self_attention(m: Maker, x: str) -> str:
    size, sizes = _WIDTH // _HEADS, (m.size(x, 0), m.size(x, 1))
    parts: list[str] = []
    for part, perm in (("query", (0, 2, 1, 3)), ("key", (0, 2, 3, 1)), ("value", (0, 2, 1, 3))):
        with m.scope(part):
            y = m.reshape(linear(m, x, _WIDTH, _WIDTH), *sizes, _HEADS, size)
            parts.append(m.op("Transpose", y, perm=perm))
    query, key, value = parts
    y = m.op("Transpose", attention(m, query, key, value, size), perm=[0, 2, 1, 3])
    with m.scope("out"):
        return linear(m, m.reshape(y, *sizes, _WIDTH), _WIDTH, _WIDTH)


def _convolved(m: Maker, x: str) -> str:
    y = m.op("Transpose", x, perm=[0, 2, 1])
    with m.scope("pointwise1"):
        y = conv_1d(m, y, _WIDTH, 2 * _WIDTH, gain=1)
    y, gate = m.several("Split", 2, y, m.ints(_WIDTH, _WIDTH), axis=1)
    y = m.op("Mul", y, m.op("Sigmoid", gate))
    with m.scope("depthwise"):
        y = conv_1d(m, y, _WIDTH, _WIDTH, 15, groups=_WIDTH, bias=False, gain=2)
    y = silu(m, batch_norm(m, y, _WIDTH))
    with m.scope("pointwise2"):
        y = conv_1d(m, y, _WIDTH, _WIDTH, gain=_BRANCH * math.sqrt(2))
    return m.op("Transpose", y, perm=[0, 2, 1])
