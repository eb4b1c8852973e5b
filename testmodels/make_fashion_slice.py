"""Cut `fashion_mnist_slice.npz` out of the Debian package `dataset-fashion-mnist` (MIT).

Of each of the 10 classes it takes the first 100 training and the first 200 test images, and keeps them in the order of
the original files. Arrays, all uint8: train_images (1000, 28, 28), train_labels, test_images (2000, 28, 28),
test_labels.

Run: `python -m testmodels.make_fashion_slice` on a Debian system. The bytes are the same every time.
"""

import sys
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from testmodels.fashion import load_fashion
from testmodels.fetching import FetchError
from testmodels.fixed_npz import save_npz

PER_CLASS = {"train": 100, "test": 200}


def first_of_each_class(labels: NDArray[np.uint8], count: int) -> NDArray[np.intp]:
    """The indices, ascending, of the first `count` items of every class."""
    firsts = [np.flatnonzero(labels == label)[:count] for label in range(10)]
    return np.sort(np.concatenate(firsts))


def main() -> int:
    """Write the slice beside this file."""
    try:
        data = load_fashion()
    except FetchError as e:
        print(f"error: {e}", file=sys.stderr)
        return 1
    train = first_of_each_class(data.train_labels, PER_CLASS["train"])
    test = first_of_each_class(data.test_labels, PER_CLASS["test"])
    arrays: dict[str, NDArray[Any]] = {
        "train_images": data.train_images[train],
        "train_labels": data.train_labels[train],
        "test_images": data.test_images[test],
        "test_labels": data.test_labels[test],
    }
    path = Path(__file__).with_name("fashion_mnist_slice.npz")
    save_npz(path, arrays)
    print(f"{path.name}: " + ", ".join(f"{name} {array.shape}" for name, array in arrays.items()))
    return 0


if __name__ == "__main__":
    sys.exit(main())
