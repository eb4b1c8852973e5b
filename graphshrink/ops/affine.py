"""The linear problem behind a layer: its outputs as rows of unfolded inputs times a matrix of weights.

    y = operator(x, w)    ⇒    targets(y)  =  rows(x) @ matrix(w)  +  what the operator adds
                              (groups, P, M)  (groups, P, N)  (groups, N, M)

A sample has a row for each of its places: the pixels of a convolution's output, the words of a sentence. There may be
a great many, and neighbours say nearly the same, so callers name the places that they want, alike for x and y.
"""

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Final, NamedTuple

import numpy as np

from graphshrink.ir.operator import Operator
from graphshrink.ir.tensor import FLOATING
from graphshrink.ir.types import Array
from graphshrink.ir.weight import Weight, WeightUse
from graphshrink.ops.form import Form
from graphshrink.ops.lookup import Lookup
from graphshrink.ops.moving import Moved, moved
from graphshrink.ops.products import Product
from graphshrink.ops.states import Contribution
from graphshrink.ops.unfolding import Unfolding

PLACES: Final = 10
"""Of one sample: as many as He et al. 2017 (arXiv:1707.06168) take of an image."""


class Added(NamedTuple):
    """What an operator adds to its product: an input of it, times a number."""

    name: str
    factor: float


@dataclass(frozen=True, slots=True)
class Affine:
    """One use of a weight as a linear problem.

    Attributes:
        use: where.
        input: name of the value that is multiplied.
        output: name of the result; empty where it is no value of the graph, but lies within the operator.
        form: rows, targets, and the matrix of the weight as the operator sees it.
        added: what the operator adds by itself.
        way: from the stored tensor to what the operator sees.
    """

    use: WeightUse
    input: str
    output: str
    form: Form
    added: Added | None
    way: Moved

    def matrix(self, stored: Array) -> Array:
        """(groups, N, M): the weights of each output in a column."""
        return self.form.matrix(self.way.forth(stored))

    def stored(self, matrix: Array) -> Array:
        """The inverse of `matrix`."""
        return self.way.back(self.form.array(matrix))


def affine(weight: Weight, use: WeightUse) -> Affine | str:
    """The linear problem behind a use of a weight; or why there is none."""
    operator = use.operator
    form_of = _FORMS.get(operator.op_type) if operator.is_a(*_FORMS) else None
    if form_of is None:
        return f"{operator.op_type} is no product of its input and a weight"
    if any(a.reference is not None for a in operator.attributes.values()):
        return f"{operator.op_type} takes attributes from the function around it"
    if weight.tensor.elem_type not in FLOATING:
        return "not of a floating type"
    way = moved(weight, use)
    if isinstance(way, str):
        return way
    form = form_of(operator, use.index, way.seen)
    if isinstance(form, str):
        return form
    if isinstance(form, Contribution):
        data = operator.outputs[0] if form.of_states else operator.inputs[0]
        return Affine(use, data, "", form, None, way) if data else "the states that it is multiplied with have no name"
    data = operator.inputs[1 - use.index]
    if isinstance(form, Lookup):
        return Affine(use, data, "", form, None, way)
    if data == operator.inputs[use.index]:
        return "it is multiplied with itself"
    return Affine(use, data, operator.outputs[0], form, _added(operator), way)


def places(form: Form, shape: tuple[int, ...], first: int, seed: int, most: int = PLACES) -> Array:
    """(samples, K) numbers of places, in rising order, at most so many a sample.

    Args:
        form: of the layer.
        shape: of its input.
        first: number of the first sample among all there are; a sample's places depend on its number alone.
        seed: of the choice.
        most: places of a sample.
    """
    samples, there = form.places(shape)
    if there <= most:
        return np.broadcast_to(np.arange(there), (samples, there))
    chosen = [
        np.sort(np.random.default_rng([seed, first + i]).choice(there, most, replace=False)) for i in range(samples)
    ]
    return np.array(chosen, np.intp).reshape(samples, most)


# ---- operators


def _product(operator: Operator, index: int, seen: tuple[int, ...]) -> Form | str:
    if index > 1:
        return f"input {index} of {operator.op_type} is no weight matrix"
    if len(seen) < 2:
        return f"a vector as input {index} of {operator.op_type}"
    if 1 in seen[:-2] and math.prod(seen[:-2]) > 1:
        return "a stack of matrices that is broadcast"
    left = index == 0
    return Product(seen, turns_x=left, turns_y=left, turns_w=left)


def _gemm(operator: Operator, index: int, seen: tuple[int, ...]) -> Form | str:
    if index > 1 or len(seen) != 2:
        return f"input {index} of Gemm of rank {len(seen)} is no weight matrix"
    turned = operator.integer("transA", 0) != 0, operator.integer("transB", 0) != 0
    left = index == 0
    return Product(
        seen,
        turns_x=turned[1 - index] != left,
        turns_y=left,
        turns_w=turned[index] != left,
        factor=operator.real("alpha", 1.0),
        rank=2,
    )


def _convolution(operator: Operator, index: int, seen: tuple[int, ...]) -> Form | str:
    if index != 1 or len(seen) < 3:
        return f"input {index} of {operator.op_type} of rank {len(seen)} is no kernel"
    axes = len(seen) - 2
    transposed = operator.op_type == "ConvTranspose"
    groups = operator.integer("group", 1)
    if groups < 1 or seen[0] % groups:
        return f"{seen[0]} channels do not divide into {groups} groups"
    pads = operator.integers("pads") or (0,) * (2 * axes)
    given = {name: operator.integers(name) or (1,) * axes for name in ("strides", "dilations")}
    extra = operator.integers("output_padding") or (0,) * axes
    if len(pads) != 2 * axes or any(len(numbers) != axes for numbers in (*given.values(), extra)):
        return f"attributes of {operator.op_type} do not fit its kernel"
    automatic = operator.attributes.get("auto_pad")
    how: Any = automatic.value if automatic is not None else b"NOTSET"
    return Unfolding(
        seen,
        groups,
        given["strides"],
        given["dilations"],
        pads,
        how if isinstance(how, bytes) else b"NOTSET",
        transposed,
        extra,
        operator.integers("output_shape"),
    )


def _lookup(operator: Operator, index: int, seen: tuple[int, ...]) -> Form | str:
    axis = operator.integer("axis", 0)
    if index != 0 or len(seen) < 2 or axis not in (0, -len(seen)):
        return f"input {index} of Gather along axis {axis} is no table of rows"
    return Lookup(seen)


_REVERSE: Final[Mapping[object, tuple[bool, ...]]] = {
    b"forward": (False,),
    b"reverse": (True,),
    b"bidirectional": (False, True),
}


def _recurrent(operator: Operator, index: int, seen: tuple[int, ...]) -> Form | str:
    direction = operator.attributes.get("direction")
    reverse = _REVERSE.get(b"forward" if direction is None else direction.value)
    if index not in (1, 2) or len(seen) != 3 or reverse is None or len(reverse) != seen[0]:
        return f"input {index} of {operator.op_type} of rank {len(seen)} is no weight matrix"
    return Contribution(seen, index == 2, operator.integer("layout", 0) != 0, reverse)


_FORMS: Final[Mapping[str, Callable[[Operator, int, tuple[int, ...]], Form | str]]] = {
    "Conv": _convolution,
    "ConvTranspose": _convolution,
    "GRU": _recurrent,
    "Gather": _lookup,
    "Gemm": _gemm,
    "LSTM": _recurrent,
    "MatMul": _product,
    "RNN": _recurrent,
}


def _added(operator: Operator) -> Added | None:
    if operator.op_type == "MatMul" or len(operator.inputs) < 3 or not operator.inputs[2]:
        return None
    return Added(operator.inputs[2], operator.real("beta", 1.0) if operator.op_type == "Gemm" else 1.0)
