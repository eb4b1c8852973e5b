"""What do encoded weights cost: in bytes, at load, and to make?

1. Independent Laplace weights, pruned and on a grid: bytes of the file beside the entropy of positions and values, and
   what is code tables and fixed cost (bars: without these at most 1.05 x the entropy from a million weights on, 1.12 at
   100,000; 2,500 bytes a file, and 200 + 6 for each symbol a tensor).
2. All testmodels and models of the corpus with weights clustered at 4 bits: encoded weights with all that decodes them
   beside `zstd -19` and `xz -9` of the same bytes (bar: less than both).
3. Loading in ONNX Runtime beside a plain Cast + Gather with one index a weight (bars: `fast` at most 1 x, `small` 3 x),
   its memory beyond that of the plain model (8 and 16 bytes a weight), and what is left to run.
4. Seconds to encode 10 million weights (bar: 20).

Results are written after each part, so that a run that is broken off keeps what it has.
"""

import shutil
import tempfile
from collections.abc import Callable, Mapping
from typing import Any, Final

from benchmarks.encodings.entropy import entropy
from benchmarks.encodings.loading import loading
from benchmarks.encodings.packers import against_packers
from benchmarks.encodings.samples import SEED
from benchmarks.encodings.speed import speed
from benchmarks.measuring import MB, Request, request

_PARTS: Final[Mapping[str, Callable[[Request], list[dict[str, Any]]]]] = {
    "entropy": entropy,
    "packers": against_packers,
    "load": loading,
    "encode": speed,
}


def main() -> None:
    """Run, print and store."""
    asked = request("encodings", __doc__)
    if not asked.short and shutil.disk_usage(tempfile.gettempdir()).free < 1000 * MB:
        raise SystemExit(f"{tempfile.gettempdir()}: less than 1,000 MB are free; set TMPDIR to another disk")
    found: dict[str, Any] = {"seed": SEED}
    for name, measure in _PARTS.items():
        found[name] = measure(asked)
        asked.save(found)


if __name__ == "__main__":
    main()
