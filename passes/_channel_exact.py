"""Channels that can go without the outputs changing: unused ones, constant ones, copies of others.

| channel | seen by | what becomes of it |
|---|---|---|
| unused | all weights that take it are zero | nothing |
| constant | all weights that make it are zero | what it adds goes into the biases of the layers that take it |
| a copy | what makes it equals what makes another, or a multiple of it | the other takes its weights over |

The last is Net2Net's widening (Chen et al. 2016, arXiv:1511.05641) undone.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np

from graphshrink.calibration.engine import Calibration
from graphshrink.ir import edit
from graphshrink.ir.graph import Graph
from graphshrink.ir.types import Array
from graphshrink.ops.coupling import elementwise
from graphshrink.ops.coupling.analysis import Couplings, Group
from graphshrink.ops.coupling.base import Site
from graphshrink.ops.coupling.normalising import reduced_axes
from graphshrink.passes._channel_members import Taker, takers
from graphshrink.passes._layer_moments import moved_bias
from graphshrink.passes._layer_plan import Plan
from graphshrink.passes._layerwise import replaced

_PRODUCTS: Final = ("Conv", "ConvTranspose", "Gemm", "MatMul")
_ALONE: Final = (
    *elementwise.NAMES,
    *("AveragePool", "BatchNormalization", "Concat", "Dropout", "Flatten", "Gather", "GlobalAveragePool"),
    *("GlobalMaxPool", "InstanceNormalization", "MaxPool", "Pad", "Reshape", "Resize", "Slice", "Split", "Squeeze"),
    *("Transpose", "Unsqueeze"),
)
"""Operators that leave channels apart."""

_LINEAR: Final = (
    *("AveragePool", "Concat", "Dropout", "Flatten", "GlobalAveragePool", "GlobalMaxPool", "Identity", "LeakyRelu"),
    *("MaxPool", "Relu", "Reshape", "Slice", "Split", "Squeeze", "Transpose", "Unsqueeze"),
)
"""Those of them that make of a positive multiple of their input the same multiple of their output."""

_SAME: Final = 1e-6  # relative difference of multiples: rounding in float32
_REDUCTIONS: Final = ("ReduceMean", "ReduceSum", "ReduceMax", "ReduceMin")


@dataclass(frozen=True, slots=True)
class Exact:
    """What can go of a group, and what has to be done before.

    Attributes:
        unused, constant: channels.
        copies: channels with the channel that stands for each, and how many times that it is.
    """

    unused: tuple[int, ...]
    constant: tuple[int, ...]
    copies: tuple[tuple[int, int, float], ...]

    @property
    def gone(self) -> list[int]:
        """All of them."""
        return sorted({*self.unused, *self.constant, *(copy for copy, _, _ in self.copies)})


def prepared(
    groups: Sequence[Group], couplings: Couplings, plans: Mapping[str, Plan], calibration: Calibration
) -> dict[Group, Exact]:
    """What can go of each group; biases and weights of layers that take it are changed already, so that it may.

    Args:
        groups: that may lose channels.
        couplings: of the graph, which is changed, but not in shape.
        plans: layers by name of their weight.
        calibration: to see what constant channels are.
    """
    found: dict[Group, Exact] = {}
    for group in groups:
        exact = _exact(group, couplings, plans, calibration)
        if exact is not None and exact.gone and len(exact.gone) < group.size:
            found[group] = exact
    return found


def _exact(group: Group, couplings: Couplings, plans: Mapping[str, Plan], calibration: Calibration) -> Exact | None:
    sites = list(_sites(group, couplings))
    if not all(_is_plain(site, group) for site in sites):
        return None
    graph = couplings.graph
    takes = takers(group, plans)
    known = {taker.plan.weight.name for taker in takes}
    made, scaled = _parameters(group, graph, known)
    inner = {name for name, _ in group.blocks if name not in known and _is_matrix(name, sites)}
    taken = [name for name in _taken(group, sites) if name not in known]
    if taken or not takes:
        return None  # some layer takes channels in a way that is not understood
    weight = np.zeros(group.size)
    for taker in takes:
        np.maximum.at(weight, taker.owner[taker.owner >= 0], np.abs(_matrix(taker)).max(axis=2)[taker.owner >= 0])
    unused = set(np.flatnonzero(weight == 0).tolist())
    silent = _silent(group, graph, inner) - unused
    constant = _folded(group, couplings, takes, sorted(silent), calibration) if silent else []
    rest = [c for c in range(group.size) if c not in unused and c not in silent]
    linear = all(site.operator.is_a(*_LINEAR, *_PRODUCTS) for site in sites)
    copies = list(_copies(made, scaled if linear else None, rest))
    for copy, original, times in copies:
        _take_over(takes, copy, original, times)
    return Exact(tuple(sorted(unused)), tuple(constant), tuple(copies))


# ---- what a group is made of


def _sites(group: Group, couplings: Couplings) -> Iterator[Site]:
    names = {name for name, _ in group.blocks}
    for site in couplings.sites.values():
        if not names.isdisjoint(site.operator.inputs) or not names.isdisjoint(site.operator.outputs):
            yield site


def _is_plain(site: Site, group: Group) -> bool:
    """Whether an operator leaves the channels of a group apart, or adds them up with weights that are constant."""
    operator = site.operator
    if operator.is_a("Constant"):
        return True
    if operator.is_a(*_REDUCTIONS):
        axes = reduced_axes(site)
        return axes is not None and all((operator.inputs[0], axis) not in group.blocks for axis in axes)
    if operator.is_a(*_PRODUCTS):
        constant = [site.graph.constant(name) is not None for name in operator.inputs[:2]]
        return constant == [False, True] and operator.integer("group", 1) == 1
    return operator.is_a(*_ALONE)


def _is_matrix(name: str, sites: Sequence[Site]) -> bool:
    return any(site.operator.is_a(*_PRODUCTS) and name in site.operator.inputs[1:2] for site in sites)


def _taken(group: Group, sites: Sequence[Site]) -> Iterator[str]:
    """Weights of products whose data has channels of the group along the axis that is added up."""
    for site in sites:
        if site.operator.is_a(*_PRODUCTS):
            data, weight = site.operator.inputs[:2]
            rank = len(site.input_shape(0))
            convolution = site.operator.is_a("Conv", "ConvTranspose")
            axis = 1 if convolution else rank - 1 - site.operator.integer("transA", 0)
            if (data, axis) in group.blocks:
                yield weight


def _parameters(group: Group, graph: Graph, known: set[str]) -> tuple[Array, Array]:
    """(channels, n) everything constant that channels are made of, and the same divided by its norm."""
    parts: list[Array] = [np.zeros((group.size, 0))]
    for (name, axis), block in group.blocks.items():
        tensor = graph.constant(name)
        if tensor is None or name in known or tensor.array.dtype.kind not in "fV":
            continue
        rows = np.moveaxis(tensor.array, axis, 0).reshape(tensor.dims[axis], -1).astype(np.float64)
        order = np.argsort(block.owner, kind="stable")
        order = order[np.count_nonzero(block.owner < 0) :]
        parts.append(rows[order].reshape(group.size, -1))
    whole = np.concatenate(parts, axis=1)
    norms = np.linalg.norm(whole, axis=1, keepdims=True)
    return whole, np.concatenate([whole / np.where(norms > 0, norms, 1.0), norms], axis=1)


def _matrix(taker: Taker) -> Array:
    graph = taker.plan.weight.graph
    tensor = graph.constant(taker.plan.weight.name)
    assert tensor is not None
    matrix: Array = taker.plan.affine.matrix(tensor.array.astype(np.float64))
    return matrix


# ---- constant channels


def _silent(group: Group, graph: Graph, inner: set[str]) -> set[int]:
    """Channels that all weights which make them have zeros for."""
    if not inner:
        return set()
    loud = np.zeros(group.size, np.bool_)
    for (name, axis), block in group.blocks.items():
        tensor = graph.constant(name) if name in inner else None
        if tensor is not None:
            other = tuple(a for a in range(len(tensor.dims)) if a != axis)
            some = np.any(tensor.array != 0, axis=other)
            loud[block.owner[some & (block.owner >= 0)]] = True
    return set(np.flatnonzero(~loud).tolist())


def _folded(
    group: Group, couplings: Couplings, takes: Sequence[Taker], silent: Sequence[int], calibration: Calibration
) -> list[int]:
    """Of channels that nothing makes: those whose value goes into the biases of all that take them, and went there."""
    graph = couplings.graph
    values = [_value_of(taker, calibration, graph) for taker in takes]
    good: list[int] = []
    for channel in silent:
        seen = [_one_value(value[taker.owner == channel]) for taker, value in zip(takes, values, strict=True)]
        fits = all(
            one is not None and (one == 0 or (taker.plan.bias is not None and not _is_padded(taker)))
            for taker, one in zip(takes, seen, strict=True)
        )
        if not fits:
            continue
        for taker, one in zip(takes, seen, strict=True):
            if one:
                _fold(taker, channel, one)
        good.append(channel)
    return good


def _value_of(taker: Taker, calibration: Calibration, graph: Graph) -> Array:
    """(groups, N): the inputs of a layer where they are the same at every place of a sample, else NaN.

    What makes the channels that are asked about does not look at the inputs, so that one sample is enough.
    """
    form, name = taker.plan.affine.form, taker.plan.affine.input
    x = calibration.first(graph, (name,))[name]
    samples, places = form.places(x.shape)
    rows = form.rows(x, np.broadcast_to(np.arange(places), (samples, places)))
    low, high = rows.min(axis=1), rows.max(axis=1)
    return np.where(low == high, low, np.nan)


def _one_value(values: Array) -> float | None:
    found = np.unique(values)
    return float(found[0]) if len(found) == 1 and np.isfinite(found[0]) else None


def _is_padded(taker: Taker) -> bool:
    operator = taker.plan.affine.use.operator
    automatic = operator.attributes.get("auto_pad")
    return any(operator.integers("pads") or ()) or (
        automatic is not None and automatic.value not in (b"NOTSET", b"VALID")
    )


def _fold(taker: Taker, channel: int, value: float) -> None:
    """Add what a channel gives to the bias of a layer."""
    plan = taker.plan
    scale = plan.affine.form.channels(plan.following.scale)
    added = np.einsum("gn,gnm->gm", (taker.owner == channel) * value, _matrix(taker)) * scale
    bias = plan.bias
    if bias is None:
        return
    tensor = bias.weight.graph.constant(bias.weight.name)
    assert tensor is not None
    moved = moved_bias(plan, added) - bias.weight.array.astype(np.float64)
    new = tensor.array.astype(np.float64) + moved
    edit.set_constant(bias.weight.graph, bias.weight.name, tensor.with_array(new.astype(tensor.array.dtype)))


# ---- copies


def _copies(made: Array, scaled: Array | None, channels: Sequence[int]) -> Iterator[tuple[int, int, float]]:
    """Channels, each with an earlier one that it is a multiple of, and which multiple."""
    first: dict[bytes, list[int]] = {}
    for channel in channels:
        if not made.shape[1] or not made[channel].any():
            continue
        row = made[channel] if scaled is None else scaled[channel, :-1]
        key = np.round(row, 4).tobytes() if scaled is not None else row.tobytes()
        for other in first.setdefault(key, []):
            times = 1.0 if scaled is None else float(scaled[channel, -1] / scaled[other, -1])
            if np.abs(made[channel] - times * made[other]).max() <= _SAME * np.abs(made[channel]).max():
                yield channel, other, times
                break
        else:
            first[key].append(channel)


def _take_over(takes: Sequence[Taker], copy: int, original: int, times: float) -> None:
    """Give the weights of a copy to the channel that it is a copy of."""
    for taker in takes:
        matrix = _matrix(taker)
        rows, others = np.nonzero(taker.owner == original), np.nonzero(taker.owner == copy)
        matrix[rows] += times * matrix[others]
        plan = taker.plan
        replaced(plan, plan.affine.stored(matrix).astype(plan.weight.tensor.array.dtype), None)
