"""Is Net-Trim's ADMM right, fast, and small enough?

1. 50 small problems, random and cut from LeNet-300-100 on MNIST: distance of the objective to that of the full program
   in cvxpy (bar: 1e-3), and breach of the constraints (bar: 1e-4).
2. LeNet-300-100's first layer with 10,000 samples: processor time beside the full program (bar: 100 x, from five
   neurons) and beside plain ADMM with rho = 1 until it has the same objective within 1e-3 (bar: 3 x).
3. A layer of 4096 x 4096 with 20,000 samples: peak memory (bar: 4 GiB) and seconds.

Part 2 counts seconds of the processor, since its runs take minutes, too long to interleave; run it with
OPENBLAS_NUM_THREADS=1, so that all solvers have one thread.
Results are written after each part, so that a run that is broken off keeps what it has.
"""

import os
from collections.abc import Callable, Mapping
from typing import Any, Final

from benchmarks.measuring import Request, request
from benchmarks.net_trim.agreement import agreement
from benchmarks.net_trim.large import large
from benchmarks.net_trim.speed import speed

_PARTS: Final[Mapping[str, Callable[[Request], Any]]] = {"agreement": agreement, "speed": speed, "large": large}
_BLAS: Final = ("OPENBLAS_NUM_THREADS", "OPENBLAS_CORETYPE")


def main() -> None:
    """Run, print and store."""
    asked = request("net_trim", __doc__)
    found: dict[str, Any] = {"environment": {name: os.environ.get(name) for name in _BLAS}}
    for name, measure in _PARTS.items():
        found[name] = measure(asked)
        asked.save(found)


if __name__ == "__main__":
    main()
