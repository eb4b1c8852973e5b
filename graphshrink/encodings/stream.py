"""A stream: symbols at close to their entropy, in lanes of codes that a few operators decode side by side.

    symbols ─ parsed into phrases ─ prefix code ─ lanes of bytes

The decoder is a machine that reads a byte a step and is always at a node of the code's tree. What a byte means at a
node (the symbols that end in it, and the node after it) is a table, which is computed at load from the tree. Then each
step of a lane is one addition and one Gather, and all lanes take a step together; docs/format.md has the picture.

Nothing of this is new but that it is done with standard operators: Huffman decoders that read whole bytes are as old as
Choueka, Klein and Perl 1985 ("Efficient variants of Huffman codes in high level languages").
"""

from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from graphshrink.encodings.lanes import Lanes, from_lanes, to_lanes
from graphshrink.encodings.phrases import Labels, parse, phrases_for
from graphshrink.encodings.prefix_code import prefix_code
from graphshrink.ir.types import Array

_LONGEST_CODE: Final = 14  # bits: where no code is longer, hardly anything is lost, and no lane is wasted
# Phrases at most. What bytes mean takes 100 kB a phrase while a model is loaded, so that short streams get fewer.
_FEWEST, _MOST, _SYMBOLS_A_PHRASE = 14, 126, 4096
_WIDTHS: Final = (32, 64)  # bytes of a lane
_LONG: Final = 600_000  # bytes from which the wider lanes save more than the operators they need


@dataclass(frozen=True, slots=True, eq=False)
class Stream:
    """Symbols in coded form.

    Attributes:
        n: how many symbols.
        lanes: their codes.
        leaves: the tree of the code; see `prefix_code`.
        lengths: (phrases + 1,) uint8, zero and then how many symbols each phrase has, in the order of the leaves.
        texts: the symbols of all phrases, uint8, one phrase after the other.
    """

    n: int
    lanes: Lanes
    leaves: NDArray[np.bool_]
    lengths: NDArray[np.uint8]
    texts: NDArray[np.uint8]

    @property
    def width(self) -> int:
        """Bytes of a lane."""
        return int(self.lanes.rows.shape[1])

    @property
    def nbytes(self) -> int:
        """Bytes of all arrays."""
        return int(self.lanes.rows.nbytes + self.leaves.nbytes + self.lengths.nbytes + self.texts.nbytes)

    @property
    def meanings(self) -> int:
        """How many symbols all bytes at all nodes of the tree stand for: the size of the largest table."""
        return self._over_all_bytes(self.lengths.astype(np.int64))

    @property
    def endings(self) -> int:
        """How many phrases that are not empty end in all bytes at all nodes of the tree."""
        return self._over_all_bytes((self.lengths > 0).astype(np.int64))

    def _over_all_bytes(self, worth: NDArray[np.int64]) -> int:
        """The sum of what the phrases are worth that end in all bytes at all nodes of the tree."""
        leaf = self.leaves.astype(np.int64)
        inner, ordinal = (np.cumsum(1 - leaf) * (1 - leaf)).reshape(-1, 2), (np.cumsum(leaf) * leaf).reshape(-1, 2)
        found = worth[ordinal]
        # Of one bit; then of two, four and eight: what the first half stands for, and the second from where that leads.
        for _ in range(3):
            found = (found[:, :, None] + found[inner]).reshape(len(found), -1)
            inner = inner[inner].reshape(len(inner), -1)
        return int(found.sum())

    def decode(self) -> Labels:
        """(n,) the symbols."""
        phrases = from_lanes(self.lanes, self.leaves)
        lengths = self.lengths[1:].astype(np.int64)
        begins = np.cumsum(lengths) - lengths
        counts = lengths[phrases]
        ends = np.cumsum(counts)
        places: Array = np.arange(int(ends[-1]), dtype=np.int64) + np.repeat(begins[phrases] - (ends - counts), counts)
        symbols: Labels = self.texts[places]
        return symbols


def stream_of(labels: Labels, symbols: int) -> Stream:
    """Code symbols.

    Args:
        labels: (n,) numbers below `symbols`, each of which occurs; n >= 1.
        symbols: at least two.
    """
    counts = np.bincount(labels, minlength=symbols)
    tree = phrases_for(counts, min(max(len(labels) // _SYMBOLS_A_PHRASE, _FEWEST), _MOST))
    numbers, rest = parse(labels, tree)
    texts: list[tuple[int, ...]] = [*tree.texts, ()]  # the last stands for nothing, and fills lanes up
    nothing = len(tree.texts)
    if len(rest):
        texts.append(tuple(map(int, rest)))
        numbers = np.append(numbers, np.int32(nothing + 1))
    code = prefix_code(np.bincount(numbers, minlength=len(texts)), _LONGEST_CODE)
    bits = int(code.lengths[numbers].sum())
    order: list[int] = code.order.tolist()
    ordered = [texts[number] for number in order]
    return Stream(
        len(labels),
        to_lanes(numbers, code, _WIDTHS[bits >= 8 * _LONG], nothing),
        code.leaves,
        np.array([0, *map(len, ordered)], np.uint8),
        np.array([symbol for text in ordered for symbol in text], np.uint8),
    )
