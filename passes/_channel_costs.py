"""What a model costs as a function of how many channels each group keeps: MACs, parameters, bytes, or seconds."""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from math import prod
from typing import Final, TypeAlias

import numpy as np

from graphshrink.ir.tensor import FLOATING, T
from graphshrink.ir.weight import constants
from graphshrink.metrics.macs import operator_macs
from graphshrink.ops.coupling.analysis import Couplings, Group
from graphshrink.ops.coupling.base import Site
from graphshrink.passes._channel_latency import Timed

Place: TypeAlias = tuple[str, int]
"""A value, and an axis of it."""

Pair: TypeAlias = tuple[int | None, int | None]
"""Numbers of two groups; None is a factor of 1."""

_PARAMETERS: Final = FLOATING | {T.INT8, T.UINT8, T.INT4, T.UINT4}
"""Element types in which trained weights come, quantised or not."""

_FACTORS: Final = 2  # groups that one cost is a product of; what is made of more counts as if the rest stayed


@dataclass(frozen=True, slots=True)
class Cost:
    """A sum of  coefficient * share kept of one group * share kept of another.

    Attributes:
        terms: the coefficients.
    """

    terms: Mapping[Pair, float]

    @property
    def whole(self) -> float:
        """With everything there."""
        return sum(self.terms.values())

    def of(self, shares: Sequence[float]) -> float:
        """With a share of each group kept."""

        def share(group: int | None) -> float:
            return 1.0 if group is None else shares[group]

        return sum(coefficient * share(a) * share(b) for (a, b), coefficient in self.terms.items())


Timing: TypeAlias = Callable[[Site, Mapping[Place, int], float], Timed | None]
"""The time of an operator, given sizes of axes with half of the channels that can go, and the share of MACs then."""


def cost_of(couplings: Couplings, groups: Sequence[Group], of: str, timing: Timing | None = None) -> Cost:
    """What is to be made less: "macs", "params", "bytes" of weights, or "latency", in seconds."""
    shares = _Shares(groups)
    if of == "latency" and timing is not None:
        products = _seconds(couplings, _halves(couplings, groups), timing)
    else:
        products = _macs(couplings) if of == "macs" else _sizes(couplings, in_bytes=of == "bytes")
    terms: dict[Pair, float] = {}
    for coefficient, places in products:
        for pair, part in shares.split(places):
            terms[pair] = terms.get(pair, 0.0) + coefficient * part
    return Cost(terms)


class _Shares:
    """Which share of an axis belongs to which group."""

    def __init__(self, groups: Sequence[Group]) -> None:
        self._of: dict[Place, dict[int, float]] = {}
        for number, group in enumerate(groups):
            for place, block in group.blocks.items():
                self._of.setdefault(place, {})[number] = float(np.mean(block.owner >= 0))

    def split(self, places: Iterable[Place]) -> Iterator[tuple[Pair, float]]:
        """The product of the sizes of some axes, each divided by its whole size, as a sum over pairs of groups."""
        moving = [self._parts(place) for place in places if place in self._of][:_FACTORS]
        nothing: dict[int | None, float] = {None: 1.0}
        first, second = [*moving, nothing, nothing][:_FACTORS]
        for a, part in first.items():
            for b, other in second.items():
                yield (a, b), part * other

    def _parts(self, place: Place) -> dict[int | None, float]:
        parts: dict[int | None, float] = {}
        parts.update(self._of[place].items())
        rest = 1.0 - sum(parts.values())
        return {**parts, None: rest} if rest > 0 else parts


_Product: TypeAlias = tuple[float, list[Place]]
"""A number, and the axes whose sizes are factors of it."""


def _sizes(couplings: Couplings, *, in_bytes: bool) -> Iterator[_Product]:
    for name, tensor in constants(couplings.graph):
        if tensor.elem_type in _PARAMETERS and name in couplings.numbering.shapes:
            size = tensor.nbytes if in_bytes else tensor.size
            yield size, [(name, axis) for axis in range(len(tensor.dims))]


def _halves(couplings: Couplings, groups: Sequence[Group]) -> dict[Place, int]:
    """Sizes of axes with half of the channels that can go."""
    sizes: dict[Place, int] = {}
    for group in groups:
        for (name, axis), block in group.blocks.items():
            whole = couplings.numbering.shapes[name][axis]
            sizes[name, axis] = sizes.get((name, axis), whole) - int(np.count_nonzero(block.owner >= 0)) // 2
    return sizes


def _seconds(couplings: Couplings, halves: Mapping[Place, int], timing: Timing) -> Iterator[_Product]:
    """Of every product: the part of its time that stays, and the part that goes with its channels, as its MACs do."""
    for site, products in _macs_by_site(couplings):
        whole = sum(count for count, _ in products)
        left = sum(count * prod(_share(couplings, halves, place) for place in places) for count, places in products)
        time = timing(site, halves, left / whole)
        if time is None:
            continue
        yield time.fixed, []
        yield from ((time.moving * count / whole, places) for count, places in products)


def _share(couplings: Couplings, halves: Mapping[Place, int], place: Place) -> float:
    name, axis = place
    size = couplings.numbering.shapes[name][axis]
    return halves.get(place, size) / size


def _macs(couplings: Couplings) -> Iterator[_Product]:
    for _, products in _macs_by_site(couplings):
        yield from products


def _macs_by_site(couplings: Couplings) -> Iterator[tuple[Site, list[_Product]]]:
    shapes = {couplings.graph.original_name(name): shape for name, shape in couplings.numbering.shapes.items()}
    for site in couplings.sites.values():
        factors = _FACTORS_OF.get(site.operator.op_type)
        if factors is None or not site.operator.is_a(site.operator.op_type):
            continue
        count = operator_macs(couplings.graph, site.operator, shapes)
        if not count:
            continue
        parts = [(site.operator.inputs[i], range(len(site.inputs[i] or ()))[axes]) for i, axes in factors.inputs(site)]
        parts += [(site.operator.outputs[0], range(len(site.outputs[0] or ())))] if factors.output else []
        if factors.together:
            yield site, [(count, [(name, axis) for name, axes in parts for axis in axes])]
            continue
        whole = sum(prod(site.numbering.shapes[name]) for name, _ in parts)  # of recurrent operators: W and R add up
        sizes = [(prod(site.numbering.shapes[name]) / whole, name, axes) for name, axes in parts]
        yield site, [(count * size, [(name, axis) for axis in axes]) for size, name, axes in sizes]


@dataclass(frozen=True, slots=True)
class _Factors:
    """Whose sizes the MACs of an operator are the product of.

    Attributes:
        inputs: pairs of an input and its axes.
        output: whether all axes of the first output are among them.
        together: whether it is one product, rather than a sum over the inputs.
    """

    inputs: Callable[[Site], Iterable[tuple[int, slice]]]
    output: bool
    together: bool = True


def _contracted(site: Site) -> list[tuple[int, slice]]:
    if site.operator.op_type == "Gemm":
        axis = 0 if site.operator.integer("transA", 0) else 1
        return [(0, slice(axis, axis + 1))]
    return [(0, slice(-1, None))]


_FACTORS_OF: Final[Mapping[str, _Factors]] = {
    "Conv": _Factors(lambda site: [(1, slice(1, None))], output=True),
    "ConvTranspose": _Factors(lambda site: [(0, slice(None)), (1, slice(1, None))], output=False),
    "Gemm": _Factors(_contracted, output=True),
    "MatMul": _Factors(_contracted, output=True),
    **dict.fromkeys(
        ("GRU", "LSTM", "RNN"),
        _Factors(lambda site: [(1, slice(None)), (2, slice(None))], output=False, together=False),
    ),
}
"""Standard-domain operator type -> how its MACs depend on channels."""
