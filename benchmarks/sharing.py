"""What does weight-sharing cost on a large model, and how good is its k-means?

1. 100 million parameters (25 MatMuls of 2000 x 2000, normal weights whose scale differs between output channels, one
   file of 400 MB) at 4 bits: seconds of the pass and of encoding (bar: less than 60 s together, on 2 cores), the main
   process's peak (bar: less than 2.5 x the model), the ratio. Then the command end to end, without and with
   verification.
2. One-dimensional k-means: values a second, and its distortion over the least possible one, which dynamic programming
   finds exactly.
"""

import os
import shutil
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

import graphshrink
from benchmarks.measuring import MB, Request, graphshrink_command, in_fresh_process, request, spread, table
from graphshrink.encodings import Storage, encode_graph
from graphshrink.ir.weight import weights
from graphshrink.ops import why_not_a_weight
from graphshrink.passing.base import Context
from graphshrink.registry import passes_from
from graphshrink.solvers.kmeans import cluster_rows

_Floats = NDArray[np.float64]

_CHANNELS: Final = 2000
_LAYERS, _LAYERS_SHORT = 25, 2
_SCALES: Final = 0.35  # standard deviation of the logarithm of a channel's scale
_PASS: Final = "weight-sharing{bits=4}"


# ---- the large model


def write_model(path: Path, layers: int) -> None:
    """A chain of square MatMuls with ReLUs between them."""
    generator = np.random.default_rng(0)
    tensors: list[TensorProto] = []
    for index in range(layers):
        weight = generator.standard_normal((_CHANNELS, _CHANNELS), np.float32)
        scales = np.exp(_SCALES * generator.standard_normal(_CHANNELS)) * np.sqrt(2 / _CHANNELS)
        tensors.append(numpy_helper.from_array(weight * scales.astype(np.float32), f"weight_{index}"))
    nodes = [
        node
        for index in range(layers)
        for node in (
            helper.make_node("MatMul", [f"value_{index}", f"weight_{index}"], [f"product_{index}"], f"layer_{index}"),
            helper.make_node("Relu", [f"product_{index}"], [f"value_{index + 1}"], f"relu_{index}"),
        )
    ]
    ends = [
        helper.make_tensor_value_info(f"value_{index}", TensorProto.FLOAT, ["n", _CHANNELS]) for index in (0, layers)
    ]
    graph = helper.make_graph(nodes, "large", ends[:1], ends[1:], tensors)
    path.write_bytes(
        helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8).SerializeToString()
    )


def share(source: str, target: str, jobs: int) -> dict[str, float]:
    """Seconds of each step of a compilation without any verification; run in a process of its own."""
    (step,) = passes_from(_PASS)
    seconds: dict[str, float] = {}
    clock = time.perf_counter()

    def lap(name: str) -> None:
        nonlocal clock
        now = time.perf_counter()
        seconds[name], clock = now - clock, now

    graph = graphshrink.load(source)
    lap("load")
    step.run(graph, Context(jobs=jobs))
    lap("pass")
    encode_graph(graph, [weight for weight in weights(graph) if why_not_a_weight(weight) is None], Storage())
    lap("encode")
    graphshrink.save(graph, Path(target))
    lap("save")
    return seconds


def large(asked: Request, scratch: Path) -> dict[str, Any]:
    """The large model: the steps in a process of their own, then the command."""
    source, target = scratch / "large.onnx", scratch / "small.onnx"
    write_model(source, _LAYERS_SHORT if asked.short else _LAYERS)
    size, jobs = source.stat().st_size, os.cpu_count() or 1
    runs: list[dict[str, float]] = []
    peaks: list[Mapping[str, int]] = []
    for _ in range(1 if asked.short else 3):
        seconds, watched = in_fresh_process(share, source=str(source), target=str(target), jobs=jobs)
        runs.append(seconds)
        peaks.append(watched.main.as_dict())
    after = target.stat().st_size
    print(f"{size / MB:,.0f} MB -> {after / MB:,.1f} MB, {size / after:.3f} x; {_PASS}, {jobs} threads")
    print(table(("step", "seconds"), [(name, spread([run[name] for run in runs])) for name in runs[0]]))
    both = sorted(run["pass"] + run["encode"] for run in runs)[len(runs) // 2]
    print(f"pass + encode {both:.1f} s (bar 60 s: {asked.verdict(both, 60)})")
    found = {"bytes": size, "bytes_after": after, "runs": runs, "peaks": peaks, "pass_and_encode": both}
    return found | {"command": _commands(asked, source, target)}


def _commands(asked: Request, source: Path, target: Path) -> dict[str, Any]:
    size = source.stat().st_size
    rows: dict[str, Any] = {}
    for name, options in (("--no-verify", ["--no-verify"]), ("verified", [])):
        watched = graphshrink_command(str(source), str(target), "--passes", _PASS, "--quiet", *options)
        rows[name] = {"seconds": watched.seconds, "main": watched.main.as_dict(), "worker": watched.worker.as_dict()}
    header = (
        "command",
        "seconds",
        "main resident MB",
        "main anonymous MB",
        "worker resident MB",
        "resident / model",
        "bar 2.5",
    )
    lines: list[tuple[object, ...]] = []
    for name, row in rows.items():
        resident, anonymous = row["main"].values()
        sizes = (resident // MB, anonymous // MB, row["worker"]["resident_bytes"] // MB)
        lines.append(
            (name, f"{row['seconds']:.1f}", *sizes, f"{resident / size:.2f}", asked.verdict(resident / size, 2.5))
        )
    print("\n" + table(header, lines))
    return rows


# ---- k-means


def least_distortion(values: _Floats, k: int) -> float:
    """The least sum of squared distances to k centroids, exactly.

    Clusters of sorted values are contiguous, and the best place of the last cut rises with the number of values; so
    each layer of the dynamic program is solved by halving, O(n log n), all ends of one level at once.
    """
    ordered = np.sort(values) - np.mean(values)
    sums = np.concatenate(([0.0], np.cumsum(ordered)))
    squares = np.concatenate(([0.0], np.cumsum(ordered**2)))

    def cost(left: NDArray[np.intp], right: NDArray[np.intp]) -> _Floats:
        total = sums[right] - sums[left]
        within: _Floats = squares[right] - squares[left] - total**2 / np.maximum(right - left, 1)
        return np.maximum(within, 0.0)

    ends = np.arange(values.size + 1)
    best = cost(np.zeros_like(ends), ends)
    for _ in range(min(k, values.size) - 1):
        best = _next_layer(best, cost)
    return float(best[-1])


def _next_layer(best: _Floats, cost: Callable[[NDArray[np.intp], NDArray[np.intp]], _Floats]) -> _Floats:
    """min over cuts c <= i of best[c] + cost(c, i), for every i."""
    n = best.size - 1
    following = np.zeros_like(best)
    cuts = np.zeros(n + 1, np.intp)
    cuts[n] = n
    known = np.array([0, n], np.intp)  # ends whose cuts are known, once the last one is
    todo = np.array([n], np.intp)
    low = np.zeros(1, np.intp)
    while todo.size:
        high = np.minimum(cuts[known[np.searchsorted(known, todo)]], todo)
        counts = high - low + 1
        starts = np.concatenate(([0], np.cumsum(counts)[:-1]))
        candidates = np.arange(counts.sum()) - np.repeat(starts - low, counts)
        values = best[candidates] + cost(candidates, np.repeat(todo, counts))
        following[todo] = np.minimum.reduceat(values, starts)
        first = np.flatnonzero(values == np.repeat(following[todo], counts))
        owner = np.searchsorted(starts, first, side="right") - 1
        cuts[todo[owner[::-1]]] = candidates[first[::-1]]  # the lowest of equally good cuts is written last
        known = np.union1d(known, todo)
        todo = ((known[:-1] + known[1:]) // 2)[np.diff(known) > 1]
        low = cuts[known[np.searchsorted(known, todo) - 1]]
    return following


_DRAWS: Final[Mapping[str, Callable[[np.random.Generator, int], _Floats]]] = {
    "normal": lambda generator, n: generator.standard_normal(n),
    "laplace": lambda generator, n: generator.laplace(size=n),
    "student t3": lambda generator, n: generator.standard_t(3, n),
    "90 % zeros": lambda generator, n: np.where(generator.random(n) < 0.9, 0.0, generator.standard_normal(n)),
    "scales differ": lambda generator, n: generator.standard_normal(n) * np.exp(generator.standard_normal(n)),
}


def _samples(short: bool) -> Iterator[tuple[str, int, int]]:
    for name in _DRAWS:
        for k in (16,) if short else (4, 16, 64, 256):
            yield name, 2_000, k
    if not short:
        yield (
            "student t3",
            1_200_000,
            16,
        )  # long rows are summed up in bins first; one is enough, since the exact solution takes minutes


def kmeans(short: bool) -> list[dict[str, Any]]:
    """Distortion and speed over distributions, lengths and numbers of centroids."""
    rows: list[dict[str, Any]] = []
    for name, n, k in _samples(short):
        values = _DRAWS[name](np.random.default_rng(n + k), n).astype(np.float32)
        batch = values.reshape(1, -1) if n > 10_000 else np.tile(values, (20 if short else 500, 1))
        started = time.perf_counter()
        found = cluster_rows(batch, k)
        seconds = time.perf_counter() - started
        least = least_distortion(values.astype(np.float64), k)
        distortion = float(found.distortion[0])
        over = distortion / least - 1 if distortion > 0 else 0.0  # where it is 0, the exact solution is rounding
        rows.append({"values": name, "n": n, "k": k, "over_least": over, "values_a_second": batch.size / seconds})
    lines = [
        (
            row["values"],
            row["n"],
            row["k"],
            f"{max(row['over_least'], 0):.5%}",
            f"{row['values_a_second'] / 1e6:.3f}",
            "" if row["over_least"] <= 0.001 else "OVER",
        )
        for row in rows
    ]
    print(
        "\n"
        + table(
            ("values", "in a row", "k", "over the least distortion", "million values / s, 1 thread", "bar 0.1 %"), lines
        )
    )
    return rows


def main() -> None:
    """Run, print and store."""
    asked = request("sharing", __doc__)
    with tempfile.TemporaryDirectory(prefix="graphshrink-sharing-") as folder:
        if shutil.disk_usage(folder).free < 2000 * MB:
            raise SystemExit(f"{folder}: less than 2,000 MB are free; set TMPDIR to another disk")
        asked.save({"kmeans": kmeans(asked.short), "large": large(asked, Path(folder))})


if __name__ == "__main__":
    main()
