"""What decoding costs where a model is loaded, predicted from a table and never from a clock.

ONNX Runtime computes every operator of a decode subgraph once, with one thread, and keeps all that it has computed
until everything is; so the memory is the sum over all operators. The times were measured in ONNX Runtime 1.32 on a
server's processor; they tell encodings apart, and say little of other machines.
"""

from collections.abc import Mapping, Sequence
from typing import Final, NamedTuple

from graphshrink.ir.operator import Operator
from graphshrink.ir.types import Array


class Cost(NamedTuple):
    """Of decoding.

    Attributes:
        bytes: of what is computed on the way to the weights.
        seconds: that it takes.
    """

    bytes: int = 0
    seconds: float = 0.0

    def plus(self, other: "Cost") -> "Cost":
        """Both together."""
        return Cost(self.bytes + other.bytes, self.seconds + other.seconds)


_OPERATOR: Final = 25e-6  # seconds, whatever it computes
_ELEMENT: Final = 0.6e-9  # seconds for each element of the result

# Seconds for each element where that is not right.
_ELEMENTS: Final[Mapping[str, float]] = {"Gather": 3e-9, "CumSum": 0.8e-9, "Transpose": 2e-9, "MatMul": 1.2e-9}
_SCATTERED: Final = 9e-9  # seconds for each element that ScatterElements puts in its place
_MULTIPLIED: Final = 0.04e-9  # seconds for each multiplication and addition of MatMul


def cost_of(operator: Operator, inputs: Sequence[Array], results: Sequence[Array]) -> Cost:
    """The cost of one operator."""
    elements = sum(array.size for array in results)
    seconds = _OPERATOR + elements * _ELEMENTS.get(operator.op_type, _ELEMENT)
    if operator.op_type == "ScatterElements":
        seconds += inputs[1].size * _SCATTERED
    if operator.op_type == "MatMul":
        seconds += elements * inputs[0].shape[-1] * _MULTIPLIED
    return Cost(sum(array.nbytes for array in results), seconds)
