"""Channels of a coupled group as the layers that consume them see them, and what is lost when some go.

Of a consumer with inputs X (samples, N), bias eliminated, weights W and targets Y, only H = X^T X and C = X^T Y are
known, so the rise of the squared error over that of the best weights is what can be said of any choice of inputs. With
inputs in the order "kept ones first, and those that go first last", H = L L^T and Z = L^-1 C,

    rise(when only the first n inputs are kept)  =  sum of the squares of rows n, n + 1, ... of Z

since leading blocks of L factor leading blocks of H. One factorisation prices a whole order, exactly.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final, NamedTuple

import numpy as np
from scipy.linalg import cho_solve, cholesky, solve_triangular

from graphshrink.errors import InternalError
from graphshrink.ir.types import Array

_FIRST_RIDGE, _LAST_RIDGE = 1e-13, 1e-3  # of the mean of the diagonal; tried where H is not positive definite
NOBODY: Final = -1
"""The owner of inputs that belong to no channel of the group."""


class Part(NamedTuple):
    """One group of a consumer: a layer of its own.

    Attributes:
        hessian: (N, N).
        cross: (N, M).
        weights: (N, M).
        owner: (N,).
        scale: what its squared errors are multiplied by.
    """

    hessian: Array
    cross: Array
    weights: Array
    owner: Array
    scale: float


@dataclass(frozen=True, slots=True)
class Consumer:
    """A layer that takes a group's channels, all float64.

    Attributes:
        hessian: (groups, N, N), positive definite: damped Gram matrices of its inputs, bias eliminated. Inputs whose
            row is all zeros are allowed.
        cross: (groups, N, M), products of inputs and targets.
        weights: (groups, N, M), as they are now.
        energy: sum of squares of its outputs, to which errors are relative; where it is 0, errors do not count.
        owner: (N,) or (groups, N), the channel that each input belongs to; -1 where it is none of this group's.
    """

    hessian: Array
    cross: Array
    weights: Array
    energy: float
    owner: Array

    def __post_init__(self) -> None:
        groups, inputs, _ = self.cross.shape
        fits = self.hessian.shape == (groups, inputs, inputs) and self.weights.shape == self.cross.shape
        if not fits or self.owner.shape not in ((inputs,), (groups, inputs)):
            shapes = [array.shape for array in (self.hessian, self.cross, self.weights, self.owner)]
            raise InternalError(f"channels: hessian, cross, weights and owner of a consumer are {shapes}")

    @property
    def parts(self) -> list[Part]:
        """Its groups that take channels."""
        owners = np.broadcast_to(self.owner, self.cross.shape[:2])
        scale = 1.0 / self.energy if self.energy > 0 else 0.0
        arrays = zip(self.hessian, self.cross, self.weights, owners, strict=True)
        return [Part(*part, scale) for part in arrays if (part[3] != NOBODY).any()]


@dataclass(frozen=True, slots=True)
class ChannelGroup:
    """Channels that can only go together with what they are coupled to.

    Attributes:
        channels: C, how many there are, named 0 to C - 1.
        consumers: all layers that take them.
        producers: (C, any) arrays of the weights that make them.
    """

    channels: int
    consumers: Sequence[Consumer]
    producers: Sequence[Array] = ()

    @property
    def parts(self) -> list[Part]:
        """Of all consumers."""
        return [part for consumer in self.consumers for part in consumer.parts]


class Order(NamedTuple):
    """In which order channels go.

    Attributes:
        removed: (C,) channels, the first to go first.
        cost: (C,) what the first 1, 2, ... of them cost: the rise of the squared error, relative to each consumer's
            energy and summed over consumers, when the weights of all other inputs are fitted anew. It never falls.
    """

    removed: Array
    cost: Array


def factor(hessian: Array) -> Array:
    """The lower Cholesky factor. A row of zeros counts as one of the identity; rounding below zero is damped away."""
    matrix = np.array(hessian, np.float64, order="F")
    diagonal = np.einsum("ii->i", matrix)
    mean = float(diagonal.mean())
    diagonal[diagonal <= 0] = 1.0
    ridge = 0.0
    while True:
        try:
            return cholesky(matrix, lower=True, check_finite=False)
        except np.linalg.LinAlgError:
            ridge = max(10 * ridge, _FIRST_RIDGE * mean)
            if not ridge < _LAST_RIDGE * mean:
                raise InternalError("channels: a Gram matrix is not positive semidefinite") from None
            diagonal += ridge


def rows_of(owner: Array) -> list[tuple[Array, Array]]:
    """Channels (n,) and the inputs (n, r) that each of them has, once for every r that occurs."""
    order = np.argsort(owner, kind="stable")
    order = order[np.count_nonzero(owner < 0) :]
    channels, starts, counts = np.unique(owner[order], return_index=True, return_counts=True)
    found: list[tuple[Array, Array]] = []
    for count in np.unique(counts):
        same = counts == count
        found.append((channels[same], order[starts[same, None] + np.arange(count, dtype=np.intp)]))
    return found


def contributions(group: ChannelGroup) -> tuple[Array, Array]:
    """What channels add to the outputs, F_i = X_i W_i with the present weights, relative to each consumer's energy.

    Returns:
        (C, C): inner products of F_i and F_j, summed over consumers.
        (C,): inner products of F_i and what is left of the targets when inputs that are nobody's have done their part.
    """
    size = group.channels + 1  # the last one is NOBODY
    products, targets = np.zeros((size, size)), np.zeros(size)
    for part in group.parts:
        order = np.argsort(part.owner, kind="stable")
        owners, starts = np.unique(part.owner[order], return_index=True)
        pairs = part.weights @ part.weights.T
        pairs *= part.hessian
        pairs = np.add.reduceat(np.add.reduceat(pairs[order], starts, axis=0)[:, order], starts, axis=1)
        products[np.ix_(owners, owners)] += part.scale * pairs
        aims = np.einsum("nm,nm->n", part.cross, part.weights)
        targets[owners] += part.scale * np.add.reduceat(aims[order], starts)
    return products[:-1, :-1], targets[:-1] - products[:-1, -1]


def repaired_costs(consumers: Sequence[Consumer], removed: Array, at: Array | Sequence[int] | None = None) -> Array:
    """`Order.cost` of an order: exact, after the weights of all inputs that stay are fitted anew by least squares.

    Takes N^3 / 3 + N^2 M multiplications a consumer, for all numbers of channels together.

    Args:
        consumers: of the group.
        removed: (K,) channels, the first to go first; others stay.
        at: the numbers of removed channels, 0 to K, that are asked for; None is 1 to K.
    """
    steps = len(removed)
    turn = np.full(int(max(removed, default=-1)) + 1, steps)
    turn[removed] = np.arange(steps)
    rises = np.zeros(steps + 1)
    for part in (part for consumer in consumers for part in consumer.parts):
        turns = np.full(len(part.owner), steps)
        ours = (part.owner >= 0) & (part.owner < len(turn))
        turns[ours] = turn[part.owner[ours]]
        order = np.argsort(-turns, kind="stable")
        lower = factor(part.hessian[np.ix_(order, order)])
        rows = solve_triangular(lower, part.cross[order], lower=True, check_finite=False)
        rises += part.scale * np.bincount(turns[order], np.einsum("nm,nm->n", rows, rows), steps + 1)
    total: Array = np.concatenate([[0.0], np.cumsum(rises[:-1])])
    return total[1:] if at is None else total[np.asarray(at, np.intp)]


def masked_costs(group: ChannelGroup, removed: Array) -> Array:
    """(K,): what the first 1, 2, ... channels cost when nothing is fitted: the energy of all that they add."""
    products, _ = contributions(group)
    pairs = products[np.ix_(removed, removed)]
    total = np.cumsum(2.0 * np.tril(pairs).sum(axis=1) - np.diag(pairs))
    costs: Array = np.maximum(total, 0.0)
    return costs


def repaired_weights(consumer: Consumer, kept: Array) -> Array:
    """(groups, N, M): the weights of least error that only take channels that are kept, and inputs that are nobody's.

    Args:
        consumer: a layer.
        kept: (C,) of booleans.
    """
    groups, inputs, _ = consumer.cross.shape
    stays = np.append(kept, True)[np.broadcast_to(consumer.owner, (groups, inputs))]
    found = np.zeros(consumer.cross.shape)
    for hessian, cross, rows, weights in zip(consumer.hessian, consumer.cross, stays, found, strict=True):
        if rows.any():
            lower = factor(hessian[np.ix_(rows, rows)])
            weights[rows] = cho_solve((lower, True), cross[rows], check_finite=False)
    return found
