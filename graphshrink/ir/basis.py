"""Weights that are declared to be coefficients in an orthonormal basis, such as a cosine transform of each kernel.

The coefficients have structure (zeros, few distinct values) that the weights themselves do not show. The weights stay
the only truth for everybody who does not ask for more: they are computed when somebody looks at them.

    coefficients (rows, k)     ─▶ each row of weights is coefficients @ basis
    coefficients (n, k, m)     ─▶ each matrix (k, m) of weights is basis.T @ coefficients
"""

import hashlib
import math
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from typing import Final

import numpy as np

from graphshrink.ir.types import Array

_ORTHONORMAL: Final = 1e-5
"""The most by which an inner product of two rows of a basis may differ from 0, or from 1; float32 rounds to 1e-7."""

_FLOAT: Final = np.dtype(np.float32)
_LONGEST: Final = 4096  # k: checking takes k^3 multiplications
_MOST_KNOWN: Final = 1000
_KNOWN: Final[dict[bytes, bool]] = {}  # what was found of a basis, by its digest
_CHUNK: Final = 1 << 20  # elements that are multiplied in float64 at a time


@dataclass(frozen=True, eq=False)
class SpectralData:
    """Elements as coefficients in a basis; the array is computed when it is first asked for, and kept.

    Attributes:
        coefficients: (rows, k) or (n, k, m) float32, as many as there are elements.
        basis: (k, k) float32, orthonormal; row i is what coefficient i stands for.
    """

    coefficients: Array
    basis: Array

    @cached_property
    def array(self) -> Array:
        """The elements in the shape of the coefficients: added up in float64 and rounded once; read-only."""
        product = np.empty(self.coefficients.shape, np.float32)
        for part, left, right in self._parts():
            product[part] = left.astype(np.float64) @ right.astype(np.float64)
        product.flags.writeable = False
        return product

    def _parts(self) -> Iterator[tuple[tuple[int | slice, ...], Array, Array]]:
        """Where a part of the product goes, and what it is the product of."""
        held, k = self.coefficients, len(self.basis)
        step = max(1, _CHUNK // k)
        if held.ndim == 2:
            for start in range(0, len(held), step):
                rows = slice(start, start + step)
                yield (rows,), held[rows], self.basis
            return
        for index, matrix in enumerate(held):
            for start in range(0, matrix.shape[1], step):
                columns = slice(start, start + step)
                yield (index, slice(None), columns), self.basis.T, matrix[:, columns]


def spectral_data(coefficients: Array, basis: Array) -> SpectralData | None:
    """Coefficients in a basis; None where the basis is not orthonormal, or shapes and types are none of those above.

    The arrays are not copied and must not be written to any more. No sum on the way to a weight may pass float32.
    """
    k = len(basis) if basis.ndim == 2 else 0
    if not 0 < k <= _LONGEST or basis.shape != (k, k) or coefficients.ndim not in (2, 3):
        return None
    if coefficients.shape[1] != k or coefficients.size == 0 or {coefficients.dtype, basis.dtype} != {_FLOAT}:
        return None
    largest = max(abs(float(coefficients.max())), abs(float(coefficients.min())))
    if not largest < float(np.finfo(np.float32).max) / math.sqrt(k) / 2 or not _is_orthonormal(basis):
        return None
    held, rows = np.ascontiguousarray(coefficients).view(), np.ascontiguousarray(basis).view()
    held.flags.writeable = rows.flags.writeable = False
    return SpectralData(held, rows)


def _is_orthonormal(basis: Array) -> bool:
    """Looked at once a basis, which takes k^3 multiplications, and not for every weight that is declared in it."""
    digest = hashlib.blake2b(np.ascontiguousarray(basis).data).digest()
    if digest not in _KNOWN:
        if len(_KNOWN) == _MOST_KNOWN:
            _KNOWN.clear()
        wide = basis.astype(np.float64)
        finite = bool(np.abs(wide).max() <= 2)
        _KNOWN[digest] = finite and bool(np.abs(wide @ wide.T - np.eye(len(wide))).max() <= _ORTHONORMAL)
    return _KNOWN[digest]
