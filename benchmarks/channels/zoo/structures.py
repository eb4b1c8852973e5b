"""Small networks, each with something that other tools write: Einsum, weights in nodes, If, several outputs."""

import math

import onnx

from benchmarks.channels.zoo.layers import RELU, SWISH, classifier, conv, conv_norm, gelu, gemm, layer_norm, linear
from benchmarks.channels.zoo.maker import BATCH, BOOL, INT64, Maker
from benchmarks.channels.zoo.norms import settled

_CLASSES = 10


# ---- Einsum


def einsum_attention() -> onnx.ModelProto:
    """Attention as Keras and Flax write it: weights (width, heads, size), all products by Einsum, no Reshape."""
    m = Maker("einsum_attention")
    width, heads, size, words = 64, 4, 16, 200
    m.typical("sequence", 12)
    ids = m.input("tokens", BATCH, "sequence", kind=INT64, below=words)
    x = m.op("Gather", m.normal("embedding", words, width), ids)
    for index in range(2):
        with m.scope("layer", index):
            y = layer_norm(m, x, width, fused=True)
            query, key, value = (_projected(m, part, y, width, heads, size) for part in ("query", "key", "value"))
            query = m.op("Mul", query, m.scalar(1 / math.sqrt(size)))
            scores = m.op("Einsum", key, query, equation="aecd,abcd->acbe")
            mixed = m.op("Einsum", m.op("Softmax", scores, axis=-1), value, equation="acbe,aecd->abcd")
            weight = m.normal("output.kernel", heads, size, width, scale=1 / math.sqrt(width))
            y = m.op("Einsum", mixed, weight, equation="abcd,cde->abe")
            x = m.op("Add", m.op("Add", y, m.normal("output.bias", width, scale=0.1)), x)
            with m.scope("mlp1"):
                y = gelu(m, linear(m, layer_norm(m, x, width, fused=True), width, 4 * width))
            with m.scope("mlp2"):
                x = m.op("Add", x, linear(m, y, 4 * width, width, gain=SWISH / 2))
    pooled = m.op("ReduceMean", x, axes=[1], keepdims=0)
    with m.scope("head"):
        m.output(gemm(m, pooled, width, _CLASSES, gain=3), "logits", BATCH, _CLASSES)
    return m.model()


def _projected(m: Maker, part: str, x: str, width: int, heads: int, size: int) -> str:
    weight = m.normal(f"{part}.kernel", width, heads, size, scale=1 / math.sqrt(width))
    y = m.op("Einsum", x, weight, equation="abc,cde->abde")
    return m.op("Add", y, m.normal(f"{part}.bias", heads, size, scale=0.1))


# ---- weights in Constant nodes


def constant_nodes() -> onnx.ModelProto:
    """A small CNN whose weights, statistics, and shapes are all values of Constant nodes; no initializer at all."""
    m = Maker("constant_nodes", constant_nodes=True, weight_nodes=True)
    x, width = m.input("input", BATCH, 3, 16, 16), 3
    for index, outputs in enumerate((16, 32, 48)):
        with m.scope("conv", index):
            x = conv_norm(m, x, width, outputs, 3, stride=1 + index % 2)
        width = outputs
    x = m.reshape(m.op("MaxPool", x, kernel_shape=[2, 2], strides=[2, 2]), m.size(x, 0), -1)
    with m.scope("fc", 0):
        x = m.op("Relu", gemm(m, x, 48 * 16, 64, gain=RELU))
    with m.scope("fc", 1):
        m.output(linear(m, x, 64, _CLASSES, gain=RELU), "logits", BATCH, _CLASSES)
    return settled(m.model())


# ---- If


def if_body() -> onnx.ModelProto:
    """A CNN that goes deeper if asked: both bodies hold layers on a captured value, one with weights of its own, one
    with a weight of the graph around; what they give is added to another captured value's product."""
    m = Maker("if_body")
    width, wide = 16, 32
    deep = m.input("deep", kind=BOOL, below=2)
    with m.scope("stem"):
        x = conv_norm(m, m.input("input", BATCH, 3, 16, 16), 3, width, 3)
    with m.scope("side"):
        side = conv_norm(m, x, width, wide)
    outer = m.normal("shallow.weight", wide, width, 1, 1, scale=RELU / math.sqrt(width))
    then = m.body("then")
    with then.scope("conv1"):
        y = conv_norm(then, x, width, 24, 3)
    with then.scope("conv2"):
        y = conv(then, y, 24, wide, 3)
    then.output(then.op("Add", y, side), "then_out", BATCH, wide, 16, 16)
    other = m.body("else")
    y = other.op("Relu", other.op("Conv", x, outer, kernel_shape=[1, 1]))
    other.output(y, "else_out", BATCH, wide, 16, 16)
    x = m.op("If", deep, then_branch=then.graph(), else_branch=other.graph())
    with m.scope("tail"):
        x = conv_norm(m, m.op("Add", m.op("Relu", x), side), wide, 48, 3, stride=2)
    m.output(classifier(m, x, 48, _CLASSES), "logits", BATCH, _CLASSES)
    return settled(m.model())


# ---- several outputs


def several_outputs() -> onnx.ModelProto:
    """A trunk with an early exit: features of one stage as an output, which also go on; logits of two heads; a
    normalised embedding."""
    m = Maker("several_outputs")
    x, width = m.input("input", BATCH, 3, 32, 32), 3
    stages: list[str] = []
    for index, outputs in enumerate((24, 48, 96)):
        with m.scope("stage", index):
            x = conv_norm(m, conv_norm(m, x, width, outputs, 3, stride=2), outputs, outputs, 3)
        width = outputs
        stages.append(x)
    m.output(stages[1], "features", BATCH, 48, 8, 8)
    with m.scope("early"):
        m.output(classifier(m, stages[0], 24, _CLASSES), "early_logits", BATCH, _CLASSES)
    with m.scope("head"):
        m.output(classifier(m, x, width, _CLASSES), "logits", BATCH, _CLASSES)
    with m.scope("embed"):
        pooled = m.op("Flatten", m.op("GlobalAveragePool", x), axis=1)
        y = gemm(m, pooled, width, 32)
        norm = m.op("Clip", m.op("ReduceL2", y, axes=[1], keepdims=1), m.scalar(1e-12))
        m.output(m.op("Div", y, norm), "embedding", BATCH, 32)
    return settled(m.model())
