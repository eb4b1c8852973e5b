"""What channel-removal does to every architecture: valid or not, what goes, the proof's error, what blocks the rest.

Half of MACs and of parameters is to go. Weights and inputs of most models are random, so that channels go by their norm
and nothing is fitted; real models are fitted to a few inputs.
"""

import math
import re
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any, Final

import numpy as np

from benchmarks.channels.models import MODELS
from benchmarks.measuring import Request, table
from benchmarks.rows import measured
from graphshrink.calibration.engine import Calibration
from graphshrink.calibration.samples import held
from graphshrink.errors import GraphshrinkError, JudgeError
from graphshrink.ir.graph import Graph
from graphshrink.ir.tensor import FLOATING
from graphshrink.ir.types import Feeds
from graphshrink.ir.weight import constants
from graphshrink.metrics.macs import macs
from graphshrink.onnx_io.runtime import Runtime
from graphshrink.onnx_io.temporary import written
from graphshrink.ops.coupling.analysis import Group, analyse
from graphshrink.passes.channel_removal import ChannelRemoval
from graphshrink.passing.base import Context
from graphshrink.report.ledger import json_ready
from testmodels.fetching import FetchError

_RATIO: Final = 0.5
_OF: Final = "macs+params"
_BAR_LOST: Final = 0.4
_BAR_MODELS: Final = 0.95
_BAR_GROUPS: Final = 0.9
_FEEDS: Final = 2
_REAL_FEEDS: Final = 20
_ROWS: Final = 2
_SHOWN: Final = 2  # reasons in the table
_SHORT: Final = ("shufflenet_v2", "vit", "lstm", "qdq_cnn")
_TIED: Final = re.compile("an (in|out)put of the model keeps its shape")
_PROOF: Final = re.compile(r"^proof: outputs differ by (\S+) ")


def removed(name: str) -> dict[str, Any]:
    """One row; run in a process of its own."""
    source = MODELS[name]
    graph = source.graph()
    feeds = held(source.inputs(_FEEDS if source.random else _REAL_FEEDS, _ROWS), "the benchmark's")
    original = graph.copy()
    with Runtime() as runtime:
        calibration = Calibration(feeds, runtime, random=source.random)
        observed = calibration.observed(graph)
        groups = [group for group in analyse(graph, observed.shapes, observed.known).groups if group.size > 1]
        before = costs(graph, observed.shapes)
        started = time.perf_counter()
        result = ChannelRemoval(ratio=_RATIO, of=_OF).run(graph, Context(calibration=calibration))
        seconds = time.perf_counter() - started
        row = {"kind": source.kind, "seconds": seconds, "missed": result.missed, **counted(groups)}
        row["bugs"] = [line for line in result.kept if "(a bug)" in line]
        row["proof"] = proof(result.graph)
        row["invalid"] = why_invalid(original, graph, feeds[0], runtime)
        if row["invalid"] is None:
            after = costs(graph, calibration.observed(graph).shapes)
            row |= {key: 1 - after[key] / before[key] if before[key] else 0.0 for key in before}
    answer: dict[str, Any] = json_ready(row)
    return answer


def costs(graph: Graph, shapes: Mapping[str, tuple[int, ...]]) -> dict[str, int]:
    """Floating parameters and MACs of a model."""
    known = {graph.original_name(name): shape for name, shape in shapes.items()}
    stored = [tensor for _, scope in graph.scopes() for _, tensor in constants(scope)]
    parameters = sum(tensor.size for tensor in stored if tensor.elem_type in FLOATING)
    return {"params": parameters, "macs": sum(macs(graph, known).values())}


def counted(groups: Iterable[Group]) -> dict[str, Any]:
    """How many groups of channels there are that the interface does not hold, and what blocks those that stay."""
    free = [group for group in groups if group.reason is None or not _TIED.search(group.reason)]
    blocked: dict[str, int] = {}
    for reason in (group.reason for group in free if group.reason is not None):
        blocked[reason] = blocked.get(reason, 0) + 1
    return {"groups": len(free), "removable": sum(group.reason is None for group in free), "blocked": blocked}


def proof(lines: Iterable[str]) -> float | None:
    """The largest difference that the pass found between channels gone and channels masked; None if it does not say."""
    found = [float(match[1]) for line in lines if (match := _PROOF.match(line))]
    return max(found, default=None)


def why_invalid(
    original: Graph, result: Graph, feeds: Feeds, runtime: Runtime, *, described: bool = True
) -> str | None:
    """What is wrong with a result as a model, or None.

    `described`: whether inputs and outputs have to say the same of their shapes, beside having them.
    """
    with written(original) as before, written(result) as after:
        refused = runtime.check(after)
        if refused is not None:
            return f"the checker: {refused}"
        try:
            with runtime.open(before) as session:
                expected, specs = session.run(feeds), (session.inputs, session.outputs)
            with runtime.open(after) as session:
                found, kept = session.run(feeds), (session.inputs, session.outputs) == specs
        except JudgeError as e:
            return f"it does not run: {e}"
    shapes = [{name: array.shape for name, array in outputs.items()} for outputs in (expected, found)]
    if (described and not kept) or shapes[0] != shapes[1]:
        return "inputs or outputs have other shapes"
    numbers = [name for name, array in expected.items() if array.dtype.kind == "f" and np.isfinite(array).all()]
    return next((f"output '{name}' is not finite" for name in numbers if not np.isfinite(found[name]).all()), None)


def coverage(asked: Request) -> Iterator[list[dict[str, Any]]]:
    """All models; the rows so far after each of them."""
    rows: list[dict[str, Any]] = []
    for name in asked.only.get("models") or (_SHORT if asked.short else tuple(MODELS)):
        asked.note(f"coverage: {name}")
        rows.append({"model": name, **_row(name)})
        yield rows


def _row(name: str) -> dict[str, Any]:
    source = MODELS[name]
    try:
        if not source.random:  # it may have to be fetched, which this process does
            source.graph()
    except (FetchError, GraphshrinkError) as e:
        return {"kind": source.kind, "failure": str(e)}
    return {"kind": source.kind, **measured(removed, name=name)}


_HEADER: Final = (
    *("model", "weights", "valid", "params gone", "MACs gone", "proof's error"),
    *("groups", "removable", "what blocks the others", "s"),
)


def shown(rows: Iterable[Mapping[str, Any]]) -> str:
    """The table."""
    return table(_HEADER, map(_line, rows))


def _line(row: Mapping[str, Any]) -> tuple[object, ...]:
    start = (row["model"], "trained" if row["kind"] == "real" else row["kind"])
    if "failure" in row:
        return (*start, row["failure"], *"-------")
    why = sorted(row["blocked"], key=lambda reason: (-row["blocked"][reason], reason))[:_SHOWN]
    return (
        *start,
        "; ".join(filter(None, (row["invalid"], *row["bugs"]))) or "yes",
        *(_gone(row, key) for key in ("params", "macs")),
        "-" if row["proof"] is None else f"{row['proof']:.1e}",
        row["groups"],
        _share(row) + ("" if share(row) >= _BAR_GROUPS else " MISSED"),
        "; ".join(f"{reason} ({row['blocked'][reason]} x)" for reason in why).replace("|", "\\|"),
        f"{row['seconds']:.1f}",
    )


def _gone(row: Mapping[str, Any], key: str) -> str:
    if key not in row:
        return "-"
    return f"{row[key]:.1%}" + ("" if row[key] >= _BAR_LOST else " MISSED")


def share(row: Mapping[str, Any]) -> float:
    """Groups that can lose channels, of those that the model's interface does not hold; all of none count as all."""
    return float(row["removable"]) / row["groups"] if row["groups"] else 1.0


def _share(row: Mapping[str, Any]) -> str:
    return f"{share(row):.1%}"


def verdict(asked: Request, rows: Sequence[Mapping[str, Any]]) -> str:
    """How many models meet each bar. One that could not be measured meets none."""
    done = [row for row in rows if "failure" not in row]
    valid = sum(row["invalid"] is None and not row["bugs"] for row in done)
    lost = sum(min(row.get("params", 0.0), row.get("macs", 0.0)) >= _BAR_LOST for row in done)
    removable = sum(share(row) >= _BAR_GROUPS for row in done)
    declined = sum(row.get("params", 0.0) <= 0 for row in done) + len(rows) - len(done)
    whole = len(rows)
    bars = (
        ("valid, shapes kept", valid, whole),
        (f"{_BAR_LOST:.0%} of parameters and of MACs gone", lost, math.ceil(_BAR_MODELS * whole)),
        (f"{_BAR_GROUPS:.0%} of the groups removable", removable, whole),
        ("not declined as a whole", whole - declined, whole),
    )
    lines = [
        f"bar {what}: {count} of {whole}, {needed} asked for; {asked.verdict(needed - count, 0.5)}"
        for what, count, needed in bars
    ]
    proofs = [row["proof"] for row in done if row["proof"] is not None]
    return "\n".join([*lines, f"the proof's largest error: {max(proofs, default=0.0):.1e}, of {len(proofs)} models"])
