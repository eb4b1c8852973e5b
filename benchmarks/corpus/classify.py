"""Scoring of classifiers. Items run one at a time, so that no item depends on those beside it.

That matters where a model takes the range of its activations from what it is fed, as dynamic quantization does.
"""

from collections.abc import Collection, Iterable, Sequence
from typing import NamedTuple

import numpy as np

from benchmarks.corpus.base import Run, Score
from graphshrink.ir.types import Array


class Item(NamedTuple):
    """Views of one thing, each a batch of one, and the classes that are right for it."""

    views: Sequence[Array]
    right: Collection[int]


def accuracy(run: Run, items: Iterable[Item], *, source: str, target: str, metric: str = "accuracy") -> Score:
    """The share of right answers; an item with more than one view counts the share of its views.

    Args:
        run: the model.
        items: what it is asked.
        source: name of its input.
        target: name of its output, (1, classes).
        metric: name of the score.
    """
    values = [
        np.mean([int(run({source: view})[target][0].argmax()) in right for view in views]) for views, right in items
    ]
    return Score(metric, np.array(values, np.float64))
