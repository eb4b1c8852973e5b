"""The proof that channels were removed and nothing else was done: the same outputs as with zeros in their place."""

from dataclasses import dataclass, field
from typing import Final

import numpy as np

from graphshrink.calibration.engine import Calibration
from graphshrink.calibration.observing import Observed
from graphshrink.errors import JudgeError
from graphshrink.ir.graph import Graph
from graphshrink.ir.tensor import ELEM_TYPES, FLOATING
from graphshrink.ir.types import Array, Feeds
from graphshrink.ops.coupling.analysis import Couplings, Group
from graphshrink.ops.coupling.cutting import Gone, cut_of, remove
from graphshrink.ops.coupling.masking import masked

TOLERANCE: Final = 1e-3
"""The largest relative difference of an output, in the Frobenius norm, that rounding in float32 explains."""

_HALF: Final = 3e-2  # the same, where values are float16 or bfloat16
_SAMPLES: Final = 2
_TINY: Final = 1e-6  # outputs of less than this, in the mean, are as good as zero


@dataclass(slots=True)
class Proof:
    """Removals from a graph, each of which is run beside the graph with zeros instead.

    Attributes:
        couplings: of the graph, which stays as it is.
        observed: what one run showed of it.
        calibration: gives samples.
        difference: the last one that was found, relative, of the worst output; infinite where a model did not run.
    """

    couplings: Couplings
    observed: Observed
    calibration: Calibration
    difference: float = 0.0
    _original: list[Feeds] = field(default_factory=lambda: list[Feeds]())

    def proven(self, gone: Gone) -> tuple[dict[Group, Array], list[Group]]:
        """What of it can be removed; and the groups for which that is not so."""
        left, broken = dict(gone), list[Group]()
        while left and not self._holds(left):
            bad = [group for group, channels in left.items() if not self._holds({group: channels})] or list(left)
            broken += bad
            left = {group: channels for group, channels in left.items() if group not in bad}
        return left, broken

    def _holds(self, gone: Gone) -> bool:
        wide = masked(self.couplings, cut_of(self.couplings, gone), self.observed.dtypes)
        narrow = self.couplings.graph.copy()
        remove(self.couplings, gone, narrow)
        try:
            expected, found = self._outputs(wide), self._outputs(narrow)
            original = self._original = self._original or self._outputs(self.couplings.graph)
        except JudgeError:
            self.difference = float("inf")
            return False
        self.difference = max([0.0, *map(_far, expected, found, original)])
        return self.difference <= self._tolerance

    def _outputs(self, graph: Graph) -> list[Feeds]:
        """Quantised products are fused into kernels that round otherwise, unless zeros stand between them."""
        quantised = any(operator.is_a("DequantizeLinear", "QuantizeLinear") for _, operator in graph.operators())
        return self.calibration.outputs(graph, _SAMPLES, optimise=not quantised)

    @property
    def _tolerance(self) -> float:
        """The largest difference that rounding explains, by the types of the graph's values."""
        kinds = [dtype for dtype in self.observed.dtypes.values() if ELEM_TYPES.get(dtype) in FLOATING]
        return _HALF if any(dtype.itemsize == 2 for dtype in kinds) else TOLERANCE


def _far(expected: Feeds, found: Feeds, original: Feeds) -> float:
    """The largest difference of an output, relative to what it is, or was: zeros in a model may leave little of it."""
    return max([0.0, *(_apart(expected[name], found[name], original[name]) for name in expected)])


def _apart(a: Array, b: Array, was: Array) -> float:
    if a.shape != b.shape:
        return float("inf")
    if not a.size:
        return 0.0
    if a.dtype.kind in "biuOSU":
        return float(np.count_nonzero(a != b)) / max(1, a.size)
    wide, narrow = a.astype(np.float64), b.astype(np.float64)
    there = np.isfinite(wide)
    if not np.array_equal(there, np.isfinite(narrow)):
        return float("inf")
    apart = float(np.linalg.norm((wide - narrow)[there]))
    norm = max(float(np.linalg.norm(wide[there])), float(np.linalg.norm(was.astype(np.float64)[np.isfinite(was)])))
    return apart / max(norm, _TINY * float(np.sqrt(wide.size)))
