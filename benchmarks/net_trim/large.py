"""Memory and time of a large layer, and how time grows with samples."""

import time
from typing import Any, Final

from benchmarks.measuring import MB, Request, in_fresh_process, table
from benchmarks.net_trim.problems import synthetic
from graphshrink.solvers.net_trim import solve

_INPUTS, _NEURONS, _SAMPLES = 4096, 4096, 20_000
_SHORT: Final = (256, 256, 2_000)
_SHARE: Final = 0.1
_BAR: Final = 4 * 1024**3


def large_layer(samples: int, inputs: int, neurons: int, iterations: int) -> dict[str, Any]:
    """Solve; run in a process of its own."""
    problem = synthetic(samples, inputs, neurons, _SHARE, seed=4)
    started = time.perf_counter()
    found = solve(problem, "admm", iterations=iterations)
    return {
        "shape": problem.shape,
        "seconds": time.perf_counter() - started,
        "iterations": found.iterations,
        "gap": found.gap,
        "violation": found.violation,
        "reason": found.reason,
        "density": float((found.weights != 0).mean()),
    }


def large(asked: Request) -> list[dict[str, Any]]:
    """The whole layer, and a smaller one with half and all of the samples."""
    inputs, neurons, samples = _SHORT if asked.short else (_INPUTS, _NEURONS, _SAMPLES)
    small = [(n, inputs // 8, neurons // 8, 50) for n in (samples // 2, samples)]
    rows: list[dict[str, Any]] = []
    for shape in (*small, (samples, inputs, neurons, 1000)):
        asked.note(f"{shape[0]:,} samples of a layer {shape[1]} x {shape[2]}")
        names = ("samples", "inputs", "neurons", "iterations")
        found, watched = in_fresh_process(large_layer, **dict(zip(names, shape, strict=True)))
        rows.append({**found, "resident_bytes": watched.main.resident})
    lines = [
        (
            *row["shape"],
            f"{row['seconds']:.1f}",
            row["iterations"],
            f"{row['gap']:.1e}",
            f"{row['violation']:.1e}",
            f"{row['density']:.3f}",
            row["resident_bytes"] // MB,
        )
        for row in rows
    ]
    print("\nLarge layers")
    header = ("samples", "inputs", "neurons", "seconds", "iterations", "gap", "breach", "density", "peak resident MB")
    print(table(header, lines))
    print(f"bar {_BAR // 1024**3} GiB: {asked.verdict(rows[-1]['resident_bytes'], _BAR)}")
    return rows
