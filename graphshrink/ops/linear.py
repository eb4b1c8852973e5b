"""Gemm and MatMul."""

import math

from graphshrink.ir.operator import Operator
from graphshrink.ops.base import Rule, Shapes


def _gemm_axis(operator: Operator, index: int, rank: int) -> int | None:
    transposed = operator.integer("transB" if index == 1 else "transA", 0) != 0
    return {0: int(transposed), 1: int(not transposed)}.get(index)


def _gemm_macs(operator: Operator, inputs: Shapes, outputs: Shapes) -> int | None:
    a, result = inputs[0], outputs[0]
    if a is None or result is None or len(a) != 2:
        return None
    return math.prod(result) * a[0 if operator.integer("transA", 0) else 1]


def _matmul_axis(operator: Operator, index: int, rank: int) -> int | None:
    if rank < 2 or index > 1:
        return None
    return rank - 1 if index == 1 else rank - 2


def _matmul_macs(operator: Operator, inputs: Shapes, outputs: Shapes) -> int | None:
    a, result = inputs[0], outputs[0]
    return None if not a or result is None else math.prod(result) * a[-1]


GEMM = Rule(_gemm_axis, _gemm_macs)
MATMUL = Rule(_matmul_axis, _matmul_macs)
