"""Fashion-MNIST, from the Debian package `dataset-fashion-mnist`: fetched once into the cache folder.

A slice of it is committed, `fashion_mnist_slice.npz`; training and scoring on all of it needs a Debian system.
"""

import gzip
from pathlib import Path

from testmodels.fetching import cache_folder, debian_files
from testmodels.mnist import Mnist, read_idx

PACKAGE = "dataset-fashion-mnist"
_FOLDER = Path("/usr/share/datasets/fashion-mnist")
_SHA256 = {
    "train-images-idx3-ubyte.gz": "b0564c3eedabfbf835052cff8503ea422014ce006caf5b757f851416ee8300c7",
    "train-labels-idx1-ubyte.gz": "0ae29f65d86684f32d1b9c85147786c547b9c6aebcaf235f0400a0cce308b056",
    "t10k-images-idx3-ubyte.gz": "cc1d090a38ace84dfa1aa66e3ada7c336ef481a96936906477e6dd344da56eaa",
    "t10k-labels-idx1-ubyte.gz": "8d3605d196f4be44669e46906da9733c8131fef761fdbfec72c424d5222f1a05",
}


def fashion_files() -> list[Path]:
    """The four files, fetched first if need be; in the order of `Mnist`."""
    sha256_of = {str(_FOLDER / name): sha256 for name, sha256 in _SHA256.items()}
    paths = debian_files(PACKAGE, sha256_of, into=cache_folder() / "fashion-mnist")
    return [paths[inside] for inside in sha256_of]


def load_fashion() -> Mnist:
    """Read all four files, fetching them first if need be; shapes and types are those of MNIST."""
    return Mnist(*(read_idx(gzip.decompress(path.read_bytes())) for path in fashion_files()))
