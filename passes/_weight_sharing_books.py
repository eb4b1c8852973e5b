"""Codebooks for the groups of a tensor, of every kind that weight-sharing knows."""

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Final, Literal, TypeAlias

import numpy as np
from numpy.typing import NDArray

from graphshrink.ir.types import Array
from graphshrink.passes._weight_sharing_nearest import ZEROS_KEPT
from graphshrink.solvers.codebooks import Codebook, cheapest, entropy_coded, importance, uniform, weighted_kmeans
from graphshrink.solvers.mixture import Mixture, mixture_of

Kind: TypeAlias = Literal["kmeans", "weighted", "entropy", "grid", "soft"]

MOST_ENTRIES: Final = 256
_NATURAL: Final = 2 * math.log(2)  # distortion over its slope by bits, where a bit more divides it by 4


@dataclass(frozen=True, slots=True)
class Wanted:
    """What codebooks are to be like.

    Attributes:
        kind: how entries are chosen.
        bits: what the number of entries, or the error, goes by.
        streams: whether codes are stored as streams, for which rare entries and a zero beside them cost little.
        rate: what a bit is worth, for `entropy`; 1 is the slope of k-means with as many bits.
        given: the entries, where other weights have them too; None where they are chosen.
    """

    kind: Kind
    bits: int
    streams: bool
    rate: float = 1.0
    given: tuple[float, ...] | None = None

    def entries(self, has_zero: bool) -> int:
        """Of one codebook, without the zero of pruned weights."""
        most = (2 if self.kind == "entropy" else 1) << self.bits if self.streams else 1 << self.bits
        return max(1, min(most, MOST_ENTRIES) - (has_zero and not self.streams))

    @property
    def most(self) -> int:
        """Values that a codebook leaves, the zero of pruned weights included."""
        if self.kind in ("kmeans", "weighted"):
            return 1 << self.bits
        return min(self.entries(False) + self.streams, MOST_ENTRIES)


@dataclass(frozen=True, slots=True)
class Made:
    """The codebooks of a tensor.

    Attributes:
        books: one for each group.
        slope: what a bit is worth, in the unit of the importances.
        mixtures: for each group, where that says which weight takes which entry.
    """

    books: tuple[Codebook, ...]
    slope: float = 0.0
    mixtures: tuple[Mixture, ...] = ()

    def labels(self, group: int, values: Array, weights: Array) -> NDArray[np.intp]:
        """(n,) which entry of a group each value takes."""
        if self.mixtures:
            return self.mixtures[group].labels(values)
        return cheapest(values, weights, self.books[group], self.slope)[0]


def kept_in(rows: Array) -> NDArray[np.bool_]:
    """Which weights of rows (groups, n) may be other than zero: all in groups where zeros are rare, and accidents."""
    zeros = rows == 0
    pruned = zeros.sum(axis=1) >= ZEROS_KEPT * rows.shape[1]
    kept: NDArray[np.bool_] = ~(zeros & pruned[:, None])
    return kept


def made(
    values: list[Array], weights: list[Array], zeros: list[bool], wanted: Wanted, dtype: np.dtype[np.generic]
) -> Made:
    """Codebooks for groups of weights.

    Args:
        values: of each group, float64, those that are to be coded.
        weights: importance of each of them.
        zeros: whether a group has pruned weights beside them.
        wanted: what is wanted.
        dtype: of the tensor, which entries are rounded to.
    """
    if wanted.given is not None:
        entries = np.array(wanted.given)
        return Made(tuple(Codebook(entries, np.zeros(len(entries))) for _ in values))
    return _KINDS[wanted.kind](values, weights, zeros, wanted, dtype)


def basis(wanted: Wanted, entries: Array) -> Array:
    """(K, P): entries that are fitted are sums of these columns; a row of zeros is that of an entry that stays."""
    kind = wanted.kind
    if wanted.given is not None:
        return np.zeros((len(entries), 0))
    if kind == "grid":
        peak = float(np.abs(entries).max())
        most = max(1, (len(entries) - 1) // 2)
        return np.rint(entries / peak * most)[:, None] if peak > 0 else np.zeros((len(entries), 0))
    free = np.eye(len(entries))
    return free[:, entries != 0] if kind == "soft" else free


def coded(rows: Array, wanted: Wanted) -> Array:
    """The entry that each weight takes, in the rows' type, all weights being equally important.

    Args:
        rows: (groups, n), in the tensor's type.
        wanted: what is wanted.
    """
    kept, wide = kept_in(rows), rows.astype(np.float64)
    values = [row[where] for row, where in zip(wide, kept, strict=True)]
    weights = [np.ones(len(each)) for each in values]
    books = made(values, weights, [not where.all() for where in kept], wanted, rows.dtype)
    new = np.zeros(rows.shape, rows.dtype)
    for group, each in enumerate(values):
        taken = books.books[group].entries[books.labels(group, each, weights[group])]
        new[group, kept[group]] = taken.astype(rows.dtype)
    return new


# ---- kinds

_GROUPS: Final = 16  # that are enough to say what a bit is worth

_EMPTY: Final = Codebook(np.zeros(1), np.zeros(1))


def _kmeans(
    values: list[Array], weights: list[Array], zeros: list[bool], wanted: Wanted, dtype: np.dtype[np.generic]
) -> Made:
    each = [
        weighted_kmeans(v, w, wanted.entries(zero), dtype) if v.size else _EMPTY
        for v, w, zero in zip(values, weights, zeros, strict=True)
    ]
    return Made(tuple(each))


def _unweighted(
    values: list[Array], weights: list[Array], zeros: list[bool], wanted: Wanted, dtype: np.dtype[np.generic]
) -> Made:
    return _kmeans(values, [np.ones(len(each)) for each in weights], zeros, wanted, dtype)


def _entropy(
    values: list[Array], weights: list[Array], zeros: list[bool], wanted: Wanted, dtype: np.dtype[np.generic]
) -> Made:
    slope = wanted.rate * _NATURAL * _distortion(values, weights, wanted, dtype)
    each: list[Codebook] = []
    for v, w, zero in zip(values, weights, zeros, strict=True):
        mean = float(w.mean()) if v.size else 0.0
        if slope > 0 and mean > 0:
            each.append(entropy_coded(v, w, wanted.entries(zero), slope / mean, dtype))
        else:
            each.append(weighted_kmeans(v, w, wanted.entries(zero), dtype) if v.size else _EMPTY)
    return Made(tuple(each), slope)


def _distortion(values: list[Array], weights: list[Array], wanted: Wanted, dtype: np.dtype[np.generic]) -> float:
    """Of k-means with 2**bits entries, a weight; where there are many groups, in some of them."""
    groups = [group for group, each in enumerate(values) if each.size]
    total, count = 0.0, 0
    for group in groups[:: -(-len(groups) // _GROUPS) or 1]:
        v, w = values[group], weights[group]
        total += cheapest(v, importance(w), weighted_kmeans(v, w, 1 << wanted.bits, dtype))[1] * float(w.mean())
        count += v.size
    return total / max(1, count)


def _grid(
    values: list[Array], weights: list[Array], zeros: list[bool], wanted: Wanted, dtype: np.dtype[np.generic]
) -> Made:
    each = [uniform(v, w, 1 << wanted.bits, dtype) if v.size else _EMPTY for v, w in zip(values, weights, strict=True)]
    return Made(tuple(each))


def _soft(
    values: list[Array], weights: list[Array], zeros: list[bool], wanted: Wanted, dtype: np.dtype[np.generic]
) -> Made:
    mixtures = tuple(
        mixture_of(v, w, 1 << wanted.bits) if v.size else Mixture(np.zeros(1), np.ones(1), np.ones(1))
        for v, w in zip(values, weights, strict=True)
    )
    books = [Codebook(m.means.astype(dtype).astype(np.float64), np.zeros(len(m.means))) for m in mixtures]
    return Made(tuple(books), 0.0, mixtures)


_Maker: TypeAlias = Callable[[list[Array], list[Array], list[bool], Wanted, np.dtype[np.generic]], Made]
_KINDS: Final[Mapping[Kind, _Maker]] = {
    "kmeans": _unweighted,
    "weighted": _kmeans,
    "entropy": _entropy,
    "grid": _grid,
    "soft": _soft,
}
