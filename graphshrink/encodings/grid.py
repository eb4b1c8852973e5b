"""Grid: whole numbers, and a scale for all of them or for each channel, as quantisers leave them behind.

    steps ─▶ Cast ─▶ Mul(scale) "gs:grid/gs7" ─▶ weight

The steps are bytes, or a codebook of their own where they take few distinct values: one codebook then serves channels
of any scale. Unlike a codebook of the weights, neither grows with the number of channels.
"""

from collections.abc import Hashable
from dataclasses import dataclass
from typing import ClassVar, Final

import numpy as np

from graphshrink.encodings.base import Builder
from graphshrink.encodings.codebook import Codebook, CodebookEncoded
from graphshrink.encodings.uniform import find_grid
from graphshrink.ir.operator import Operator
from graphshrink.ir.tensor import ELEM_TYPES
from graphshrink.ir.types import Array

_CODEBOOK_BYTES: Final = 250  # about what a codebook's operators take beyond a Cast
_FEW: Final = 128  # distinct values: a byte each takes more room than a codebook does


@dataclass(frozen=True, slots=True, eq=False)
class GridEncoded:
    """A tensor as steps and scale.

    Attributes:
        steps: int8 or uint8 in the shape of the tensor, or the steps in the tensor's type in codebook form.
        scale: in the tensor's type; broadcasts to its shape.
    """

    encoding: ClassVar[str] = "grid"
    steps: Array | CodebookEncoded
    scale: Array

    @property
    def tables(self) -> Hashable:
        """Those of the codebook."""
        return self.steps.tables if isinstance(self.steps, CodebookEncoded) else ()

    def decode(self) -> Array:
        """The tensor, bit for bit."""
        steps = self.steps.decode() if isinstance(self.steps, CodebookEncoded) else self.steps
        decoded: Array = steps.astype(self.scale.dtype) * self.scale
        return decoded

    def emit(self, builder: Builder, output: str) -> None:
        """Steps -> Cast or a codebook's operators -> Mul -> the tensor; see docs/format.md."""
        if isinstance(self.steps, CodebookEncoded):
            steps = next(builder.names)
            self.steps.emit(builder, steps)
            builder.unmark()
        else:
            steps = builder.op("Cast", builder.constant(self.steps), to=ELEM_TYPES[self.scale.dtype])
        builder.op("Mul", steps, builder.constant(self.scale), output=output, mark=self.encoding)


class Grid:
    """Finds weights that are whole multiples of a scale."""

    name: ClassVar[str] = "grid"
    min_opset: ClassVar[int] = 9

    def encode(self, array: Array) -> GridEncoded | None:
        """None where the weights are no float32 on uniform grids of at most 256 steps, or are too few to gain.

        ONNX Runtime has no product of float16 on CPUs: it computes it at every run, in float32 and not rounded.
        OpenVINO computes that of float64 in float32.
        """
        if array.dtype != np.float32:
            return None
        grid = find_grid(array, sorted({0, 1, array.ndim - 1}) if array.ndim > 1 else ())
        if grid is None:
            return None
        narrow, few = _bytes(grid.steps), Codebook().encode(grid.steps.astype(array.dtype))
        steps = few if narrow is None or (few is not None and _saves(few, narrow)) else narrow
        if steps is None or array.size + grid.scale.nbytes >= array.nbytes:
            return None
        return GridEncoded(steps, grid.along_axis(grid.scale))


def _bytes(steps: Array) -> Array | None:
    """The steps as bytes, with a sign or without, if they fit."""
    low, high = int(steps.min()), int(steps.max())
    for dtype in (np.int8, np.uint8):
        limits = np.iinfo(dtype)
        if limits.min <= low and high <= limits.max:
            return steps.astype(dtype)
    return None


def _saves(few: CodebookEncoded, narrow: Array) -> bool:
    """Whether a codebook of the steps takes less room than a byte for each."""
    stored = sum(codes.nbytes for codes in few.codes) + few.entries.nbytes
    return few.entries.shape[1] <= _FEW and stored + _CODEBOOK_BYTES < narrow.nbytes


def multiply(operator: Operator, inputs: list[Array]) -> Array | None:
    """What a Mul computes, if it has the form that grids have: floats times a scale that broadcasts to their shape."""
    steps, scale = inputs
    if steps.dtype != scale.dtype or steps.dtype.kind != "f" or np.broadcast(steps, scale).shape != steps.shape:
        return None
    product: Array = steps * scale
    return product
