"""Noisy copies of a layer's rows, where there are too few to tell what each input is for."""

from typing import Final

import numpy as np

from graphshrink.ir.types import Array
from graphshrink.passes._layer_rows import Both, Rows

_ROWS: Final = 2  # for each input: with fewer, noisy copies are added
_NOISE: Final = 0.5  # of an input's size
_FLOOR: Final = 0.1  # of the mean energy of all inputs, for inputs that the samples do not show


def enough(rows: Both, generator: np.random.Generator, memory: int) -> Both:
    """With noisy copies of the rows, where there are too few to tell what each input is for.

    Fitted to fewer rows than inputs, weights do anything at all on other rows. What the layer does near the rows that
    there are keeps them in check, by inputs of each one's own size.

    Args:
        rows: they.
        generator: of the noise.
        memory: bytes that rows and copies may take; there are fewer copies where they would take more.
    """
    (inputs, skips), (inputs_now, skips_now) = ((part.inputs, part.skips) for part in rows)
    groups, count, width = inputs.shape
    held = [array for part in rows for array in (part.inputs, part.skips) if array is not None]
    affordable = memory * count // sum(array.nbytes for array in held)
    missing = min(_ROWS * width, affordable) - count
    if missing <= 0:
        return rows
    source = np.arange(missing, dtype=np.intp) % count
    energy = np.mean(inputs.astype(np.float64) ** 2, axis=1, keepdims=True)
    size = np.sqrt(energy + _FLOOR * energy.mean(axis=2, keepdims=True))
    noise = generator.standard_normal((groups, missing, width), np.float32)
    noise *= (_NOISE * size).astype(np.float32)

    def more(kept: Array, added: Array | float = 0.0) -> Array:
        return np.concatenate([kept, kept[:, source] + added], axis=1)

    return Both(
        Rows(more(inputs, noise), None if skips is None else more(skips)),
        Rows(more(inputs_now, noise), None if skips_now is None else more(skips_now)),
    )
