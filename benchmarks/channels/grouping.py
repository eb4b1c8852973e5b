"""How long it takes to find the channels of a graph of 10,000 operators."""

import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any, Final

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from benchmarks.measuring import Request, table
from benchmarks.rows import measured
from graphshrink.calibration.engine import Calibration
from graphshrink.calibration.samples import held
from graphshrink.onnx_io.load import load
from graphshrink.onnx_io.runtime import Runtime
from graphshrink.ops.coupling.analysis import analyse

_SIZES, _SIZES_SHORT = (1_000, 10_000), (200,)
_WIDTH: Final = 8
_PIXELS: Final = 4
_EVERY: Final = 4  # every fourth block concatenates, the others add
_REPEATS: Final = 3
_BAR: Final = 10.0


def chain(nodes: int) -> onnx.ModelProto:
    """Blocks of Conv, BatchNormalization and Relu, twice, whose results are added to or concatenated with their inputs.

    What is concatenated goes through a convolution back to the usual width.
    """
    rng = np.random.default_rng(0)
    made: list[onnx.NodeProto] = []
    weights: list[onnx.TensorProto] = []

    def node(kind: str, inputs: Sequence[str], **attributes: Any) -> str:
        name = f"{kind}_{len(made)}"
        made.append(helper.make_node(kind, list(inputs), [name], name, **attributes))
        return name

    def weight(array: np.ndarray[Any, Any]) -> str:
        weights.append(numpy_helper.from_array(array.astype(np.float32), f"weight_{len(weights)}"))
        return weights[-1].name

    def conv(x: str, width: int) -> str:
        drawn = rng.standard_normal((_WIDTH, width, 3, 3)) / np.sqrt(9 * width)
        y = node("Conv", [x, weight(drawn)], kernel_shape=[3, 3], pads=[1, 1, 1, 1])
        statistics = [weight(array) for array in (np.ones(_WIDTH), *np.zeros((2, _WIDTH)), np.ones(_WIDTH))]
        return node("Relu", [node("BatchNormalization", [y, *statistics])])

    last = conv("x", 3)
    while len(made) < nodes:
        y = conv(conv(last, _WIDTH), _WIDTH)
        concatenates = len(made) // 7 % _EVERY == 0
        last = conv(node("Concat", [last, y], axis=1), 2 * _WIDTH) if concatenates else node("Add", [last, y])
    shapes = {"x": (1, 3, _PIXELS, _PIXELS), last: (1, _WIDTH, _PIXELS, _PIXELS)}
    first, end = (helper.make_tensor_value_info(name, TensorProto.FLOAT, shape) for name, shape in shapes.items())
    graph = helper.make_graph(made, "chain", [first], [end], weights)
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)


def grouped(nodes: int) -> dict[str, Any]:
    """One row; run in a process of its own."""
    graph = load(chain(nodes))
    feeds = {"x": np.random.default_rng(1).standard_normal((1, 3, _PIXELS, _PIXELS)).astype(np.float32)}
    with Runtime() as runtime:
        started = time.perf_counter()
        observed = Calibration(held([feeds], "random"), runtime, random=True).observed(graph)
        seen = time.perf_counter() - started
    seconds: list[float] = []
    groups = 0
    for _ in range(_REPEATS):
        started = time.perf_counter()
        groups = len(analyse(graph, observed.shapes, observed.known).groups)
        seconds.append(time.perf_counter() - started)
    count = sum(1 for _ in graph.operators())
    return {"operators": count, "groups": groups, "seconds": seconds, "observing_seconds": seen}


def grouping(asked: Request) -> Iterator[list[dict[str, Any]]]:
    """Graphs of several sizes; the rows so far after each of them."""
    rows: list[dict[str, Any]] = []
    if asked.only.get("models"):  # of which this is none
        return
    for nodes in _SIZES_SHORT if asked.short else _SIZES:
        asked.note(f"grouping: {nodes:,} operators")
        rows.append({"model": f"chain of {nodes:,}", **measured(grouped, nodes=nodes)})
        yield rows


def shown(rows: Iterable[Mapping[str, Any]]) -> str:
    """The table."""
    return table(("graph", "operators", "groups", "s", "s of its first run"), map(_line, rows))


def _line(row: Mapping[str, Any]) -> tuple[object, ...]:
    if "failure" in row:
        return (row["model"], row["failure"], "-", "-", "-")
    return (
        row["model"],
        f"{row['operators']:,}",
        f"{row['groups']:,}",
        f"{max(row['seconds']):.2f}" + ("" if max(row["seconds"]) < _BAR else " MISSED"),
        f"{row['observing_seconds']:.2f}",
    )


def verdict(asked: Request, rows: Sequence[Mapping[str, Any]]) -> str:
    """Whether the largest is grouped in time, in the slowest of its repeats."""
    slowest = max((max(row.get("seconds", [float("inf")])) for row in rows), default=float("inf"))
    return f"bar under {_BAR:g} s: {slowest:.2f} s; {asked.verdict(slowest, _BAR)}"
