"""LSTM, GRU and RNN, in one direction and in both."""

from typing import Any, Final

from tests.random_graphs.dense import back, computed_in
from tests.random_graphs.maker import HALF, Maker, Scope, Value
from tests.random_graphs.weights import weight

_GATES: Final = {"LSTM": 4, "GRU": 3, "RNN": 1}


def recurrent(maker: Maker, scope: Scope, x: Value) -> Value:
    """(t, n, c) -> (t, n, directions * hidden), or the last state of each direction."""
    steps, n, c = x.shape
    op_type, direction = maker.pick(*_GATES), maker.pick("forward", "reverse", "bidirectional")
    hidden, both = maker.integer(1, 8), 2 if direction == "bidirectional" else 1
    rows = _GATES[op_type] * hidden
    name, dtype = computed_in(maker, scope, x.name, HALF)
    inputs = [name, weight(maker, scope, (both, rows, c), dtype), weight(maker, scope, (both, rows, hidden), dtype)]
    bias, start = maker.chance(), maker.chance(4)
    inputs.append(maker.constant(scope, maker.fill((both, 2 * rows), dtype)) if bias else "")
    inputs += ["", maker.constant(scope, maker.fill((both, n, hidden), dtype)) if start else ""]
    if op_type == "LSTM" and maker.chance(4):
        inputs += ["", maker.constant(scope, maker.fill((both, 3 * hidden), dtype))]
    attributes: dict[str, Any] = {"hidden_size": hidden, "direction": direction}
    if op_type == "GRU" and maker.chance():
        attributes["linear_before_reset"] = 1
    every, last = maker.nodes(scope, op_type, inputs, 2, **attributes)
    maker.features.add(direction)
    if maker.chance(3):
        return back(maker, scope, last, dtype, (both, n, hidden))
    turned = maker.node(scope, "Transpose", [every], perm=[0, 2, 1, 3])
    out = maker.node(scope, "Reshape", [turned, maker.plain(scope, [steps, n, both * hidden])])
    return back(maker, scope, out, dtype, (steps, n, both * hidden))
