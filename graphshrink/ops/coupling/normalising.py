"""Normalisations, reductions and pooling."""

from graphshrink.ir.types import Array
from graphshrink.ops.coupling.base import Links, Site
from graphshrink.ops.coupling.elementwise import aligned


def by_channel(site: Site, links: Links) -> None:
    """BatchNormalization and InstanceNormalization: everything else is a number for each channel."""
    if any(site.operator.outputs[1:]):
        site.hold_all(links, f"{site.title} gives more than the normalised values")
        return
    aligned(site, links, 0, 0)
    for index in range(1, len(site.inputs)):
        if site.has_input(index):
            links.join(site.input(index, 0), site.output(0, 1))
    for axis in range(2, len(site.input_shape(0))) if site.operator.op_type == "InstanceNormalization" else ():
        links.hold(site.input(0, axis), f"{site.title} normalises along this axis")


def layer(site: Site, links: Links) -> None:
    """LayerNormalization, RMSNormalization: over all axes from one on; what is gone counts no more."""
    if any(site.operator.outputs[1:]):
        site.hold_all(links, f"{site.title} gives more than the normalised values")
        return
    aligned(site, links, 0, 0)
    for index in (1, 2):
        if site.has_input(index):
            aligned(site, links, index, 0)


def group(site: Site, links: Links) -> None:
    """GroupNormalization: channels of a group are normalised together, and stay together."""
    aligned(site, links, 0, 0)
    made, groups = site.output(0, 1), site.operator.integer("num_groups", 1)
    together = made.reshape(groups, -1)
    links.join(together, together[:, :1])
    for index in (1, 2):
        numbers = site.input(index, 0)
        links.join(numbers, made if len(numbers) == len(made) else together[:, 0])


def neighbours(site: Site, links: Links) -> None:
    """LRN: a channel is divided by its neighbours; what is gone is put back as zeros for it."""
    aligned(site, links, 0, 0)


def reduced_axes(site: Site) -> tuple[int, ...] | None:
    """The axes that a reduction reduces; None where they are not known."""
    rank = len(site.input_shape(0))
    axes = site.integers("axes", 1)
    if axes is None and (len(site.inputs) < 2 or not site.operator.inputs[1]):
        nothing = site.operator.integer("noop_with_empty_axes", 0) != 0
        return () if nothing else tuple(range(rank))
    return None if axes is None else tuple(axis % rank for axis in axes)


def summed(site: Site, links: Links) -> None:
    """Sums, of squares or magnitudes too, and means: what is zero adds nothing, and what is gone does not count."""
    _reduced(site, links, None)


def compared(site: Site, links: Links) -> None:
    """Maxima and other reductions in which a zero counts."""
    _reduced(site, links, f"{site.title} compares along this axis")


def _reduced(site: Site, links: Links, reason: str | None) -> None:
    axes = reduced_axes(site)
    if axes is None:
        site.hold_all(links, f"{site.title} reduces axes that are not known")
        return
    place = 0
    for axis in range(len(site.input_shape(0))):
        numbers: Array = site.input(0, axis)
        if axis not in axes:
            links.join(numbers, site.output(0, place))
        elif reason is not None:
            links.hold(numbers, reason)
        place += axis not in axes or site.operator.integer("keepdims", 1) != 0


def pooled(site: Site, links: Links) -> None:
    """Pooling: channels stay apart, pixels do not."""
    for index in range(len(site.outputs)):
        if not site.has_output(index):
            continue
        for axis in (0, 1):
            links.join(site.input(0, axis), site.output(index, axis))
        for axis in range(2, len(site.output_shape(index))):
            links.hold(site.output(index, axis), f"{site.title} mixes neighbours along this axis")
    for axis in range(2, len(site.input_shape(0))):
        links.hold(site.input(0, axis), f"{site.title} mixes neighbours along this axis")


def softmax(site: Site, links: Links) -> None:
    """Every result depends on all along an axis, where a zero counts; up to opset 12, on all axes from it on."""
    aligned(site, links, 0, 0)
    old = site.graph.opset < 13
    rank = len(site.input_shape(0))
    axis = site.operator.integer("axis", 1 if old else -1) % rank
    for held in range(axis, rank) if old else (axis,):
        links.hold(site.input(0, held), f"{site.title} compares along this axis")


def along_axis(site: Site, links: Links) -> None:
    """ArgMax, TopK and others: an axis whose order matters; all others stay as they are."""
    rank = len(site.input_shape(0))
    default = -1 if site.operator.op_type == "TopK" else 0
    axis = site.operator.integer("axis", default) % rank
    links.hold(site.input(0, axis), f"{site.title} compares along this axis")
    for index in range(len(site.outputs)):
        if not site.has_output(index):
            continue
        kept = len(site.output_shape(index)) == rank
        for other in range(rank):
            place = other if kept or other < axis else other - 1
            if other != axis:
                links.join(site.input(0, other), site.output(index, place))
            elif kept:
                links.hold(site.output(index, place), f"{site.title} compares along this axis")
