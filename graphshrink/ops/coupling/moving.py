"""Operators that move elements about along their axes: each is tried on the numbers along one axis at a time."""

from collections.abc import Sequence

import numpy as np

from graphshrink.ir.graph import constant_of
from graphshrink.ir.types import Array
from graphshrink.ops.coupling.base import Links, Site


def transpose(site: Site, links: Links) -> None:
    """Axes in another order."""
    rank = len(site.input_shape(0))
    order = site.operator.integers("perm") or tuple(reversed(range(rank)))
    for axis, source in enumerate(order):
        links.join(site.output(0, axis), site.input(0, source))


def squeeze(site: Site, links: Links) -> None:
    """Squeeze and Unsqueeze: axes of size 1 come and go; the others keep their order."""
    shape, made = site.input_shape(0), site.output_shape(0)
    axes = site.integers("axes", 1)
    longer = max(len(shape), len(made))
    if axes is None:
        extra = {axis for axis, size in enumerate(shape if len(shape) == longer else made) if size == 1}
    else:
        extra = {axis % longer for axis in axes}
    if len(extra) != abs(len(shape) - len(made)):
        site.hold_all(links, f"{site.title} has axes that are not known")
        return
    kept = [axis for axis in range(longer) if axis not in extra]
    for short, long in enumerate(kept):
        a, b = (long, short) if len(shape) == longer else (short, long)
        links.join(site.input(0, a), site.output(0, b))


def concat(site: Site, links: Links) -> None:
    """Inputs side by side along one axis."""
    axis, rank = site.operator.integer("axis", 1), len(site.output_shape(0))
    start = 0
    for index in range(len(site.inputs)):
        if not site.has_input(index):
            continue
        for other in range(rank):
            if other != axis % rank:
                links.join(site.input(index, other), site.output(0, other))
        numbers = site.input(index, axis)
        links.join(numbers, site.output(0, axis)[start : start + len(numbers)])
        start += len(numbers)


def split(site: Site, links: Links) -> None:
    """The opposite of a concatenation."""
    axis, rank = site.operator.integer("axis", 0), len(site.input_shape(0))
    start = 0
    for index in range(len(site.outputs)):
        if not site.has_output(index):
            continue
        for other in range(rank):
            if other != axis % rank:
                links.join(site.input(0, other), site.output(index, other))
        numbers = site.output(index, axis)
        links.join(numbers, site.input(0, axis)[start : start + len(numbers)])
        start += len(numbers)


def slices(site: Site) -> dict[int, slice] | None:
    """What a Slice takes along each axis that it names; None where that is not known."""
    starts, ends = site.integers("starts", 1), site.integers("ends", 2)
    if starts is None or ends is None:
        return None
    given = site.operator.integers("axes") is not None or (len(site.inputs) > 3 and bool(site.operator.inputs[3]))
    axes = site.integers("axes", 3) if given else tuple(range(len(starts)))
    stepped = len(site.inputs) > 4 and bool(site.operator.inputs[4])
    steps = site.integers("steps", 4) if stepped else (1,) * len(starts)
    if axes is None or steps is None:
        return None
    rank = len(site.input_shape(0))
    return {a % rank: _slice(*how) for a, *how in zip(axes, starts, ends, steps, strict=True)}


def _slice(start: int, end: int, step: int) -> slice:
    """ONNX clamps an end below all indices to before the first one, which Python spells as None."""
    return slice(start, None if step < 0 and end < -(1 << 30) else end, step)


def slice_(site: Site, links: Links) -> None:
    """Some indices of some axes."""
    taken = slices(site)
    for axis, size in enumerate(site.input_shape(0)):
        source, made = site.input(0, axis), site.output(0, axis)
        if taken is None and len(made) == size:
            links.join(made, source)
        elif taken is None:
            links.hold(source, f"{site.title} has bounds that are not constant")
            links.hold(made, f"{site.title} has bounds that are not constant")
        else:
            step = taken.get(axis, slice(None))
            links.join(made, source[step])
            if step.step not in (None, 1):
                links.hold(source, f"{site.title} takes every {step.step}th index")


def gather(site: Site, links: Links) -> None:
    """Indices of one axis are looked up; all other axes keep their places."""
    rank, looked_up = len(site.input_shape(0)), len(site.input_shape(1))
    axis = site.operator.integer("axis", 0) % rank
    for other in range(rank):
        if other != axis:
            links.join(site.input(0, other), site.output(0, other if other < axis else other + looked_up - 1))
    constant = site.constant(1)
    if constant is None:
        links.hold(site.input(0, axis), f"{site.title} looks it up with indices that are not constant")
        for other in range(looked_up):
            links.join(site.input(1, other), site.output(0, axis + other))
        return
    if looked_up == 1:
        links.join(site.output(0, axis), site.input(0, axis)[constant])
        return
    links.hold(site.input(0, axis), f"{site.title} takes some of it")
    for other in range(looked_up):
        links.hold(site.output(0, axis + other), f"{site.title} arranges it anew")


def pads(site: Site) -> list[tuple[int, int]] | None:
    """How much a Pad adds before and after each axis; None where that is not known."""
    rank = len(site.input_shape(0))
    numbers = site.integers("pads", 1)
    if numbers is None:
        return None
    axes: Sequence[int] | None = tuple(range(rank))
    if len(site.inputs) > 3 and site.operator.inputs[3]:
        axes = site.integers("axes", 3)
    if axes is None or len(numbers) != 2 * len(axes):
        return None
    made = [(0, 0)] * rank
    for place, axis in enumerate(axes):
        made[axis % rank] = (numbers[place], numbers[place + len(axes)])
    return made


def pad(site: Site, links: Links) -> None:
    """More indices before and after; those of zeros are as good as no indices."""
    around = pads(site)
    mode = site.operator.attributes.get("mode")
    filled = mode is None or mode.value == b"constant"
    value = site.constant(2)
    zero = site.operator.real("value", 0.0) == 0 and (not site.has_input(2) or (value is not None and not value.any()))
    for axis, size in enumerate(site.input_shape(0)):
        source, made = site.input(0, axis), site.output(0, axis)
        before, after = around[axis] if around is not None else (0, 0)
        if len(made) == size and before == after == 0:
            links.join(made, source)
        elif around is None or not filled or not zero or min(before, after) < 0:
            links.hold(source, f"{site.title} changes the size of this axis")
            links.hold(made, f"{site.title} changes the size of this axis")
        else:
            links.join(made[before : before + size], source)


def tile(site: Site, links: Links) -> None:
    """Everything several times over."""
    for axis, size in enumerate(site.input_shape(0)):
        made = site.output(0, axis)
        if size:
            links.join(made.reshape(-1, size), site.input(0, axis))


def expand(site: Site, links: Links) -> None:
    """Axes of size 1 are broadcast."""
    shape, made = site.input_shape(0), site.output_shape(0)
    for axis in range(-len(shape), 0):
        if shape[axis] == made[axis]:
            links.join(site.input(0, axis), site.output(0, axis))


def constant(site: Site, links: Links) -> None:
    """Constant: a tensor can be cut; numbers and lists of numbers are left alone."""
    if constant_of(site.operator) is None:
        site.hold_all(links, f"{site.title} holds no tensor")


def filled(site: Site, links: Links) -> None:
    """ConstantOfShape: all elements are the same, so that any of them may go."""


def shape_of(site: Site, links: Links) -> None:
    """Shape and Size: sizes may change, but there are as many of them."""
    for axis in range(len(site.output_shape(0))):
        links.hold(site.output(0, axis), f"{site.title} has one for each axis")


def depth_to_space(site: Site, links: Links) -> None:
    """Channels become pixels, in one of two orders; SpaceToDepth is the way back."""
    back = site.operator.op_type == "SpaceToDepth"
    deep, flat = (site.output(0, 1), site.input(0, 1)) if back else (site.input(0, 1), site.output(0, 1))
    mode = site.operator.attributes.get("mode")
    crd = not back and mode is not None and mode.value == b"CRD"
    links.join(site.input(0, 0), site.output(0, 0))
    links.join(deep.reshape(len(flat), -1).T if crd else deep.reshape(-1, len(flat)), flat)
    for axis in (2, 3):
        for numbers in (site.input(0, axis), site.output(0, axis)):
            links.hold(numbers, f"{site.title} makes pixels of channels")


def resized(site: Site, links: Links) -> None:
    """Resize and Upsample: axes of the same size before and after stay, the others are made anew."""
    for axis, size in enumerate(site.input_shape(0)):
        source, made = site.input(0, axis), site.output(0, axis)
        if len(made) == size:
            links.join(source, made)
        if len(made) != size or axis > 1:
            links.hold(source, f"{site.title} mixes neighbours along this axis")
            links.hold(made, f"{site.title} mixes neighbours along this axis")


def positions(kept: Array, size: int) -> Array:
    """(size,) where each index of an axis is found once only `kept` are left; -1 for those that are gone."""
    found = np.full(size, -1, np.int64)
    found[kept] = np.arange(len(kept))
    return found
