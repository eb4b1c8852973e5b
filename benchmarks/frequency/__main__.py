"""frequency-packing with and without bases, at equal error of every layer: real bytes and errors on held-out inputs.

Both rows of a model and target come from one solver and one `--encoding small`; `none` has every layer in its own
space, `auto` in the form of fewest bytes. `layers` of the results has bytes of what was chosen and of what was not, and
the coding gain of each basis. Bars: `auto` is never larger, and 10 % smaller on networks with kernels of 3x3 and more.
"""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

from benchmarks.measuring import Limits, Request, request, table
from benchmarks.net_trim.inputs import SOURCES
from benchmarks.net_trim.trimming import Bench
from benchmarks.rows import measured
from graphshrink.encodings import Storage, encode_graph
from graphshrink.errors import GraphshrinkError
from graphshrink.ir.graph import Graph
from graphshrink.ir.weight import weights
from graphshrink.onnx_io.emit import emit
from graphshrink.ops import why_not_a_weight
from graphshrink.passes.frequency_packing import FrequencyPacking
from graphshrink.report.ledger import json_ready
from testmodels.fetching import FetchError

_TARGETS, _TARGETS_SHORT = (0.03, 0.1), (0.1,)
_MODELS: Final = (
    *("net-trim-lenet", "lenet-5", "resnet-20", "digit_cnn", "depthwise", "ppocr_cls", "lenet-300-100"),
    "efficientnet_lite0",
)
_MODELS_SHORT: Final = ("spirals",)
_FIT, _HELD_OUT, _SHORT = 200, 100, 50
_LIMITS: Final = Limits(seconds=900, memory=12 << 30)
_BAR: Final = 0.9
_SMALL: Final = Storage("small")


def compare(name: str, target: float, fit: int, held_out: int) -> dict[str, Any]:
    """One row; run in a process of its own."""
    source = SOURCES[name]
    with Bench(Path(source.model()), source.fit(fit), source.held_out(held_out)) as bench:
        row: dict[str, Any] = {"bytes": file_bytes(bench.graph)}
        for basis in ("none", "auto"):
            made = bench.trim(FrequencyPacking(target, basis), storage=_SMALL)
            details = {label: made.result.layers[label] for label in made.solved}
            row[basis] = {
                "error": bench.compare(made.graph).worst,
                "bytes": file_bytes(made.graph),
                "seconds": made.seconds,
                "layers": {label: getattr(one, "detail", "") for label, one in details.items()},
            }
    answer: dict[str, Any] = json_ready(row)
    return answer


def file_bytes(graph: Graph) -> int:
    """Of the model as the command would write it."""
    made = graph.copy()
    encode_graph(made, [weight for weight in weights(made) if why_not_a_weight(weight) is None], _SMALL)
    return emit(made).ByteSize()


def _row(name: str, target: float, short: bool) -> dict[str, Any]:
    try:
        SOURCES[name].model()
    except (FetchError, GraphshrinkError) as e:
        return {"failure": str(e)}
    counts = (_SHORT, _SHORT) if short else (_FIT, _HELD_OUT)
    return measured(compare, _LIMITS, name=name, target=target, fit=counts[0], held_out=counts[1])


_HEADER: Final = (
    *("model", "target", "plain weights", "spatial", "best per layer", "ratio", "layers in a basis"),
    *("error, spatial", "error, best", "s, spatial", "s, best"),
)


def _line(row: Mapping[str, Any]) -> tuple[object, ...]:
    start = (row["model"], f"{row['target']:g}")
    if "failure" in row:
        return (*start, row["failure"], *"--------")
    spatial, best = row["none"], row["auto"]
    based = sum(not detail.startswith("spatial") for detail in best["layers"].values())
    return (
        *start,
        f"{row['bytes']:,}",
        f"{spatial['bytes']:,}",
        f"{best['bytes']:,}",
        f"{_ratio(row):.3f}",
        f"{based} of {len(best['layers'])}",
        *(f"{each['error']:.4f}" for each in (spatial, best)),
        *(f"{each['seconds']:.0f}" for each in (spatial, best)),
    )


def _ratio(row: Mapping[str, Any]) -> float:
    return float(row["auto"]["bytes"]) / float(row["none"]["bytes"])


def _verdict(asked: Request, rows: list[dict[str, Any]]) -> str:
    done = [row for row in rows if "failure" not in row]
    never_larger, smaller = (sum(_ratio(row) <= most for row in done) for most in (1.0, _BAR))
    return "\n".join(
        f"bar {what}: {count} of {len(rows)}; {asked.verdict(len(rows) - count, 0.5)}"
        for what, count in (("never larger", never_larger), ("10 % smaller", smaller))
    )


def _before(asked: Request) -> list[dict[str, Any]]:
    """Rows of the file that are not made anew."""
    if asked.into is None or not asked.only["models"] or not asked.into.exists():
        return []
    rows: list[dict[str, Any]] = json.loads(asked.into.read_text(encoding="utf-8"))["rows"]
    return [row for row in rows if row["model"] not in asked.only["models"]]


def main() -> None:
    """Run, print and store."""
    asked = request("frequency", __doc__, {"models": SOURCES})
    rows = _before(asked)
    for name in asked.only["models"] or (_MODELS_SHORT if asked.short else _MODELS):
        for target in _TARGETS_SHORT if asked.short else _TARGETS:
            asked.note(f"{name}, target {target:g}")
            rows.append({"model": name, "target": target, **_row(name, target, asked.short)})
        asked.save({"rows": rows})
        if asked.into is not None:
            text = f"{table(_HEADER, map(_line, rows))}\n\n{_verdict(asked, rows)}\n"
            asked.into.with_suffix(".md").write_text(text, encoding="utf-8")
    print(f"{table(_HEADER, map(_line, rows))}\n\n{_verdict(asked, rows)}")


if __name__ == "__main__":
    main()
