"""The proof that channels were removed and nothing else was done: the same outputs as with zeros in their place."""

from typing import Final

import numpy as np

from graphshrink.calibration.engine import Calibration
from graphshrink.calibration.observing import Observed
from graphshrink.errors import JudgeError
from graphshrink.ir.graph import Graph
from graphshrink.ir.types import Array, Feeds
from graphshrink.ops.coupling.analysis import Couplings, Group
from graphshrink.ops.coupling.cutting import Gone, cut_of, remove
from graphshrink.ops.coupling.masking import masked

TOLERANCE: Final = 1e-3
"""The largest relative difference of an output, in the Frobenius norm, that rounding in float32 explains."""

_HALF: Final = 3e-2  # the same, where values are float16 or bfloat16
_SAMPLES: Final = 2


def difference(couplings: Couplings, gone: Gone, observed: Observed, calibration: Calibration) -> float:
    """How far a graph without channels is from the graph with zeros in their place, relative; infinite if it fails.

    The graph that was analysed stays as it is.
    """
    wide = masked(couplings, cut_of(couplings, gone), observed.dtypes)
    narrow = couplings.graph.copy()
    remove(couplings, gone, narrow)
    try:
        expected = calibration.outputs(wide, _SAMPLES)
        found = calibration.outputs(narrow, _SAMPLES)
    except JudgeError:
        return float("inf")
    return max((_far(a, b) for a, b in zip(expected, found, strict=True)), default=0.0)


def tolerance(graph: Graph, observed: Observed) -> float:
    """The largest difference that rounding explains, by the types of the graph's values."""
    halves = any(observed.dtypes[name].itemsize == 2 for name in observed.dtypes if observed.dtypes[name].kind in "fV")
    return _HALF if halves else TOLERANCE


def unproven(
    couplings: Couplings, gone: Gone, observed: Observed, calibration: Calibration, within: float
) -> list[Group]:
    """The groups whose channels cannot be removed as they should: none if all of them together can."""
    if difference(couplings, gone, observed, calibration) <= within:
        return []
    alone = [{group: channels} for group, channels in gone.items()]
    bad = [group for one in alone for group in one if not difference(couplings, one, observed, calibration) <= within]
    return bad or list(gone)


def _far(expected: Feeds, found: Feeds) -> float:
    return max((_apart(expected[name], found[name]) for name in expected), default=0.0)


def _apart(a: Array, b: Array) -> float:
    if a.shape != b.shape:
        return float("inf")
    if a.dtype.kind in "biuOSU":
        return 0.0 if np.array_equal(a, b) else float(np.mean(a != b))
    wide, narrow = a.astype(np.float64), b.astype(np.float64)
    there = np.isfinite(wide)
    if not np.array_equal(there, np.isfinite(narrow)):
        return float("inf")
    norm = float(np.linalg.norm(wide[there]))
    return float(np.linalg.norm((wide - narrow)[there])) / max(norm, 1e-6 * wide.size**0.5)
