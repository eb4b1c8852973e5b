"""Net-Trim beside magnitude pruning at as many non-zeros of the same layers, on inputs that neither has seen."""

import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Final

from benchmarks.measuring import Limits, Request, table
from benchmarks.net_trim.inputs import SOURCES
from benchmarks.net_trim.magnitude_pruning import prune
from benchmarks.net_trim.trimming import Bench, left_alone, nonzeros
from benchmarks.rows import measured
from graphshrink.passes.net_trim import NetTrim
from graphshrink.report.ledger import json_ready
from testmodels.fetching import FetchError

_DENSITIES, _DENSITIES_SHORT = (0.5, 0.3, 0.1), (0.3,)
_MODELS_SHORT: Final = ("spirals",)
_FIT, _FIT_SHORT = 1000, 200
_HELD_OUT, _HELD_OUT_SHORT = 200, 50
_ROWS: Final = 2000  # of activations a layer
_LIMITS: Final = Limits(seconds=900, memory=12 << 30)
_BAR_SKIPPED: Final = 0.05


def both(name: str, density: float, fit: int, held_out: int) -> dict[str, Any]:
    """One row; run in a process of its own."""
    source = SOURCES[name]
    feeds = source.fit(fit)
    with Bench(Path(source.model()), feeds, source.held_out(held_out)) as bench:
        before = time.process_time()
        trimmed = bench.trim(NetTrim(density=density, samples=_ROWS))
        busy = time.process_time() - before
        left = nonzeros(trimmed.graph, trimmed.solved)
        pruned = prune(bench.graph, {label: count for label, (count, _) in left.items()})
        ours, theirs = (bench.compare(graph) for graph in (trimmed.graph, pruned))
    treated = sum(size for _, size in left.values())
    row = {
        "fit": len(feeds),
        "rows": _ROWS,
        "held_out": ours.samples,
        "layers": len(left),
        "treated": treated,
        "nonzeros": sum(count for count, _ in left.values()),
        "net_trim": ours.worst,
        "magnitude": theirs.worst,
        "seconds": trimmed.seconds,
        "processor_seconds": busy,
        **left_alone(bench.graph, trimmed),
    }
    answer: dict[str, Any] = json_ready(row)
    return answer


def magnitude(asked: Request) -> Iterator[list[dict[str, Any]]]:
    """All models at all densities; the rows so far after each of them."""
    names = asked.only.get("models") or (_MODELS_SHORT if asked.short else tuple(SOURCES))
    rows: list[dict[str, Any]] = []
    for name in names:
        for density in _DENSITIES_SHORT if asked.short else _DENSITIES:
            asked.note(f"magnitude: {name}, density {density:g}")
            rows.append({"model": name, "density": density, **_row(name, density, asked.short)})
        yield rows
    print("\nNet-Trim beside magnitude pruning at equal non-zeros")
    print(shown(rows))
    print(verdict(asked, rows))


def _row(name: str, density: float, short: bool) -> dict[str, Any]:
    try:
        SOURCES[name].model()
    except FetchError as e:
        return {"failure": str(e)}
    counts = (_FIT_SHORT, _HELD_OUT_SHORT) if short else (_FIT, _HELD_OUT)
    return measured(both, _LIMITS, name=name, density=density, fit=counts[0], held_out=counts[1])


_HEADER: Final = (
    *("model", "density", "weights", "other constants", "treated", "left", "net-trim", "magnitude", "ratio"),
    *("skipped", "most of it since", "s", "CPU s"),
)


def shown(rows: list[dict[str, Any]]) -> str:
    """The table."""
    return table(_HEADER, [_line(row) for row in rows])


def ratio(row: Mapping[str, Any]) -> float:
    """Error of Net-Trim over that of magnitude pruning."""
    return float(row["net_trim"]) / max(float(row["magnitude"]), 1e-30)


def _line(row: Mapping[str, Any]) -> tuple[object, ...]:
    start = (row["model"], f"{row['density']:g}")
    if "failure" in row:
        return (*start, "-", "-", "-", "-", "-", "-", "-", "-", row["failure"], "-", "-")
    reasons = [why for why, share in row["reasons"].items() if share > _BAR_SKIPPED / 10]
    return (
        *start,
        f"{row['weights']:,}",
        f"{row['others']:,}",
        f"{row['treated'] / row['weights']:.1%}",
        f"{row['nonzeros'] / max(row['treated'], 1):.1%}",
        f"{float(row['net_trim']):.4f}",
        f"{float(row['magnitude']):.4f}",
        f"{ratio(row):.2f}" + ("" if ratio(row) < 1 else " MISSED"),
        f"{row['skipped']:.1%}" + ("" if row["skipped"] <= _BAR_SKIPPED else " MISSED"),
        "; ".join(reasons[:2]),
        f"{row['seconds']:.0f}",
        f"{row['processor_seconds']:.0f}",
    )


def verdict(asked: Request, rows: list[dict[str, Any]]) -> str:
    """How many rows meet each bar."""
    done = [row for row in rows if "failure" not in row]
    lower = sum(ratio(row) < 1 for row in done)
    treated = sum(row["skipped"] <= _BAR_SKIPPED for row in done)
    return "\n".join(
        f"bar {what}: {count} of {len(rows)}; {asked.verdict(len(rows) - count, 0.5)}"
        for what, count in (("lower error", lower), (f"at most {_BAR_SKIPPED:.0%} skipped", treated))
    )
