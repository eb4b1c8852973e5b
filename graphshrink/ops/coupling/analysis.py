"""The channels of a graph: what can be removed, with all that has to go with it.

    couplings = analyse(graph, shapes, known)
    for group in couplings.groups:
        group.blocks           where its channels lie, in values and in weights
        group.reason           why none of them can be removed, if so

Indices that are joined are one channel. Channels that lie along the same axes are a group: any of them can be removed
instead of any other.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np

from graphshrink.escaping import safe
from graphshrink.ir.extract import dynamic_operators
from graphshrink.ir.graph import Graph
from graphshrink.ir.naming import named_elsewhere
from graphshrink.ir.tensor import Tensor
from graphshrink.ir.types import Array
from graphshrink.ir.weight import overridable
from graphshrink.ops.coupling.base import Links, Numbering, Shape, Site
from graphshrink.ops.coupling.choosing import Chooser
from graphshrink.ops.coupling.connecting import connected
from graphshrink.ops.coupling.shuffling import Shuffle, shuffles
from graphshrink.ops.coupling.table import couple

CONTRACTIONS: Final = ("Conv", "ConvTranspose", "Einsum", "GRU", "Gemm", "LSTM", "MatMul", "RNN")
"""Operators in which weights meet channels."""


@dataclass(frozen=True, slots=True, eq=False)
class Block:
    """Where the channels of a group lie along one axis of one value.

    Attributes:
        value, axis: which.
        owner: (size,) number of the channel within the group that each index belongs to; -1 where it is none of them.
    """

    value: str
    axis: int
    owner: Array


@dataclass(frozen=True, slots=True, eq=False)
class Group:
    """Channels of which each could be removed instead of each other.

    Attributes:
        size: number of channels.
        blocks: where they lie, by value and axis.
        reason: why none of them can be removed; None if they can.
        title: what reports call the group: the first weight that makes it.
    """

    size: int
    blocks: Mapping[tuple[str, int], Block]
    reason: str | None
    title: str


@dataclass(frozen=True, slots=True, eq=False)
class Couplings:
    """The channels of one scope.

    Attributes:
        graph: the scope.
        numbering: of the indices of its values.
        sites: its operators.
        shuffles: operators among them that are looked at as one.
        groups: those that lie along the axes of weights.
    """

    graph: Graph
    numbering: Numbering
    sites: Mapping[int, Site]
    shuffles: tuple[Shuffle, ...]
    groups: tuple[Group, ...]


def analyse(
    graph: Graph,
    shapes: Mapping[str, Shape],
    known: Mapping[str, Array],
    frozen: Mapping[str, str] | None = None,
    *,
    hold_inputs: bool = True,
) -> Couplings:
    """Find what can be removed from a scope.

    Args:
        graph: the scope.
        shapes: of all of its tensors on one sample, by name; an operator with values that are not there is held.
        known: values that do not depend on inputs, by name, as far as operators want to know them.
        frozen: values that have to stay as they are, with the reason.
        hold_inputs: whether inputs of the graph keep their shapes.
    """
    numbering = Numbering(shapes)
    sites = {number: _site(graph, number, numbering, known) for number in graph.order}
    links = Links()
    for name, reason in _untouchable(graph, frozen or {}, hold_inputs):
        for axis in range(len(shapes.get(name, ()))):
            links.hold(numbering.of(name, axis), reason)
    shuffled = tuple(shuffles(graph, sites))
    for shuffle in shuffled:
        shuffle.couple(links)
    within = {number for shuffle in shuffled for number in shuffle.numbers}
    for number, site in sites.items():
        if number not in within:
            couple(site, links)
    wanted = np.array(sorted(_weight_blocks(graph, sites, numbering)), np.int64)
    groups = _groups(numbering, links, wanted)
    return Couplings(graph, numbering, sites, shuffled, tuple(groups))


def _site(graph: Graph, number: int, numbering: Numbering, known: Mapping[str, Array]) -> Site:
    operator, shapes = graph.operator(number), numbering.shapes
    inputs = [shapes.get(name) if name else None for name in operator.inputs]
    outputs = [shapes.get(name) if name else None for name in operator.outputs]
    return Site(graph, number, operator, numbering, known, inputs, outputs)


def _untouchable(graph: Graph, frozen: Mapping[str, str], hold_inputs: bool) -> Iterator[tuple[str, str]]:
    """Values that have to keep their shapes, with the reasons."""
    yield from frozen.items()
    yield from named_elsewhere(graph).items()
    for info in graph.inputs:
        if graph.value(info.name).constant is None:
            if hold_inputs:
                yield info.name, "an input of the model keeps its shape"
        elif overridable(graph, info.name) is not None:
            yield info.name, "the caller may override it (it is also an input)"
    for info in graph.outputs:
        yield info.name, "an output of the model keeps its shape"
    for value in graph.values():
        if value.constant is not None and not isinstance(value.constant, Tensor):
            yield value.name, "a sparse initializer is left alone"
        if graph.captures(value.name):
            yield value.name, "it comes from outside of its graph"
    for number, operator in graph.operators():
        if operator.attributes and any(True for _ in operator.subgraphs()):
            reason = f"{operator.op_type} '{safe(operator.name or '')}' uses it in a body"
            yield from ((name, reason) for name in graph.used_by(number))


_NO_CHANNELS: Final[Mapping[str, Callable[[int], bool]]] = {
    "Conv": lambda axis: axis > 1,
    "ConvTranspose": lambda axis: axis > 1,
    **dict.fromkeys(("GRU", "LSTM", "RNN"), lambda axis: axis == 0),
}
"""Axes of weights along which there are taps or directions, by operator type."""


def _weight_blocks(graph: Graph, sites: Mapping[int, Site], numbering: Numbering) -> Iterator[int]:
    """The axes, of more than one index, that number channels of weights that some product takes."""
    dynamic = dynamic_operators(graph)
    index = {block: place for place, block in enumerate(numbering.blocks)}
    fed = {info.name for info in graph.inputs}
    for site in sites.values():
        if not site.operator.is_a(*CONTRACTIONS):
            continue
        for name in dict.fromkeys(site.operator.inputs):
            constant = name in graph and graph.producer(name) not in dynamic and not graph.captures(name)
            if constant and (name not in fed or graph.value(name).constant is not None):
                shape, other = numbering.shapes.get(name, ()), _NO_CHANNELS.get(site.operator.op_type)
                axes = (axis for axis, size in enumerate(shape) if size > 1 and not (other and other(axis)))
                yield from (index[name, axis] for axis in axes)


def _groups(numbering: Numbering, links: Links, wanted: Array) -> Iterator[Group]:
    labels = _connected(numbering.count, links)
    if links.choices:
        taken = Chooser(numbering, links, labels, wanted).taken()
        for choice, way in zip(links.choices, taken, strict=True):
            links.add(choice[way])
        labels = _connected(numbering.count, links)
    reasons = _reasons(numbering, links, labels)
    of_weights = np.zeros(labels.max(initial=-1) + 1, np.bool_)
    of_weights[labels[_numbers(numbering, wanted)]] = True
    numbers = np.flatnonzero(of_weights[labels])
    blocks = numbering.block_of(numbers)
    touching = np.unique(np.stack([labels[numbers], blocks], axis=1), axis=0)
    cuts = np.flatnonzero(np.diff(touching[:, 0])) + 1
    found: dict[tuple[object, ...], list[int]] = {}
    for rows in np.split(touching, cuts) if len(touching) else []:
        label = int(rows[0, 0])
        found.setdefault((*rows[:, 1].tolist(), reasons.get(label)), []).append(label)
    by_block = _by_block(numbers, blocks)
    for key, members in sorted(found.items(), key=lambda item: item[1][0]):
        yield _group(numbering, labels, [int(str(k)) for k in key[:-1]], np.array(members), key[-1], by_block)


def _by_block(numbers: Array, blocks: Array) -> Mapping[int, Array]:
    cuts = np.flatnonzero(np.diff(blocks)) + 1
    return {int(b[0]): n for n, b in zip(np.split(numbers, cuts), np.split(blocks, cuts), strict=True) if len(b)}


def _group(
    numbering: Numbering,
    labels: Array,
    places: Sequence[int],
    members: Array,
    reason: object,
    by_block: Mapping[int, Array],
) -> Group:
    order = np.argsort(members)
    blocks: dict[tuple[str, int], Block] = {}
    for place in places:
        name, axis = numbering.blocks[place]
        numbers = by_block[place]
        found = np.searchsorted(members[order], labels[numbers])
        owner = order[np.minimum(found, len(members) - 1)]
        owner = np.where(members[owner] == labels[numbers], owner, -1)
        whole = np.full(numbering.shapes[name][axis], -1, np.int64)
        whole[numbers - numbering.starts[place]] = owner
        blocks[name, axis] = Block(name, axis, whole)
    title = numbering.blocks[places[0]][0]
    return Group(len(members), blocks, None if reason is None else str(reason), title)


def _numbers(numbering: Numbering, blocks: Iterable[int]) -> Array:
    parts = [numbering.of(*numbering.blocks[block]) for block in blocks]
    return np.concatenate(parts) if parts else np.zeros(0, np.int64)


def _connected(count: int, links: Links) -> Array:
    """(count,) the number of the set of joined indices that each index belongs to."""
    if not links.left:
        return np.arange(count)
    return connected(count, np.concatenate(links.left), np.concatenate(links.right))


def _reasons(numbering: Numbering, links: Links, labels: Array) -> dict[int, str]:
    """Why sets of joined indices have to stay, by their labels: the first reason that was given."""
    reasons: dict[int, str] = {}
    for numbers, reason in links.held:
        for label in np.unique(labels[numbers]).tolist():
            reasons.setdefault(label, reason)
    whole = _covering(numbering, labels)
    for label in whole.tolist():
        reasons.setdefault(label, "its channels are tied to each other, so that nothing would be left")
    return reasons


def _covering(numbering: Numbering, labels: Array) -> Array:
    """Sets that hold all indices of some axis."""
    starts = numbering.starts[numbering.starts < numbering.count]
    starts = np.unique(starts)
    low, high = np.minimum.reduceat(labels, starts), np.maximum.reduceat(labels, starts)
    found: Array = np.unique(low[low == high])
    return found
