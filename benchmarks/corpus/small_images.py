"""Classifiers of 28x28 images: MNIST and Fashion-MNIST cut into three sets, and the task of a model on them."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from benchmarks.corpus.base import Run, Score, Split, Task
from benchmarks.corpus.classify import Item, accuracy
from benchmarks.corpus.sources import shipped
from graphshrink.ir.types import Array
from testmodels.mnist import Mnist, as_input


class Labelled(NamedTuple):
    """Images (n, 28, 28), uint8, and their labels (n,)."""

    images: NDArray[np.uint8]
    labels: NDArray[np.uint8]


class Sets(NamedTuple):
    """The three sets; calibration has no labels."""

    calibration: NDArray[np.uint8]
    development: Labelled
    test: Labelled


def cut(data: Mnist, *, calibration: int, development: int) -> Sets:
    """The last training images for calibration, the first test images for development, the others for the test.

    Models do better on the images they were trained on, so that those would hide what a setting costs.
    """
    return Sets(
        calibration=data.train_images[len(data.train_images) - calibration :],
        development=Labelled(data.test_images[:development], data.test_labels[:development]),
        test=Labelled(data.test_images[development:], data.test_labels[development:]),
    )


def one_each(inputs: NDArray[np.float32], count: int) -> Sequence[Mapping[str, Array]]:
    """The first inputs, each a feed of its own."""
    return [{"input": inputs[i : i + 1]} for i in range(min(count, len(inputs)))]


def image_task(
    name: str, about: str, sets: Callable[[], Sets], *, model: str = "", in_repository: bool = False
) -> Task:
    """The task of a model of testmodels/, whose file has the task's name unless another is given."""

    def calibration(count: int) -> Sequence[Mapping[str, Array]]:
        return one_each(as_input(sets().calibration[:count]), count)

    def score(run: Run, split: Split) -> Score:
        return accuracy(run, _items(getattr(sets(), split)), source="input", target="logits")

    return Task(name, about, lambda: shipped(model or name), calibration, score, shipped=in_repository)


def _items(labelled: Labelled) -> Iterator[Item]:
    inputs = as_input(labelled.images)
    for i, label in enumerate(labelled.labels):
        yield Item([inputs[i : i + 1]], [int(label)])
