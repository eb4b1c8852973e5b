"""The ledger of a compilation: what every pass and every weight cost and saved. docs/report.md is its schema."""

import importlib.metadata
import math
import platform
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Final, cast

from graphshrink.encodings import Cost, Stored, entropy_bits, stored_values
from graphshrink.ir.graph import Graph
from graphshrink.ir.tensor import FilledData, SparseTensor, StringData, Tensor
from graphshrink.ir.weight import Weight, label_of, weights
from graphshrink.metrics.latency import Latency
from graphshrink.metrics.macs import Known, macs, operator_macs, shapes_in
from graphshrink.metrics.output_error import OutputError
from graphshrink.metrics.size import affordable_gzip, file_chunks, sha256
from graphshrink.passing.base import Skipped
from graphshrink.passing.final import Verification
from graphshrink.passing.pipeline import PassRecord
from graphshrink.verify import Verdict

SCHEMA: Final = 1
_PACKAGES: Final = ("graphshrink", "onnx", "onnxruntime", "numpy", "scipy", "networkx", "cvxpy")


@dataclass(frozen=True, slots=True)
class Model:
    """One side of a compilation: the graph with its weights plain, the files that hold it, and shapes of values."""

    graph: Graph
    files: tuple[Path, ...]
    shapes: Known


@dataclass(frozen=True, slots=True)
class After:
    """A model between two passes: its graph with plain weights, what it would take if it were written, and shapes."""

    graph: Graph
    bytes: int
    gzip_bytes: int | None
    shapes: Known


@dataclass(frozen=True, slots=True)
class Facts:
    """Everything a report is made of."""

    before: Model
    after: Model
    options: Mapping[str, Any]
    records: Sequence[tuple[PassRecord, After | None]]
    stored: Sequence[Stored]
    decoding: Mapping[str, Cost]
    verification: Verification | None
    latency: Latency | None
    missed: Sequence[str]
    notes: Sequence[str]
    seconds: Mapping[str, float]  # by what was done


def build_report(facts: Facts) -> dict[str, Any]:
    """The ledger as plain data, ready for JSON."""
    output = _side(facts.after)
    report = {
        "schema": SCHEMA,
        "versions": {"python": platform.python_version(), **{name: _version(name) for name in _PACKAGES}},
        "options": dict(facts.options),
        "input": _side(facts.before),
        "output": output,
        "passes": [{**_pass(record), **_figures(after, output)} for record, after in facts.records],
        "layers": _layers(facts),
        "verification": None if facts.verification is None else _verification(facts.verification),
        "missed": list(facts.missed),
        "notes": list(facts.notes),
        "latency": None if facts.latency is None else {**asdict(facts.latency), "slower": facts.latency.slower},
        "seconds": round(sum(facts.seconds.values()), 3),
        "timeline": {what: round(seconds, 3) for what, seconds in facts.seconds.items()},
    }
    ready: dict[str, Any] = json_ready(report)
    return ready


def _version(package: str) -> str | None:
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return None


def _side(model: Model) -> dict[str, Any]:
    return {
        "bytes": sum(path.stat().st_size for path in model.files),
        "gzip_bytes": affordable_gzip(file_chunks(model.files), sum(path.stat().st_size for path in model.files)),
        "sha256": sha256(model.files[:1]),
        "data_sha256": [sha256([data]) for data in model.files[1:]],
        **_work(model.graph, model.shapes),
    }


def _figures(after: After | None, output: Mapping[str, Any]) -> dict[str, Any]:
    """The model's figures after a pass; those of the output after the last one."""
    if after is None:
        return {key: output[key] for key in ("bytes", "gzip_bytes", "parameters", "macs")}
    return {"bytes": after.bytes, "gzip_bytes": after.gzip_bytes, **_work(after.graph, after.shapes)}


def _work(graph: Graph, shapes: Known) -> dict[str, Any]:
    numbers = [weight.tensor for weight in weights(graph) if not isinstance(weight.tensor.data, StringData)]
    return {
        "parameters": sum(tensor.size for tensor in numbers),
        "macs": sum(macs(graph, shapes).values()) if shapes else None,
    }


def _pass(record: PassRecord) -> dict[str, Any]:
    return {
        "name": record.name,
        "options": record.options,
        "error": record.error,
        "metric_drop": None if record.measured is None else record.measured.drop,
        "seconds": round(record.seconds, 3),
        "backed_off": record.backed_off,
        "rolled_back": record.rolled_back,
        "graph": list(record.result.graph),
        "kept": list(record.result.kept),
        "layers": {label: asdict(outcome) for label, outcome in record.result.layers.items()},
    }


def _layers(facts: Facts) -> list[dict[str, Any]]:
    stored = {item.label: item for item in facts.stored}
    reasons = _reasons(record for record, _ in facts.records)
    size = sum(path.stat().st_size for path in facts.after.files)
    return _sparse_layers(facts.after.graph) + [
        _layer(weight, stored.get(weight.label), facts.after.shapes, reasons.get(weight.label), size)
        | _decoding(facts.decoding.get(weight.label))
        for weight in weights(facts.after.graph)
    ]


def _decoding(cost: Cost | None) -> dict[str, Any]:
    """What it takes to decode a weight where the model is loaded, predicted."""
    return {
        "load_seconds": 0.0 if cost is None else round(cost.seconds, 6),
        "load_bytes": 0 if cost is None else cost.bytes,
    }


def _sparse_layers(graph: Graph) -> list[dict[str, Any]]:
    """Sparse initializers: no pass or encoding touches them yet, and nothing may be missing from the ledger."""
    return [
        {
            "label": label_of(path, scope, value.name),
            "name": value.name,
            "operators": sorted({scope.operator(use.operator).op_type for use in scope.uses(value.name)}),
            "shape": list(value.constant.dims),
            "parameters": math.prod(value.constant.dims),
            "macs": None,
            "encoding": "sparse",
            "plain_bytes": _sparse_bytes(value.constant),
            "stored_bytes": _sparse_bytes(value.constant),
            "gzip_bytes": None,
            "done": "left alone: a sparse initializer",
        }
        for path, scope in graph.scopes()
        for value in scope.initializers()
        if isinstance(value.constant, SparseTensor)
    ]


def _sparse_bytes(tensor: SparseTensor) -> int:
    return tensor.values.nbytes + tensor.indices.nbytes


def _reasons(records: Iterable[PassRecord]) -> dict[str, str]:
    """What was done to each layer, or why nothing was."""
    said: dict[str, list[str]] = {}
    for record in records:
        for label, outcome in record.result.layers.items():
            text = f"left alone: {outcome.reason}" if isinstance(outcome, Skipped) else outcome.detail
            said.setdefault(label, []).append(f"{record.name}: {text}")
    return {label: "; ".join(texts) for label, texts in said.items()}


def _layer(weight: Weight, stored: Stored | None, shapes: Known, reason: str | None, model_size: int) -> dict[str, Any]:
    counts = [operator_macs(use.graph, use.operator, shapes_in(use.graph, shapes)) for use in weight.uses]
    known = [count for count in counts if count is not None]
    text = isinstance(weight.tensor.data, StringData)
    parts = (weight.tensor,) if stored is None else stored.parts
    held = weight.tensor.nbytes if text else len(_held(weight.tensor))
    stored_bytes = held if stored is None else stored.stored_bytes
    return {
        "label": weight.label,
        "name": weight.name,
        "operators": sorted({use.operator.op_type for use in weight.uses}),
        "shape": list(weight.tensor.dims),
        "parameters": weight.tensor.size,
        "macs": sum(known) if known else None,
        "encoding": "plain" if stored is None else stored.encoding,
        "plain_bytes": held if stored is None else stored.plain_bytes,
        "stored_bytes": stored_bytes,
        "bits": None if text else round(8 * stored_bytes / max(1, weight.tensor.size), 4),
        "entropy_bits": None
        if stored is None or stored.encoding == "plain"
        else entropy_bits(stored_values(weight.tensor, stored.encoding)),
        "gzip_bytes": None if text else affordable_gzip(map(_held, parts), model_size),
        "done": reason,
    }


def _held(tensor: Tensor) -> bytes | memoryview:
    """The bytes that the file holds of a tensor."""
    return tensor.data.element if isinstance(tensor.data, FilledData) else tensor.buffer


def _verification(verification: Verification) -> dict[str, Any]:
    return {
        "inputs": verification.inputs,
        "random": verification.random,
        "bound": verification.bound,
        "fit": _verdict(verification.fit),
        "held_out": _verdict(verification.held_out),
        "judges": dict(verification.judges),
        "metric": None if verification.scores is None else dict(verification.scores),
    }


def _verdict(verdict: Verdict) -> dict[str, Any]:
    return {"error": verdict.worst, "samples": verdict.samples, "outputs": figures(verdict.outputs)}


def figures(outputs: Mapping[str, OutputError]) -> dict[str, Any]:
    """Figures of outputs as plain data."""
    return {name: asdict(error) for name, error in outputs.items()}


def json_ready(value: Any) -> Any:
    """JSON knows neither infinity nor NaN: they become text."""
    if isinstance(value, float) and not math.isfinite(value):
        return str(value)
    if isinstance(value, dict):
        return {key: json_ready(item) for key, item in cast("dict[str, Any]", value).items()}
    return [json_ready(item) for item in cast("list[Any]", value)] if isinstance(value, list | tuple) else value
