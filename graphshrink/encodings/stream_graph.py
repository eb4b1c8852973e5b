"""The operators that decode a stream (`stream.Stream`); docs/format.md says what each part computes."""

from functools import partial
from typing import Final

import numpy as np

from graphshrink.encodings.base import Builder
from graphshrink.encodings.stream import Stream
from graphshrink.ir.tensor import T

MIN_OPSET: Final = 11
"""CumSum and ScatterElements."""

_ADDING: Final = 16  # ScatterElements can add
_STEP: Final = 8  # bytes that one call of a function reads


class OfStreams:
    """What is stored as streams: all of it shares the functions that decode them."""

    __slots__ = ()

    @property
    def tables(self) -> str:
        """Equal for all."""
        return "stream"


def emit_stream(builder: Builder, stream: Stream, entries: str, shape: tuple[int, ...]) -> str:
    """Add what computes the entry of each symbol; returns the name of the result.

    Args:
        builder: where to.
        stream: n symbols.
        entries: name of a table (symbols,).
        shape: of the result, which has n elements.
    """
    arrays = (stream.lanes.rows, stream.leaves, stream.lengths, stream.texts)
    held = [builder.constant(array) for array in arrays]
    sizes = [stream.lanes.used, stream.n, stream.meanings + 1]
    if builder.opset < _ADDING:
        sizes += [stream.lanes.filled, stream.endings]
    shapes = (builder.constant(np.array(sizes, np.int64)), builder.shared_constant(np.array(shape, np.int64)))
    inputs = (*held, entries, *shapes)
    (name,) = builder.call(f"h{stream.width}", partial(_decode, stream.width), inputs, outputs=1)
    return name


def _decode(width: int, builder: Builder, *inputs: str) -> tuple[str, ...]:
    codes, leaves, lengths, texts, entries, sizes, shape = inputs
    used, n, total, *filled = builder.split(sizes, 3 if builder.opset >= _ADDING else 5, axis=0)
    tree = (leaves, lengths, texts, entries, total, *filled[1:])
    rows, ends, counts, following, zero = builder.call("t", _tables, tree, outputs=5)
    meanings = _steps(width, builder, codes, following, used, zero)
    (places,) = builder.call("e", _runs, (zero, meanings, ends, counts, n, *filled[:1]), outputs=1)
    return (builder.op("Reshape", builder.op("Gather", rows, places), shape),)


def _tables(
    builder: Builder, leaves: str, lengths: str, texts: str, entries: str, total: str, *filled: str
) -> tuple[str, ...]:
    """What bytes mean at nodes: rows of entries, where they end, how many they are; the node after; and zero."""
    zero, flat, leaf = builder.scalar(0), builder.vector(-1), builder.op("Cast", leaves, to=T.INT32)
    inner = builder.op("Cast", builder.op("Not", leaves), to=T.INT32)
    node = builder.op("Mul", builder.op("CumSum", inner, zero), inner)
    ended = builder.op("Mul", builder.op("CumSum", leaf, zero), leaf)
    node, ended = builder.reshape(node, (-1, 2)), builder.reshape(ended, (1, -1, 2))
    for _ in range(3):  # one bit; then two, four and eight
        node, ended = builder.call("d", _doubled, (node, ended), outputs=2)
    following = builder.op("Reshape", builder.op("Mul", node, builder.scalar(256, np.int32)), flat)
    ended = builder.op("Transpose", ended, perm=(1, 2, 0))
    length = builder.op("Cast", lengths, to=T.INT32)
    counts = builder.op("Reshape", builder.sum_last(builder.op("Gather", length, ended)), flat)
    end = builder.op("CumSum", length, zero)
    ended = builder.op("Reshape", ended, flat)
    (places,) = builder.call("e", _runs, (zero, ended, end, length, total, *filled), outputs=1)
    spelled = builder.op("Gather", entries, builder.op("Cast", texts, to=T.INT32))
    return builder.op("Gather", spelled, places), builder.op("CumSum", counts, zero), counts, following, zero


def _doubled(builder: Builder, node: str, ended: str) -> tuple[str, ...]:
    """From what w bits mean at each node, (nodes, 2^w) and (w, nodes, 2^w), to what 2w bits mean."""
    second = builder.op("Gather", ended, node, axis=1)
    first = builder.op("Expand", builder.reshape(ended, (0, 0, -1, 1)), builder.op("Shape", second))
    both = builder.reshape(builder.op("Concat", first, second, axis=0), (0, 0, -1))
    return builder.op("Flatten", builder.op("Gather", node, node)), both


def _steps(width: int, builder: Builder, codes: str, following: str, used: str, zero: str) -> str:
    """The meanings (node * 256 + byte) of all bytes, as one vector."""
    read, state = list[str](), builder.op("Cast", zero, to=T.INT32)
    for piece in builder.split(codes, width // _STEP, axis=1):
        some, state = builder.call("g", _eight_steps, (state, following, piece), outputs=2)
        read.append(some)
    builder.take_back(state)  # nothing comes after the last
    flat = builder.reshape(builder.op("Concat", *read, axis=1), (-1,))
    return builder.op("Slice", flat, builder.vector(0), used)


def _eight_steps(builder: Builder, state: str, following: str, piece: str) -> tuple[str, ...]:
    """The meanings of eight bytes of each lane, and the state behind them."""
    first, *others = builder.split(builder.op("Cast", piece, to=T.INT32), _STEP, axis=1)
    read = [builder.op("Add", state, first)]
    for byte in others:
        read.append(builder.op("Add", builder.op("Gather", following, read[-1]), byte))
    return builder.op("Concat", *read, axis=1), builder.op("Gather", following, read[-1])


def _runs(builder: Builder, zero: str, items: str, ends: str, counts: str, n: str, *filled: str) -> tuple[str, ...]:
    """The `count` numbers below `end` for each item, one item after the other; n in all.

    Steps from each number to the next, which are one but where an item begins, and their sums. Items without numbers
    add their steps to those of the next; where that cannot be said, all but the `filled` ones are left out first.
    """
    one = builder.shared_constant(np.array([1], np.int32))
    if filled:
        items = _without_empty(builder, zero, items, counts, *filled)
    count = builder.op("Gather", counts, items)
    end = builder.op("Gather", ends, items)
    before = builder.op("Concat", one, builder.op("Slice", end, builder.vector(0), builder.vector(-1)), axis=0)
    jump = builder.op("Sub", builder.op("Sub", end, count), before)
    at = builder.op("CumSum", count, zero, exclusive=1)
    ones = builder.op("Expand", one, n)
    if not filled:
        steps = builder.op("ScatterElements", ones, at, jump, reduction=b"add")
    else:
        steps = builder.op("ScatterElements", ones, at, builder.op("Add", jump, one))
    return (builder.op("CumSum", steps, zero),)


def _without_empty(builder: Builder, zero: str, items: str, counts: str, filled: str) -> str:
    """Those items that have numbers: each goes to the place that is its rank, all others behind the last."""
    kept = builder.op("Cast", builder.op("Gather", counts, items), to=T.BOOL)
    rank = builder.op("CumSum", builder.op("Cast", kept, to=T.INT32), zero, exclusive=1)
    place = builder.op("Where", kept, rank, builder.op("Cast", filled, to=T.INT32))
    room = builder.filled(builder.op("Add", filled, builder.vector(1)), 0)
    return builder.op("Slice", builder.op("ScatterElements", room, place, items), builder.vector(0), filled)
