"""YOLO detectors of cross-stage partial blocks, on 64 x 64 pixels: version 5 (anchors) and version 8 (distances).

Both have their normalisation folded into Conv, SiLU everywhere, three maps that are mixed upwards (Resize, Concat) and
downwards, and one output of all boxes. No paper; the structure is that of the Ultralytics exports.
"""

import math
from collections.abc import Sequence
from typing import Final

import numpy as np
import onnx

from benchmarks.channels.zoo.layers import SWISH, conv, conv_norm, silu
from benchmarks.channels.zoo.maker import BATCH, Maker
from benchmarks.channels.zoo.norms import folded, settled
from graphshrink.ir.types import Array

_PIXELS: Final = 64
_CLASSES: Final = 20
_BINS: Final = 16  # of distances that version 8 predicts a distribution over
_WIDTHS: Final = (16, 32, 64, 128)
_STRIDES: Final = (8, 16, 32)


def _silu_conv(
    m: Maker, x: str, inputs: int, outputs: int, kernel: int = 1, stride: int = 1, scale: float = 1.0
) -> str:
    return conv_norm(m, x, inputs, outputs, kernel, stride=stride, act=silu, scale=scale)


def _bottleneck(m: Maker, x: str, width: int, kernel: int, *, added: bool) -> str:
    with m.scope("cv1"):
        y = _silu_conv(m, x, width, width, kernel)
    with m.scope("cv2"):
        y = _silu_conv(m, y, width, width, 3, scale=0.5 if added else 1)
    return m.op("Add", x, y) if added else y


def _sppf(m: Maker, x: str, width: int) -> str:
    """Three poolings one behind the other, all of them and their source joined."""
    with m.scope("cv1"):
        parts = [_silu_conv(m, x, width, width // 2)]
    for _ in range(3):
        parts.append(m.op("MaxPool", parts[-1], kernel_shape=[5, 5], pads=[2, 2, 2, 2], strides=[1, 1]))
    with m.scope("cv2"):
        return _silu_conv(m, m.op("Concat", *parts, axis=1), 2 * width, width)


def _doubled(m: Maker, x: str) -> str:
    scales = m.weight("scales", np.array([1, 1, 2, 2], np.float32))
    return m.op(
        "Resize", x, "", scales, coordinate_transformation_mode="asymmetric", mode="nearest", nearest_mode="floor"
    )


# ---- version 8


def yolo_v8() -> onnx.ModelProto:
    """C2f blocks whose halves come from Split, and are joined with what every bottleneck adds; a head of its own for
    boxes and classes, boxes as the mean of a distribution: Softmax, and a Conv whose weights are 0..15."""
    return _yolo_v8("yolo_v8", sliced=False)


def yolo_v8_slice() -> onnx.ModelProto:
    """The same with halves by two Slices, as exporters below opset 13 write them."""
    return _yolo_v8("yolo_v8_slice", sliced=True)


def _yolo_v8(name: str, *, sliced: bool) -> onnx.ModelProto:
    m = Maker(name, constant_nodes=True)

    def c2f(x: str, inputs: int, outputs: int, count: int, *, added: bool) -> str:
        half = outputs // 2
        with m.scope("cv1"):
            x = _silu_conv(m, x, inputs, outputs)
        if sliced:
            parts = [m.slice(x, 1, 0, half), m.slice(x, 1, half, outputs)]
        else:
            parts = m.several("Split", 2, x, m.ints(half, half), axis=1)
        for index in range(count):
            with m.scope("m", index):
                parts.append(_bottleneck(m, parts[-1], half, 3, added=added))
        with m.scope("cv2"):
            return _silu_conv(m, m.op("Concat", *parts, axis=1), (2 + count) * half, outputs)

    x, width = m.input("images", BATCH, 3, _PIXELS, _PIXELS), 3
    maps: list[str] = []
    for level, outputs in enumerate((8, *_WIDTHS)):
        with m.scope("model", level):
            x = _silu_conv(m, x, width, outputs, 3, 2)
            x = c2f(x, outputs, outputs, 1 if level < 2 else 2, added=True) if level else x
        width = outputs
        maps.append(x)
    with m.scope("sppf"):
        maps[-1] = _sppf(m, maps[-1], width)
    fine, middle, coarse = maps[2:]
    with m.scope("neck", 0):
        middle = c2f(m.op("Concat", _doubled(m, coarse), middle, axis=1), 128 + 64, 64, 1, added=False)
    with m.scope("neck", 1):
        fine = c2f(m.op("Concat", _doubled(m, middle), fine, axis=1), 64 + 32, 32, 1, added=False)
    with m.scope("neck", 2):
        down = _silu_conv(m, fine, 32, 32, 3, 2)
        middle = c2f(m.op("Concat", down, middle, axis=1), 32 + 64, 64, 1, added=False)
    with m.scope("neck", 3):
        down = _silu_conv(m, middle, 64, 64, 3, 2)
        coarse = c2f(m.op("Concat", down, coarse, axis=1), 64 + 128, 128, 1, added=False)
    with m.scope("detect"):
        _detect_v8(m, (fine, middle, coarse))
    return folded(settled(m.model()))


def _detect_v8(m: Maker, maps: Sequence[str]) -> None:
    flat: list[str] = []
    for index, (x, width) in enumerate(zip(maps, _WIDTHS[1:], strict=True)):
        parts: list[str] = []
        for part, middle, outputs in (("cv2", 32, 4 * _BINS), ("cv3", 24, _CLASSES)):
            with m.scope(part, index):
                y = _silu_conv(m, _silu_conv(m, x, width, middle, 3), middle, middle, 3)
                parts.append(conv(m, y, middle, outputs, gain=SWISH))
        flat.append(m.reshape(m.op("Concat", *parts, axis=1), m.size(x, 0), 4 * _BINS + _CLASSES, -1))
    boxes, classes = m.several("Split", 2, m.op("Concat", *flat, axis=2), m.ints(4 * _BINS, _CLASSES), axis=1)
    count = sum((_PIXELS // stride) ** 2 for stride in _STRIDES)
    bins = m.op("Transpose", m.reshape(boxes, m.size(boxes, 0), 4, _BINS, count), perm=[0, 2, 1, 3])
    arange = m.weight("dfl", np.arange(_BINS, dtype=np.float32).reshape(1, _BINS, 1, 1))
    distances = m.op("Conv", m.op("Softmax", bins, axis=1), arange, kernel_shape=[1, 1])
    distances = m.reshape(distances, m.size(boxes, 0), 4, count)
    start, end = m.slice(distances, 1, 0, 2), m.slice(distances, 1, 2, 4)
    anchors, strides = (m.weight(label, table) for label, table in zip(("anchors", "strides"), _anchors(), strict=True))
    near, far = m.op("Sub", anchors, start), m.op("Add", anchors, end)
    centre = m.op("Div", m.op("Add", near, far), m.scalar(2))
    box = m.op("Mul", m.op("Concat", centre, m.op("Sub", far, near), axis=1), strides)
    boxes = m.op("Concat", box, m.op("Sigmoid", classes), axis=1)
    m.output(boxes, "output0", BATCH, 4 + _CLASSES, count)


def _anchors() -> tuple[Array, Array]:
    """Middles of all cells (1, 2, cells), and their strides (1, cells)."""
    middles: list[Array] = []
    strides: list[int] = []
    for stride in _STRIDES:
        side = np.arange(_PIXELS // stride) + 0.5
        middles.append(np.stack(np.meshgrid(side, side), 0).reshape(2, -1))
        strides += [stride] * len(side) ** 2
    return np.concatenate(middles, 1)[None], np.array([strides], np.float32)


# ---- version 5


def yolo_v5() -> onnx.ModelProto:
    """Focus (four strided Slices joined) in front, C3 blocks of two parallel Conv joined, and a head of three anchors:
    Reshape, Transpose, Sigmoid, Split, and arithmetic with tables of cells and anchors."""
    m = Maker("yolo_v5", constant_nodes=True)
    x = _focus(m, m.input("images", BATCH, 3, _PIXELS, _PIXELS))
    with m.scope("model", 0):
        x, width = _silu_conv(m, x, 12, 8, 3), 8
    maps: list[str] = []
    for level, outputs in enumerate(_WIDTHS, start=1):
        with m.scope("model", level):
            x = _c3(m, _silu_conv(m, x, width, outputs, 3, 2), outputs, outputs, added=True)
        width = outputs
        maps.append(x)
    with m.scope("sppf"):
        x = _sppf(m, x, width)
    laterals: list[str] = []
    for index, (skip, outputs) in enumerate(((maps[2], 64), (maps[1], 32))):
        with m.scope("up", index):
            laterals.append(_silu_conv(m, x, 2 * outputs, outputs))
            x = m.op("Concat", _doubled(m, laterals[-1]), skip, axis=1)
            x = _c3(m, x, 2 * outputs, outputs, added=False)
    found = [x]
    for index, (lateral, outputs) in enumerate(((laterals[1], 64), (laterals[0], 128))):
        with m.scope("down", index):
            x = m.op("Concat", _silu_conv(m, x, outputs // 2, outputs // 2, 3, 2), lateral, axis=1)
            x = _c3(m, x, outputs, outputs, added=False)
        found.append(x)
    rows: list[str] = []
    for index, (x, stride) in enumerate(zip(found, _STRIDES, strict=True)):
        with m.scope("detect", index):
            rows.append(_detect_v5(m, x, _WIDTHS[1 + index], stride))
    m.output(m.op("Concat", *rows, axis=1), "output0", BATCH, 3 * (64 + 16 + 4), 5 + _CLASSES)
    return folded(settled(m.model()))


def _focus(m: Maker, x: str) -> str:
    """Every second pixel, four times, as channels."""
    corners = [m.slice(m.slice(x, 2, row, _PIXELS, 2), 3, column, _PIXELS, 2) for column in (0, 1) for row in (0, 1)]
    return m.op("Concat", *corners, axis=1)


def _c3(m: Maker, x: str, inputs: int, outputs: int, *, added: bool) -> str:
    half = outputs // 2
    with m.scope("cv1"):
        y = _silu_conv(m, x, inputs, half)
    with m.scope("m", 0):
        y = _bottleneck(m, y, half, 1, added=added)
    with m.scope("cv2"):
        z = _silu_conv(m, x, inputs, half)
    with m.scope("cv3"):
        return _silu_conv(m, m.op("Concat", y, z, axis=1), outputs, outputs)


def _detect_v5(m: Maker, x: str, width: int, stride: int) -> str:
    side, each = _PIXELS // stride, 5 + _CLASSES
    y = conv(m, x, width, 3 * each, gain=1)
    y = m.reshape(y, m.size(y, 0), 3, each, m.size(y, 2), m.size(y, 3))
    y = m.op("Sigmoid", m.op("Transpose", y, perm=[0, 1, 3, 4, 2]))
    place, size, rest = m.several("Split", 3, y, m.ints(2, 2, 1 + _CLASSES), axis=4)
    cells = np.stack(np.meshgrid(np.arange(side), np.arange(side)), -1)[None, None] - 0.5
    grid = m.weight("grid", np.broadcast_to(cells, (1, 3, side, side, 2)).astype(np.float32))
    place = m.op("Mul", m.op("Add", m.op("Mul", place, m.scalar(2)), grid), m.scalar(stride))
    anchors = stride * np.array([[1, 1.5], [2, 3], [4, 3]], np.float32)
    size = m.op("Pow", m.op("Mul", size, m.scalar(2)), m.scalar(2))
    size = m.op("Mul", size, m.weight("anchor_grid", anchors[None, :, None, None]))
    y = m.op("Concat", place, size, rest, axis=4)
    return m.reshape(y, m.size(x, 0), math.prod((3, side, side)), each)
