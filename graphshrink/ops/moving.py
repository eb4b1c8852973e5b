"""From a stored weight to what an operator sees of it, and back: through operators that only move or retype numbers."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Final

import numpy as np

from graphshrink.errors import InternalError
from graphshrink.ir.graph import Graph
from graphshrink.ir.operator import Operator
from graphshrink.ir.types import Array
from graphshrink.ir.weight import Weight, WeightUse


@dataclass(frozen=True, slots=True)
class Moved:
    """A way from a stored tensor to an operator.

    Attributes:
        stored: shape of the tensor.
        seen: shape of what the operator sees.
        order: numbers of the stored elements in the order in which the operator sees them; None where it is the same.
    """

    stored: tuple[int, ...]
    seen: tuple[int, ...]
    order: Array | None

    def forth(self, array: Array) -> Array:
        """What the operator sees of a stored array."""
        flat = array.reshape(-1)
        return (flat if self.order is None else flat[self.order]).reshape(self.seen)

    def back(self, array: Array) -> Array:
        """The stored array of which the operator sees this one."""
        if self.order is None:
            return array.reshape(self.stored)
        flat = np.empty(array.size, array.dtype)
        flat[self.order] = array.reshape(-1)
        return flat.reshape(self.stored)


def moved(weight: Weight, use: WeightUse) -> Moved | str:
    """The way to a use of a weight; or why it cannot be gone back."""
    dims = weight.tensor.dims
    if all(operator.op_type in _KEEPING for operator in use.via):
        return Moved(dims, dims, None)
    order: Array = np.arange(weight.tensor.size).reshape(dims)
    for operator in use.via:
        move = _MOVES.get(operator.op_type)
        if move is None:
            return f"behind {operator.op_type}, which takes it apart"
        try:
            order = move(order, operator, use.graph)
        except (InternalError, ValueError, IndexError, TypeError):  # no constant shape, or a broken model
            return f"behind a {operator.op_type} of a shape that is not known"
    return Moved(dims, order.shape, order.reshape(-1))


_KEEPING: Final = ("Identity", "Cast")


def _same(array: Array, operator: Operator, graph: Graph) -> Array:
    return array


def _transposed(array: Array, operator: Operator, graph: Graph) -> Array:
    return array.transpose(operator.integers("perm") or tuple(reversed(range(array.ndim))))


def _reshaped(array: Array, operator: Operator, graph: Graph) -> Array:
    wanted = _numbers(operator, graph, "shape")
    keeps = operator.integer("allowzero", 0) == 0
    return array.reshape([array.shape[i] if d == 0 and keeps else d for i, d in enumerate(wanted)])


def _flattened(array: Array, operator: Operator, graph: Graph) -> Array:
    axis = operator.integer("axis", 1)
    first = array.shape[:axis]  # a negative axis counts from the end here too
    return array.reshape(int(np.prod(first, dtype=np.int64)), -1)


def _squeezed(array: Array, operator: Operator, graph: Graph) -> Array:
    if len(operator.inputs) < 2 and "axes" not in operator.attributes:
        return array.squeeze()
    return array.squeeze(_numbers(operator, graph, "axes"))


def _unsqueezed(array: Array, operator: Operator, graph: Graph) -> Array:
    return np.expand_dims(array, _numbers(operator, graph, "axes"))


_MOVES: Final[Mapping[str, Callable[[Array, Operator, Graph], Array]]] = {
    "Cast": _same,
    "Flatten": _flattened,
    "Identity": _same,
    "Reshape": _reshaped,
    "Squeeze": _squeezed,
    "Transpose": _transposed,
    "Unsqueeze": _unsqueezed,
}


def _numbers(operator: Operator, graph: Graph, attribute: str) -> tuple[int, ...]:
    """What newer operators take as their second input, and older ones as an attribute."""
    given = operator.integers(attribute)
    if given is not None:
        return given
    tensor = graph.constant(operator.inputs[1]) if len(operator.inputs) > 1 else None
    if tensor is None:
        raise InternalError("not a constant")
    array: Any = tensor.array.reshape(-1)
    return tuple(map(int, array))
