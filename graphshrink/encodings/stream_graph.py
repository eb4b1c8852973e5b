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
    rows, begins, counts, following = builder.call("t", _tables, tree, outputs=4)
    (meanings,) = builder.call(f"s{width}", partial(_steps, width), (codes, following, used), outputs=1)
    (places,) = builder.call("e", _runs, (meanings, begins, counts, n, *filled[:1]), outputs=1)
    return (builder.op("Reshape", builder.op("Gather", rows, places), shape),)


def _tables(
    builder: Builder, leaves: str, lengths: str, texts: str, entries: str, total: str, *filled: str
) -> tuple[str, ...]:
    """What each byte means at each node: rows of entries, where they begin, how many they are; and the node after."""
    axis, leaf = builder.scalar(0), builder.op("Cast", leaves, to=T.INT32)
    inner = builder.op("Sub", builder.scalar(1, np.int32), leaf)
    node = builder.op("Mul", builder.op("CumSum", inner, axis), inner)
    ended = builder.op("Mul", builder.op("CumSum", leaf, axis), leaf)
    node, ended = builder.reshape(node, (-1, 2)), builder.reshape(ended, (-1, 2, 1))
    for bits in (1, 2, 4):
        joined = builder.shared_constant(np.array([0, -1, 2 * bits], np.int64))
        node, ended = builder.call("d", _doubled, (node, ended, joined), outputs=2)
    following = builder.reshape(builder.op("Mul", node, builder.scalar(256, np.int32)), (-1,))
    length = builder.op("Cast", lengths, to=T.INT32)
    counts = builder.sum(builder.op("Gather", length, ended), axis=2)
    counts = builder.reshape(counts, (-1,))
    begin = builder.op("CumSum", length, axis, exclusive=1)
    (places,) = builder.call("e", _runs, (builder.reshape(ended, (-1,)), begin, length, total, *filled), outputs=1)
    spelled = builder.op("Gather", entries, builder.op("Cast", texts, to=T.INT32))
    begins = builder.op("CumSum", counts, axis, exclusive=1)
    return builder.op("Gather", spelled, places), begins, counts, following


def _doubled(builder: Builder, node: str, ended: str, joined: str) -> tuple[str, ...]:
    """From what w bits mean at each node, (nodes, 2^w) and (nodes, 2^w, w), to what 2w bits mean."""
    second = builder.op("Gather", ended, node)
    first = builder.reshape(ended, (0, 0, 1, -1))
    nowhere = builder.op("Sub", second, second)
    both = builder.op("Concat", builder.op("Add", first, nowhere), second, axis=3)
    return builder.reshape(builder.op("Gather", node, node), (0, -1)), builder.op("Reshape", both, joined)


def _steps(width: int, builder: Builder, codes: str, following: str, used: str) -> tuple[str, ...]:
    """The meanings (node * 256 + byte) of all bytes, as one vector."""
    read, last = list[str](), ""
    for piece in builder.split(codes, width // _STEP, axis=1):
        state = builder.op("Gather", following, last) if last else builder.scalar(0, np.int32)
        some, last = builder.call("g", _eight_steps, (state, following, piece), outputs=2)
        read.append(some)
    flat = builder.reshape(builder.op("Concat", *read, axis=1), (-1,))
    return (builder.op("Slice", flat, builder.vector(0), used),)


def _eight_steps(builder: Builder, state: str, following: str, piece: str) -> tuple[str, ...]:
    """The meanings of eight bytes of each lane, and that of the last."""
    first, *others = builder.split(builder.op("Cast", piece, to=T.INT32), _STEP, axis=1)
    read = [builder.op("Add", state, first)]
    for byte in others:
        read.append(builder.op("Add", builder.op("Gather", following, read[-1]), byte))
    return builder.op("Concat", *read, axis=1), read[-1]


def _runs(builder: Builder, items: str, begins: str, counts: str, n: str, *filled: str) -> tuple[str, ...]:
    """Numbers begin, begin + 1, ... for each item, `count` of them, one item after the other; n in all.

    Steps from each number to the next, which are one but where an item begins, and their sums. Items without numbers
    add their steps to those of the next; where that cannot be said, all but the `filled` ones are left out first.
    """
    axis = builder.scalar(0)
    if filled:
        items = _without_empty(builder, items, counts, *filled)
    count = builder.op("Gather", counts, items)
    begin = builder.op("Gather", begins, items)
    ends = builder.op("Add", begin, count)
    all_but_last = builder.op("Slice", ends, builder.vector(0), builder.vector(-1))
    before = builder.op("Concat", builder.shared_constant(np.array([1], np.int32)), all_but_last, axis=0)
    jump = builder.op("Sub", begin, before)
    at = builder.op("CumSum", count, axis, exclusive=1)
    ones = builder.filled(n, 1)
    if not filled:
        steps = builder.op("ScatterElements", ones, at, jump, reduction=b"add")
    else:
        steps = builder.op("ScatterElements", ones, at, builder.op("Add", jump, builder.scalar(1, np.int32)))
    return (builder.op("CumSum", steps, axis),)


def _without_empty(builder: Builder, items: str, counts: str, filled: str) -> str:
    """Those items that have numbers: each goes to the place that is its rank, all others behind the last."""
    kept = builder.op("Less", builder.scalar(0, np.int32), builder.op("Gather", counts, items))
    rank = builder.op("CumSum", builder.op("Cast", kept, to=T.INT32), builder.scalar(0), exclusive=1)
    place = builder.op("Where", kept, rank, builder.op("Cast", filled, to=T.INT32))
    room = builder.filled(builder.op("Add", filled, builder.vector(1)), 0)
    return builder.op("Slice", builder.op("ScatterElements", room, place, items), builder.vector(0), filled)
