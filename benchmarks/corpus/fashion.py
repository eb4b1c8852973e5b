"""Models of clothes on Fashion-MNIST, and on the slice of it that the repository has.

The sets are cut as those of MNIST are: the first 4,000 test images for development, 6,000 for the test, and the last
1,000 training images for calibration. Of the slice's 2,000 test images 500 are for development and 1,500 are the test;
its last 500 training images are for calibration.
"""

from functools import cache

import numpy as np

from benchmarks.corpus.base import Task
from benchmarks.corpus.small_images import Sets, cut, image_task
from benchmarks.measuring import ROOT
from testmodels.fashion import load_fashion
from testmodels.mnist import Mnist

_ABOUT = {
    "resnet-20": "He et al.'s ResNet-20, batch normalisations of their own; Fashion-MNIST",
    "depthwise": "5 depthwise and pointwise Conv pairs with Clip, batch normalisations of their own; Fashion-MNIST",
}


@cache
def _all() -> Sets:
    return cut(load_fashion(), calibration=1000, development=4000)


@cache
def _slice() -> Sets:
    with np.load(ROOT / "testmodels" / "fashion_mnist_slice.npz") as file:
        data = Mnist(**{name: file[name] for name in Mnist._fields})
    return cut(data, calibration=500, development=500)


def _on_slice(model: str) -> Task:
    return image_task(f"{model}-slice", f"{_ABOUT[model]}, shipped slice", _slice, model=model, in_repository=True)


TASKS = (
    image_task("resnet-20", _ABOUT["resnet-20"], _all),
    image_task("depthwise", _ABOUT["depthwise"], _all),
    _on_slice("resnet-20"),
    _on_slice("depthwise"),
)
