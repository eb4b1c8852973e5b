"""Seconds to encode one large weight."""

import os
import time
from typing import Any, Final

from benchmarks.encodings.samples import Setting, draw, encoded, matmul
from benchmarks.measuring import MB, Request, in_fresh_process, spread, table
from graphshrink.encodings import ENCODINGS

_N, _N_SHORT = 10_000_000, 200_000
_BAR: Final = 20  # seconds
_CHOICE: Final = "small"
_JOBS: Final = (("huffman", 1, 16), ("huffman", 0.1, 16), ("sparse", 0.1, 16), (_CHOICE, 1, 16), (_CHOICE, 0.1, 16))


def encode(name: str, n: int, density: float, values: int) -> float:
    """Seconds of one encoding, or of choosing among those of a policy; run in a process of its own."""
    weight = draw(Setting(n, density, values)).weight
    if name == _CHOICE:
        model = matmul(weight)
        started = time.perf_counter()
        encoded(model, _CHOICE)
        return time.perf_counter() - started
    encoding = next(encoding for encoding in ENCODINGS if encoding.name == name)
    started = time.perf_counter()
    if encoding.encode(weight) is None:
        raise ValueError(f"{name} does not apply")
    return time.perf_counter() - started


def speed(asked: Request) -> list[dict[str, Any]]:
    """All encodings that take long."""
    rows: list[dict[str, Any]] = []
    for name, density, values in _JOBS:
        setting = Setting(_N_SHORT if asked.short else _N, density, values)
        asked.note(f"{name} {setting.text}")
        runs = [in_fresh_process(encode, name=name, **setting._asdict()) for _ in range(1 if asked.short else 3)]
        seconds = [float(run) for run, _ in runs]
        peak = max(watched.main.resident for _, watched in runs)
        rows.append({"encoding": name, **setting._asdict(), "seconds": seconds, "resident_bytes": peak})
    print(f"\nEncoding; {_CHOICE}: the choice among all of them, reading and emitting included; {os.cpu_count()} CPUs")
    lines = [
        (
            *(row["encoding"], Setting(row["n"], row["density"], row["values"]).text, spread(row["seconds"])),
            *(asked.verdict(max(row["seconds"]), _BAR), row["resident_bytes"] // MB),
        )
        for row in rows
    ]
    print(table(("encoding", "weights", "seconds", f"bar {_BAR} s", "peak resident MB"), lines))
    return rows
