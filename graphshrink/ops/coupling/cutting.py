"""A graph without some of its channels: constants are cut, and sizes that are written down follow."""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field, replace
from typing import Final, TypeAlias

import numpy as np

from graphshrink.errors import InternalError
from graphshrink.ir import edit
from graphshrink.ir.graph import Graph
from graphshrink.ir.naming import all_names, named_elsewhere
from graphshrink.ir.operator import Attribute, AttributeType, Operator, attributes_of
from graphshrink.ir.tensor import FilledData, Tensor, tensor_of
from graphshrink.ir.types import Array, TensorType, ValueInfo
from graphshrink.ops.coupling import moving
from graphshrink.ops.coupling.analysis import Couplings, Group
from graphshrink.ops.coupling.base import Site
from graphshrink.ops.coupling.shuffling import Shuffle
from graphshrink.ops.coupling.sizes import Origin, origin_of

_WITHOUT_INPUTS: Final = 4  # IR version from which initializers need not be inputs

Gone: TypeAlias = Mapping[Group, Array]
"""Numbers of the channels that are to be removed, by group."""


@dataclass(frozen=True, slots=True)
class Cut:
    """What is left of axes that lose indices: (value, axis) -> the indices that stay, in order."""

    kept: Mapping[tuple[str, int], Array]

    def axes(self, name: str) -> dict[int, Array]:
        """The axes of a value that lose indices."""
        return {axis: kept for (value, axis), kept in self.kept.items() if value == name}


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
    surgery = _Surgery(couplings.graph if graph is None else graph, couplings, cut)
    touched = {value for value, _ in cut.kept}
    within = {number for shuffle in couplings.shuffles for number in shuffle.numbers}
    for site in couplings.sites.values():
        names = {*site.operator.inputs, *site.operator.outputs}
        rewrite = _REWRITES.get(site.operator.op_type) if site.number not in within else None
        if rewrite is not None and site.operator.is_a(site.operator.op_type) and not touched.isdisjoint(names):
            rewrite(site, surgery)
    for shuffle in couplings.shuffles:
        if shuffle.made in touched:
            _shuffle(shuffle, surgery)
    surgery.cut_constants()
    surgery.clean()
    surgery.declare()
    return cut


@dataclass(slots=True)
class _Surgery:
    """The graph while it is being cut."""

    graph: Graph
    couplings: Couplings
    cut: Cut
    _names: set[str] = field(init=False)

    def __post_init__(self) -> None:
        self._names = all_names(self.graph.root)

    def kept_input(self, site: Site, index: int, axis: int) -> Array | None:
        """What stays along an axis of an input, if it loses anything."""
        return self.cut.kept.get((site.operator.inputs[index], axis % len(site.input_shape(index))))

    def kept_output(self, site: Site, index: int, axis: int) -> Array | None:
        """What stays along an axis of an output, if it loses anything."""
        return self.cut.kept.get((site.operator.outputs[index], axis % len(site.output_shape(index))))

    def fresh(self, stem: str) -> str:
        """A name that nothing has yet."""
        name, number = stem, 0
        while name in self._names:
            number += 1
            name = f"{stem}_{number}"
        self._names.add(name)
        return name

    def constant(self, array: Array, stem: str) -> str:
        """A new initializer."""
        name = self.fresh(stem)
        add_constant(self.graph, array, name)
        return name

    def set_input(self, site: Site, index: int, name: str) -> None:
        """Give an operator another input, the last one or one behind it too."""
        operator = self.graph.operator(site.number)
        inputs = [*operator.inputs, *("",) * (index + 1 - len(operator.inputs))]
        inputs[index] = name
        edit.replace_operator(self.graph, site.number, replace(operator, inputs=tuple(inputs)))

    def set_attributes(self, site: Site, **values: int | tuple[int, ...] | None) -> None:
        """Set attributes of an operator, or take them away."""
        operator = self.graph.operator(site.number)
        attributes: dict[str, Attribute] = dict(operator.attributes)
        for name, value in values.items():
            if value is None:
                attributes.pop(name, None)
            else:
                attributes[name] = Attribute(
                    name, AttributeType.INT if isinstance(value, int) else AttributeType.INTS, value
                )
        edit.replace_operator(self.graph, site.number, replace(operator, attributes=attributes))

    def numbers(self, site: Site, attribute: str, index: int, values: Iterable[int]) -> None:
        """Set what older operators have as an attribute and newer ones as an input."""
        numbers = tuple(map(int, values))
        if site.operator.integers(attribute) is not None:
            self.set_attributes(site, **{attribute: numbers})
        else:
            self.set_input(
                site, index, self.constant(np.array(numbers, np.int64), f"{site.operator.outputs[0]}_{attribute}")
            )

    def sizes(self, site: Site, index: int, wanted: Mapping[int, int], free: tuple[int, ...] = ()) -> None:
        """Make elements of a vector of sizes, an input of an operator, what they have to be.

        Args:
            site: the operator.
            index: of the input.
            wanted: sizes by place in the vector.
            free: elements that may stay, as they say nothing of the size, such as -1.
        """
        name = site.operator.inputs[index]
        value = site.constant(index)
        if value is not None:
            new = value.reshape(-1).copy()
            for place, size in wanted.items():
                new[place] = new[place] if int(new[place]) in free else size
            if not np.array_equal(new, value.reshape(-1)):
                self.set_input(site, index, self.constant(new, f"{site.operator.outputs[0]}_sizes"))
            return
        wrong = {
            p: size
            for p, size in wanted.items()
            if not self._is_right(origin_of(self.couplings.graph, name, p), size, free)
        }
        if wrong:
            self._override(site, index, wrong)

    def _is_right(self, origin: Origin | None, size: int, free: tuple[int, ...]) -> bool:
        """Whether an element of a computed vector will be a size by itself."""
        if origin is None:
            return False
        if isinstance(origin, int):
            return origin == size or origin in free
        name, axis = origin
        shape = self.couplings.numbering.shapes.get(name)
        if shape is None:
            return False
        kept = self.cut.kept.get((name, axis % len(shape)))
        return (shape[axis] if kept is None else len(kept)) == size

    def _override(self, site: Site, index: int, wanted: Mapping[int, int]) -> None:
        """Put constants in the place of elements of a vector that is computed when the model runs."""
        old, stem = site.operator.inputs[index], f"{site.operator.outputs[0]}_sizes"
        length = site.input_shape(index)[0]
        places, sizes = np.zeros(length, np.bool_), np.ones(length, np.int64)
        for place, size in wanted.items():
            places[place], sizes[place] = True, size
        inputs = (self.constant(places, f"{stem}_which"), self.constant(sizes, f"{stem}_what"), old)
        made = self.fresh(stem)
        self.before(site, [Operator("Where", inputs, (made,))])
        self.set_input(site, index, made)

    def before(self, site: Site, operators: list[Operator]) -> None:
        """Insert operators before one."""
        edit.add_operators(self.graph, operators, self.graph.order.index(site.number))

    def after(self, site: Site, operators: list[Operator]) -> None:
        """Insert operators behind one."""
        edit.add_operators(self.graph, operators, self.graph.order.index(site.number) + 1)

    def cut_constants(self) -> None:
        """Take the indices out of initializers, and of Constant operators."""
        for name in dict.fromkeys(value for value, _ in self.cut.kept):
            tensor = self.graph.constant(name) if name in self.graph else None
            if tensor is not None:
                edit.set_constant(self.graph, name, taken(tensor, self.cut.axes(name)))

    def clean(self) -> None:
        """Take out what nothing uses any more, if something did before."""
        used = {name for site in self.couplings.sites.values() for name in site.operator.inputs}
        outputs = {info.name for info in self.graph.outputs}
        for number in reversed(self.graph.order):
            made = [name for name in self.graph.operator(number).outputs if name]
            wanted = any(name in outputs or self.graph.uses(name) or name not in used for name in made)
            if made and not wanted and not any(True for _ in self.graph.operator(number).subgraphs()):
                edit.remove_operators(self.graph, [number])
        given = {info.name for info in self.graph.inputs} | outputs | named_elsewhere(self.graph.root).keys()
        for value in list(self.graph.initializers()):
            if value.name in used and not self.graph.uses(value.name) and value.name not in given:
                edit.remove_initializer(self.graph, value.name)

    def declare(self) -> None:
        """Let declarations say what is so."""

        def changed(info: ValueInfo) -> ValueInfo:
            axes, declared = self.cut.axes(info.name), info.type
            if not axes or not isinstance(declared, TensorType) or declared.shape is None:
                return info
            shape = list(declared.shape)
            for axis, kept in axes.items():
                shape[axis] = replace(shape[axis], size=len(kept)) if isinstance(shape[axis].size, int) else shape[axis]
            return replace(info, type=replace(declared, shape=tuple(shape)))

        there = [info for info in self.graph.value_info.values() if info.name in self.graph]
        edit.set_value_info(self.graph, map(changed, there))
        edit.set_inputs(self.graph, map(changed, self.graph.inputs))


def add_constant(graph: Graph, array: Array, name: str) -> None:
    """Add an initializer, or a Constant operator where initializers would have to be inputs."""
    header = graph.root.header
    if header is not None and (header.ir_version or _WITHOUT_INPUTS) < _WITHOUT_INPUTS:
        held = attributes_of(value=tensor_of(array))
        edit.add_operator(graph, Operator("Constant", (), (name,), held), 0)
    else:
        edit.add_initializer(graph, tensor_of(array, name))


def taken(tensor: Tensor, axes: Mapping[int, Array]) -> Tensor:
    """A tensor without some of its indices."""
    if isinstance(tensor.data, FilledData):
        dims = tuple(len(axes[axis]) if axis in axes else size for axis, size in enumerate(tensor.dims))
        return replace(tensor, dims=dims)
    array = tensor.array
    for axis, kept in axes.items():
        array = np.take(array, kept, axis)
    return tensor.with_array(np.ascontiguousarray(array))


# ---- operators that have sizes written down


def _convolution(site: Site, surgery: _Surgery) -> None:
    groups = site.operator.integer("group", 1)
    kept = surgery.kept_input(site, 0, 1)
    if groups == 1 or kept is None:
        return
    size = site.input_shape(0)[1] // groups
    left = np.bincount(kept // size, minlength=groups)
    if not left.all():  # groups as a whole
        surgery.set_attributes(site, group=int(np.count_nonzero(left)))


def _changed_outputs(site: Site, surgery: _Surgery) -> dict[int, int]:
    axes = surgery.cut.axes(site.operator.outputs[0])
    return {axis: len(kept) for axis, kept in axes.items()}


def _reshape(site: Site, surgery: _Surgery) -> None:
    wanted = _changed_outputs(site, surgery)
    if site.has_input(1):
        surgery.sizes(site, 1, wanted, free=(-1,))


def _expand(site: Site, surgery: _Surgery) -> None:
    """Sizes align from the last; a 1 takes what is there."""
    shift = len(site.output_shape(0)) - site.input_shape(1)[0]
    wanted = {axis - shift: size for axis, size in _changed_outputs(site, surgery).items() if axis >= shift}
    same = site.input_shape(0)[-1:] and all(
        site.input_shape(0)[axis - len(site.output_shape(0))] != 1
        for axis in _changed_outputs(site, surgery)
        if axis >= len(site.output_shape(0)) - len(site.input_shape(0))
    )
    surgery.sizes(site, 1, wanted, free=(1,) if same else ())


def _filled(site: Site, surgery: _Surgery) -> None:
    surgery.sizes(site, 0, _changed_outputs(site, surgery))


def _split(site: Site, surgery: _Surgery) -> None:
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


def _slice(site: Site, surgery: _Surgery) -> None:
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


def _gather(site: Site, surgery: _Surgery) -> None:
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


def _pad(site: Site, surgery: _Surgery) -> None:
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


def _resize(site: Site, surgery: _Surgery) -> None:
    if len(site.inputs) < 4 or not site.operator.inputs[3]:
        return
    rank = len(site.input_shape(0))
    axes = [axis % rank for axis in site.operator.integers("axes") or range(rank)]
    wanted = {axes.index(axis): size for axis, size in _changed_outputs(site, surgery).items() if axis in axes}
    surgery.sizes(site, 3, wanted)


def _squeeze(site: Site, surgery: _Surgery) -> None:
    """Where all axes of size 1 are squeezed, one that loses channels until one is left is not among them."""
    axes = tuple(axis for axis, size in enumerate(site.input_shape(0)) if size == 1)
    if site.integers("axes", 1) is not None or all(len(kept) > 1 for kept in surgery.cut.axes(site.operator.inputs[0]).values()):
        return
    if site.graph.opset < 13:
        surgery.set_attributes(site, axes=axes)
    else:
        surgery.numbers(site, "axes", 1, axes)


def _recurrent(site: Site, surgery: _Surgery) -> None:
    kept = surgery.kept_input(site, 2, 2)
    if kept is not None and "hidden_size" in site.operator.attributes:
        surgery.set_attributes(site, hidden_size=len(kept))


def _group(site: Site, surgery: _Surgery) -> None:
    kept = surgery.kept_input(site, 0, 1)
    if kept is not None:
        size = site.input_shape(0)[1] // site.operator.integer("num_groups", 1)
        surgery.set_attributes(site, num_groups=len(kept) // size)


def _shuffle(shuffle: Shuffle, surgery: _Surgery) -> None:
    """The channels that are left, in their new order, whatever their number."""
    size = len(shuffle.order)
    left = surgery.cut.kept.get((shuffle.made, shuffle.axis), np.arange(size))
    kept = surgery.cut.kept.get((shuffle.source, shuffle.axis), np.arange(size))
    indices = surgery.constant(moving.positions(kept, size)[shuffle.order[left]], f"{shuffle.made}_order")
    gather = Operator("Gather", (shuffle.source, indices), (shuffle.made,), attributes_of(axis=shuffle.axis))
    first, second, last = shuffle.numbers
    edit.replace_operator(surgery.graph, last, gather)
    edit.remove_operators(surgery.graph, [first, second])


def _neighbours(site: Site, surgery: _Surgery) -> None:
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


_REWRITES: Final[Mapping[str, Callable[[Site, _Surgery], None]]] = {
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
