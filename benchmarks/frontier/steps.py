"""What runs in a process of its own: compressing, scoring, and measuring what loading and running cost.

`python -m benchmarks.frontier.steps NAME ARGUMENTS ANSWER` calls one of `STEPS` with the keyword arguments in the JSON
text ARGUMENTS, and writes `{"value": what it returns}` or `{"failure": one line}` to the file ANSWER.

A task is named by the module that knows it (`tasks`, which has a function `task_named`) and its name.
"""

import hashlib
import importlib
import json
import lzma
import math
import statistics
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, Final

from benchmarks.corpus.base import Run, Split, Task, runner
from graphshrink.ir.types import Feeds
from graphshrink.metrics.latency import Timer, compare_latency, interleaved, median_ratio

CALIBRATION: Final = 100  # samples
_LOADS: Final = 21  # rounds
_LONGEST_LINE: Final = 300  # characters


def load_task(tasks: str, name: str) -> Task:
    """A task by its name, from a module that knows it."""
    known: Callable[[str], Task] = importlib.import_module(tasks).task_named
    return known(name)


def compress(*, tasks: str, task: str, tool: str, setting: Mapping[str, Any], source: str, out: str) -> dict[str, Any]:
    """Let a tool compress the model `source` into the file `out`."""
    # Not imported above: the code of one tool is nothing that the other steps depend on.
    known = importlib.import_module("benchmarks.tools").tool_named(tool)
    feeds = list(load_task(tasks, task).calibration(CALIBRATION)) if known.calibrated else []
    started = time.perf_counter()
    known.compress(Path(source), Path(out), feeds, setting)
    seconds = time.perf_counter() - started
    files = sorted(
        path for path in Path(out).parent.rglob("*") if path.is_file()
    )  # weights may lie in files of their own
    digest = hashlib.sha256(b"".join(hashlib.sha256(path.read_bytes()).digest() for path in files)).hexdigest()
    return {"seconds": seconds, "bytes": sum(path.stat().st_size for path in files), "sha256": digest}


def score(*, tasks: str, task: str, model: str, split: Split) -> dict[str, Any]:
    """Score a model file on the items of a set."""
    found = load_task(tasks, task).score(runner(Path(model)), split)
    if not math.isfinite(found.value):
        raise ValueError(f"the score is {found.value}")
    weights = None if found.weights is None else found.weights.tolist()
    return {"metric": found.metric, "values": found.values.tolist(), "weights": weights}


def measure(*, tasks: str, task: str, original: str, model: str) -> dict[str, Any]:
    """Loading and running one calibration input, beside the original in the same process, and the packed size."""
    (feeds,) = load_task(tasks, task).calibration(1)
    paths = {"original": Path(original), "again": Path(original), "result": Path(model)}
    runs = {name: runner(path) for name, path in paths.items()}
    latency = compare_latency(*(_timer(runs[name], feeds) for name in paths))
    loads = interleaved({name: _loading(path) for name, path in paths.items()}, _LOADS)  # `runs` has warmed all up
    packer, size = packed(Path(model).read_bytes())
    return {
        "latency": {
            "seconds": latency.after,
            "original_seconds": latency.before,
            "ratio": latency.ratio,
            "plain": latency.plain,
            "plain_spread": latency.spread,
        },
        "load": {
            "seconds": statistics.median(loads["result"]),
            "ratio": median_ratio(loads["result"], loads["original"]),
            "plain": median_ratio(loads["again"], loads["original"]),
        },
        "packed_bytes": size,
        "packer": packer,
    }


def packed(content: bytes) -> tuple[str, int]:
    """How a file was packed, and its size then: `zstd -19` where the package zstandard is installed, else xz."""
    try:
        zstandard: Any = importlib.import_module("zstandard")
    except ModuleNotFoundError:
        return "xz", len(lzma.compress(content))
    return "zstd -19", len(zstandard.ZstdCompressor(level=19).compress(content))


def _timer(run: Run, feeds: Feeds) -> Timer:
    def times(count: int) -> Sequence[float]:
        seconds: list[float] = []
        for _ in range(count):
            started = time.perf_counter()
            run(feeds)
            seconds.append(time.perf_counter() - started)
        return seconds

    return times


def _loading(path: Path) -> Callable[[], float]:
    def once() -> float:
        started = time.perf_counter()
        runner(path)
        return time.perf_counter() - started

    return once


STEPS: Final[Mapping[str, Callable[..., dict[str, Any]]]] = {"compress": compress, "score": score, "measure": measure}


def shortened(line: str) -> str:
    """A line of bounded length: messages of ONNX Runtime begin with the operator and end with the cause."""
    half = _LONGEST_LINE // 2
    return line if len(line) <= _LONGEST_LINE else f"{line[:half]} ... {line[-half:]}"


def _answer(step: str, arguments: str) -> dict[str, Any]:
    try:
        return {"value": STEPS[step](**json.loads(arguments))}
    except Exception as e:  # whatever a tool or a model does wrong is a row of the table
        said = next((line.strip() for line in str(e).splitlines() if line.strip()), "")
        return {"failure": shortened(f"{type(e).__name__}: {said}")}


if __name__ == "__main__":
    Path(sys.argv[3]).write_text(json.dumps(_answer(*sys.argv[1:3]), allow_nan=False), encoding="utf-8")
