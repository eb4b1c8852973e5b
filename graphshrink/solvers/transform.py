"""Orthonormal transforms of blocks of weights, and what they make of a layer's quadratic form.

With rows of weights s = c T, T a block-diagonal matrix of copies of a basis, the error of outputs is

    (s - s*)^T G (s - s*)  =  (c - c*)^T  T G T^T  (c - c*)

so that whatever prunes or quantises weights under a Gram matrix does the same to coefficients under the rotated one.
T is never made: blocks are transformed one by one.

The cosine transform is that of CNNpack (Wang et al., NIPS 2016) and FreshNets (Chen et al. 2016, arXiv:1506.04449);
the data-driven one is Karhunen and Loève's, of a block of the Gram matrix or of the weights.
"""

import math
from dataclasses import dataclass, replace
from typing import Final

import numpy as np
from numpy.typing import NDArray

from graphshrink.ir.types import Array
from graphshrink.solvers.coded_rows import Rows

_TINY: Final = 1e-30  # of the mean variance: coefficients that are always zero


def cosine(size: int) -> Array:
    """(size, size) the orthonormal DCT-II; row i is the cosine of i half periods."""
    place = (2 * np.arange(size) + 1) / (2 * size)
    rows: Array = np.sqrt(2.0 / size) * np.cos(np.pi * np.outer(np.arange(size), place))
    rows[0] /= math.sqrt(2.0)
    return rows


def cosine_of(sizes: tuple[int, ...]) -> Array:
    """(k, k), k the product of the sizes: the separable DCT-II of blocks with several axes, in row-major order."""
    basis: Array = np.ones((1, 1))
    for size in sizes:
        basis = np.kron(basis, cosine(size))
    return basis


def eigenbasis(moment: Array) -> Array:
    """(k, k) orthonormal eigenvectors in rows, the strongest first, the largest element of each being positive."""
    _, vectors = np.linalg.eigh((moment + moment.T) / 2)
    rows = vectors.T[::-1]
    largest = np.take_along_axis(rows, np.abs(rows).argmax(axis=1)[:, None], axis=1)
    signed: Array = np.ascontiguousarray(rows * np.where(largest < 0, -1.0, 1.0))
    return signed


@dataclass(frozen=True, slots=True)
class Rotation:
    """A transform of the rows of a layer.

    Attributes:
        order: (N,) the columns, block after block.
        basis: (k, k) float32, whose rows are orthonormal; k divides N.
    """

    order: NDArray[np.intp]
    basis: Array

    @property
    def exact(self) -> Array:
        """The basis in float64."""
        return self.basis.astype(np.float64)

    def forth(self, values: Array) -> Array:
        """Coefficients, block after block, of rows (..., N)."""
        return self._times(values[..., self.order], self.exact.T)

    def back(self, coefficients: Array) -> Array:
        """The inverse of `forth`."""
        return self.placed(self._times(coefficients, self.exact))

    def placed(self, coefficients: Array) -> Array:
        """(..., N) coefficients where the columns are that they take the place of."""
        found = np.empty_like(coefficients)
        found[..., self.order] = coefficients
        return found

    def rows(self, rows: Rows) -> Rows:
        """The form in the coefficients, all of which may be other than zero."""
        gram = rows.gram[:, self.order[:, None], self.order[None, :]]
        half = np.swapaxes(self._times(gram, self.exact.T), 1, 2)
        turned = self._times(half, self.exact.T)
        both = (turned + np.swapaxes(turned, 1, 2)) / 2
        return replace(rows, gram=both, linear=self.forth(rows.linear), kept=np.ones(rows.kept.shape, np.bool_))

    def _times(self, values: Array, right: Array) -> Array:
        blocks = values.reshape(*values.shape[:-1], -1, len(self.basis))
        product: Array = (blocks @ right).reshape(values.shape)
        return product


def block_moment(gram: Array, order: NDArray[np.intp], size: int) -> Array:
    """(k, k) mean of the diagonal blocks of (G, N, N)."""
    at = order.reshape(-1, size)
    moment: Array = gram[:, at[:, :, None], at[:, None, :]].mean(axis=(0, 1))
    return moment


def coding_gain(coefficients: Array, size: int) -> float:
    """Arithmetic over geometric mean of the variances of coefficients (..., N) by their place in the block; 1 or more.

    What a transform is worth to a scalar quantiser of many levels (Jayant and Noll 1984): half its binary logarithm in
    bits a weight, for orthonormal bases of the same weights.
    """
    variance: Array = np.mean(coefficients.reshape(-1, size) ** 2, axis=0)
    mean = float(variance.mean())
    if mean == 0:
        return 1.0
    logs: Array = np.log(np.maximum(variance, _TINY * mean))
    return mean / float(np.exp(logs.mean()))
