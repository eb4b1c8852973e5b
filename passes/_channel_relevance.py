"""Layer-wise relevance propagation: how much each channel has to do with what the model says.

Bach et al. 2015 (PLoS ONE 10(7)), as a criterion for channels by Yeom et al. 2021, arXiv:1912.08881. What an output is
worth is handed back through the model, from every value to those that it is made of, in proportion to what they add:

    z = sum_i x_i w_i        R_i = x_i * w_i * R / (z + epsilon * sign(z))

The rules are operators that are added to the model, so that ONNX Runtime works them out. What is not known hands on
nothing.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Final, TypeAlias

import numpy as np

from graphshrink.calibration.engine import Calibration
from graphshrink.ir.graph import Graph
from graphshrink.ir.types import Array
from graphshrink.ops.coupling import elementwise
from graphshrink.ops.coupling.analysis import Couplings, Group
from graphshrink.ops.coupling.base import Site
from graphshrink.ops.coupling.normalising import reduced_axes
from graphshrink.ops.gradient.base import OLDEST, Writer

_EPSILON: Final = 1e-6
_FLOAT: Final = np.dtype(np.float32)


def relevances(couplings: Couplings, groups: Sequence[Group], calibration: Calibration) -> dict[Group, Array]:
    """(channels,) of each group: the sum of |R| over samples and places; groups that nothing is known of are left out.

    Raises:
        CalibrationError, JudgeError: as for `Calibration.batches`.
    """
    graph = couplings.graph
    if graph.opset < OLDEST:
        return {}
    backward = _Backward(graph.copy(), couplings)
    relevance = backward.build()
    places = {group: place for group in groups if (place := _place(group, graph, relevance)) is not None}
    wanted = sorted({relevance[name] for name, _ in places.values()})
    found = {group: np.zeros(group.size) for group in places}
    for values in calibration.batches(backward.graph, wanted) if wanted else ():
        for group, (name, axis) in places.items():
            array = np.abs(values[relevance[name]].astype(np.float64))
            along = array.sum(axis=tuple(a for a in range(array.ndim) if a != axis))
            owner = group.blocks[name, axis].owner
            np.add.at(found[group], owner[owner >= 0], along[owner >= 0])
    return found


def _place(group: Group, graph: Graph, relevance: Mapping[str, str]) -> tuple[str, int] | None:
    """The last value that shows all channels of a group, and whose relevance is known."""
    seen = [
        place
        for place, block in group.blocks.items()
        if place[0] in relevance and graph.producer(place[0]) is not None
        if len(np.unique(block.owner[block.owner >= 0])) == group.size
    ]
    return seen[-1] if seen else None


class _Backward(Writer):
    """The model with the rules added to it.

    Args:
        graph: it.
        couplings: of the model as it was.

    Attributes:
        parts: for each value, the names of what its users hand back.
    """

    def __init__(self, graph: Graph, couplings: Couplings) -> None:
        super().__init__(graph, "relevance")
        self.couplings = couplings
        self.parts: dict[str, list[str]] = {}

    def build(self) -> dict[str, str]:
        """Add the rules; the name of the relevance of each value that has one."""
        sites = list(self.couplings.sites.values())
        found: dict[str, str] = {}
        for info in self.graph.outputs:
            if self._is_number(info.name, sites):
                self.parts[info.name] = [self._start(info.name)]
        for site in reversed(sites):
            for name in site.operator.outputs:
                if name and self.parts.get(name):
                    found[name] = self._sum(self.parts[name])
            rule = _RULES.get(site.operator.op_type) if site.operator.kind[0] == "" else None
            made = site.operator.outputs[0] if site.operator.outputs else ""
            if rule is None or made not in found or not all(site.has_output(i) for i in range(len(site.outputs))):
                continue
            for index, part in rule(self, site, found[made]).items():
                self.parts.setdefault(site.operator.inputs[index], []).append(part)
        return found

    def divided(self, relevance: str, z: str) -> str:
        """R / (z + epsilon * sign(z)), where a zero counts as positive."""
        zero, small = self.number(0.0, _FLOAT), self.number(_EPSILON, _FLOAT)
        sign = self.add("Where", self.add("Less", z, zero), self.number(-_EPSILON, _FLOAT), small)
        return self.add("Div", relevance, self.add("Add", z, sign))

    def _start(self, name: str) -> str:
        """The largest output along the last axis alone: what the model says."""
        most = self.reduced("ReduceMax", name, (-1,))
        return self.add("Where", self.add("Less", name, most), self.number(0.0, _FLOAT), name)

    def _sum(self, parts: Sequence[str]) -> str:
        return parts[0] if len(parts) == 1 else self.add("Sum", *parts)

    def _is_number(self, name: str, sites: Sequence[Site]) -> bool:
        shape = self.couplings.numbering.shapes.get(name)
        return shape is not None and len(shape) > 0


# ---- rules: (model, operator, name of the relevance of its output) -> index of an input -> name of what it gets

_Rule: TypeAlias = Callable[[_Backward, Site, str], dict[int, str]]


def _shares(model: _Backward, site: Site, relevance: str, index: int, back: Callable[[str], str]) -> dict[int, str]:
    """R_x = x * back(R / z), where `back` is the transposed operator."""
    source, made = site.operator.inputs[index], site.operator.outputs[0]
    return {index: model.add("Mul", source, back(model.divided(relevance, made)))}


def _convolution(model: _Backward, site: Site, relevance: str) -> dict[int, str]:
    operator, x, y, w = site.operator, site.input_shape(0), site.output_shape(0), site.input_shape(1)
    axes = len(w) - 2
    strides, dilations = (operator.integers(name) or (1,) * axes for name in ("strides", "dilations"))
    pads = operator.integers("pads") or (0,) * (2 * axes)
    automatic = operator.attributes.get("auto_pad")
    if automatic is not None and automatic.value not in (b"NOTSET", b"VALID"):
        return {}
    spans = [(y[2 + a] - 1) * strides[a] + dilations[a] * (w[2 + a] - 1) + 1 for a in range(axes)]
    extra = tuple(x[2 + a] - spans[a] + pads[a] + pads[a + axes] for a in range(axes))
    if any(not 0 <= e < max(s, d) for e, s, d in zip(extra, strides, dilations, strict=True)):
        return {}

    def back(value: str) -> str:
        return model.add(
            "ConvTranspose", value, operator.inputs[1], strides=strides, dilations=dilations, pads=pads,
            group=operator.integer("group", 1), output_padding=extra,
        )  # fmt: skip

    return _shares(model, site, relevance, 0, back)


def _gemm(model: _Backward, site: Site, relevance: str) -> dict[int, str]:
    operator = site.operator
    if operator.integer("transA", 0) or operator.real("alpha", 1.0) != 1.0:
        return {}
    turned = 0 if operator.integer("transB", 0) else 1
    return _shares(model, site, relevance, 0, lambda value: model.add("Gemm", value, operator.inputs[1], transB=turned))


def _matmul(model: _Backward, site: Site, relevance: str) -> dict[int, str]:
    shape = site.input_shape(1)
    if site.graph.constant(site.operator.inputs[1]) is None or len(shape) != 2:
        return {}
    turned = model.add("Transpose", site.operator.inputs[1], perm=(1, 0))
    return _shares(model, site, relevance, 0, lambda value: model.add("MatMul", value, turned))


def _added(model: _Backward, site: Site, relevance: str) -> dict[int, str]:
    """Every term its share; constants keep theirs."""
    divided = model.divided(relevance, site.operator.outputs[0])
    same = [index for index in range(len(site.inputs)) if site.inputs[index] == site.outputs[0]]
    moving = [index for index in same if site.graph.constant(site.operator.inputs[index]) is None]
    return {index: model.add("Mul", site.operator.inputs[index], divided) for index in moving}


def _passed(model: _Backward, site: Site, relevance: str) -> dict[int, str]:
    """Activations, normalisations by channel, and whatever multiplies."""
    moving = [
        index
        for index in range(len(site.inputs))
        if site.inputs[index] == site.outputs[0] and site.graph.constant(site.operator.inputs[index]) is None
    ]
    return {moving[0]: relevance} if moving else {}


def _moved(model: _Backward, site: Site, relevance: str) -> dict[int, str]:
    return {0: model.like(relevance, site.operator.inputs[0])}


def _transposed(model: _Backward, site: Site, relevance: str) -> dict[int, str]:
    rank = len(site.input_shape(0))
    order = site.operator.integers("perm") or tuple(reversed(range(rank)))
    return {0: model.add("Transpose", relevance, perm=tuple(map(int, np.argsort(order))))}


def _concatenated(model: _Backward, site: Site, relevance: str) -> dict[int, str]:
    axis = site.operator.integer("axis", 1)
    found: dict[int, str] = {}
    start = 0
    for index in range(len(site.inputs)):
        size = site.input_shape(index)[axis]
        bounds = [model.constant(np.array([n], np.int64)) for n in (start, start + size, axis)]
        found[index] = model.add("Slice", relevance, *bounds)
        start += size
    return found


def _averaged(model: _Backward, site: Site, relevance: str) -> dict[int, str]:
    """Means over places: each place its share of the sum."""
    source = site.operator.inputs[0]
    axes = (
        tuple(range(2, len(site.input_shape(0)))) if site.operator.op_type.startswith("Global") else reduced_axes(site)
    )
    if axes is None:
        return {}
    kept = model.constant(np.array(axes, np.int64))
    total = model.add("ReduceSum", source, kept, keepdims=1)
    share = model.divided(model.like(relevance, total), total)
    return {0: model.add("Mul", source, share)}


def _pooled(model: _Backward, site: Site, relevance: str) -> dict[int, str]:
    """Every place of a window its share of the window's sum, for maxima too."""
    operator, x, y = site.operator, site.input_shape(0), site.output_shape(0)
    kernel = operator.integers("kernel_shape") or ()
    axes, channels = len(kernel), x[1]
    strides = operator.integers("strides") or (1,) * axes
    pads = operator.integers("pads") or (0,) * (2 * axes)
    extra = tuple(x[2 + a] - (y[2 + a] - 1) * strides[a] - kernel[a] + pads[a] + pads[a + axes] for a in range(axes))
    if "auto_pad" in operator.attributes or any(not 0 <= e < s for e, s in zip(extra, strides, strict=True)):
        return {}
    ones = model.constant(np.ones((channels, 1, *kernel), np.float32))
    total = model.add("Conv", operator.inputs[0], ones, strides=strides, pads=pads, group=channels)
    share = model.divided(relevance, total)
    back = model.add("ConvTranspose", share, ones, strides=strides, pads=pads, group=channels, output_padding=extra)
    return {0: model.add("Mul", operator.inputs[0], back)}


_RULES: Final[Mapping[str, _Rule]] = {
    **dict.fromkeys(elementwise.NAMES, _passed),
    "Add": _added,
    "AveragePool": _pooled,
    "BatchNormalization": _passed,
    "Concat": _concatenated,
    "Conv": _convolution,
    "Dropout": _passed,
    "Flatten": _moved,
    "Gemm": _gemm,
    "GlobalAveragePool": _averaged,
    "GlobalMaxPool": _averaged,
    "LayerNormalization": _passed,
    "MatMul": _matmul,
    "MaxPool": _pooled,
    "ReduceMean": _averaged,
    "Reshape": _moved,
    "Softmax": _passed,
    "Squeeze": _moved,
    "Sub": _added,
    "Sum": _added,
    "Transpose": _transposed,
    "Unsqueeze": _moved,
}
"""Standard-domain operator type -> how what it is worth is handed back."""
