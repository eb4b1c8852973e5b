"""Small shared types: arrays, ONNX types, and the description of a model's inputs and outputs."""

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

Metadata: TypeAlias = tuple[tuple[str, str], ...]
"""`metadata_props`: pairs in file order; a key may repeat."""


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


# Optional strings are None where the file has no such field and "" where it has an empty one: both are legal, and stay.


@dataclass(frozen=True, slots=True)
class Dimension:
    """One axis of a declared shape."""

    size: Dim = None
    denotation: str | None = None


@dataclass(frozen=True, slots=True)
class TensorType:
    """A dense or sparse tensor; `shape` is None where the rank is not declared."""

    elem_type: int | None
    shape: tuple[Dimension, ...] | None = None
    sparse: bool = False
    denotation: str | None = None

    @property
    def dims(self) -> tuple[Dim, ...] | None:
        """The sizes alone."""
        return None if self.shape is None else tuple(d.size for d in self.shape)


@dataclass(frozen=True, slots=True)
class SequenceType:
    """A list of values of one type."""

    elem: "Type | None"
    denotation: str | None = None


@dataclass(frozen=True, slots=True)
class OptionalType:
    """A value that may be absent."""

    elem: "Type | None"
    denotation: str | None = None


@dataclass(frozen=True, slots=True)
class MapType:
    """A dictionary with keys of one scalar type."""

    key_type: int | None
    value: "Type | None"
    denotation: str | None = None


@dataclass(frozen=True, slots=True)
class OpaqueType:
    """A type that only a custom domain knows."""

    domain: str | None
    name: str | None
    denotation: str | None = None


@dataclass(frozen=True, slots=True)
class UnsetType:
    """A type that is present in the file and says nothing."""

    denotation: str | None = None


Type: TypeAlias = TensorType | SequenceType | OptionalType | MapType | OpaqueType | UnsetType


@dataclass(frozen=True, slots=True)
class ValueInfo:
    """A declaration of a value: a graph input or output, or an entry of `value_info`."""

    name: str
    type: Type | None = None
    doc: str | None = None
    metadata: Metadata = ()

    @property
    def dims(self) -> tuple[Dim, ...] | None:
        """The declared shape, if the value is a tensor of declared rank."""
        return self.type.dims if isinstance(self.type, TensorType) else None
