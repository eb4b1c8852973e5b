"""The area under the ROC curve, as a mean over groups of items that can be paired and resampled.

The area is the share of pairs of a positive and a negative item in which the positive one has the larger score, ties
counting half. With V of a positive item the share of negatives below it, and of a negative item the share of
positives above it, the area is the mean of V over the positives, and over the negatives too. How the area of a sample
varies is, to first order, the sum of how both means vary (DeLong et al. 1988). So a group with the share p of all
positives and n of all negatives, whose V have the means Vp and Vn, has

    weight  (p + n) / 2                    value  area + (p (Vp - area) + n (Vn - area)) / weight

The weighted mean of the values is the area, and drawing groups anew makes it vary as the area does.
"""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray
from scipy.stats import rankdata

from benchmarks.corpus.base import Floats, Score


def contributions(scores: Floats, positive: NDArray[np.bool_]) -> Floats:
    """V of each item."""
    everywhere, within = rankdata(scores), np.empty(len(scores))
    for side in (positive, ~positive):
        within[side] = rankdata(scores[side])
    of_others = (everywhere - within) / np.where(positive, (~positive).sum(), positive.sum())
    return np.asarray(np.where(positive, of_others, 1 - of_others))


def by_group(scores: Sequence[Floats], positive: Sequence[NDArray[np.bool_]]) -> Score:
    """The area over the items of all groups, a group being one item of the score."""
    labels = np.concatenate(positive)
    values = contributions(np.concatenate(scores), labels)
    share = np.where(labels, 1 / labels.sum(), 1 / (~labels).sum())
    area = float(values[labels].mean())
    starts = np.cumsum([0, *map(len, scores[:-1])])
    weights = np.add.reduceat(share, starts) / 2
    return Score("AUC", area + np.add.reduceat(share * (values - area), starts) / weights, weights)
