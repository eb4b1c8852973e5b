"""What fewer MACs cost in score, without training: channel-removal as it is beside l1 norms without repair.

Both take channels until the same share of MACs is gone, with the same allocation; calibration inputs have no labels.
Scores are those of the corpus on test items, compared item by item.
"""

import tempfile
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any, Final

import numpy as np

import graphshrink
from benchmarks.channels.coverage import costs
from benchmarks.corpus.base import Score, compare, score
from benchmarks.corpus.tasks import TASKS, task_named
from benchmarks.measuring import Limits, Request, table
from benchmarks.rows import measured
from graphshrink.calibration.engine import Calibration
from graphshrink.calibration.samples import held
from graphshrink.ir.types import Feeds
from graphshrink.onnx_io.load import load
from graphshrink.onnx_io.runtime import Runtime
from graphshrink.report.ledger import json_ready
from testmodels.fetching import FetchError

NAMES: Final = tuple(task.name for task in TASKS)
METHODS: Final[Mapping[str, str]] = {"default": "", "l1 without repair": ",criterion=l1,repair=false"}
"""What is compared, with its options."""

_RATIOS, _RATIOS_SHORT = (0.1, 0.2, 0.3, 0.5), (0.3,)
_SHORT: Final = ("depthwise-slice",)
_SAMPLES: Final = 1000
_SAMPLES_FEW: Final = 100  # of models that are large or whose inputs are
_LIGHT: Final = ("digit_cnn", "lenet-300-100", "lenet-5", "net-trim-lenet", "resnet-20", "depthwise")
_JUDGED: Final = ("digit_cnn", "lenet-300-100", "lenet-5", "net-trim-lenet", "resnet-20")
_BAR_RATIO, _BAR_POINTS = 0.3, 1.0
_BOUND: Final = 10.0  # on the error: so large that no setting is taken back
_LIMITS: Final = Limits(seconds=1800, memory=16 << 30)


def original(name: str, keep: str) -> dict[str, Any]:
    """Score a model as it is, and keep what each item is worth; run in a process of its own."""
    task = task_named(name)
    found = score(task, task.model(), "test")
    weights = np.ones(found.n) if found.weights is None else found.weights
    np.savez(keep, values=found.values, weights=weights)
    return {"metric": found.metric, "score": found.value, "n": found.n}


def lost(name: str, ratio: float, method: str, samples: int, kept: str) -> dict[str, Any]:
    """Remove channels and score what is left beside the original; run in a process of its own."""
    task = task_named(name)
    feeds = list(task.calibration(samples))
    with tempfile.TemporaryDirectory() as folder:
        out = Path(folder, "model.onnx")
        compiled = graphshrink.compile(
            task.model(),
            passes=f"channel-removal{{ratio={ratio}{METHODS[method]}}}",
            calibration=feeds,
            samples=samples,
            max_error=_BOUND,
            encoding="plain",
        )
        compiled.save(out)
        found = score(task, out, "test")
        before, after = (_costs(path, feeds[0]) for path in (task.model(), out))
    with np.load(kept) as file:
        known = Score(found.metric, file["values"], file["weights"])
    row = {
        "score": found.value,
        "difference": asdict(compare(known, found)),
        **{key: 1 - after[key] / before[key] for key in before},
        "fit": len(feeds),
        "missed": compiled.missed,
        "seconds": compiled.report["passes"][0]["seconds"],
    }
    answer: dict[str, Any] = json_ready(row)
    return answer


def _costs(model: Path, feeds: Feeds) -> dict[str, int]:
    graph = load(model)
    with Runtime() as runtime:
        return costs(graph, Calibration(held([feeds], "one"), runtime).observed(graph).shapes)


def accuracy(asked: Request) -> Iterator[list[dict[str, Any]]]:
    """All tasks whose model and data are there; the rows so far after each of them, with a failure for the others."""
    rows: list[dict[str, Any]] = []
    tasks = [name for name in NAMES if not task_named(name).shipped]
    chosen = [name for name in asked.only.get("models", ()) if name in NAMES] if asked.only.get("models") else tasks
    for name in _SHORT if asked.short else chosen:
        asked.note(f"accuracy: {name}")
        row: dict[str, Any] = {"model": name}
        rows.append(row)
        for settings in _of(name, asked):
            row |= settings
        yield rows


def _of(name: str, asked: Request) -> Iterator[dict[str, Any]]:
    """A row, piece by piece."""
    try:
        task_named(name).model()
    except FetchError as e:
        yield {"failure": str(e)}
        return
    samples = _SAMPLES if name in _LIGHT else _SAMPLES_FEW
    with tempfile.TemporaryDirectory() as folder:
        kept = str(Path(folder, "original.npz"))
        yield measured(original, _LIMITS, name=name, keep=kept)
        if not Path(kept).exists():
            return
        settings: list[dict[str, Any]] = []
        for ratio in _RATIOS_SHORT if asked.short else _RATIOS:
            for method in METHODS:
                asked.note(f"accuracy: {name}, {ratio:.0%}, {method}")
                options = {"name": name, "ratio": ratio, "method": method, "samples": samples, "kept": kept}
                settings.append({"ratio": ratio, "method": method, **measured(lost, _LIMITS, **options)})
                yield {"settings": settings}


_HEADER: Final = (
    *("model", "original", "items", "asked", "MACs gone", "params gone", "default: points", "95 % interval"),
    *("l1 without repair: points", "95 % interval", "s"),
)


def shown(rows: Iterable[Mapping[str, Any]]) -> str:
    """The table; points are hundredths of the score."""
    return table(_HEADER, [line for row in rows for line in _lines(row)])


def _lines(row: Mapping[str, Any]) -> Iterator[tuple[object, ...]]:
    if "failure" in row:
        yield (row["model"], row["failure"], *"---------")
        return
    for ratio in dict.fromkeys(setting["ratio"] for setting in row.get("settings", ())):
        default, plain = (_setting(row, ratio, method) for method in METHODS)
        yield (
            row["model"],
            f"{row['metric']} {row['score']:.4f}",
            f"{row['n']:,}",
            f"{ratio:.0%}",
            *(f"{default[key]:.1%}" if key in default else "-" for key in ("macs", "params")),
            *_points(default, f"{_BAR_POINTS:g} point" if _misses(row, ratio) else ""),
            *_points(plain, ""),
            f"{default['seconds']:.0f}" if "seconds" in default else "-",
        )


def _setting(row: Mapping[str, Any], ratio: float, method: str) -> Mapping[str, Any]:
    found = [each for each in row["settings"] if each["ratio"] == ratio and each["method"] == method]
    return found[0] if found else {"failure": "not run"}


def _points(setting: Mapping[str, Any], missed: str) -> tuple[str, str]:
    if "failure" in setting:
        return setting["failure"], "-"
    value, low, high = (100 * setting["difference"][key] for key in ("value", "low", "high"))
    return f"{value:+.2f}" + (" MISSED" if missed else ""), f"{low:+.2f} to {high:+.2f}"


def _misses(row: Mapping[str, Any], ratio: float) -> bool:
    """Whether a row has a bar there, and does not meet it."""
    setting = _setting(row, ratio, "default")
    judged = row["model"] in _JUDGED and ratio == _BAR_RATIO
    return judged and ("failure" in setting or 100 * setting["difference"]["value"] < -_BAR_POINTS)


def verdict(asked: Request, rows: Sequence[Mapping[str, Any]]) -> str:
    """How many of the models with a bar meet it, and where the default is better than l1."""
    judged = [row for row in rows if row["model"] in _JUDGED and "failure" not in row]
    missed = [row["model"] for row in judged if _misses(row, _BAR_RATIO)]
    bar = f"at most {_BAR_POINTS:g} point down at {_BAR_RATIO:.0%} fewer MACs"
    pairs = [
        (_setting(row, ratio, "default"), _setting(row, ratio, "l1 without repair"))
        for row in rows
        for ratio in dict.fromkeys(setting["ratio"] for setting in row.get("settings", ()))
    ]
    both = [pair for pair in pairs if all("failure" not in setting for setting in pair)]
    better = sum(ours["score"] >= theirs["score"] for ours, theirs in both)
    return (
        f"bar {bar}: {len(judged) - len(missed)} of {len(judged)}; {asked.verdict(len(missed), 0.5)}\n"
        f"at least the score of l1 without repair: {better} of {len(both)} settings"
    )
