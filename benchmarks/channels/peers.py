"""Other tools that remove channels, on the same models: where they fail, and what outputs lose at equal MACs.

onnxsim's pruner gets the models as ONNX, with the inputs to calibrate with and its closed-form recovery; Torch-Pruning
gets torch's networks before they are exported, and no inputs, since it uses none. Then channel-removal takes as many
MACs, fitted to the same inputs. Errors are ||Y' - Y|| / ||Y|| of the worst output on inputs that nobody has seen.
"""

import tempfile
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Final

import numpy as np

from benchmarks.channels.coverage import costs, why_invalid
from benchmarks.channels.models import MODELS
from benchmarks.channels.torch_pruning import pruned
from benchmarks.measuring import Limits, Request, table
from benchmarks.rows import measured
from benchmarks.tools.base import version_of
from benchmarks.tools.onnx_simplifier import pruning
from graphshrink.calibration.engine import Calibration
from graphshrink.calibration.samples import held
from graphshrink.errors import GraphshrinkError
from graphshrink.ir.graph import Graph
from graphshrink.ir.types import Feeds
from graphshrink.onnx_io.load import load
from graphshrink.onnx_io.runtime import Runtime
from graphshrink.onnx_io.temporary import written
from graphshrink.passes.channel_removal import ChannelRemoval
from graphshrink.passing.base import Context
from graphshrink.report.ledger import json_ready
from testmodels.fetching import FetchError

_RATIO: Final = 0.3  # of the channels of each layer that the peers are asked for
_LEAST: Final = 0.01  # of MACs; less is nothing
_FIT, _UNSEEN = 100, 8
_BATCH: Final = 2
_SHORT: Final = ("vgg_like",)
_LIMITS: Final = Limits(seconds=300, memory=16 << 30)
_TORCH: Final = "torch."


def _onnxsim(name: str, graph: Graph, feeds: Sequence[Feeds]) -> Graph:
    setting = {"sparsity": _RATIO, "calibrated": True, "recovery": True}
    with written(graph) as path, tempfile.TemporaryDirectory() as folder:
        out = Path(folder, "model.onnx")
        pruning(path, out, feeds, setting)
        return load(out)


def _torch_pruning(name: str, graph: Graph, feeds: Sequence[Feeds]) -> Graph:
    network, _, exporter = name.removeprefix(_TORCH).rpartition(".")
    return load(pruned(network, _RATIO, dynamo=exporter == "dynamo"))


_TOOLS: Final[Mapping[str, tuple[str, Callable[[str, Graph, Sequence[Feeds]], Graph]]]] = {
    "onnxsim": ("onnxsim", _onnxsim),
    "Torch-Pruning": ("torch-pruning", _torch_pruning),
}
"""By name: the distribution, and what removes channels of a model."""


def compared(name: str, tool: str) -> dict[str, Any]:
    """One row; run in a process of its own."""
    source = MODELS[name]
    graph = source.graph()
    feeds = source.inputs(_FIT + _UNSEEN, _BATCH)
    unseen, fit = feeds[:_UNSEEN], feeds[_UNSEEN:]
    theirs = _TOOLS[tool][1](name, graph, fit)
    with Runtime() as runtime:
        invalid = why_invalid(graph, theirs, unseen[0], runtime, described=False)
        if invalid is not None:
            return {"failure": invalid}
        calibration, judge = (Calibration(held(inputs, "x"), runtime) for inputs in (fit, unseen))
        shares = [costs(each, judge.observed(each).shapes)["macs"] for each in (graph, theirs)]
        gone = 1 - shares[1] / max(shares[0], 1)
        if gone < _LEAST:
            return {"failure": f"{gone:.1%} of MACs removed"}
        expected = judge.outputs(graph, _UNSEEN)
        row: dict[str, Any] = {"macs": gone, "error": error(expected, judge.outputs(theirs, _UNSEEN))}
        ours = graph.copy()
        ChannelRemoval(ratio=gone, of="macs").run(ours, Context(calibration=calibration))
        row["ours_macs"] = 1 - costs(ours, judge.observed(ours).shapes)["macs"] / shares[0]
        row["ours"] = error(expected, judge.outputs(ours, _UNSEEN))
    answer: dict[str, Any] = json_ready(row)
    return answer


def error(expected: Sequence[Feeds], found: Sequence[Feeds]) -> float:
    """||Y' - Y|| / ||Y|| over all samples, of the worst floating output."""
    names = [name for name, array in expected[0].items() if array.dtype.kind == "f"]
    return max((_far(*(_flat(outputs, name) for outputs in (expected, found))) for name in names), default=0.0)


def _flat(outputs: Sequence[Feeds], name: str) -> np.ndarray[Any, np.dtype[np.float64]]:
    return np.concatenate([each[name].ravel() for each in outputs]).astype(np.float64)


def _far(a: np.ndarray[Any, np.dtype[np.float64]], b: np.ndarray[Any, np.dtype[np.float64]]) -> float:
    return float(np.linalg.norm(b - a) / max(float(np.linalg.norm(a)), 1e-30))


def peers(asked: Request) -> Iterator[list[dict[str, Any]]]:
    """All models but the onnx wheel's large ones; the rows so far after each of them."""
    every = [name for name, source in MODELS.items() if source.kind != "wheel"]
    chosen = [name for name in asked.only.get("models", ()) if name in MODELS] or every
    rows: list[dict[str, Any]] = []
    for name in _SHORT if asked.short else chosen:
        tools = [tool for tool in _TOOLS if tool != "Torch-Pruning" or name.startswith(_TORCH)]
        settings: list[dict[str, Any]] = []
        for tool in tools:
            asked.note(f"peers: {name}, {tool}")
            settings.append({"tool": tool, **_compared(name, tool)})
        rows.append({"model": name, "settings": settings})
        yield rows


def _compared(name: str, tool: str) -> dict[str, Any]:
    if version_of(_TOOLS[tool][0]) is None:
        return {"failure": f"{_TOOLS[tool][0]} is not installed (the extra `channels`)"}
    try:
        if not MODELS[name].random:
            MODELS[name].graph()
    except (FetchError, GraphshrinkError) as e:
        return {"failure": str(e)}
    return measured(compared, _LIMITS, name=name, tool=tool)


_HEADER: Final = ("model", "tool", "MACs gone", "its error", "channel-removal: MACs gone", "its error", "ratio")


def shown(rows: Iterable[Mapping[str, Any]]) -> str:
    """The table."""
    return table(_HEADER, [_line(row["model"], setting) for row in rows for setting in row["settings"]])


def _line(name: str, setting: Mapping[str, Any]) -> tuple[object, ...]:
    start = (name, setting["tool"])
    if "failure" in setting:
        return (*start, setting["failure"].replace("|", "\\|"), *"----")
    return (
        *start,
        f"{setting['macs']:.1%}",
        f"{setting['error']:.4f}",
        f"{setting['ours_macs']:.1%}",
        f"{setting['ours']:.4f}",
        f"{_ratio(setting):.2f}",
    )


def _ratio(setting: Mapping[str, Any]) -> float:
    return float(setting["ours"]) / max(float(setting["error"]), 1e-30)


def verdict(asked: Request, rows: Sequence[Mapping[str, Any]]) -> str:
    """How many models each tool gets through, and where the error of channel-removal is lower. There is no bar."""
    lines: list[str] = []
    for tool in _TOOLS:
        tried = [each for row in rows for each in row["settings"] if each["tool"] == tool]
        done = [each for each in tried if "failure" not in each]
        lower = sum(_ratio(each) < 1 for each in done)
        lines.append(
            f"{tool}: {len(done)} of {len(tried)} models; channel-removal has the lower error on {lower} of them"
        )
    return "\n".join(lines)
