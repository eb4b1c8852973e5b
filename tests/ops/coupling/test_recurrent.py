"""LSTM, GRU and RNN: units of both directions, states, peepholes, and the two layouts."""

from typing import Any, Final

import numpy as np
import pytest

from graphshrink.ir.types import Array
from graphshrink.onnx_io.runtime import Runtime
from tests.removing import Case, Shape, case, node

_GATES: Final = {"LSTM": 4, "GRU": 3, "RNN": 1}
SEQUENCE, BATCH, WIDTH, UNITS = 4, 2, 5, 6


def _recurrent(
    op_type: str, *, directions: int = 1, inputs: dict[int, str] | None = None, last: bool = False, **given: Any
) -> Case:
    """x -> recurrent -> its outputs, or its last state, with the directions side by side -> MatMul W2 -> y."""
    rows = _GATES[op_type] * UNITS
    more = dict(sorted((inputs or {}).items()))
    shapes: dict[int, Shape] = {
        3: (directions, 2 * rows),
        5: (directions, BATCH, UNITS),
        6: (directions, BATCH, UNITS),
        7: (directions, 3 * UNITS),
    }
    if given.get("layout"):
        shapes |= {5: (BATCH, directions, UNITS), 6: (BATCH, directions, UNITS)}
    names = ["x", "W", "R", *(more.get(index, "") for index in range(3, max(more, default=2) + 1))]
    constants: dict[str, Shape | Array] = {"W": (directions, rows, WIDTH), "R": (directions, rows, UNITS)}
    constants |= {name: shapes[index] for index, name in more.items() if index in shapes}
    if 4 in more:
        constants[more[4]] = np.array([4, 2], np.int32)
    kind = "forward" if directions == 1 else "bidirectional"
    layer = node(
        op_type,
        names,
        ["", "a"] if last else ["a"],
        hidden_size=UNITS,
        direction=given.pop("direction", kind),
        **{name: value for name, value in given.items() if name not in ("opset", "ir_version")},
    )
    where = "W.1 R.1 R.2 " + "".join(
        f"{name}.{2 if index in (5, 6) else 1} " for index, name in more.items() if index != 4
    )
    rest = {name: value for name, value in given.items() if name in ("opset", "ir_version")}
    x = (BATCH, SEQUENCE, WIDTH) if given.get("layout") else (SEQUENCE, BATCH, WIDTH)
    nodes = [layer, node("MatMul", ["a", "W2"], ["y"])]
    named = ", ".join(
        [op_type, kind, *more.values(), *(f"{k}={v}" for k, v in given.items()), *(["last"] if last else [])]
    )
    return case(named, nodes, constants | {"W2": (UNITS, 4)}, {f"{where}W2.0": UNITS}, x=x, **rest)


_STACKED: Final = case(
    "two layers of both directions, as torch exports them",
    [
        node("LSTM", ["x", "W", "R", "B"], ["h"], hidden_size=3, direction="bidirectional"),
        node("Transpose", ["h"], ["t"], perm=[0, 2, 1, 3]),
        node("Reshape", ["t", "flat"], ["f"]),
        node("GRU", ["f", "V", "S", "C"], ["g"], hidden_size=4, linear_before_reset=1),
        node("Squeeze", ["g", "one"], ["s"]),
        node("MatMul", ["s", "W2"], ["y"]),
    ],
    {
        "W": (2, 12, 5),
        "R": (2, 12, 3),
        "B": (2, 24),
        "flat": np.array([0, 0, -1]),
        "V": (1, 12, 6),
        "S": (1, 12, 4),
        "C": (1, 24),
        "one": np.array([1]),
        "W2": (4, 2),
    },
    {"W.1 R.1 R.2 B.1 V.2": 3, "V.1 S.1 S.2 C.1 W2.0": 4},
    {"W.2": "an input of the model keeps its shape"},
    x=(4, 2, 5),
)
_STATES: Final = case(
    "states that are computed, and last states that are used",
    [
        node("MatMul", ["z", "V"], ["c"]),
        node("Unsqueeze", ["c", "zero"], ["c0"]),
        node("Tanh", ["c0"], ["h0"]),
        node("LSTM", ["x", "W", "R", "", "", "h0", "c0"], ["a", "hn", "cn"], hidden_size=6),
        node("Add", ["hn", "cn"], ["s"]),
        node("Squeeze", ["s", "zero"], ["q"]),
        node("MatMul", ["q", "W2"], ["y"]),
    ],
    {"V": (3, 6), "zero": np.array([0]), "W": (1, 24, 5), "R": (1, 24, 6), "W2": (6, 4)},
    {"V.1 W.1 R.1 R.2 W2.0": 6},
    x={"x": (4, 2, 5), "z": (2, 3)},
)
_ZEROS: Final = case(
    "states of zeros that are expanded",
    [
        node("Shape", ["x"], ["s"]),
        node("Gather", ["s", "one"], ["n"]),
        node("Concat", ["one", "n", "units"], ["size"], axis=0),
        node("Expand", ["zero", "size"], ["h0"]),
        node("GRU", ["x", "W", "R", "B", "", "h0"], ["", "a"], hidden_size=6),
        node("MatMul", ["a", "W2"], ["y"]),
    ],
    {
        "one": np.array([1]),
        "units": np.array([6]),
        "zero": np.zeros((1, 1, 1), np.float32),
        "W": (1, 18, 5),
        "R": (1, 18, 6),
        "B": (1, 36),
        "W2": (6, 4),
    },
    {"W.1 R.1 R.2 B.1 W2.0": 6},
    x=(4, 2, 5),
)

CASES: Final = [
    *(
        _recurrent(op_type, directions=directions, last=last)
        for op_type in _GATES
        for directions in (1, 2)
        for last in (False, True)
    ),
    *(
        _recurrent(op_type, directions=2, inputs={3: "B", 5: "h0"}, opset=opset)
        for op_type, opset in (("LSTM", 9), ("GRU", 13), ("RNN", 18))
    ),
    _recurrent("LSTM", directions=2, inputs={3: "B", 4: "lengths", 5: "h0", 6: "c0", 7: "P"}),
    _recurrent("LSTM", inputs={7: "P"}, input_forget=1),
    _recurrent("LSTM", direction="reverse", inputs={3: "B"}, clip=0.5),
    _recurrent("GRU", inputs={3: "B"}, linear_before_reset=1),
    _recurrent("GRU", activations=["HardSigmoid", "Softsign"], inputs={3: "B"}),
    _recurrent("RNN", activations=["Sigmoid"], inputs={3: "B", 5: "h0"}),
    _recurrent("LSTM", inputs={3: "B"}, ir_version=3, opset=9),
    _STACKED,
    _STATES,
    _ZEROS,
]


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_recurrent(case: Case, runtime: Runtime) -> None:
    case.holds(runtime)
