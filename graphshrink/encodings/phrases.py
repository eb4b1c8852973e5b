"""Phrases: runs of symbols that get one code together, so that a code can spend less than a bit on a symbol.

The phrases are the leaves of a tree in which every inner node has a child for each symbol (Tunstall 1967, "Synthesis of
noiseless compression codes"), so that every sequence is parsed in one way: start at the root, follow the symbols, and
at a leaf start again. The most probable leaf is opened until the tree has as many leaves as are allowed. A prefix code
over the phrases then comes close to the entropy also where one symbol dominates.
"""

import heapq
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

Ints = NDArray[np.int64]
Labels = NDArray[np.uint8]

LONGEST: Final = 16
"""Symbols in a phrase: what a byte can stand for is listed at load, so that long phrases cost time and memory."""


@dataclass(frozen=True, slots=True, eq=False)
class Phrases:
    """A tree of phrases.

    Attributes:
        children: (nodes, symbols) int32, the node that each symbol leads to; -1 - p where phrase p ends with it.
        texts: the symbols of each phrase.
    """

    children: NDArray[np.int32]
    texts: tuple[tuple[int, ...], ...]


def phrases_for(counts: Ints, most: int) -> Phrases:
    """The tree for symbols of these counts, with at most `most` phrases (or one for each symbol, if those are more).

    Args:
        counts: (symbols,) at least two, none of them zero.
        most: phrases.
    """
    chances: list[float] = (counts / counts.sum()).tolist()
    children = [[-1 - symbol for symbol in range(len(chances))]]
    texts: list[tuple[int, ...]] = [(symbol,) for symbol in range(len(chances))]
    ends = [(0, symbol) for symbol in range(len(chances))]  # the node and symbol with which each phrase ends
    leaves = [(-chance, phrase) for phrase, chance in enumerate(chances)]
    heapq.heapify(leaves)
    while len(texts) + len(chances) - 1 <= most and len(texts[leaves[0][1]]) < LONGEST:
        chance, opened = heapq.heappop(leaves)
        text, (node, symbol) = texts[opened], ends[opened]
        numbers = [opened, *range(len(texts), len(texts) + len(chances) - 1)]  # the first child replaces its parent
        children[node][symbol] = len(children)
        texts[opened] = (*text, 0)
        texts += [(*text, following) for following in range(1, len(chances))]
        ends[opened] = (len(children), 0)
        ends += [(len(children), following) for following in range(1, len(chances))]
        children.append([-1 - number for number in numbers])
        for number, share in zip(numbers, chances, strict=True):
            heapq.heappush(leaves, (chance * share, number))
    return Phrases(np.array(children, np.int32), tuple(texts))


def parse(labels: Labels, phrases: Phrases) -> tuple[NDArray[np.int32], Labels]:
    """The phrases that a sequence of symbols consists of.

    Args:
        labels: (n,) symbols.
        phrases: the tree.

    Returns:
        (m,) the number of each phrase, and (k,) the symbols left over at the end, inside a phrase.
    """
    nodes = phrases.children
    n = len(labels)
    ends = np.full(n, -1, np.int32)  # the phrase that would begin at each place, all places at once
    lengths = np.zeros(n, np.uint8)
    places, at, depth = np.arange(n), np.zeros(n, np.int32), 0
    while len(places):
        at = nodes[at, labels[places + depth]]
        depth += 1
        found = at < 0
        ends[places[found]] = -1 - at[found]
        lengths[places[found]] = depth
        going = ~found & (places + depth < n)
        places, at = places[going], at[going]
    starts: list[int] = []
    steps = lengths.tolist()
    place = 0
    while place < n and steps[place]:
        starts.append(place)
        place += steps[place]
    return ends[starts], labels[place:]
