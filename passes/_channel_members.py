"""The layers that make and take the channels of a group."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np

from graphshrink.ir.graph import Graph
from graphshrink.ir.types import Array
from graphshrink.ops.affine import Affine
from graphshrink.ops.coupling.analysis import CONTRACTIONS, Couplings, Group
from graphshrink.ops.lookup import Lookup
from graphshrink.passes._layer_plan import Plan


@dataclass(frozen=True, slots=True, eq=False)
class Taker:
    """A layer that takes channels of a group.

    Attributes:
        plan: of the layer.
        owner: (groups, N) the channel that each input of its problem belongs to; -1 where it is none of the group's.
    """

    plan: Plan
    owner: Array


def takers(group: Group, plans: Mapping[str, Plan]) -> list[Taker]:
    """The layers that take channels of a group, of those that there are plans for, by name of their weight."""
    found: dict[str, Array] = {}
    for (name, axis), block in group.blocks.items():
        plan = plans.get(name)
        if plan is None or isinstance(plan.affine.form, Lookup):
            continue
        owners = _spread(block.owner, axis, plan.weight.tensor.dims, plan.affine)
        if (owners == owners[:, :, :1]).all():  # else they lie along its outputs
            owner = owners[:, :, 0]
            found[name] = np.maximum(found[name], owner) if name in found else owner
    return [Taker(plans[name], owner) for name, owner in found.items() if (owner >= 0).any()]


def _spread(along: Array, axis: int, dims: Sequence[int], affine: Affine) -> Array:
    """(groups, N, M): what is said of the indices along one axis of a weight, for each of its elements."""
    shape = [-1 if a == axis else 1 for a in range(len(dims))]
    return affine.matrix(np.broadcast_to(along.reshape(shape), tuple(dims)))


def makers(group: Group, couplings: Couplings, graph: Graph) -> list[Array]:
    """(channels, any) weights that make the channels of a group: those with the channels along another than inner axis.

    Of a weight whose axis numbers both what a layer makes and what it takes (recurrent ones), all of it counts.
    """
    found: list[Array] = []
    for (name, axis), block in group.blocks.items():
        tensor = graph.constant(name)
        if tensor is None or len(tensor.dims) < 2 or not _makes(name, axis, couplings):
            continue
        rows = np.moveaxis(tensor.array, axis, 0).reshape(tensor.dims[axis], -1).astype(np.float64)
        order = np.argsort(block.owner, kind="stable")
        order = order[np.count_nonzero(block.owner < 0) :]
        if len(order) % group.size == 0:
            found.append(rows[order].reshape(group.size, -1))
    return found


def _makes(name: str, axis: int, couplings: Couplings) -> bool:
    """Whether a weight's axis numbers what some product makes: it is joined with the product's output."""
    for use in couplings.graph.uses(name):
        site = couplings.sites.get(use.operator)
        if site is None:
            continue
        if not site.operator.is_a(*CONTRACTIONS):
            return True  # behind something that moves it, or looked up
        contracted = _CONTRACTED.get(site.operator.op_type)
        if (
            contracted is None
            or contracted(site.operator.integer("transB", 0), len(site.input_shape(use.input))) != axis
        ):
            return True
    return False


_CONTRACTED: Final[Mapping[str, Callable[[int, int], int]]] = {
    "Conv": lambda turned, rank: 1,
    "ConvTranspose": lambda turned, rank: 0,
    "GRU": lambda turned, rank: 2,
    "Gemm": lambda turned, rank: 1 if turned else 0,
    "LSTM": lambda turned, rank: 2,
    "MatMul": lambda turned, rank: rank - 2,
    "RNN": lambda turned, rank: 2,
}
"""Axis of a weight that a product adds up along, where the weight is its second input; by operator type."""
