"""Small shared types: arrays, element types, and the description of a model's inputs and outputs."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt

Array: TypeAlias = npt.NDArray[Any]
Feeds: TypeAlias = Mapping[str, Array]
"""One sample: a value for every model input, by name."""

Dim: TypeAlias = int | str | None
"""A size, the name of a symbolic size, or None where nothing is said."""


@dataclass(frozen=True, slots=True)
class TensorSpec:
    """What a model says of one of its inputs or outputs.

    Attributes:
        name: the value's name.
        dtype: NumPy element type (`ml_dtypes` where NumPy has none; `object` for strings).
        shape: one entry an axis; None when the rank itself is unknown.
    """

    name: str
    dtype: np.dtype[Any]
    shape: tuple[Dim, ...] | None
