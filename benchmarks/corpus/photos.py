"""EfficientNet-Lite0 on photos: 20 of ImageNet that foolbox ships, and 131 that Debian's tuxpaint-stamps-default ships.

The stamps are photographs cut out and laid on white. Their classes are those that their file names name (`stamps.tsv`),
given without looking at what the model says; where a name fits several classes, each is right. Photos of a class are in
one set: development where the class's number leaves 1 when divided by 4, which is a third of the photos, else test.
Stamps of things that ImageNet has no class for are for calibration. An item is a photo, and counts the share of its two
views, plain and mirrored, that are right: n is the number of photos.
"""

from collections.abc import Iterator, Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from benchmarks import fetch_models
from benchmarks.corpus.base import Run, Score, Split, Task
from benchmarks.corpus.classify import Item, accuracy
from benchmarks.corpus.pillow import pillow
from benchmarks.labelled import photos
from graphshrink.ir.types import Array
from testmodels.fetching import cache_folder, debian_files

_PACKAGE = "tuxpaint-stamps-default"
_FOLDER = "/usr/share/tuxpaint/stamps"
_TABLE = Path(__file__).with_name("stamps.tsv")
_SIZE = 224
_MARGIN = 1.15  # side of the white square over the longer side of the stamp


class Stamp(NamedTuple):
    """A line of the table: path in the installed system, classes (none: for calibration), SHA-256."""

    path: str
    classes: tuple[int, ...]
    sha256: str


class Photo(NamedTuple):
    """An image (3, 224, 224), red first, and the classes that are right."""

    image: NDArray[np.uint8]
    classes: tuple[int, ...]


def stamps() -> list[Stamp]:
    """The table; needs no network."""
    lines = [line for line in _TABLE.read_text(encoding="utf-8").splitlines() if not line.startswith("#")]
    return [
        Stamp(f"{_FOLDER}/{path}", () if classes == "-" else tuple(map(int, classes.split(","))), sha256)
        for path, classes, sha256 in (line.split("\t") for line in lines)
    ]


def set_of(classes: tuple[int, ...]) -> Split:
    """Where photos of these classes belong."""
    return "development" if min(classes) % 4 == 1 else "test"


def stamp_files() -> dict[str, Path]:
    """Where the pictures of all stamps lie, by their paths in the package; fetched first if need be."""
    return debian_files(_PACKAGE, {stamp.path: stamp.sha256 for stamp in stamps()}, into=cache_folder() / "stamps")


@cache
def _stamp_photos() -> list[Photo]:
    paths = stamp_files()
    return [Photo(_on_white(paths[stamp.path]), stamp.classes) for stamp in stamps()]


def _on_white(path: Path) -> NDArray[np.uint8]:
    images = pillow("Image")
    with images.open(path) as file:
        stamp = file.convert("RGBA")
    side = round(max(stamp.size) * _MARGIN)
    square = images.new("RGBA", (side, side), "white")
    square.alpha_composite(stamp, tuple((side - length) // 2 for length in stamp.size))
    small = square.convert("RGB").resize((_SIZE, _SIZE), images.Resampling.BICUBIC)
    return np.asarray(small).transpose(2, 0, 1)


def _labelled(split: Split) -> Iterator[Photo]:
    images, labels = photos()
    of_imagenet = [Photo(image, (int(label),)) for image, label in zip(images, labels, strict=True)]
    for photo in (*of_imagenet, *(stamp for stamp in _stamp_photos() if stamp.classes)):
        if set_of(photo.classes) == split:
            yield photo


def _as_input(image: NDArray[np.uint8]) -> Array:
    return (image[np.newaxis].astype(np.float32) - 127) / 128


def _calibration(count: int) -> Sequence[Mapping[str, Array]]:
    images = [photo.image for photo in _stamp_photos() if not photo.classes]
    step = max(1, len(images) // max(count, 1))  # the table is in the order of animals, food, things
    return [{"input": _as_input(image)} for image in images[::step][:count]]


def _score(run: Run, split: Split) -> Score:
    items = (
        Item([_as_input(image), _as_input(image[:, :, ::-1])], classes)  # plain and mirrored
        for image, classes in _labelled(split)
    )
    return accuracy(run, items, source="input", target="logits", metric="top-1")


TASKS = (
    Task(
        "efficientnet_lite0",
        "ImageNet classifier, depthwise Conv, batch normalisations of their own; photos and photographic stamps",
        lambda: fetch_models.get("efficientnet_lite0"),
        _calibration,
        _score,
    ),
)
