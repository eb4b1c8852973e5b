"""LSTM, GRU and RNN: weights W (directions, gates * hidden, inputs) and R (directions, gates * hidden, hidden)."""

import math

from graphshrink.ir.operator import Operator
from graphshrink.ops.base import Rule, Shapes


def _macs(operator: Operator, inputs: Shapes, outputs: Shapes) -> int | None:
    sequence, w, r = inputs[0], inputs[1], inputs[2]
    if sequence is None or w is None or r is None or len(sequence) != 3:
        return None
    return sequence[0] * sequence[1] * (math.prod(w) + math.prod(r))


RECURRENT = Rule(lambda operator, index, rank: 1 if index in (1, 2) else None, _macs)
