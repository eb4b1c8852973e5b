"""Which way to take where there are several, such as whole heads, or places within every head.

Ways are tried place by place, from the first of each on: one is taken that leaves more indices of weights free to go.
Places that have no index in common do not concern each other.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Final

import networkx as nx
import numpy as np

from graphshrink.ir.types import Array
from graphshrink.ops.coupling.base import Links, Numbering
from graphshrink.ops.coupling.connecting import connected

_SWEEPS: Final = 3


@dataclass(frozen=True, slots=True, eq=False)
class Chooser:
    """The choices of a graph.

    Attributes:
        numbering: of all indices.
        links: what is tied anyhow, and the choices.
        labels: of the sets that are tied anyhow.
        wanted: the blocks whose indices should be free.
    """

    numbering: Numbering
    links: Links
    labels: Array
    wanted: Array

    def taken(self) -> list[int]:
        """The way to take at each place."""
        taken = [0] * len(self.links.choices)
        held = np.zeros(self.labels.max(initial=-1) + 1, np.bool_)
        for numbers, _ in self.links.held:
            held[self.labels[numbers]] = True
        for cluster in self._clusters():
            trial = _Cluster.of(self, cluster, held)
            for place, way in zip(cluster, trial.best(), strict=True):
                taken[place] = way
        return taken

    def touched(self, place: int) -> Array:
        """The labels that the ways of a place speak of."""
        return np.unique(self.labels[np.concatenate([way.numbers for way in self.links.choices[place]])])

    def _clusters(self) -> Iterator[list[int]]:
        """Places that share labels."""
        together: nx.Graph[tuple[str, int]] = nx.Graph()
        for place in range(len(self.links.choices)):
            together.add_node(("place", place))
            together.add_edges_from((("place", place), ("label", label)) for label in self.touched(place).tolist())
        for found in nx.connected_components(together):
            yield sorted(number for kind, number in found if kind == "place")


@dataclass(frozen=True, slots=True, eq=False)
class _Cluster:
    """Choices that concern each other, over their labels alone, numbered from 0.

    Attributes:
        ways: for each place, for each way: pairs (2, n) and what is held.
        held: (labels,) anyhow.
        weight: (labels,) how many indices of weights each stands for.
        rows, columns: blocks and labels that lie along them, pair by pair.
    """

    ways: Sequence[Sequence[tuple[Array, Array]]]
    held: Array
    weight: Array
    rows: Array
    columns: Array

    @staticmethod
    def of(chooser: Chooser, places: Sequence[int], held: Array) -> "_Cluster":
        """The choices at some places."""
        labels, numbering = chooser.labels, chooser.numbering
        used = np.unique(np.concatenate([chooser.touched(place) for place in places]))
        numbers = np.flatnonzero(np.isin(labels, used))
        blocks = np.unique(numbering.block_of(numbers))
        # Whether a whole axis would go is seen only with all that lies along it.
        along = [labels[numbering.of(*numbering.blocks[int(block)])] for block in blocks]
        every = np.unique(np.concatenate(along))

        def local(found: Array) -> Array:
            return np.searchsorted(every, labels[found])

        ways = [[_way(way, local) for way in chooser.links.choices[place]] for place in places]
        counted = [part for block, part in zip(blocks.tolist(), along, strict=True) if block in set(chooser.wanted)]
        weight = np.bincount(np.searchsorted(every, np.concatenate(counted)), minlength=len(every)) if counted else None
        rows = np.repeat(np.arange(len(along)), [len(part) for part in along])
        columns = np.searchsorted(every, np.concatenate(along))
        return _Cluster(ways, held[every], np.zeros(len(every), np.int64) if weight is None else weight, rows, columns)

    def best(self) -> list[int]:
        """The way to take at each place."""
        # Places that share a value, such as the initial state of two layers, had better change together.
        most = max(map(len, self.ways))
        alike = [[min(way, len(ways) - 1) for ways in self.ways] for way in range(most)]
        taken = max(alike, key=self._free)
        score = self._free(taken)
        for _ in range(_SWEEPS):
            before = score
            for place, ways in enumerate(self.ways):
                for way in range(len(ways)):
                    trial = [*taken[:place], way, *taken[place + 1 :]]
                    if way != taken[place] and (found := self._free(trial)) > score:
                        taken, score = trial, found
            if score == before:
                break
        return taken

    def _free(self, taken: Sequence[int]) -> int:
        """How many indices of weights could go."""
        chosen = [ways[way] for ways, way in zip(self.ways, taken, strict=True)]
        pairs = np.concatenate([pair for pair, _ in chosen], axis=1)
        labels = connected(len(self.held), pairs[0], pairs[1])
        found = int(labels.max(initial=-1)) + 1
        stays = np.zeros(found, np.bool_)
        stays[labels[self.held]] = True
        for _, held in chosen:
            stays[labels[held]] = True
        low, high = np.full(self.rows.max() + 1, found), np.full(self.rows.max() + 1, -1)
        np.minimum.at(low, self.rows, labels[self.columns])
        np.maximum.at(high, self.rows, labels[self.columns])
        stays[low[low == high]] = True
        return int(self.weight[~stays[labels]].sum())


def _way(way: Links, local: Callable[[Array], Array]) -> tuple[Array, Array]:
    nothing = np.zeros(0, np.int64)
    left, right = np.concatenate([nothing, *way.left]), np.concatenate([nothing, *way.right])
    held = np.concatenate([nothing, *(numbers for numbers, _ in way.held)])
    return np.stack([local(left), local(right)]), local(held)
