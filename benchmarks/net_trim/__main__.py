"""Is Net-Trim right, fast, small enough, and better than the paper and than magnitude pruning?

1. agreement: 50 small problems, random and cut from LeNet-300-100 on MNIST: distance of ADMM's objective to that of the
   full program in cvxpy (bar: 1e-3), and breach of the constraints (bar: 1e-4).
2. speed: LeNet-300-100's first layer with 10,000 samples: processor time beside the full program (bar: 100 x, from five
   neurons) and beside plain ADMM with rho = 1 until it has the same objective within 1e-3 (bar: 3 x). Its runs take
   minutes, too long to interleave, so that other time would say nothing.
3. large: a layer of 4096 x 4096 with 20,000 samples: peak memory (bar: 4 GiB) and seconds.
4. spirals: the network of nested spirals: weights left (bar: 3,156) at a relative discrepancy of .046 on a grid.
5. lenet: the fully connected layers of the paper's LeNet at 6.8 % (bar: accuracy falls by less than .73 points).
6. magnitude: every model at three densities beside magnitude pruning (bar: lower error on held-out inputs, at most 5 %
   of the weights left alone).

Run it with OPENBLAS_NUM_THREADS=1, so that all solvers have one thread.
Results are written after each part, and after each model of the last one, whose table goes to results/net_trim.md too,
so that a run that is broken off keeps what it has. With `--parts` or `--models` what the file says of the others stays.
"""

import json
import os
from collections.abc import Callable, Iterable, Iterator, Mapping
from datetime import UTC, datetime
from typing import Any, Final, cast

from benchmarks.measuring import Request, request
from benchmarks.net_trim.agreement import agreement
from benchmarks.net_trim.inputs import SOURCES
from benchmarks.net_trim.large import large
from benchmarks.net_trim.lenet import lenet
from benchmarks.net_trim.magnitude import magnitude, shown, verdict
from benchmarks.net_trim.speed import speed
from benchmarks.net_trim.spirals import spirals

_PARTS: Final[Mapping[str, Callable[[Request], Any]]] = {
    "agreement": agreement,
    "speed": speed,
    "large": large,
    "spirals": spirals,
    "lenet": lenet,
    "magnitude": magnitude,
}
_BLAS: Final = ("OPENBLAS_NUM_THREADS", "OPENBLAS_CORETYPE")


def main() -> None:
    """Run, print and store."""
    asked = request("net_trim", __doc__, {"parts": _PARTS, "models": SOURCES})
    found = _before(asked) if any(asked.only.values()) else {}
    found["environment"] = {name: os.environ.get(name) for name in _BLAS}
    dates: dict[str, str] = found.setdefault("dates", {})
    for name in asked.only["parts"] or tuple(_PARTS):
        answer = _PARTS[name](asked)
        states = cast("Iterable[Any]", answer if isinstance(answer, Iterator) else (answer,))
        for state in states:
            found[name] = _merged(found.get(name), state) if name == "magnitude" and asked.only["models"] else state
            dates[name] = datetime.now(UTC).isoformat(timespec="seconds")
            asked.save(found)
            if name == "magnitude" and asked.into is not None:
                text = f"{shown(found[name])}\n\n{verdict(asked, found[name])}\n"
                asked.into.with_suffix(".md").write_text(text, encoding="utf-8")


def _before(asked: Request) -> dict[str, Any]:
    """What the file of results says by now, of all parts."""
    if asked.into is None or not asked.into.exists():
        return {}
    known: dict[str, Any] = json.loads(asked.into.read_text(encoding="utf-8"))
    return {name: known[name] for name in (*_PARTS, "dates") if name in known}


def _merged(known: list[dict[str, Any]] | None, rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Rows by model, the new ones in the place of the old ones."""
    new = {row["model"] for row in rows}
    return sorted([*(row for row in known or [] if row["model"] not in new), *rows], key=_place)


def _place(row: Mapping[str, Any]) -> int:
    return list(SOURCES).index(row["model"])


if __name__ == "__main__":
    main()
