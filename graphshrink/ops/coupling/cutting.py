"""A graph without some of its channels: constants are cut, and sizes that are written down follow."""

from collections.abc import Mapping
from typing import TypeAlias

import numpy as np

from graphshrink.errors import InternalError
from graphshrink.ir.graph import Graph
from graphshrink.ir.types import Array
from graphshrink.ops.coupling.analysis import Couplings, Group
from graphshrink.ops.coupling.rewriting import REWRITES, shuffle
from graphshrink.ops.coupling.surgery import Cut, Surgery

Gone: TypeAlias = Mapping[Group, Array]
"""Numbers of the channels that are to be removed, by group."""


def cut_of(couplings: Couplings, gone: Gone) -> Cut:
    """What is left when channels are removed.

    Raises:
        InternalError: channels are removed that have to stay, or nothing would be left of a group.
    """
    stays: dict[tuple[str, int], Array] = {}
    for group, numbers in gone.items():
        if group.reason is not None or len(np.unique(numbers)) >= group.size:
            raise InternalError(
                f"channels of {group.title!r} cannot be removed: {group.reason or 'none would be left'}"
            )
        for key, block in group.blocks.items():
            size = couplings.numbering.shapes[key[0]][key[1]]
            stays[key] = stays.get(key, np.ones(size, np.bool_)) & ~np.isin(block.owner, numbers)
    return Cut({key: np.flatnonzero(mask) for key, mask in stays.items() if not mask.all()})


def remove(couplings: Couplings, gone: Gone, graph: Graph | None = None) -> Cut:
    """Take channels out of a graph, in place.

    Args:
        couplings: of the graph, which has to be as it was when it was analysed.
        gone: what to take out.
        graph: a copy of the graph that was analysed, to cut instead of it.

    Raises:
        InternalError: as for `cut_of`.
    """
    cut = cut_of(couplings, gone)
    surgery = Surgery(couplings.graph if graph is None else graph, couplings, cut)
    touched = {value for value, _ in cut.kept}
    within = {number for shuffle in couplings.shuffles for number in shuffle.numbers}
    for site in couplings.sites.values():
        names = {*site.operator.inputs, *site.operator.outputs}
        rewrite = REWRITES.get(site.operator.op_type) if site.number not in within else None
        if rewrite is not None and site.operator.is_a(site.operator.op_type) and not touched.isdisjoint(names):
            rewrite(site, surgery)
    for one in couplings.shuffles:
        if one.made in touched:
            shuffle(one, surgery)
    surgery.cut_constants()
    surgery.clean()
    surgery.declare()
    return cut
