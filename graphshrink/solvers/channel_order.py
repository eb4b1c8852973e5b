"""In which order the channels of a coupled group go, judged by all layers that consume them.

A criterion is a function of a `ChannelGroup` to its channels, the first to go first; all are in `CRITERIA`. `Order`
prices any of them alike: exactly, after the least-squares repair of every consumer.

Sources, beside those in the files of the larger ones: Li et al. 2017, arXiv:1608.08710 (l1); Luo et al. 2017 (ThiNet),
arXiv:1707.06342.
"""

from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Final, TypeAlias

import numpy as np

from graphshrink.errors import InternalError
from graphshrink.ir.types import Array
from graphshrink.solvers._channel_group_lasso import group_lasso
from graphshrink.solvers._channel_lasso import lasso
from graphshrink.solvers._channel_obs import obs
from graphshrink.solvers._channel_problem import (
    ChannelGroup,
    Consumer,
    Order,
    contributions,
    masked_costs,
    repaired_costs,
    repaired_weights,
)

__all__ = [
    "CRITERIA",
    "ChannelGroup",
    "Consumer",
    "Criterion",
    "Order",
    "channel_order",
    "energy",
    "greedy",
    "group_lasso",
    "l1",
    "l2",
    "lasso",
    "masked_costs",
    "obs",
    "repaired_costs",
    "repaired_weights",
]

Criterion: TypeAlias = Callable[[ChannelGroup], Array]


def channel_order(group: ChannelGroup, criterion: str) -> Order:
    """The order of a criterion, named as in `CRITERIA`, and what it costs."""
    removed = CRITERIA[criterion](group)
    if len(removed) != group.channels:
        raise InternalError(f"channels: {criterion} ordered {len(removed)} of {group.channels}")
    return Order(removed, repaired_costs(group.consumers, removed))


def l1(group: ChannelGroup) -> Array:
    """(C,) channels by the l1 norm of the weights that make them, over all producers."""
    return _rising(group, [np.abs(weights).sum(axis=1, dtype=np.float64) for weights in _rows(group)])


def l2(group: ChannelGroup) -> Array:
    """(C,) channels by the l2 norm of the weights that make them, over all producers."""
    return _rising(group, [np.square(weights, dtype=np.float64).sum(axis=1) for weights in _rows(group)])


def energy(group: ChannelGroup) -> Array:
    """(C,) channels by the energy of their inputs, each times the squared norm of its weights, over all consumers."""
    total = np.zeros(group.channels + 1)  # the last one is nobody's
    for part in group.parts:
        inputs = np.diag(part.hessian) * np.einsum("nm,nm->n", part.weights, part.weights)
        np.add.at(total, part.owner, part.scale * inputs)
    return np.argsort(total[:-1], kind="stable")


def greedy(group: ChannelGroup) -> Array:
    """(C,) channels such that each adds as little as can be to || sum of F_i over all that are gone ||^2.

    F_i is what channel i adds to the outputs (ThiNet). Takes about N^2 M multiplications a consumer.
    """
    products, _ = contributions(group)
    costs = np.diag(products).copy()
    removed = np.empty(group.channels, np.intp)
    for step in range(group.channels):
        removed[step] = chosen = int(np.argmin(costs))
        costs += 2.0 * products[chosen]
        costs[chosen] = np.inf
    return removed


def _rows(group: ChannelGroup) -> list[Array]:
    return [weights.reshape(group.channels, -1) for weights in group.producers]


def _rising(group: ChannelGroup, norms: list[Array]) -> Array:
    return np.argsort(sum(norms, start=np.zeros(group.channels)), kind="stable")


CRITERIA: Final[Mapping[str, Criterion]] = MappingProxyType(
    {
        "energy": energy,
        "greedy": greedy,
        "group-lasso": group_lasso,
        "l1": l1,
        "l2": l2,
        "lasso": lasso,
        "obs": obs,
    }
)
