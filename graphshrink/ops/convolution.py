"""Conv and ConvTranspose."""

import math

from graphshrink.ir.operator import Operator
from graphshrink.ops.base import Rule, Shapes


def _conv_macs(operator: Operator, inputs: Shapes, outputs: Shapes) -> int | None:
    kernel, result = inputs[1], outputs[0]
    # The kernel is (out, in / group, ...): every output element sums over all but the first axis.
    return None if kernel is None or result is None else math.prod(result) * math.prod(kernel[1:])


def _transposed_macs(operator: Operator, inputs: Shapes, outputs: Shapes) -> int | None:
    data, kernel = inputs[0], inputs[1]
    # The kernel is (in, out / group, ...): every input element is spread over all but the first axis.
    return None if data is None or kernel is None else math.prod(data) * math.prod(kernel[1:])


CONV = Rule(lambda operator, index, rank: 0 if index == 1 else None, _conv_macs)
CONV_TRANSPOSE = Rule(lambda operator, index, rank: 1 if index == 1 else None, _transposed_macs)
