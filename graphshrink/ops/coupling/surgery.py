"""A graph while channels are taken out of it: what stays, and the ways in which operators and constants follow."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from typing import Final

import numpy as np

from graphshrink.ir import edit
from graphshrink.ir.graph import Graph
from graphshrink.ir.naming import all_names, named_elsewhere
from graphshrink.ir.operator import Attribute, AttributeType, Operator, attributes_of
from graphshrink.ir.tensor import FilledData, Tensor, tensor_of
from graphshrink.ir.types import Array, TensorType, ValueInfo
from graphshrink.ops.coupling.analysis import Couplings
from graphshrink.ops.coupling.base import Site
from graphshrink.ops.coupling.sizes import Origin, origin_of

_WITHOUT_INPUTS: Final = 4  # IR version from which initializers need not be inputs


@dataclass(frozen=True, slots=True)
class Cut:
    """What is left of axes that lose indices: (value, axis) -> the indices that stay, in order."""

    kept: Mapping[tuple[str, int], Array]

    def axes(self, name: str) -> dict[int, Array]:
        """The axes of a value that lose indices."""
        return {axis: kept for (value, axis), kept in self.kept.items() if value == name}


@dataclass(slots=True)
class Surgery:
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
