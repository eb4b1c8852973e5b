"""sparsify beside magnitude pruning and SparseGPT without a fit, at equal density, on inputs that none has seen.

Every model at three densities (bar: the lowest error of all; at most 5 % of the weights left alone). Magnitude pruning
and SparseGPT are given the same share of every layer, and once more the shares that sparsify chose; the better of the
two counts. Errors are ||Y' - Y|| / ||Y|| of the worst output. Inputs to fit to come without labels.

Run it with OPENBLAS_NUM_THREADS=1. Results are written after each model; with `--models` what the file says of the
others stays.
"""

import json
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Final

from benchmarks.measuring import Limits, Request, request, table
from benchmarks.net_trim import magnitude_pruning
from benchmarks.net_trim.inputs import SOURCES
from benchmarks.net_trim.trimming import Bench, left_alone, nonzeros
from benchmarks.rows import measured
from benchmarks.sparsify import sparse_gpt
from graphshrink.errors import GraphshrinkError
from graphshrink.ir.graph import Graph
from graphshrink.passes.sparsify import Sparsify
from graphshrink.report.ledger import json_ready
from testmodels.fetching import FetchError

_DENSITIES, _DENSITIES_SHORT = (0.5, 0.25, 0.1), (0.25,)
_MODELS_SHORT: Final = ("lenet-300-100",)
_FIT, _FIT_SHORT = 1000, 200
_HELD_OUT, _HELD_OUT_SHORT = 200, 50
_LIMITS: Final = Limits(seconds=900, memory=12 << 30)
_BAR_SKIPPED: Final = 0.05
_THEIRS: Final = ("magnitude", "magnitude_alike", "sparse_gpt", "sparse_gpt_alike")


def compare(name: str, density: float, fit: int, held_out: int) -> dict[str, Any]:
    """One row; run in a process of its own."""
    source = SOURCES[name]
    with Bench(Path(source.model()), source.fit(fit), source.held_out(held_out)) as bench:
        before = time.process_time()
        ours = bench.trim(Sparsify(density=density))
        busy = time.process_time() - before
        left = nonzeros(ours.graph, ours.solved)
        chosen = {label: count / size for label, (count, size) in left.items()}
        treated = sum(size for _, size in left.values())
        alike = dict.fromkeys(left, sum(count for count, _ in left.values()) / max(treated, 1))
        graphs = {
            "sparsify": ours.graph,
            **{f"magnitude{suffix}": _by_magnitude(bench.graph, left, d) for suffix, d in _both(chosen, alike)},
            **{
                f"sparse_gpt{suffix}": sparse_gpt.prune(bench.graph, d, bench.calibration)
                for suffix, d in _both(chosen, alike)
            },
        }
        errors = {who: _error(bench, graph) for who, graph in graphs.items()}
    row = {
        "treated": treated,
        "nonzeros": sum(count for count, _ in left.values()),
        "seconds": ours.seconds,
        "processor_seconds": busy,
        **errors,
        **left_alone(bench.graph, ours),
    }
    answer: dict[str, Any] = json_ready(row)
    return answer


def _both(chosen: Mapping[str, float], alike: Mapping[str, float]) -> Sequence[tuple[str, Mapping[str, float]]]:
    return (("", chosen), ("_alike", alike))


def _by_magnitude(graph: Graph, left: Mapping[str, tuple[int, int]], densities: Mapping[str, float]) -> Graph:
    counts = {label: round(densities[label] * size) for label, (_, size) in left.items()}
    return magnitude_pruning.prune(graph, counts)


def _error(bench: Bench, graph: Graph) -> float:
    return bench.compare(graph).worst


def _row(name: str, density: float, short: bool) -> dict[str, Any]:
    try:
        SOURCES[name].model()
    except (FetchError, GraphshrinkError) as e:
        return {"failure": str(e)}
    counts = (_FIT_SHORT, _HELD_OUT_SHORT) if short else (_FIT, _HELD_OUT)
    return measured(compare, _LIMITS, name=name, density=density, fit=counts[0], held_out=counts[1])


_HEADER: Final = (
    *("model", "density", "weights", "left", "sparsify", "magnitude", "(alike)", "SparseGPT", "(alike)"),
    *("ratio to the best", "skipped", "s", "CPU s"),
)


def _line(row: Mapping[str, Any]) -> tuple[object, ...]:
    start = (row["model"], f"{row['density']:g}")
    if "failure" in row:
        return (*start, *"-------", row["failure"], "-", "-", "-")
    ratio = _ratio(row)
    return (
        *start,
        f"{row['weights']:,}",
        f"{row['nonzeros'] / max(row['treated'], 1):.1%}",
        *(f"{float(row[who]):.4f}" for who in ("sparsify", *_THEIRS)),
        f"{ratio:.2f}" + ("" if ratio < 1 else " MISSED"),
        f"{row['skipped']:.1%}" + ("" if row["skipped"] <= _BAR_SKIPPED else " MISSED"),
        f"{row['seconds']:.0f}",
        f"{row['processor_seconds']:.0f}",
    )


def _ratio(row: Mapping[str, Any]) -> float:
    return float(row["sparsify"]) / max(min(float(row[who]) for who in _THEIRS), 1e-30)


def _verdict(asked: Request, rows: list[dict[str, Any]]) -> str:
    done = [row for row in rows if "failure" not in row]
    lower = sum(_ratio(row) < 1 for row in done)
    treated = sum(row["skipped"] <= _BAR_SKIPPED for row in done)
    return "\n".join(
        f"bar {what}: {count} of {len(rows)}; {asked.verdict(len(rows) - count, 0.5)}"
        for what, count in (("lower error", lower), (f"at most {_BAR_SKIPPED:.0%} skipped", treated))
    )


def _before(asked: Request) -> list[dict[str, Any]]:
    """Rows of the file that are not made anew."""
    if asked.into is None or not asked.only["models"] or not asked.into.exists():
        return []
    rows: list[dict[str, Any]] = json.loads(asked.into.read_text(encoding="utf-8"))["rows"]
    return [row for row in rows if row["model"] not in asked.only["models"]]


def main() -> None:
    """Run, print and store."""
    asked = request("sparsify", __doc__, {"models": SOURCES})
    rows = _before(asked)
    order = list(SOURCES)
    for name in asked.only["models"] or (_MODELS_SHORT if asked.short else tuple(SOURCES)):
        for density in _DENSITIES_SHORT if asked.short else _DENSITIES:
            asked.note(f"{name}, density {density:g}")
            rows.append({"model": name, "density": density, **_row(name, density, asked.short)})
        rows.sort(key=lambda row: order.index(row["model"]))
        asked.save({"rows": rows})
        if asked.into is not None:
            text = f"{table(_HEADER, map(_line, rows))}\n\n{_verdict(asked, rows)}\n"
            asked.into.with_suffix(".md").write_text(text, encoding="utf-8")
    print(f"{table(_HEADER, map(_line, rows))}\n\n{_verdict(asked, rows)}")


if __name__ == "__main__":
    main()
