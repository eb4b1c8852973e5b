"""Transformers that read tokens: BERT, GPT-2, a Llama. Two or three narrow blocks, vocabularies of 500."""

import math

import numpy as np
import onnx

from benchmarks.channels.zoo.layers import SWISH, attention, gelu, gelu_tanh, gemm, layer_norm, linear, silu
from benchmarks.channels.zoo.maker import BATCH, INT64, Maker
from graphshrink.ir.types import Array

_WORDS = 500
_PLACES = 64
_LENGTH = 12
_BRANCH = 0.5  # gain of the last layer of a residual branch, so that sums do not grow
_FAR = float(np.finfo(np.float32).min)


def _tokens(m: Maker) -> str:
    m.typical("sequence", _LENGTH)
    return m.input("input_ids", BATCH, "sequence", kind=INT64, below=_WORDS)


def _heads(m: Maker, x: str, heads: int, size: int, perm: tuple[int, ...] = (0, 2, 1, 3)) -> str:
    """(n, tokens, heads size) to (n, heads, tokens, size); the sizes of the first axes are computed in the graph."""
    split = m.reshape(x, m.size(x, 0), m.size(x, 1), heads, size)
    return m.op("Transpose", split, perm=perm)


def _joined(m: Maker, x: str, width: int) -> str:
    y = m.op("Transpose", x, perm=[0, 2, 1, 3])
    return m.reshape(y, m.size(y, 0), m.size(y, 1), width)


# ---- BERT (arXiv 1810.04805)

_BERT_WIDTH, _BERT_HEADS = 96, 6


def bert() -> onnx.ModelProto:
    """As torch traces Hugging Face's code for a classifier: query, key, value by their own MatMul and Add, targets of
    Reshape by Shape, Gather, Unsqueeze, Concat; a mask of padding; decomposed LayerNorm; a pooler with Tanh."""
    m = Maker("bert", constant_nodes=True)
    ids = _tokens(m)
    kept = m.input("attention_mask", BATCH, "sequence", kind=INT64, below=2)
    kinds = m.input("token_type_ids", BATCH, "sequence", kind=INT64, below=2)
    mask = m.op("Unsqueeze", m.op("Unsqueeze", kept, m.ints(1)), m.ints(2))
    mask = m.op("Sub", m.scalar(1), m.op("Cast", mask, to=onnx.TensorProto.FLOAT))
    mask = m.op("Mul", mask, m.scalar(_FAR))
    with m.scope("embeddings"):
        x = _bert_embedded(m, ids, kinds)
    for index in range(3):
        with m.scope("layer", index):
            x = _bert_layer(m, x, mask)
    with m.scope("pooler"):
        first = m.op("Gather", x, m.index(0), axis=1)
        pooled = m.op("Tanh", gemm(m, first, _BERT_WIDTH, _BERT_WIDTH))
    with m.scope("classifier"):
        m.output(gemm(m, pooled, _BERT_WIDTH, 3), "logits", BATCH, 3)
    return m.model()


def _bert_embedded(m: Maker, ids: str, kinds: str) -> str:
    places = m.weight("position_ids", np.arange(_PLACES)[None])
    places = m.slice(places, 1, 0, m.size(ids, 1))
    words = m.op("Gather", m.normal("word_embeddings.weight", _WORDS, _BERT_WIDTH), ids)
    kinds = m.op("Gather", m.normal("token_type_embeddings.weight", 2, _BERT_WIDTH), kinds)
    placed = m.op("Gather", m.normal("position_embeddings.weight", _PLACES, _BERT_WIDTH), places)
    return layer_norm(m, m.op("Add", m.op("Add", words, kinds), placed), _BERT_WIDTH, fused=False)


def _bert_layer(m: Maker, x: str, mask: str) -> str:
    width, size = _BERT_WIDTH, _BERT_WIDTH // _BERT_HEADS
    with m.scope("attention"):
        turns = {"query": (0, 2, 1, 3), "key": (0, 2, 3, 1), "value": (0, 2, 1, 3)}
        parts: list[str] = []
        for part, perm in turns.items():
            with m.scope(part):
                parts.append(_heads(m, linear(m, x, width, width), _BERT_HEADS, size, perm))
        query, key, value = parts
        y = _joined(m, attention(m, query, key, value, size, mask), width)
        with m.scope("output"):
            x = layer_norm(m, m.op("Add", linear(m, y, width, width), x), width, fused=False)
    with m.scope("intermediate"):
        y = gelu(m, linear(m, x, width, 4 * width))
    with m.scope("output"):
        return layer_norm(m, m.op("Add", linear(m, y, 4 * width, width, gain=SWISH), x), width, fused=False)


# ---- GPT-2 (Radford et al. 2019)

_GPT_WIDTH, _GPT_HEADS = 96, 6


def gpt2() -> onnx.ModelProto:
    """As torch traces Hugging Face's code: linear layers as Gemm between Reshapes, one for query, key and value, which
    are Split; a causal mask by Where; the head is the embedding, transposed; each step's logits."""
    m = Maker("gpt2", constant_nodes=True)
    width, ids = _GPT_WIDTH, _tokens(m)
    words = m.normal("wte.weight", _WORDS, width, scale=0.5)
    places = m.op("Range", m.index(0), m.size(ids, 1), m.index(1))
    placed = m.op("Gather", m.normal("wpe.weight", _PLACES, width, scale=0.5), m.op("Unsqueeze", places, m.ints(0)))
    x = m.op("Add", m.op("Gather", words, ids), placed)
    mask = m.weight("bias", np.tril(np.ones((1, 1, _PLACES, _PLACES), bool)))
    for index in range(3):
        with m.scope("h", index):
            x = _gpt_block(m, x, mask)
    x = layer_norm(m, x, width, fused=True)
    logits = m.op("MatMul", x, m.op("Transpose", words, perm=[1, 0]))
    logits = m.op("Mul", logits, m.scalar(2 / math.sqrt(width)))
    m.output(logits, "logits", BATCH, "sequence", _WORDS)
    return m.model()


def _conv1d(m: Maker, x: str, inputs: int, outputs: int, *, gain: float = 1.0) -> str:
    """GPT-2's linear layer: rows by Reshape, Gemm with the weight as it is used, axes back by Reshape."""
    sizes = m.size(x, 0), m.size(x, 1)
    weight = m.normal("weight", inputs, outputs, scale=gain / math.sqrt(inputs))
    rows = m.op("Gemm", m.reshape(x, -1, inputs), weight, m.normal("bias", outputs, scale=0.1))
    return m.reshape(rows, *sizes, outputs)


def _gpt_block(m: Maker, x: str, mask: str) -> str:
    width, size = _GPT_WIDTH, _GPT_WIDTH // _GPT_HEADS
    with m.scope("attn"):
        y = layer_norm(m, x, width, fused=True)
        with m.scope("c_attn"):
            y = _conv1d(m, y, width, 3 * width)
        query, key, value = m.several("Split", 3, y, m.ints(width, width, width), axis=2)
        query, value = (_heads(m, part, _GPT_HEADS, size) for part in (query, value))
        key = _heads(m, key, _GPT_HEADS, size, (0, 2, 3, 1))
        scores = m.op("Div", m.op("MatMul", query, key), m.scalar(math.sqrt(size)))
        now, past = m.size(query, 2), m.size(key, 3)
        seen = m.slice(m.slice(mask, 2, m.op("Sub", past, now), past), 3, 0, past)
        scores = m.op("Where", seen, scores, m.scalar(_FAR))
        y = _joined(m, m.op("MatMul", m.op("Softmax", scores, axis=-1), value), width)
        with m.scope("c_proj"):
            x = m.op("Add", _conv1d(m, y, width, width), x)
    with m.scope("mlp"):
        y = layer_norm(m, x, width, fused=True)
        with m.scope("c_fc"):
            y = gelu_tanh(m, _conv1d(m, y, width, 4 * width))
        with m.scope("c_proj"):
            return m.op("Add", x, _conv1d(m, y, 4 * width, width, gain=_BRANCH * SWISH))


# ---- Llama (arXiv 2302.13971; grouped queries: arXiv 2305.13245)

_LLAMA_WIDTH, _LLAMA_HEADS, _LLAMA_PAIRS, _LLAMA_HIDDEN = 96, 8, 2, 256


def llama() -> onnx.ModelProto:
    """As torch traces Hugging Face's code: RMSNorm decomposed, rotary positions by Slice, Neg, Concat and tables,
    four queries to each key and value, which Unsqueeze, Expand, Reshape repeat, and a gated hidden layer."""
    m = Maker("llama")
    width, ids = _LLAMA_WIDTH, _tokens(m)
    x = m.op("Gather", m.normal("embed_tokens.weight", _WORDS, width), ids)
    cosines, sines = (_rotation(m, ids, part) for part in ("cos", "sin"))
    later = m.weight("causal_mask", np.triu(np.full((_PLACES, _PLACES), _FAR, np.float32), 1)[None, None])
    length = m.size(ids, 1)
    mask = m.slice(m.slice(later, 2, 0, length), 3, 0, length)
    for index in range(2):
        with m.scope("layers", index):
            with m.scope("self_attn"):
                x = m.op("Add", x, _llama_attention(m, _rms_norm(m, x), cosines, sines, mask))
            with m.scope("mlp"):
                x = m.op("Add", x, _gated(m, _rms_norm(m, x)))
    with m.scope("lm_head"):
        logits = linear(m, _rms_norm(m, x), width, _WORDS, bias=False)
    m.output(logits, "logits", BATCH, "sequence", _WORDS)
    return m.model()


def _rms_norm(m: Maker, x: str) -> str:
    mean = m.op("ReduceMean", m.op("Pow", x, m.scalar(2)), axes=[-1], keepdims=1)
    scale = m.op("Div", m.scalar(1), m.op("Sqrt", m.op("Add", mean, m.scalar(1e-6))))
    return m.op("Mul", m.uniform("norm.weight", _LLAMA_WIDTH, low=0.7, high=1.3), m.op("Mul", x, scale))


def _rotation(m: Maker, ids: str, part: str) -> str:
    """(1, 1, tokens, size) from a table of all places, where the second half of an axis repeats the first."""
    size = _LLAMA_WIDTH // _LLAMA_HEADS
    turns = np.arange(_PLACES)[:, None] / 10_000 ** (np.arange(0, size, 2) / size)
    angles = np.concatenate([turns, turns], axis=1)
    table: Array = np.cos(angles) if part == "cos" else np.sin(angles)
    return m.op("Unsqueeze", m.slice(m.weight(f"{part}_cached", table), 0, 0, m.size(ids, 1)), m.ints(0, 1))


def _rotated(m: Maker, x: str, cosines: str, sines: str) -> str:
    half = _LLAMA_WIDTH // _LLAMA_HEADS // 2
    first, second = m.slice(x, 3, 0, half), m.slice(x, 3, half, 2**63 - 1)
    turned = m.op("Concat", m.op("Neg", second), first, axis=-1)
    return m.op("Add", m.op("Mul", x, cosines), m.op("Mul", turned, sines))


def _repeated(m: Maker, x: str) -> str:
    """(n, pairs, tokens, size) to (n, heads, tokens, size)."""
    size, times = _LLAMA_WIDTH // _LLAMA_HEADS, _LLAMA_HEADS // _LLAMA_PAIRS
    batch, length = m.size(x, 0), m.size(x, 2)
    wide = m.op("Unsqueeze", x, m.ints(2))
    wide = m.op("Expand", wide, m.shape(batch, _LLAMA_PAIRS, times, length, size))
    return m.reshape(wide, batch, _LLAMA_HEADS, length, size)


def _llama_attention(m: Maker, x: str, cosines: str, sines: str, mask: str) -> str:
    width, size = _LLAMA_WIDTH, _LLAMA_WIDTH // _LLAMA_HEADS
    parts: list[str] = []
    for part, heads in (("q_proj", _LLAMA_HEADS), ("k_proj", _LLAMA_PAIRS), ("v_proj", _LLAMA_PAIRS)):
        with m.scope(part):
            parts.append(_heads(m, linear(m, x, width, heads * size, bias=False), heads, size))
    query, key = (_rotated(m, part, cosines, sines) for part in parts[:2])
    key, value = _repeated(m, key), _repeated(m, parts[2])
    y = attention(m, query, m.op("Transpose", key, perm=[0, 1, 3, 2]), value, size, mask)
    with m.scope("o_proj"):
        return linear(m, _joined(m, y, width), width, width, bias=False)


def _gated(m: Maker, x: str) -> str:
    with m.scope("gate_proj"):
        gate = silu(m, linear(m, x, _LLAMA_WIDTH, _LLAMA_HIDDEN, bias=False))
    with m.scope("up_proj"):
        y = m.op("Mul", gate, linear(m, x, _LLAMA_WIDTH, _LLAMA_HIDDEN, bias=False))
    with m.scope("down_proj"):
        return linear(m, y, _LLAMA_HIDDEN, _LLAMA_WIDTH, bias=False, gain=_BRANCH * 2)
