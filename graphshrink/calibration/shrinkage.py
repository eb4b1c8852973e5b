"""How far the second moment of few samples is to be trusted: what is learnt from a half of them is tried on the other.

    C'  =  (1 - s) C + s diag(C)

Weights that make up for others rely on how inputs go together. Whether they do so elsewhere is seen from each input in
turn, as the others tell it: what optimal brain surgeon leaves of an error when it removes the weights of input i and
adapts all others (Hassibi and Stork 1993). With P the inverse of C' over one half of the samples, and D the second
moment over the other half, both in units of correlations, that is

    sum over i of  (P D P)_ii / (P_ii)²

and s is where this is least. Halves are made of whole samples, as rows of one sample, such as the places of a picture,
are alike.
"""

from typing import Final

import numpy as np

from graphshrink.ir.types import Array

_HALVES: Final = 2
_PIECES: Final = 4  # of a batch that holds several samples
_MOST: Final = 768  # inputs that are looked at, or so many entries of second moments as they have
_STEPS: Final = 2.0 ** -np.arange(0.0, 13.0)  # of s that are tried
_NONE: Final = 1e-6  # in the place of 0, so that there is an inverse
_DEAD: Final = 1e-12  # of the largest energy of an input: less is rounding


class Shrinkage:
    """Looks at rows batch by batch; what it keeps has a size of its own, however many inputs or rows there are.

    Args:
        groups, width: of the rows; each group has a second moment of its own, and all the same intensity.
        seed: of the choice of inputs that are looked at, where there are very many.
    """

    def __init__(self, groups: int, width: int, seed: int) -> None:
        most = max(2, int(_MOST / max(1, groups) ** 0.5))
        rng = np.random.default_rng(seed)
        self._columns = np.arange(width) if width <= most else np.sort(rng.choice(width, most, replace=False))
        self._part = width / max(1, len(self._columns))
        size = len(self._columns) + 1
        self._sums = np.zeros((_HALVES, groups, size, size))
        self._pieces = 0

    def add(self, rows: Array, *, divisible: bool) -> None:
        """Look at a batch: rows (groups, P, N), in the order of its samples; divisible if it holds several of them."""
        count = rows.shape[1]
        chosen = np.ones((len(rows), count, len(self._columns) + 1))
        chosen[:, :, :-1] = rows[:, :, self._columns]
        pieces = np.array_split(chosen, min(_PIECES, count), axis=1) if divisible and count else [chosen]
        for piece in pieces:
            self._sums[self._pieces % _HALVES] += np.swapaxes(piece, 1, 2) @ piece
            self._pieces += 1

    @property
    def intensity(self) -> float:
        """s, 0 to 1; 0 too where there is only one sample, which cannot be halved.

        Where only some of the inputs were looked at, s is larger by as many times as there are more.
        """
        counts = self._sums[:, 0, -1, -1]
        if not counts.all():
            return 0.0
        first, second = _correlations(self._sums) / counts[:, None, None, None] * counts.sum()
        left = errors(first, second) + errors(second, first)
        best = int(left.argmin())  # the strongest of those that are equally good
        return 0.0 if best == len(_STEPS) else min(1.0, float(_STEPS[best]) * self._part)


def _correlations(sums: Array) -> Array:
    """(halves, groups, N, N): what each half adds to the correlations over both; inputs that never change have none."""
    inner, first, counts = sums[..., :-1, :-1], sums[..., :-1, -1], sums[..., -1, -1]
    mean = first.sum(axis=0) / counts.sum(axis=0)[:, None]
    mixed = mean[None, :, :, None] * first[:, :, None, :]
    both = mean[:, :, None] * mean[:, None, :] * counts[:, :, None, None]
    centred = inner - mixed - np.swapaxes(mixed, 2, 3) + both
    energy = np.diagonal(centred.sum(axis=0), axis1=1, axis2=2)
    root = np.sqrt(np.where(energy > _DEAD * energy.max(initial=0.0), energy, 0.0))
    unit = np.divide(1.0, root, out=np.zeros_like(root), where=root > 0)
    correlations: Array = centred * unit[:, :, None] * unit[:, None, :]
    return correlations


def errors(known: Array, new: Array) -> Array:
    """(steps + 1,): what is left of all inputs of one second moment as the other tells them.

    Args:
        known: (groups, N, N), in units of correlations.
        new: likewise, of other samples.

    Returns:
        From s = 1, where nothing is told, halved from step to step; the last is without shrinking.
    """
    values, vectors = np.linalg.eigh(known)
    turned = np.swapaxes(vectors, 1, 2) @ new @ vectors
    found: list[float] = []
    for s in (*_STEPS, _NONE):
        inverse = 1.0 / np.maximum((1 - s) * values + s, _NONE)
        half = vectors * inverse[:, None, :]
        own = np.einsum("gik,gik->gi", half, vectors)
        left = np.einsum("gik,gik->gi", half @ turned, half)
        found.append(float(np.sum(left / own**2)))
    return np.array(found)
