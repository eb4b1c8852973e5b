"""Models of handwritten digits on MNIST.

Of the 10,000 test images the first 4,000 are for development and 6,000 are the test; the last 1,000 of the 60,000
training images are for calibration.
"""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import cache

import numpy as np

from benchmarks.corpus.base import Task
from benchmarks.corpus.small_images import Sets, cut, image_task, one_each
from benchmarks.measuring import ROOT
from graphshrink.ir.types import Array
from testmodels.fetching import FetchError
from testmodels.mnist import load_mnist


@cache
def _mnist() -> Sets:
    return cut(load_mnist(), calibration=1000, development=4000)


def _drawn(count: int) -> Sequence[Mapping[str, Array]]:
    with np.load(ROOT / "testmodels" / "digits_calibration.npz") as file:
        return one_each(file["input"], count)


def _digits(name: str, about: str) -> Task:
    """Calibrates with the digits drawn for testmodels/ where MNIST cannot be had."""
    task = image_task(name, about, _mnist)

    def calibration(count: int) -> Sequence[Mapping[str, Array]]:
        try:
            return task.calibration(count)
        except FetchError:
            return _drawn(count)

    return replace(task, calibration=calibration)


TASKS = (
    _digits("digit_cnn", "3 Conv and 2 Gemm with a normalisation before them; MNIST"),
    _digits("lenet-300-100", "784-300-100-10, all Gemm; MNIST"),
    _digits("lenet-5", "2 Conv and 2 Gemm; MNIST"),
    _digits("net-trim-lenet", "the LeNet of the Net-Trim paper; MNIST"),
)
