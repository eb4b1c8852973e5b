"""Prefix codes: the shortest for given counts, and the tree that decodes them.

Lengths are optimal among those of at most a given number of bits: package-merge (Larmore and Hirschberg 1990, "A fast
algorithm for optimal length-limited Huffman codes"), which is Huffman's code (1952) where the limit is far away.

The tree is stored as one flag a child, whether it is a leaf, in order of depth: the children of inner node 0 (the
root), those of inner node 1, ... The inner children are inner nodes 1, 2, ... in that order, and the leaves are leaf 0,
1, ...; so that the flags say everything, and leaf numbers grow with the length of their codes.
"""

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

Ints = NDArray[np.int64]


class PrefixCode(NamedTuple):
    """A complete prefix code.

    Attributes:
        order: (symbols,) the symbol that each leaf stands for.
        lengths: (symbols,) bits of each symbol's code.
        codes: (symbols,) each symbol's code, its first bit the highest of `lengths` bits.
        leaves: (2 * (symbols - 1),) bool, whether a child is a leaf; see above.
    """

    order: Ints
    lengths: Ints
    codes: Ints
    leaves: NDArray[np.bool_]


def prefix_code(counts: Ints, longest: int) -> PrefixCode:
    """The code for symbols of these counts with the fewest bits in all.

    Args:
        counts: (symbols,) at least two.
        longest: bits that no code may pass; 2 ** longest has to be at least the number of symbols.
    """
    lengths = code_lengths(counts, longest)
    order = np.lexsort((np.arange(len(counts)), lengths))
    codes, leaves = np.zeros(len(counts), np.int64), np.zeros(2 * len(counts) - 2, np.bool_)
    inner = [0]  # codes of the inner nodes of one depth
    depth = written = done = 0
    while inner:
        depth += 1
        children = [2 * code + bit for code in inner for bit in (0, 1)]
        ending = int((lengths == depth).sum())
        # Inner nodes first: the leaves of a depth are its last children.
        inner, ended = children[: len(children) - ending], children[len(children) - ending :]
        codes[order[done : done + ending]] = ended
        leaves[written + len(inner) : written + len(children)] = True
        written += len(children)
        done += ending
    return PrefixCode(order, lengths, codes, leaves)


def code_lengths(counts: Ints, longest: int) -> Ints:
    """(symbols,) bits of each symbol in the cheapest prefix code of at most `longest` bits."""
    order = np.argsort(counts, kind="stable")
    singles = [(int(counts[symbol]), [place]) for place, symbol in enumerate(order)]
    packages: list[tuple[int, list[int]]] = []
    for _ in range(longest):
        row = sorted(singles + packages, key=lambda package: package[0])
        packages = [(a[0] + b[0], a[1] + b[1]) for a, b in zip(row[::2], row[1::2], strict=False)]
    lengths = np.zeros(len(counts), np.int64)
    for _, places in packages[: len(counts) - 1]:
        np.add.at(lengths, order[places], 1)
    return lengths
