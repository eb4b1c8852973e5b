"""What becomes of a layer's output on the way to its activation: biases, normalisation, residual sums.

    y = Conv(x, w) ──▶ BatchNormalization ──▶ Add skip ──▶ Relu      ⇒      z = scale * y + shifts + skip,  flat below 0

All of it is one number times the output and something added, for each channel. So a layer may be solved for z without
the graph being changed: weights `scale * w` in, and back out divided by the scale.
"""

from collections.abc import Callable, Collection, Iterator, Mapping
from dataclasses import dataclass, field, replace
from typing import Final, NamedTuple

import numpy as np

from graphshrink.ir.extract import dynamic_operators
from graphshrink.ir.graph import CAPTURE, Graph
from graphshrink.ir.operator import Operator
from graphshrink.ir.types import Array
from graphshrink.ops.activation import Saturation, saturation
from graphshrink.ops.affine import Affine
from graphshrink.ops.form import Form


class Term(NamedTuple):
    """A value that is added, times a number for each channel (width,)."""

    name: str
    factor: Array


@dataclass(frozen=True, slots=True)
class Following:
    """z = scale * y + shifts + skips.

    Attributes:
        end: name of the value z.
        scale: (width,), float64.
        shifts: constants with one number for each channel, or one for all.
        skips: other values, constant or not, to be broadcast to the shape of y.
        activation: what is done to z, by name; None where z is used in other ways.
        saturation: where the activation is flat.
    """

    end: str
    scale: Array
    shifts: tuple[Term, ...] = ()
    skips: tuple[Term, ...] = ()
    activation: str | None = None
    saturation: Saturation = field(default_factory=Saturation)

    def times(self, factor: Array, end: str) -> "Following":
        """With z multiplied by a number for each channel."""

        def scaled(terms: tuple[Term, ...]) -> tuple[Term, ...]:
            return tuple(Term(name, old * factor) for name, old in terms)

        return replace(self, end=end, scale=self.scale * factor, shifts=scaled(self.shifts), skips=scaled(self.skips))

    def plus(self, graph: Graph, form: Form, name: str, factor: Array) -> "Following":
        """With a value added to z."""
        if _vector(graph, form, name) is not None:
            return replace(self, shifts=(*self.shifts, Term(name, factor)))
        return replace(self, skips=(*self.skips, Term(name, factor)))


def following(graph: Graph, layer: Affine, dynamic: Collection[int] | None = None) -> Following:
    """Follow the output of a layer until it meets its activation, or something that is not understood.

    Args:
        graph: a main graph.
        layer: the layer.
        dynamic: the operators that depend on the graph's inputs, where they are known already.
    """
    dynamic = dynamic_operators(graph) if dynamic is None else dynamic
    found = beginning(graph, layer)
    for _, further in steps(graph, layer.form, found):
        if not all(_is_seen(graph, term.name, dynamic) for term in further.skips):
            break
        found = further
    flat = _activation(graph, found.end) if found.end else None
    return found if flat is None else replace(found, activation=flat[0], saturation=flat[1])


def beginning(graph: Graph, layer: Affine) -> Following:
    """The output of a layer, with what its operator adds by itself."""
    one = np.ones(layer.form.width)
    found = Following(layer.output, one)
    if layer.added is None or not layer.output:
        return found
    return found.plus(graph, layer.form, layer.added.name, one * layer.added.factor)


def steps(graph: Graph, form: Form, found: Following) -> Iterator[tuple[int, Following]]:
    """The operators behind a layer, up to its activation, each with what z is behind it."""
    while found.end and _activation(graph, found.end) is None:  # what becomes of it within an operator is not followed
        number = _only_user(graph, found.end)
        step = _STEPS.get(graph.operator(number).op_type) if number is not None else None
        if number is None or step is None or graph.operator(number).kind[0] != "":
            return
        further = step(graph, form, graph.operator(number), found)
        if further is None:
            return
        yield number, further
        found = further


def _is_seen(graph: Graph, name: str, dynamic: Collection[int]) -> bool:
    """Whether a value is a constant as it stands, finite, or is computed from the inputs on every run."""
    tensor = graph.constant(name)
    if tensor is not None:
        return bool(np.isfinite(tensor.array).all())
    producer = graph.producer(name)
    return producer is None or producer in dynamic


def channel_vector(graph: Graph, form: Form, name: str) -> Array:
    """(width,) float64: a constant with a number for each channel, or one for all."""
    vector = _vector(graph, form, name)
    assert vector is not None
    return vector


def _vector(graph: Graph, form: Form, name: str) -> Array | None:
    tensor = graph.constant(name)
    if tensor is None or tensor.size not in (1, form.width):
        return None
    if tensor.size == 1:
        return np.full(form.width, tensor.array.reshape(-1)[0], np.float64)
    # Conv's own bias is a mere vector; everything else is broadcast from the last axis.
    own = len(tensor.dims) == 1 and _is_own_bias(graph, name)
    if not own and (len(tensor.dims) < -form.channel_axis or tensor.dims[form.channel_axis] != form.width):
        return None
    return tensor.array.reshape(-1).astype(np.float64)


def _is_own_bias(graph: Graph, name: str) -> bool:
    """Whether all uses of a vector are as a parameter of operators that have one for each channel."""
    return all(
        graph.operator(use.operator).is_a("Conv", "ConvTranspose", "BatchNormalization") for use in graph.uses(name)
    )


def _only_user(graph: Graph, value: str) -> int | None:
    uses = graph.uses(value)
    if len(uses) != 1 or uses[0].input == CAPTURE or any(info.name == value for info in graph.outputs):
        return None
    return uses[0].operator


# ---- activations, also behind operators that change nothing in single numbers, and behind the largest of several

_IN_BETWEEN: Final = frozenset({"MaxPool", "Flatten", "Reshape", "Transpose", "Identity", "Squeeze", "Unsqueeze"})


def _activation(graph: Graph, value: str) -> tuple[str, Saturation] | None:
    """Relu(MaxPool(z)) = MaxPool(Relu(z)), and so for everything that rises, or is flat where z is small."""
    while True:
        found = saturation(graph, value)
        number = _only_user(graph, value)
        if found is not None or number is None:
            return found
        operator = graph.operator(number)
        if not operator.is_a(*_IN_BETWEEN) or operator.inputs[0] != value or any(operator.outputs[1:]):
            return None
        value = operator.outputs[0]


# ---- steps on the way

_INFERENCE_SINCE: Final = 7  # opset: before, BatchNormalization trains by default

_Step = Callable[[Graph, Form, Operator, Following], Following | None]


def _other(operator: Operator, value: str) -> str:
    return operator.inputs[1 - operator.inputs.index(value)]


def _add(graph: Graph, form: Form, operator: Operator, before: Following) -> Following:
    one = np.ones(form.width)
    return replace(before.plus(graph, form, _other(operator, before.end), one), end=operator.outputs[0])


def _subtract(graph: Graph, form: Form, operator: Operator, before: Following) -> Following:
    one = np.ones(form.width)
    if operator.inputs[0] == before.end:
        return replace(before.plus(graph, form, operator.inputs[1], -one), end=operator.outputs[0])
    return before.times(-one, operator.outputs[0]).plus(graph, form, operator.inputs[0], one)


def _multiply(graph: Graph, form: Form, operator: Operator, before: Following) -> Following | None:
    vector = _vector(graph, form, _other(operator, before.end))
    return None if vector is None else before.times(vector, operator.outputs[0])


def _divide(graph: Graph, form: Form, operator: Operator, before: Following) -> Following | None:
    vector = _vector(graph, form, operator.inputs[1]) if operator.inputs[0] == before.end else None
    return None if vector is None or not np.all(vector) else before.times(1.0 / vector, operator.outputs[0])


def _normalize(graph: Graph, form: Form, operator: Operator, before: Following) -> Following | None:
    """Batch normalisation in inference, which takes the second axis for the channels."""
    if form.rank is None or form.channel_axis != 1 - form.rank or operator.inputs[0] != before.end:
        return None
    if graph.opset < _INFERENCE_SINCE:
        return None
    if operator.integer("training_mode", 0) or operator.integer("spatial", 1) != 1 or any(operator.outputs[1:]):
        return None
    vectors = [_vector(graph, form, name) for name in operator.inputs[1:5]]
    if len(vectors) != 4:
        return None
    gain, offset, mean, variance = vectors
    if gain is None or offset is None or mean is None or variance is None:
        return None
    factor = gain / np.sqrt(variance + operator.real("epsilon", 1e-5))
    if not np.isfinite(factor).all():
        return None
    scaled = before.times(factor, operator.outputs[0])
    return replace(
        scaled,
        shifts=(*scaled.shifts, Term(operator.inputs[2], np.ones(form.width)), Term(operator.inputs[3], -factor)),
    )


def _pass_on(graph: Graph, form: Form, operator: Operator, before: Following) -> Following | None:
    return None if any(operator.outputs[1:]) or len(operator.inputs) > 2 else replace(before, end=operator.outputs[0])


_STEPS: Final[Mapping[str, _Step]] = {
    "Add": _add,
    "BatchNormalization": _normalize,
    "Div": _divide,
    "Dropout": _pass_on,
    "Identity": _pass_on,
    "Mul": _multiply,
    "Sub": _subtract,
}
