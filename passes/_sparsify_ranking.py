"""In what order a layer loses its weights, what that costs, and what the weights are that stay."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final, NamedTuple, Protocol

import numpy as np

from graphshrink.ir.types import Array
from graphshrink.solvers.allocation import Curve
from graphshrink.solvers.obs import Trace, removal_trace, work
from graphshrink.solvers.quadratic import Piece, Quadratic
from graphshrink.solvers.sparse_gpt import dearest, sparse_gpt

_AFFORDABLE: Final = 2e12  # multiplications of removal traces: five to seven minutes on one core
_DENSITIES: Final = (1.0, 0.8, 0.6, 0.45, 0.3, 0.2, 0.14, 0.1, 0.07, 0.05, 0.03, 0.02, 0.01)  # that are tried out


class Wish(NamedTuple):
    """What zeros are to look like, and how to choose them.

    Attributes:
        piece: what goes as a whole.
        among: (n, m), that n of every m neighbouring inputs stay; None where a share of all pieces does.
        saliency: "auto", "magnitude", "obd", "obs" or "sparsegpt".
        refit: whether weights that are left are fitted once more.
    """

    piece: Piece
    among: tuple[int, int] | None
    saliency: str
    refit: bool

    def why_not(self, inputs: int, outputs: int) -> str | None:
        """Why a layer cannot have such zeros; None if it can."""
        group = 1 if self.among is None else self.among[1]
        divided = ((inputs, "inputs", "groups", group), (inputs, "inputs", "blocks", self.piece.inputs))
        for count, what, into, size in (*divided, (outputs, "outputs", "blocks", self.piece.outputs)):
            if count % size:
                return f"its {count} {what} do not divide into {into} of {size}"
        return None


class Ranking(Protocol):
    """The order."""

    def curve(self) -> Curve:
        """Weights that are removed, and by how much that raises the squared error."""
        ...

    def weights(self, removed: int) -> Array:
        """(groups, N, M): what is left when so many pieces go, or as many as (n, m) says."""
        ...


@dataclass(frozen=True, slots=True)
class ByScore:
    """Every piece by itself: in the order of scores, each at a price of its own.

    Attributes:
        wish: what is wanted.
        old: (groups, N, M), the weights as they are.
        scores, prices: (groups, pieces along inputs, pieces along outputs).
        problem: to fit what is left; None where weights stay as they are.
    """

    wish: Wish
    old: Array
    scores: Array
    prices: Array
    problem: Quadratic | None

    def curve(self) -> Curve:
        """See `Ranking`."""
        order = np.argsort(self.scores, axis=None, kind="stable")
        return Curve.of(self.prices.reshape(-1)[order], self.wish.piece.size)

    def weights(self, removed: int) -> Array:
        """See `Ranking`."""
        pieces = dearest(self.scores, 1 - removed / self.scores.size, self.wish.among)
        support = self.wish.piece.spread(pieces)
        return self.old * support if self.problem is None else self.problem.fitted(support)


@dataclass(frozen=True, slots=True)
class ByTrace:
    """By optimal brain surgeon, whose weights are fitted at every step."""

    wish: Wish
    problem: Quadratic
    trace: Trace

    def curve(self) -> Curve:
        """See `Ranking`."""
        return Curve.of(np.sort(self.trace.rising, axis=None), self.wish.piece.size)

    def weights(self, removed: int) -> Array:
        """See `Ranking`."""
        count = removed if self.wish.among is None else self.trace.order.size
        gone = self.trace.removed(count, self.problem.hessian.shape[1])
        return self.problem.fitted(~self.wish.piece.spread(gone))


@dataclass(frozen=True, slots=True)
class BySweep:
    """By SparseGPT, anew for every density."""

    wish: Wish
    problem: Quadratic

    def curve(self) -> Curve:
        """See `Ranking`."""
        size = self.problem.cross.size
        points = [self._tried(density) for density in _DENSITIES] + [(size, float(self.problem.energy.sum()))]
        removed, errors = np.array(points, np.float64).T
        return Curve(removed, errors - errors[0])

    def _tried(self, density: float) -> tuple[int, float]:
        weights, kept = sparse_gpt(self.problem, self.wish.piece, density)
        return int(kept.size - np.count_nonzero(kept)), float(self.problem.errors(weights).sum())

    def weights(self, removed: int) -> Array:
        """See `Ranking`."""
        density = 1 - removed * self.wish.piece.size / self.problem.cross.size
        weights, kept = sparse_gpt(self.problem, self.wish.piece, density, self.wish.among)
        return self.problem.fitted(kept) if self.wish.refit else weights


def settled(wishes: Mapping[str, Wish], shapes: Mapping[str, tuple[int, int, int]]) -> dict[str, Wish]:
    """What "auto" stands for: removal traces in the layers where they take least work, as long as it is not too much.

    Args:
        wishes: by layer.
        shapes: groups, inputs and outputs, by layer.
    """
    works = {label: work(*shapes[label], wish.piece) for label, wish in wishes.items()}
    found = dict(wishes)
    spent = 0.0
    for label in sorted((label for label, wish in wishes.items() if wish.saliency == "auto"), key=works.__getitem__):
        spent += works[label]
        found[label] = wishes[label]._replace(saliency="obs" if spent <= _AFFORDABLE else "sparsegpt")
    return found


def ranking(problem: Quadratic, old: Array, wish: Wish) -> Ranking:
    """The order in which a layer loses its weights.

    Args:
        problem: the layer's.
        old: (groups, N, M), the weights that it has now.
        wish: what is wanted; not "auto".
    """
    saliency, piece = wish.saliency, wish.piece
    if saliency == "sparsegpt":
        return BySweep(wish, problem)
    if saliency == "obs":
        return ByTrace(wish, problem, removal_trace(problem, piece, wish.among))
    squares = old**2
    prices = piece.sums(squares * np.diagonal(problem.hessian, axis1=1, axis2=2)[:, :, None])
    scores = prices if saliency == "obd" else piece.sums(squares)
    return ByScore(wish, old, scores, prices, problem if wish.refit else None)
