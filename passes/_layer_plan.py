"""Which layers Net-Trim can solve anew, and with what."""

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from graphshrink.calibration.activations import why_not_tapped
from graphshrink.ir.graph import Graph
from graphshrink.ir.tensor import FLOATING
from graphshrink.ir.types import Array
from graphshrink.ir.weight import Weight
from graphshrink.ops.affine import Affine, affine
from graphshrink.ops.following import Following, channel_vector, following


class Bias(NamedTuple):
    """A constant that is added to the outputs of one layer alone, times a number for each channel."""

    weight: Weight
    factor: Array


@dataclass(frozen=True, slots=True)
class Plan:
    """A layer that can be solved anew.

    Attributes:
        weight: its weight.
        affine: its linear problem.
        following: what becomes of its output.
        bias: what is solved for together with it, or None.
        constant: (width,), the sum of all shifts.
        is_last: whether nothing is computed from its outputs that some other layer would have to put up with.
    """

    weight: Weight
    affine: Affine
    following: Following
    bias: Bias | None
    constant: Array
    is_last: bool

    @property
    def values(self) -> tuple[str, ...]:
        """Values of the graph whose activations the problem is made of."""
        graph = self.affine.use.graph
        skips = (name for name, _ in self.following.skips if graph.constant(name) is None)
        return tuple(dict.fromkeys((self.affine.input, *skips)))


def plan(weight: Weight, known: Mapping[str, Weight], dynamic: Collection[int]) -> Plan | str:
    """The plan for a weight; or why there is none.

    Args:
        weight: whose layer is meant.
        known: constants of the main graph that may be changed, by name; among them may be the layer's bias.
        dynamic: the operators of the main graph that depend on its inputs.
    """
    if len(weight.uses) != 1:
        return f"{len(weight.uses)} operators use it, whose outputs cannot all be kept at once"
    [use] = weight.uses
    found = affine(weight, use)
    if isinstance(found, str):
        return found
    graph = use.graph
    reason = why_not_tapped(graph, found.input, dynamic)
    if reason is not None:
        return f"its inputs cannot be seen: {reason}"
    follows = following(graph, found, dynamic)
    constant = np.zeros(found.form.width)
    for name, factor in follows.shifts:
        constant = constant + factor * channel_vector(graph, found.form, name)
    made = Plan(weight, found, follows, _bias(follows, known), constant, _is_last(graph, follows.end))
    reasons = (why_not_tapped(graph, name, dynamic) for name in made.values)
    return next((f"what is added to its outputs cannot be seen: {r}" for r in reasons if r is not None), made)


def _bias(follows: Following, known: Mapping[str, Weight]) -> Bias | None:
    """The first constant that is this layer's own, with a number for each channel."""
    for name, factor in follows.shifts:
        weight = known.get(name)
        if weight is None or len(weight.uses) != 1 or weight.uses[0].via or weight.exposed is not None:
            continue
        if weight.tensor.elem_type in FLOATING and weight.tensor.size == factor.size and bool(np.all(factor)):
            return Bias(weight, factor)
    return None


def _is_last(graph: Graph, value: str) -> bool:
    """Whether a value is an output of the model, or only a step away from one."""
    if not value:
        return False
    outputs = {info.name for info in graph.outputs}
    users = [graph.operator(use.operator) for use in graph.uses(value)]
    return value in outputs or (bool(users) and all(set(user.outputs) <= outputs for user in users))
