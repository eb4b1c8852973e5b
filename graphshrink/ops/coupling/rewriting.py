"""Operators that have sizes written down, or count their channels: what of them follows when channels go."""

from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Final

import numpy as np

from graphshrink.ir import edit
from graphshrink.ir.operator import Operator, attributes_of
from graphshrink.ops.coupling import moving
from graphshrink.ops.coupling.base import Site
from graphshrink.ops.coupling.shuffling import Shuffle
from graphshrink.ops.coupling.surgery import Surgery


def _convolution(site: Site, surgery: Surgery) -> None:
    groups = site.operator.integer("group", 1)
    kept = surgery.kept_input(site, 0, 1)
    if groups == 1 or kept is None:
        return
    size = site.input_shape(0)[1] // groups
    left = np.bincount(kept // size, minlength=groups)
    if not left.all():  # groups as a whole
        surgery.set_attributes(site, group=int(np.count_nonzero(left)))


def _changed_outputs(site: Site, surgery: Surgery) -> dict[int, int]:
    axes = surgery.cut.axes(site.operator.outputs[0])
    return {axis: len(kept) for axis, kept in axes.items()}


def _reshape(site: Site, surgery: Surgery) -> None:
    wanted = _changed_outputs(site, surgery)
    if site.has_input(1):
        surgery.sizes(site, 1, wanted, free=(-1,))


def _expand(site: Site, surgery: Surgery) -> None:
    """Sizes align from the last; a 1 takes what is there."""
    shift = len(site.output_shape(0)) - site.input_shape(1)[0]
    wanted = {axis - shift: size for axis, size in _changed_outputs(site, surgery).items() if axis >= shift}
    same = site.input_shape(0)[-1:] and all(
        site.input_shape(0)[axis - len(site.output_shape(0))] != 1
        for axis in _changed_outputs(site, surgery)
        if axis >= len(site.output_shape(0)) - len(site.input_shape(0))
    )
    surgery.sizes(site, 1, wanted, free=(1,) if same else ())


def _filled(site: Site, surgery: Surgery) -> None:
    surgery.sizes(site, 0, _changed_outputs(site, surgery))


def _split(site: Site, surgery: Surgery) -> None:
    axis = site.operator.integer("axis", 0)
    sizes: list[int] = []
    for index in range(len(site.outputs)):
        kept = surgery.kept_output(site, index, axis) if site.has_output(index) else None
        sizes.append(site.output_shape(index)[axis] if kept is None else len(kept))
    if surgery.kept_input(site, 0, axis) is None:
        return
    surgery.set_attributes(site, num_outputs=None)
    if site.graph.opset < 13:
        surgery.set_attributes(site, split=tuple(sizes))
    else:
        surgery.numbers(site, "split", 1, sizes)


def _slice(site: Site, surgery: Surgery) -> None:
    found = moving.slices(site)
    changed = {axis for axis in surgery.cut.axes(site.operator.inputs[0]) if axis in (found or {})}
    if not changed or found is None:
        return
    shape = site.input_shape(0)
    starts, ends, axes, steps = list[int](), list[int](), list[int](), list[int]()
    for axis, how in found.items():
        start, end, step = how.indices(shape[axis])
        if axis in changed:
            kept = surgery.cut.kept[site.operator.inputs[0], axis]
            start, end = int(np.searchsorted(kept, start)), int(np.searchsorted(kept, end))
        starts.append(start)
        ends.append(end if step > 0 or end >= 0 else -(1 << 31))
        axes.append(axis)
        steps.append(step)
    surgery.numbers(site, "starts", 1, starts)
    surgery.numbers(site, "ends", 2, ends)
    if site.operator.integers("starts") is not None:
        surgery.set_attributes(site, axes=tuple(axes))
        return
    surgery.numbers(site, "axes", 3, axes)
    if len(site.inputs) > 4:  # all of one type
        surgery.numbers(site, "steps", 4, steps)


def _gather(site: Site, surgery: Surgery) -> None:
    axis = site.operator.integer("axis", 0) % len(site.input_shape(0))
    indices = site.constant(1)
    if indices is None or indices.ndim != 1:
        return
    kept, left = surgery.kept_input(site, 0, axis), surgery.kept_output(site, 0, axis)
    if kept is None and left is None:
        return
    size = site.input_shape(0)[axis]
    wanted = (indices if left is None else indices[left]) % size
    new = wanted if kept is None else moving.positions(kept, size)[wanted]
    surgery.set_input(site, 1, surgery.constant(new.astype(indices.dtype), f"{site.operator.outputs[0]}_indices"))


def _pad(site: Site, surgery: Surgery) -> None:
    """What is padded loses its zeros only together with an axis that has them as channels, so mostly none."""
    around = moving.pads(site)
    axes = surgery.cut.axes(site.operator.outputs[0])
    if around is None or not axes:
        return
    new = list(around)
    for axis, left in axes.items():
        before, size = around[axis][0], site.input_shape(0)[axis]
        new[axis] = (int((left < before).sum()), int((left >= before + size).sum()))
    if new == around:
        return
    numbers = (*(before for before, _ in new), *(after for _, after in new))
    if site.operator.integers("pads") is not None:
        surgery.set_attributes(site, pads=numbers)
        return
    surgery.set_input(site, 1, surgery.constant(np.array(numbers, np.int64), f"{site.operator.outputs[0]}_pads"))
    if len(site.inputs) > 3 and site.operator.inputs[3]:
        surgery.set_input(site, 3, "")


def _resize(site: Site, surgery: Surgery) -> None:
    if len(site.inputs) < 4 or not site.operator.inputs[3]:
        return
    rank = len(site.input_shape(0))
    axes = [axis % rank for axis in site.operator.integers("axes") or range(rank)]
    wanted = {axes.index(axis): size for axis, size in _changed_outputs(site, surgery).items() if axis in axes}
    surgery.sizes(site, 3, wanted)


def _squeeze(site: Site, surgery: Surgery) -> None:
    """Where all axes of size 1 are squeezed, one that loses channels until one is left is not among them."""
    axes = tuple(axis for axis, size in enumerate(site.input_shape(0)) if size == 1)
    if site.integers("axes", 1) is not None or all(
        len(kept) > 1 for kept in surgery.cut.axes(site.operator.inputs[0]).values()
    ):
        return
    if site.graph.opset < 13:
        surgery.set_attributes(site, axes=axes)
    else:
        surgery.numbers(site, "axes", 1, axes)


def _recurrent(site: Site, surgery: Surgery) -> None:
    kept = surgery.kept_input(site, 2, 2)
    if kept is not None and "hidden_size" in site.operator.attributes:
        surgery.set_attributes(site, hidden_size=len(kept))


def _group(site: Site, surgery: Surgery) -> None:
    kept = surgery.kept_input(site, 0, 1)
    if kept is not None:
        size = site.input_shape(0)[1] // site.operator.integer("num_groups", 1)
        surgery.set_attributes(site, num_groups=len(kept) // size)


def shuffle(shuffle: Shuffle, surgery: Surgery) -> None:
    """The channels that are left, in their new order, whatever their number."""
    size = len(shuffle.order)
    left = surgery.cut.kept.get((shuffle.made, shuffle.axis), np.arange(size))
    kept = surgery.cut.kept.get((shuffle.source, shuffle.axis), np.arange(size))
    indices = surgery.constant(moving.positions(kept, size)[shuffle.order[left]], f"{shuffle.made}_order")
    gather = Operator("Gather", (shuffle.source, indices), (shuffle.made,), attributes_of(axis=shuffle.axis))
    first, second, last = shuffle.numbers
    edit.replace_operator(surgery.graph, last, gather)
    edit.remove_operators(surgery.graph, [first, second])


def _neighbours(site: Site, surgery: Surgery) -> None:
    """LRN takes zeros where channels were: one is added behind them all, and looked up wherever one is gone."""
    kept = surgery.kept_input(site, 0, 1)
    if kept is None:
        return
    rank, size = len(site.input_shape(0)), site.input_shape(0)[1]
    source, made = site.operator.inputs[0], site.operator.outputs[0]
    padded, wide, result = (surgery.fresh(f"{made}_{what}") for what in ("padded", "wide", "all"))
    indices = moving.positions(kept, size)
    indices[indices < 0] = len(kept)
    numbers = tuple(int(place == rank + 1) for place in range(2 * rank))
    where = surgery.constant(indices, f"{made}_spread")
    along = attributes_of(axis=1)
    if site.graph.opset < 11:
        pad = Operator("Pad", (source,), (padded,), attributes_of(pads=numbers))
    else:
        pad = Operator("Pad", (source, surgery.constant(np.array(numbers, np.int64), f"{made}_pads")), (padded,))
    surgery.before(site, [pad, Operator("Gather", (padded, where), (wide,), along)])
    operator = surgery.graph.operator(site.number)
    edit.replace_operator(surgery.graph, site.number, replace(operator, inputs=(wide,), outputs=(result,)))
    surgery.after(site, [Operator("Gather", (result, surgery.constant(kept, f"{made}_kept")), (made,), along)])


REWRITES: Final[Mapping[str, Callable[[Site, Surgery], None]]] = {
    "ConstantOfShape": _filled,
    "Conv": _convolution,
    "ConvTranspose": _convolution,
    "Expand": _expand,
    "GRU": _recurrent,
    "Gather": _gather,
    "GroupNormalization": _group,
    "LRN": _neighbours,
    "LSTM": _recurrent,
    "Pad": _pad,
    "RNN": _recurrent,
    "Reshape": _reshape,
    "Resize": _resize,
    "Slice": _slice,
    "Split": _split,
    "Squeeze": _squeeze,
}
"""Standard-domain operator type -> what of it has to follow when channels go."""
