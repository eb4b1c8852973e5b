"""The whole graph with channels set to zero instead of removed: what a graph without them has to equal.

Wherever a removed channel shows, a zero is put in its place, and what counts channels (a mean, a normalisation) counts
those that stay alone. The result computes what the smaller graph should, without any size having changed.
"""

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any, Final

import numpy as np

from graphshrink.ir import edit
from graphshrink.ir.graph import Graph
from graphshrink.ir.naming import all_names
from graphshrink.ir.operator import Operator, attributes_of
from graphshrink.ir.tensor import ELEM_TYPES, FLOATING, T
from graphshrink.ir.types import Array
from graphshrink.ops.coupling.analysis import CONTRACTIONS, Couplings
from graphshrink.ops.coupling.base import Site
from graphshrink.ops.coupling.normalising import reduced_axes
from graphshrink.ops.coupling.surgery import Cut, add_constant

_HIDDEN: Final = FLOATING - {T.BFLOAT16}  # which ONNX Runtime has no Where for; what is computed of it is hidden


def masked(couplings: Couplings, cut: Cut, dtypes: Mapping[str, np.dtype[Any]]) -> Graph:
    """A copy of the graph that was analysed, with zeros where channels would be removed.

    Args:
        couplings: of the graph, which has to be as it was.
        cut: what is to stay.
        dtypes: of the values of the graph, by name.
    """
    mask = _Mask(couplings.graph.copy(), couplings, cut, dtypes, all_names(couplings.graph.root))
    for site in couplings.sites.values():
        rewrite = _COUNTING.get(site.operator.op_type)
        if rewrite is not None and site.operator.kind[0] == "":
            rewrite(site, mask)
    for site in couplings.sites.values():
        if site.operator.is_a(*CONTRACTIONS):
            mask.zero_weights(site)
        for name in site.operator.outputs:
            mask.hide(site, name)
    return mask.graph


@dataclass(slots=True)
class _Mask:
    """The graph while zeros are being put in."""

    graph: Graph
    couplings: Couplings
    cut: Cut
    dtypes: Mapping[str, np.dtype[Any]]
    names: set[str]

    def fresh(self, stem: str) -> str:
        """A name that nothing has yet."""
        name, number = stem, 0
        while name in self.names:
            number += 1
            name = f"{stem}_{number}"
        self.names.add(name)
        return name

    def constant(self, array: Array, stem: str) -> str:
        """A new initializer."""
        name = self.fresh(stem)
        add_constant(self.graph, array, name)
        return name

    def stays(self, name: str) -> Array | None:
        """Booleans to broadcast to a value, true where it stays; None where all of it does."""
        axes = self.cut.axes(name)
        shape = self.couplings.numbering.shapes.get(name, ())
        whole: Array | None = None
        for axis, kept in axes.items():
            along = np.zeros(shape[axis], np.bool_)
            along[kept] = True
            along = along.reshape([-1 if a == axis else 1 for a in range(len(shape))])
            whole = along if whole is None else whole & along
        return whole

    def share(self, name: str, axes: tuple[int, ...]) -> float:
        """By how much a mean over some axes of a value is too small, since zeros are counted."""
        shape = self.couplings.numbering.shapes[name]
        kept = (self.cut.kept.get((name, axis % len(shape))) for axis in axes)
        pairs = zip(axes, kept, strict=True)
        return math.prod(shape[axis] / len(left) for axis, left in pairs if left is not None)

    def hide(self, site: Site, name: str) -> None:
        """Put zeros behind the operator that makes a value of numbers."""
        stays = self.stays(name) if name else None
        dtype = self.dtypes.get(name)
        if stays is None or dtype is None or ELEM_TYPES.get(dtype) not in _HIDDEN:
            return
        number = self.graph.producer(name)
        if number is None:
            return
        raw = self.fresh(f"{name}_raw")
        operator = self.graph.operator(number)
        outputs = tuple(raw if output == name else output for output in operator.outputs)
        edit.replace_operator(self.graph, number, replace(operator, outputs=outputs))
        zero = self.constant(np.zeros((), dtype), f"{name}_zero")
        hiding = Operator("Where", (self.constant(stays, f"{name}_stays"), raw, zero), (name,))
        edit.add_operator(self.graph, hiding, self.graph.order.index(number) + 1)

    def zero_weights(self, site: Site) -> None:
        """Removed channels of weights: recurrent operators show none of theirs, and products of weights need them."""
        for name in site.operator.inputs:
            stays = self.stays(name) if name else None
            tensor = self.graph.constant(name) if stays is not None else None
            if stays is not None and tensor is not None:
                zero = np.zeros((), tensor.array.dtype)
                edit.set_constant(self.graph, name, tensor.with_array(np.where(stays, tensor.array, zero)))


def _mean(site: Site, mask: _Mask) -> None:
    axes = reduced_axes(site)
    share = mask.share(site.operator.inputs[0], axes) if axes else 1.0
    if share == 1:
        return
    made = site.operator.outputs[0]
    raw = mask.fresh(f"{made}_mean")
    operator = mask.graph.operator(site.number)
    edit.replace_operator(mask.graph, site.number, replace(operator, outputs=(raw,)))
    factor = mask.constant(np.array(share, mask.dtypes[made]), f"{made}_share")
    position = mask.graph.order.index(site.number) + 1
    edit.add_operator(mask.graph, Operator("Mul", (raw, factor), (made,)), position)


def _layer(site: Site, mask: _Mask) -> None:
    """A normalisation, spelled out: y = (x - mean) / sqrt(variance + epsilon) * scale + bias, or without the mean."""
    source, made = site.operator.inputs[0], site.operator.outputs[0]
    rank = len(site.input_shape(0))
    axes = tuple(range(site.operator.integer("axis", -1) % rank, rank))
    stays = mask.stays(source)
    if stays is None or mask.share(source, axes) == 1:
        return
    spelled = _Spelled(mask, made, mask.dtypes[made], axes, mask.share(source, axes), site.graph.opset)
    centred = source
    if site.operator.op_type == "LayerNormalization":
        away = spelled.add("Sub", source, spelled.mean(source))
        centred = spelled.add("Where", mask.constant(stays, f"{made}_where"), away, spelled.number(0.0))
    variance = spelled.mean(spelled.add("Mul", centred, centred))
    epsilon = spelled.number(site.operator.real("epsilon", 1e-5))
    deviation = spelled.add("Sqrt", spelled.add("Add", variance, epsilon))
    last = spelled.add("Div", centred, deviation)
    terms = [name for name in site.operator.inputs[1:3] if name]
    for op_type, name in zip(("Mul", "Add"), terms, strict=False):
        last = spelled.add(op_type, last, name)
    spelled.operators.append(Operator("Identity", (last,), (made,)))
    position = mask.graph.order.index(site.number)
    edit.remove_operators(mask.graph, [site.number])
    edit.add_operators(mask.graph, spelled.operators, position)


class _Spelled:
    """Operators that spell another one out."""

    def __init__(
        self, mask: _Mask, stem: str, dtype: np.dtype[Any], axes: tuple[int, ...], share: float, opset: int
    ) -> None:
        self.operators: list[Operator] = []
        self._mask = mask
        self._stem = stem
        self._dtype = dtype
        self._axes = axes
        self._share = share
        self._opset = opset

    def add(self, op_type: str, *inputs: str, **attributes: int | tuple[int, ...]) -> str:
        """One more; returns the name of its output."""
        name = self._mask.fresh(f"{self._stem}_{op_type.lower()}")
        self.operators.append(Operator(op_type, inputs, (name,), attributes_of(**attributes)))
        return name

    def number(self, value: float) -> str:
        """A constant of the type of the values."""
        return self._mask.constant(np.array(value, self._dtype), f"{self._stem}_number")

    def mean(self, name: str) -> str:
        """Over the axes, of those that stay."""
        if self._opset < 18:
            found = self.add("ReduceMean", name, axes=self._axes)
        else:
            found = self.add("ReduceMean", name, self._mask.constant(np.array(self._axes, np.int64), f"{name}_axes"))
        return self.add("Mul", found, self.number(self._share))


_COUNTING: Final[Mapping[str, Callable[[Site, _Mask], None]]] = {
    "LayerNormalization": _layer,
    "RMSNormalization": _layer,
    "ReduceMean": _mean,
}
"""Standard-domain operator type -> the same, of the channels that stay alone."""
