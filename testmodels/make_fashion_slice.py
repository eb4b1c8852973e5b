"""Cut `fashion_mnist_slice.npz` out of the Debian package `dataset-fashion-mnist` (MIT).

Of each of the 10 classes it takes the first 100 training and the first 200 test images, and keeps them in the order of
the original files. Arrays, all uint8: train_images (1000, 28, 28), train_labels, test_images (2000, 28, 28),
test_labels.

Run: `python -m testmodels.make_fashion_slice` on a Debian system. The bytes are the same every time.
"""

import gzip
import sys
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from testmodels.fetching import FetchError, cache_folder, debian_files
from testmodels.fixed_npz import save_npz
from testmodels.mnist import read_idx

PACKAGE = "dataset-fashion-mnist"
FOLDER = "/usr/share/datasets/fashion-mnist"
SHA256 = {
    f"{FOLDER}/train-images-idx3-ubyte.gz": "b0564c3eedabfbf835052cff8503ea422014ce006caf5b757f851416ee8300c7",
    f"{FOLDER}/train-labels-idx1-ubyte.gz": "0ae29f65d86684f32d1b9c85147786c547b9c6aebcaf235f0400a0cce308b056",
    f"{FOLDER}/t10k-images-idx3-ubyte.gz": "cc1d090a38ace84dfa1aa66e3ada7c336ef481a96936906477e6dd344da56eaa",
    f"{FOLDER}/t10k-labels-idx1-ubyte.gz": "8d3605d196f4be44669e46906da9733c8131fef761fdbfec72c424d5222f1a05",
}
PER_CLASS = {"train": 100, "test": 200}


def first_of_each_class(labels: NDArray[np.uint8], count: int) -> NDArray[np.intp]:
    """The indices, ascending, of the first `count` items of every class."""
    firsts = [np.flatnonzero(labels == label)[:count] for label in range(10)]
    return np.sort(np.concatenate(firsts))


def main() -> int:
    """Write the slice beside this file."""
    try:
        paths = debian_files(PACKAGE, SHA256, into=cache_folder() / "fashion-mnist")
    except FetchError as e:
        print(f"error: {e}", file=sys.stderr)
        return 1
    arrays: dict[str, NDArray[Any]] = {}
    for split, prefix in (("train", "train"), ("test", "t10k")):
        images, labels = (
            read_idx(gzip.decompress(paths[f"{FOLDER}/{prefix}-{kind}-ubyte.gz"].read_bytes()))
            for kind in ("images-idx3", "labels-idx1")
        )
        chosen = first_of_each_class(labels, PER_CLASS[split])
        arrays |= {f"{split}_images": images[chosen], f"{split}_labels": labels[chosen]}
    path = Path(__file__).with_name("fashion_mnist_slice.npz")
    save_npz(path, arrays)
    print(f"{path.name}: " + ", ".join(f"{name} {array.shape}" for name, array in arrays.items()))
    return 0


if __name__ == "__main__":
    sys.exit(main())
