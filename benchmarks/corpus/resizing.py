"""Images resized as OpenCV does it, which the OCR packages use: pixels of the source are not averaged when it shrinks.

Differs from OpenCV's `INTER_LINEAR` and `INTER_LANCZOS4` by one step of brightness at most where those round within.
"""

from collections.abc import Callable
from functools import lru_cache
from typing import Literal, TypeAlias

import numpy as np
from numpy.typing import NDArray
from scipy import sparse

from benchmarks.corpus.base import Floats

Kernel: TypeAlias = Literal["linear", "lanczos4"]
Image: TypeAlias = NDArray[np.uint8]
"""(height, width, 3)"""


def _linear(distance: Floats) -> Floats:
    return np.asarray(np.maximum(0, 1 - np.abs(distance)))


def _lanczos4(distance: Floats) -> Floats:
    return np.where(np.abs(distance) < 4, np.sinc(distance) * np.sinc(distance / 4), 0)


_KERNELS: dict[Kernel, tuple[int, Callable[[Floats], Floats]]] = {"linear": (2, _linear), "lanczos4": (8, _lanczos4)}
"""How many neighbours count, and how much by their distance."""


def resize(image: Image, height: int, width: int, kernel: Kernel = "linear") -> Image:
    """The image at another size."""
    rows, columns, channels = image.shape
    shorter = _weights(rows, height, kernel) @ image.reshape(rows, -1).astype(np.float32)
    sideways = shorter.reshape(height, columns, channels).swapaxes(0, 1).reshape(columns, -1)
    both = (_weights(columns, width, kernel) @ sideways).reshape(width, height, channels).swapaxes(0, 1)
    return np.asarray(np.clip(np.rint(both), 0, 255), np.uint8)


@lru_cache(maxsize=64)
def _weights(before: int, after: int, kernel: Kernel) -> sparse.csr_array:
    """(after, before): how much each old value counts in each new one; beyond the ends the outermost values go on."""
    taps, weight_at = _KERNELS[kernel]
    places: Floats = (np.arange(after, dtype=np.float64) + 0.5) * (before / after) - 0.5
    neighbours = np.floor(places).astype(np.intp)[:, np.newaxis] + np.arange(1 - taps // 2, taps // 2 + 1)
    weights = weight_at(places[:, np.newaxis] - neighbours)
    weights /= weights.sum(axis=1, keepdims=True)
    targets = np.repeat(np.arange(after), taps)
    sources = np.clip(neighbours, 0, before - 1).ravel()
    return sparse.csr_array((weights.ravel().astype(np.float32), (targets, sources)), shape=(after, before))
