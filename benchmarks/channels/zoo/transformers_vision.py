"""Vision transformers: ViT in the forms of two exporters, Swin; and MLP-Mixer. 32 x 32 pixels, narrow, few blocks."""

import math
from collections.abc import Callable

import numpy as np
import onnx

from benchmarks.channels.zoo.layers import SWISH, conv, expanded, gelu, gemm, layer_norm, linear
from benchmarks.channels.zoo.maker import BATCH, Maker
from graphshrink.ir.types import Array

_CLASSES = 50
_BRANCH = 0.5  # gain of the last layer of a residual branch, so that sums do not grow


# ---- ViT (arXiv 2010.11929)

_VIT_WIDTH, _VIT_HEADS, _VIT_DEPTH = 96, 6, 4


def vit() -> onnx.ModelProto:
    """As torch traces timm's code: shapes computed in the graph, the class token by Expand, one product for query,
    key and value, then Reshape (n, tokens, 3, heads, size), Transpose, Gather; decomposed LayerNorm."""
    return _vit("vit", _gathered, dynamic=True)


def vit_split() -> onnx.ModelProto:
    """The same with Split and Squeeze in the place of Gather, LayerNormalization, and shapes that are constants."""
    return _vit("vit_split", _split, dynamic=False)


def _vit(name: str, parts: Callable[[Maker, str], list[str]], *, dynamic: bool) -> onnx.ModelProto:
    m = Maker(name, constant_nodes=dynamic)
    width = _VIT_WIDTH
    x = m.input("input", BATCH, 3, 32, 32)
    with m.scope("patch_embed"):
        x = conv(m, x, 3, width, 4, stride=4, pad=0, gain=1)
        flat = m.reshape(x, m.size(x, 0), m.size(x, 1), -1) if dynamic else m.reshape(x, 0, width, 64)
        x = m.op("Transpose", flat, perm=[0, 2, 1])
    token = m.normal("cls_token", 1, 1, width)
    count = m.size(x, 0)
    token = expanded(m, token, count, -1, -1) if dynamic else m.op("Expand", token, m.shape(count, 1, width))
    x = m.op("Add", m.op("Concat", token, x, axis=1), m.normal("pos_embed", 1, 65, width, scale=0.5))
    for index in range(_VIT_DEPTH):
        with m.scope("blocks", index):
            x = _vit_block(m, x, parts, dynamic=dynamic)
    x = layer_norm(m, x, width, fused=not dynamic)
    with m.scope("head"):
        logits = gemm(m, m.op("Gather", x, m.index(0), axis=1), width, _CLASSES)
    m.output(logits, "logits", BATCH, _CLASSES)
    return m.model()


def _gathered(m: Maker, qkv: str) -> list[str]:
    return [m.op("Gather", qkv, m.index(index), axis=0) for index in range(3)]


def _split(m: Maker, qkv: str) -> list[str]:
    return [m.op("Squeeze", part, m.ints(0)) for part in m.several("Split", 3, qkv, m.ints(1, 1, 1), axis=0)]


def _vit_block(m: Maker, x: str, parts: Callable[[Maker, str], list[str]], *, dynamic: bool) -> str:
    width, heads, size = _VIT_WIDTH, _VIT_HEADS, _VIT_WIDTH // _VIT_HEADS
    with m.scope("attn"):
        y = layer_norm(m, x, width, fused=not dynamic)
        sizes = (m.size(y, 0), m.size(y, 1)) if dynamic else (0, 65)
        with m.scope("qkv"):
            y = m.reshape(linear(m, y, width, 3 * width), *sizes, 3, heads, size)
        query, key, value = parts(m, m.op("Transpose", y, perm=[2, 0, 3, 1, 4]))
        query = m.op("Mul", query, m.scalar(1 / math.sqrt(size)))
        scores = m.op("MatMul", query, m.op("Transpose", key, perm=[0, 1, 3, 2]))
        y = m.op("MatMul", m.op("Softmax", scores, axis=-1), value)
        y = m.reshape(m.op("Transpose", y, perm=[0, 2, 1, 3]), *sizes, width)
        with m.scope("proj"):
            x = m.op("Add", x, linear(m, y, width, width))
    with m.scope("mlp"):
        y = layer_norm(m, x, width, fused=not dynamic)
        with m.scope("fc1"):
            y = gelu(m, linear(m, y, width, 4 * width))
        with m.scope("fc2"):
            return m.op("Add", x, linear(m, y, 4 * width, width, gain=_BRANCH * SWISH))


# ---- Swin (arXiv 2103.14030)

_WINDOW = 4
_AREA = _WINDOW**2


def swin() -> onnx.ModelProto:
    """Two stages of 16 x 16 and 8 x 8 tokens, two blocks each, as torch traces the authors' code: windows by Reshape
    and Transpose of six axes, the cyclic shift by Slice and Concat with a mask, a bias of relative positions that is
    gathered from a table, patches merged by strided Slices, Concat, LayerNormalization and a MatMul."""
    m = Maker("swin", constant_nodes=True)
    x, width, side = m.input("input", BATCH, 3, 32, 32), 48, 16
    with m.scope("patch_embed"):
        x = m.op("Transpose", conv(m, x, 3, width, 2, stride=2, pad=0, gain=1), perm=[0, 2, 3, 1])
        x = layer_norm(m, x, width, fused=True)
    for stage in range(2):
        for index in range(2):
            with m.scope("layers", stage, "blocks", index):
                x = _swin_block(m, x, width, side, 3 << stage, shift=_WINDOW // 2 * index)
        if stage == 0:
            with m.scope("layers", stage, "downsample"):
                x = _merged(m, x, width)
            width, side = 2 * width, side // 2
    x = m.op("Transpose", layer_norm(m, x, width, fused=True), perm=[0, 3, 1, 2])
    x = m.op("Flatten", m.op("GlobalAveragePool", x), axis=1)
    with m.scope("head"):
        m.output(gemm(m, x, width, _CLASSES, gain=2), "logits", BATCH, _CLASSES)
    return m.model()


def _rolled(m: Maker, x: str, shift: int, side: int) -> str:
    """Both axes turned left by `shift`, or right if it is negative, as torch.roll is written."""
    for axis in (1, 2):
        x = m.op("Concat", m.slice(x, axis, shift % side, side), m.slice(x, axis, 0, shift % side), axis=axis)
    return x


def _swin_block(m: Maker, x: str, width: int, side: int, heads: int, *, shift: int) -> str:
    y = layer_norm(m, x, width, fused=True)
    y = _rolled(m, y, shift, side) if shift else y
    with m.scope("attn"):
        y = _windows_attended(m, y, width, side, heads, shift)
    y = _rolled(m, y, -shift, side) if shift else y
    x = m.op("Add", x, y)
    with m.scope("mlp"):
        y = layer_norm(m, x, width, fused=True)
        with m.scope("fc1"):
            y = gelu(m, linear(m, y, width, 4 * width))
        with m.scope("fc2"):
            return m.op("Add", x, linear(m, y, 4 * width, width, gain=_BRANCH * SWISH))


def _windows_attended(m: Maker, x: str, width: int, side: int, heads: int, shift: int) -> str:
    """(n, side, side, width) cut in windows of 16 tokens, which look at each other, and put together again."""
    across, size, batch = side // _WINDOW, width // heads, m.size(x, 0)
    y = m.reshape(x, batch, across, _WINDOW, across, _WINDOW, width)
    y = m.reshape(m.op("Transpose", y, perm=[0, 1, 3, 2, 4, 5]), -1, _AREA, width)
    with m.scope("qkv"):
        y = m.reshape(linear(m, y, width, 3 * width), -1, _AREA, 3, heads, size)
    query, key, value = _gathered(m, m.op("Transpose", y, perm=[2, 0, 3, 1, 4]))
    query = m.op("Mul", query, m.scalar(1 / math.sqrt(size)))
    scores = m.op("MatMul", query, m.op("Transpose", key, perm=[0, 1, 3, 2]))
    scores = m.op("Add", scores, _position_bias(m, heads))
    if shift:
        scores = m.reshape(scores, batch, across**2, heads, _AREA, _AREA)
        scores = m.op("Add", scores, m.weight("attn_mask", _shift_mask(side, shift)))
        scores = m.reshape(scores, -1, heads, _AREA, _AREA)
    y = m.op("MatMul", m.op("Softmax", scores, axis=-1), value)
    y = m.reshape(m.op("Transpose", y, perm=[0, 2, 1, 3]), -1, _AREA, width)
    with m.scope("proj"):
        y = m.reshape(linear(m, y, width, width), batch, across, across, _WINDOW, _WINDOW, width)
    return m.reshape(m.op("Transpose", y, perm=[0, 1, 3, 2, 4, 5]), batch, side, side, width)


def _position_bias(m: Maker, heads: int) -> str:
    table = m.normal("relative_position_bias_table", (2 * _WINDOW - 1) ** 2, heads)
    places = np.stack(np.meshgrid(*[np.arange(_WINDOW)] * 2, indexing="ij"), -1).reshape(_AREA, 2)
    apart = places[:, None] - places[None] + _WINDOW - 1
    index = m.weight("relative_position_index", (apart[..., 0] * (2 * _WINDOW - 1) + apart[..., 1]).reshape(-1))
    bias = m.reshape(m.op("Gather", table, index, axis=0), _AREA, _AREA, -1)
    return m.op("Unsqueeze", m.op("Transpose", bias, perm=[2, 0, 1]), m.ints(0))


def _shift_mask(side: int, shift: int) -> Array:
    """(1, windows, 1, 16, 16): -100 between tokens that only the shift made neighbours."""
    edges = np.digitize(np.arange(side), [side - _WINDOW, side - shift])
    cells = (3 * edges[:, None] + edges).reshape(side // _WINDOW, _WINDOW, side // _WINDOW, _WINDOW)
    region = cells.transpose(0, 2, 1, 3).reshape(-1, _AREA)
    return np.where(region[:, None] == region[:, :, None], 0, -100).astype(np.float32)[None, :, None]


def _merged(m: Maker, x: str, width: int) -> str:
    end = 2**31 - 1
    corners = [m.slice(m.slice(x, 1, row, end, 2), 2, column, end, 2) for column in (0, 1) for row in (0, 1)]
    y = layer_norm(m, m.op("Concat", *corners, axis=-1), 4 * width, fused=True)
    with m.scope("reduction"):
        return linear(m, y, 4 * width, 2 * width, bias=False)


# ---- MLP-Mixer (arXiv 2105.01601)


def mixer() -> onnx.ModelProto:
    """Three blocks of two MLPs: one over tokens, between Transposes, so that its width is their number; one over
    channels."""
    m = Maker("mixer")
    width, tokens = 96, 64
    with m.scope("stem"):
        x = conv(m, m.input("input", BATCH, 3, 32, 32), 3, width, 4, stride=4, pad=0, gain=1)
        x = m.op("Transpose", m.reshape(x, 0, width, -1), perm=[0, 2, 1])
    for index in range(3):
        with m.scope("blocks", index, "tokens"):
            y = m.op("Transpose", layer_norm(m, x, width, fused=True), perm=[0, 2, 1])
            y = m.op("Transpose", _mlp(m, y, tokens, 48), perm=[0, 2, 1])
            x = m.op("Add", x, y)
        with m.scope("blocks", index, "channels"):
            x = m.op("Add", x, _mlp(m, layer_norm(m, x, width, fused=True), width, 192))
    pooled = m.op("ReduceMean", layer_norm(m, x, width, fused=True), axes=[1], keepdims=0)
    with m.scope("head"):
        m.output(gemm(m, pooled, width, _CLASSES, gain=3), "logits", BATCH, _CLASSES)
    return m.model()


def _mlp(m: Maker, x: str, width: int, hidden: int) -> str:
    with m.scope("fc1"):
        y = gelu(m, linear(m, x, width, hidden))
    with m.scope("fc2"):
        return linear(m, y, hidden, width, gain=_BRANCH * SWISH)
