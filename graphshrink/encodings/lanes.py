"""Codes in lanes: the bits of a prefix code cut into pieces of equal length, so that all pieces can be decoded at once.

A lane is a row of bytes, and begins with a code. A code that would not end within its lane begins the next one; the
bits that remain are those of a code that stands for nothing.
"""

from bisect import bisect_right
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from graphshrink.encodings.prefix_code import PrefixCode

Numbers = NDArray[np.int32]


class Lanes(NamedTuple):
    """Codes in lanes.

    Attributes:
        rows: (lanes, width) uint8; the first bit of a byte is its highest.
        used: how many bytes, counted row by row, are there until the last code ends.
        filled: in how many of them a code ends that stands for something.
    """

    rows: NDArray[np.uint8]
    used: int
    filled: int


def to_lanes(numbers: Numbers, code: PrefixCode, width: int, nothing: int) -> Lanes:
    """Write the codes of symbols.

    Args:
        numbers: (m,) the symbols, at least one.
        code: their code, in which no symbol takes more than 8 * width bits.
        width: bytes of a lane.
        nothing: the symbol that stands for nothing.
    """
    bits = code.lengths[numbers]
    ends = np.cumsum(bits)
    first = _firsts(ends, 8 * width)
    lane_of = np.zeros(len(numbers), np.int64)
    lane_of[first[1:]] = 1
    np.cumsum(lane_of, out=lane_of)
    begun = ends[first] - bits[first]  # bits before each lane
    starts = ends - bits - begun[lane_of] + 8 * width * lane_of
    written = np.append(begun[1:], ends[-1]) - begun
    rows = _filled(len(first), width, written, code, nothing)
    flat, codes = rows.reshape(-1), code.codes[numbers]
    for bit in range(int(bits.max())):
        has = bits > bit
        flat[starts[has] + bit] = codes[has] >> (bits[has] - 1 - bit) & 1
    ending = (starts + bits - 1) >> 3  # the byte in which each code ends; they ascend
    return Lanes(np.packbits(rows, axis=1), int(ending[-1]) + 1, 1 + int(np.count_nonzero(np.diff(ending))))


def _firsts(ends: NDArray[np.int64], capacity: int) -> NDArray[np.int64]:
    """The first symbol of each lane."""
    where, first, begun = ends.tolist(), [0], 0
    while (following := bisect_right(where, begun + capacity, first[-1])) < len(where):
        begun = where[following - 1]
        first.append(following)
    return np.array(first)


def _filled(lanes: int, width: int, written: NDArray[np.int64], code: PrefixCode, nothing: int) -> NDArray[np.uint8]:
    """(lanes, 8 * width) bits, of which those after `written` in each row spell nothing again and again."""
    bits, value = int(code.lengths[nothing]), int(code.codes[nothing])
    spelled = np.array([value >> (bits - 1 - place % bits) & 1 for place in range(8 * width)], np.uint8)
    rows = np.zeros((lanes, 8 * width), np.uint8)
    least = int(written[:-1].min(initial=8 * width))
    for left in range(1, 8 * width - least + 1):
        short = np.flatnonzero(8 * width - written[:-1] == left)
        rows[short, 8 * width - left :] = spelled[:left]
    rows[-1, written[-1] :] = spelled[: 8 * width - written[-1]]
    return rows


def from_lanes(lanes: Lanes, leaves: NDArray[np.bool_]) -> Numbers:
    """The leaves that the codes lead to, those that stand for nothing included.

    Args:
        lanes: codes in lanes.
        leaves: the tree; see `prefix_code`.
    """
    leaf = leaves.astype(np.int32)
    inner, ordinal = np.cumsum(1 - leaf) * (1 - leaf), np.cumsum(leaf) * leaf
    bits = np.unpackbits(lanes.rows, axis=1)
    node = np.zeros(len(bits), np.int64)
    found = np.zeros(bits.shape, np.int32)
    for place in range(bits.shape[1]):
        child = 2 * node + bits[:, place]
        found[:, place] = ordinal[child]
        node = inner[child]
    flat = found.reshape(-1)[: 8 * lanes.used]
    return flat[flat > 0] - 1
