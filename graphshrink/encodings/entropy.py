"""The entropy of weights: what an encoding that looks at one weight at a time cannot go below."""

import numpy as np

from graphshrink.encodings.codebook import bits_of, distinct, labels_of
from graphshrink.ir.types import Array


def entropy_bits(array: Array) -> float | None:
    """Zeroth-order entropy of a tensor's values by their bits, in bits a weight; None if more than 256 differ.

    Encodings that see structure beyond single weights, such as repeated tensors or scales of channels, may need less.
    """
    if array.size == 0:
        return None
    bits = bits_of(array)
    book = distinct(bits)
    if book is None:
        return None
    counts = np.bincount(labels_of(bits, book))
    shares = counts[counts > 0] / array.size
    return round(float(-(shares * np.log2(shares)).sum()), 4) + 0.0
