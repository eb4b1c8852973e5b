"""The points of `spirals.npz`: two nested spirals in the plane, a class each, after the Net-Trim paper's experiment.

A point of class 0 lies at radius t and angle 4 pi t, with t uniform in area over 0.1..1, and is moved by normal noise
of 0.02 along each axis; class 1 is the same, turned by half a circle. Arrays: train_points float32 (2000, 2) and
train_labels uint8, test_points (1000, 2) and test_labels.

Run: `python -m testmodels.spirals` to write the file. The bytes are the same every time.
"""

import sys
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from testmodels.fixed_npz import save_npz

SEED = 0
TRAIN, TEST = 2000, 1000
NOISE = 0.02
_INNER = 0.1


class Spirals(NamedTuple):
    """Points (n, 2), float32, and their classes (n,), uint8."""

    train_points: NDArray[np.float32]
    train_labels: NDArray[np.uint8]
    test_points: NDArray[np.float32]
    test_labels: NDArray[np.uint8]


def make_spirals() -> Spirals:
    """The same points every time; the classes take turns."""
    rng = np.random.default_rng(SEED)
    labels = np.arange(TRAIN + TEST) % 2
    radius = np.sqrt(rng.uniform(_INNER**2, 1, len(labels)))
    angle = np.pi * (4 * radius + labels)
    exact = radius[:, np.newaxis] * np.stack([np.cos(angle), np.sin(angle)], axis=1)
    points = (exact + rng.normal(0, NOISE, exact.shape)).astype(np.float32)
    classes = labels.astype(np.uint8)
    return Spirals(points[:TRAIN], classes[:TRAIN], points[TRAIN:], classes[TRAIN:])


def main() -> int:
    """Write the points beside this file."""
    arrays = make_spirals()._asdict()
    path = Path(__file__).with_name("spirals.npz")
    save_npz(path, arrays)
    print(f"{path.name}: " + ", ".join(f"{name} {array.shape}" for name, array in arrays.items()))
    return 0


if __name__ == "__main__":
    sys.exit(main())
