"""SparseGPT: inputs are gone through once, and what goes is made up for by the inputs behind it.

Frantar & Alistarh 2023, arXiv:2301.00774. With U the upper Cholesky factor of H^-1, row i of U is what the columns of
the inverse look like once all inputs before i are fixed, for every output alike:

    cost of w_i  =  w_i^2 / U_ii^2            w_j  -=  w_i / U_ii U_ij      for j > i

Which weights go is decided for a block of inputs at a time, over all outputs together. It takes N^3 / 3 for the factor
and M N^2 for the rest, where a removal trace takes M N^3 / 3; but it never looks back.
"""

import math
from typing import Final, TypeAlias

import numpy as np

from graphshrink.ir.types import Array
from graphshrink.solvers.quadratic import Piece, Quadratic

_Asked: TypeAlias = tuple[Piece, float, tuple[int, int] | None]

BLOCK: Final = 128
"""Inputs of a block, about."""


def sparse_gpt(
    problem: Quadratic, piece: Piece, density: float, among: tuple[int, int] | None = None, block: int = BLOCK
) -> tuple[Array, Array]:
    """Weights (groups, N, M), and what is kept of them, booleans of the same shape.

    Args:
        problem: a layer's.
        piece: what is removed as a whole; divides inputs and outputs.
        density: share of the pieces of every block to keep.
        among: (n, m), that n of every m neighbouring inputs are to stay, whatever the density.
        block: inputs that are decided on at a time; rounded up to whole pieces.
    """
    weights = problem.best
    kept = np.ones(weights.shape, bool)
    unit = math.lcm(piece.inputs, 1 if among is None else among[1])
    width = -(-block // unit) * unit
    asked = piece, density, among
    for inverse, w, keeps in zip(problem.inverse, weights, kept, strict=True):
        _sweep(inverse, w, keeps, width, asked)
    return weights, kept


def _sweep(inverse: Array, w: Array, keeps: Array, width: int, asked: _Asked) -> None:
    """One group, in place: weights (N, M), and what is kept of them."""
    upper: Array = np.swapaxes(np.linalg.cholesky(inverse), 0, 1)  # H^-1 = U^T U
    for first in range(0, len(w), width):
        _go_through(w, keeps, upper, slice(first, min(first + width, len(w))), asked)


def _go_through(w: Array, keeps: Array, upper: Array, part: slice, asked: _Asked) -> None:
    diagonal = np.diag(upper)[part]
    keeps[part] = _kept((w[part] / diagonal[:, None]) ** 2, *asked)
    lost = np.zeros((part.stop - part.start, w.shape[1]))
    for at, i in enumerate(range(part.start, part.stop)):
        lost[at] = np.where(keeps[i], 0.0, w[i] / upper[i, i])
        w[i : part.stop] -= np.outer(upper[i, i : part.stop], lost[at])
        w[i][~keeps[i]] = 0.0
    w[part.stop :] -= upper[part, part.stop :].T @ lost


def _kept(costs: Array, piece: Piece, density: float, among: tuple[int, int] | None) -> Array:
    """(inputs, outputs) of booleans for the costs of a block of inputs."""
    kept: Array = piece.spread(dearest(piece.sums(costs[None]), density, among))[0]
    return kept


def dearest(costs: Array, density: float, among: tuple[int, int] | None) -> Array:
    """Which pieces (groups, inputs, outputs) are kept: a share of those of most cost, or n of every m inputs."""
    if among is None:
        kept = np.ones(costs.size, bool)
        kept[np.argsort(costs, axis=None, kind="stable")[: costs.size - round(density * costs.size)]] = False
        return kept.reshape(costs.shape)
    stay, group = among
    groups, inputs, outputs = costs.shape
    order = np.argsort(costs.reshape(groups, inputs // group, group, outputs), axis=2, kind="stable")
    kept = np.ones(order.shape, bool)
    np.put_along_axis(kept, order[:, :, : group - stay], False, axis=2)
    return kept.reshape(costs.shape)
