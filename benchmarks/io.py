"""How fast, and in how much memory, are models read and written?

1. 3 GB with external data: `graphshrink.load` + `graphshrink.save` against `onnx.load` + `onnx.save`, each in a fresh
   process (bars: less than 1.5 x the time, less than 2 GB peak); then the command `--passes none` end to end, with
   verification and without.
2. 100 MB in a single file, likewise (bar: at most 2 x).
3. 100,000 operators: load, check and emit (bar: less than 15 s), and `Graph.copy`.

`graphshrink.save` waits until the disk has the bytes, which `onnx.save` does not do; so both are also measured the
other way. All processes find their source in the page cache, and write to a fresh folder whose files are flushed and
removed after each run.
"""

import os
import shutil
import statistics
import tempfile
import time
from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import Any, Final

import numpy as np
import onnx
from onnx import TensorProto, helper

import graphshrink
from benchmarks.measuring import (
    MB,
    Peak,
    Request,
    graphshrink_command,
    in_fresh_process,
    request,
    spread,
    table,
)
from graphshrink.ir.check import check
from graphshrink.metrics.latency import interleaved, median_ratio

_NARROW: Final = 4096
_LARGE, _LARGE_SHORT = (24, 8192), (3, 256)  # weights, and how wide each is: 24 of 134 MB
_SINGLE, _SINGLE_SHORT = (6, 1024), (2, 128)  # 6 of 17 MB
_OPERATORS, _OPERATORS_SHORT = 100_000, 2_000


# ---- models


def write_chain(folder: Path, count: int, wide: int, *, external: bool) -> Path:
    """A chain of MatMuls between 4096 and `wide` channels, with float32 weights that are all different."""
    block = np.random.default_rng(0).standard_normal((_NARROW, wide), np.float32) / np.float32(np.sqrt(wide))
    folder.mkdir()
    names = [f"weight_{index}" for index in range(count)]
    shapes = [(_NARROW, wide) if index % 2 == 0 else (wide, _NARROW) for index in range(count)]
    tensors = [
        TensorProto(name=name, dims=shape, data_type=TensorProto.FLOAT)
        for name, shape in zip(names, shapes, strict=True)
    ]
    with (folder / "model.data").open("wb") as data:
        for index, tensor in enumerate(tensors):
            content = (block * np.float32(1 + index / 64)).tobytes()
            if not external:
                tensor.raw_data = content
                continue
            tensor.data_location = TensorProto.EXTERNAL
            for key, value in (("location", "model.data"), ("offset", data.tell()), ("length", len(content))):
                tensor.external_data.add(key=key, value=str(value))
            data.write(content)
    values = ["input", *(f"value_{index}" for index in range(count - 1)), "output"]
    nodes = [
        helper.make_node("MatMul", [values[index], name], [values[index + 1]], f"layer_{index}")
        for index, name in enumerate(names)
    ]
    last = _NARROW if count % 2 == 0 else wide
    graph = helper.make_graph(nodes, "chain", [_floats("input", _NARROW)], [_floats("output", last)], tensors)
    path = folder / "model.onnx"
    path.write_bytes(
        helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8).SerializeToString()
    )
    return path


def write_many(path: Path, count: int) -> None:
    """A chain of `count` operators, Add and Relu in turn; Add takes an initializer, every tenth an earlier value."""
    nodes: list[onnx.NodeProto] = []
    tensors: list[onnx.TensorProto] = []
    value = "input"
    for index in range(count):
        following = "output" if index == count - 1 else f"value_{index}"
        if index % 2 == 0:
            other = f"bias_{index}"
            tensors.append(onnx.numpy_helper.from_array(np.full(4, index, np.float32), other))
            nodes.append(
                helper.make_node(
                    "Add",
                    [value, f"value_{index - 9}" if index % 10 == 0 and index else other],
                    [following],
                    f"add_{index}",
                )
            )
        else:
            nodes.append(helper.make_node("Relu", [value], [following], f"relu_{index}"))
        value = following
    graph = helper.make_graph(nodes, "many", [_floats("input", 4)], [_floats("output", 4)], tensors)
    path.write_bytes(
        helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8).SerializeToString()
    )


def _floats(name: str, channels: int) -> onnx.ValueInfoProto:
    return helper.make_tensor_value_info(name, TensorProto.FLOAT, [1, channels])


# ---- what is run in processes of its own; each gives its seconds


def by_graphshrink(source: str, target: str, flush: bool) -> float:
    """`graphshrink.load` and `graphshrink.save`."""
    load, save = graphshrink.load, graphshrink.save
    started = time.perf_counter()
    save(load(source), Path(target), durable=flush)
    return time.perf_counter() - started


def by_onnx(source: str, target: str, external: bool, flush: bool) -> float:
    """`onnx.load` and `onnx.save`."""
    started = time.perf_counter()
    model = onnx.load(source)
    if external:
        onnx.save(model, target, save_as_external_data=True, location="model.data")
    else:
        onnx.save(model, target)
    if flush:
        _flush(Path(target).parent)
    return time.perf_counter() - started


def many_operators(source: str) -> dict[str, float]:
    """Seconds of each step on a model of many operators; `onnx` is `onnx.load` + `SerializeToString` for comparison."""
    seconds: dict[str, float] = {}
    clock = time.perf_counter()

    def lap(name: str) -> None:
        nonlocal clock
        now = time.perf_counter()
        seconds[name], clock = now - clock, now

    graph = graphshrink.load(source)
    lap("load")
    check(graph)
    lap("check again")
    graph.copy()
    lap("copy")
    emitted = graphshrink.emit(graph)
    lap("emit")
    original = onnx.load(source)
    original.SerializeToString()
    lap("onnx")
    assert emitted == original
    return seconds


def _flush(folder: Path) -> None:
    for path in folder.iterdir():
        with path.open("rb") as file:
            os.fsync(file.fileno())


# ---- the benchmark


def copying(source: Path, scratch: Path, rounds: int, *, external: bool) -> dict[str, Any]:
    """Load and save by both, alternating, each in a fresh process."""
    peaks: dict[str, Peak] = {}

    def job(name: str, function: Any, **options: bool) -> float:
        target = scratch / "copy"
        target.mkdir()
        seconds, watched = in_fresh_process(function, source=str(source), target=str(target / "model.onnx"), **options)
        peaks[name] = max(peaks.get(name, Peak()), watched.main, key=lambda peak: peak.resident)
        _flush(target)
        shutil.rmtree(target)
        return float(seconds)

    jobs = {
        "graphshrink": partial(job, "graphshrink", by_graphshrink, flush=True),
        "onnx": partial(job, "onnx", by_onnx, external=external, flush=False),
        "graphshrink, not flushed": partial(job, "graphshrink, not flushed", by_graphshrink, flush=False),
        "onnx, flushed": partial(job, "onnx, flushed", by_onnx, external=external, flush=True),
    }
    seconds = interleaved(jobs, rounds)
    return {
        "bytes": sum(path.stat().st_size for path in source.parent.iterdir()),
        "seconds": seconds,
        "ratio": median_ratio(seconds["graphshrink"], seconds["onnx"]),
        "ratio_neither_flushed": median_ratio(seconds["graphshrink, not flushed"], seconds["onnx"]),
        "ratio_both_flushed": median_ratio(seconds["graphshrink"], seconds["onnx, flushed"]),
        "peaks": {name: peak.as_dict() for name, peak in peaks.items()},
    }


def _print_copying(asked: Request, title: str, found: Mapping[str, Any], bar: float) -> None:
    rows = [
        (name, spread(seconds), *(size // MB for size in found["peaks"][name].values()))
        for name, seconds in found["seconds"].items()
    ]
    rounds = len(found["seconds"]["onnx"])
    print(f"\n{title}: {found['bytes'] / MB:,.0f} MB, load + save, median (least-largest) of {rounds}")
    print(table(("by", "seconds", "peak resident MB", "of it anonymous MB"), rows))
    print(f"as shipped {found['ratio']:.2f} x onnx (bar {bar} x: {asked.verdict(found['ratio'], bar)}); ", end="")
    print(f"neither flushed {found['ratio_neither_flushed']:.2f} x, both flushed {found['ratio_both_flushed']:.2f} x")


def end_to_end(source: Path, scratch: Path) -> dict[str, Any]:
    """The command with `--passes none`, without and with verification."""
    rows: dict[str, Any] = {}
    for name, options in (("--no-verify", ["--no-verify"]), ("verified", [])):
        target = scratch / "end-to-end"
        target.mkdir()
        watched = graphshrink_command(str(source), str(target / "model.onnx"), "--passes", "none", "--quiet", *options)
        rows[name] = {"seconds": watched.seconds, "main": watched.main.as_dict(), "worker": watched.worker.as_dict()}
        shutil.rmtree(target)
    rows["verification_seconds"] = rows["verified"]["seconds"] - rows["--no-verify"]["seconds"]
    return rows


def _print_end_to_end(rows: Mapping[str, Any]) -> None:
    header = (
        "graphshrink --passes none",
        "seconds",
        "main resident MB",
        "main anonymous MB",
        "worker resident MB",
        "worker anonymous MB",
    )
    names = ("--no-verify", "verified")
    sizes = {name: [size // MB for side in ("main", "worker") for size in rows[name][side].values()] for name in names}
    print("\n" + table(header, [(name, f"{rows[name]['seconds']:.1f}", *sizes[name]) for name in names]))
    print(
        f"verification takes {rows['verification_seconds']:.1f} s; ONNX Runtime runs both models in the worker process"
    )


def many(asked: Request, scratch: Path) -> dict[str, Any]:
    """Many operators: median seconds of three processes."""
    path, count = scratch / "many.onnx", _OPERATORS_SHORT if asked.short else _OPERATORS
    write_many(path, count)
    runs = [in_fresh_process(many_operators, source=str(path))[0] for _ in range(3)]
    seconds = {step: statistics.median(run[step] for run in runs) for step in runs[0]}
    total = statistics.median(run["load"] + run["check again"] + run["emit"] for run in runs)
    print(f"\n{count:,} operators, seconds (load checks too)")
    print(
        table(
            (*seconds, "load + check + emit", "bar 15 s"),
            [(*(f"{s:.2f}" for s in seconds.values()), f"{total:.2f}", asked.verdict(total, 15))],
        )
    )
    return {"operators": count, "seconds": seconds, "load_check_emit": total}


def run(asked: Request, scratch: Path) -> dict[str, Any]:
    """All three parts."""
    found: dict[str, Any] = {"many": many(asked, scratch)}
    rounds, many_rounds = (1, 1) if asked.short else (3, 9)
    source = write_chain(scratch / "single", *(_SINGLE_SHORT if asked.short else _SINGLE), external=False)
    found["single"] = copying(source, scratch, many_rounds, external=False)
    _print_copying(asked, "single file", found["single"], 2.0)
    shutil.rmtree(source.parent)
    source = write_chain(scratch / "large", *(_LARGE_SHORT if asked.short else _LARGE), external=True)
    _flush(source.parent)
    found["large"] = copying(source, scratch, rounds, external=True)
    _print_copying(asked, "external data", found["large"], 1.5)
    peak = max(found["large"]["peaks"][name]["resident_bytes"] for name in ("graphshrink", "graphshrink, not flushed"))
    judged = asked.verdict(peak / MB, 2000)
    print(f"peak of graphshrink {peak / MB:,.0f} MB, mapped pages of files counted (bar 2000 MB: {judged})")
    found["end_to_end"] = end_to_end(source, scratch)
    _print_end_to_end(found["end_to_end"])
    return found


def main() -> None:
    """Run, print and store."""
    asked = request("io", __doc__)
    with tempfile.TemporaryDirectory(prefix="graphshrink-io-") as folder:
        free = shutil.disk_usage(folder).free
        if not asked.short and free < 12_000 * MB:
            raise SystemExit(f"{folder}: {free / MB:,.0f} MB free, and 12,000 are needed; set TMPDIR to another disk")
        asked.save(run(asked, Path(folder)))


if __name__ == "__main__":
    main()
