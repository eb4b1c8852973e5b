"""Channel shuffles: a Reshape, a Transpose and a Reshape that together put the indices of one axis in another order.

    (n, c, h, w) ─Reshape─▶ (n, g, c / g, h, w) ─Transpose─▶ (n, c / g, g, h, w) ─Reshape─▶ (n, c, h, w)

Taken one by one they would tie channels of all groups together; as one they tie each channel to one other. When some
channels go, a Gather takes the place of all three.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import numpy as np

from graphshrink.ir.graph import Graph
from graphshrink.ir.types import Array
from graphshrink.ops.coupling.base import Links, Site
from graphshrink.ops.coupling.reshaping import parts


@dataclass(frozen=True, slots=True, eq=False)
class Shuffle:
    """Three operators that are one.

    Attributes:
        first, second, last: they.
        axis: along which indices change places.
        order: (size,) which index of the input each of the output is.
    """

    first: Site
    second: Site
    last: Site
    axis: int
    order: Array

    @property
    def numbers(self) -> tuple[int, int, int]:
        """Of the operators."""
        return self.first.number, self.second.number, self.last.number

    @property
    def source(self) -> str:
        """What is shuffled."""
        return self.first.operator.inputs[0]

    @property
    def made(self) -> str:
        """What comes out."""
        return self.last.operator.outputs[0]

    def couple(self, links: Links) -> None:
        """Each index with the one it comes from."""
        for axis in range(len(self.first.input_shape(0))):
            source, made = self.first.input(0, axis), self.last.output(0, axis)
            links.join(made, source[self.order] if axis == self.axis else source)


def shuffles(graph: Graph, sites: Mapping[int, Site]) -> Iterator[Shuffle]:
    """All shuffles of a graph."""
    outputs = {info.name for info in graph.outputs}
    for site in sites.values():
        if not site.operator.is_a("Reshape"):
            continue
        second = _only_user(graph, sites, site, outputs)
        last = None if second is None else _only_user(graph, sites, second, outputs)
        if second is None or last is None or not (second.operator.is_a("Transpose") and last.operator.is_a("Reshape")):
            continue
        found = _shuffle(site, second, last)
        if found is not None:
            yield found


def _only_user(graph: Graph, sites: Mapping[int, Site], site: Site, outputs: set[str]) -> Site | None:
    [made, *rest] = site.operator.outputs
    uses = graph.uses(made)
    if rest or made in outputs or len(uses) != 1 or uses[0].input != 0:
        return None
    return sites.get(uses[0].operator)


def _shuffle(first: Site, second: Site, last: Site) -> Shuffle | None:
    if not all(site.has_input(0) and site.has_output(0) for site in (first, second, last)):
        return None
    shape, split = first.input_shape(0), first.output_shape(0)
    if shape != last.output_shape(0) or 0 in shape:
        return None
    found = list(parts(shape, split))
    apart = [part for part in found if len(part.before) != 1 or len(part.after) != 1]
    if len(apart) != 1 or len(apart[0].before) != 1 or len(apart[0].after) < 2:
        return None
    [part] = apart
    order = second.operator.integers("perm") or tuple(reversed(range(len(split))))
    inside = [order[axis] - part.after.start for axis in part.after]
    moved = any(order[axis] != axis for axis in range(len(split)) if axis not in part.after)
    if moved or sorted(inside) != list(range(len(part.after))):
        return None
    axis = part.before.start
    indices = np.arange(shape[axis]).reshape([split[a] for a in part.after]).transpose(inside).reshape(-1)
    return Shuffle(first, second, last, axis, indices)
