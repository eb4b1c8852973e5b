"""Lines and pages of text drawn with the DejaVu fonts: any number of them, whose words and boxes are known.

Item i of a set is drawn from a seed made of the task, the set and i. Each set has a third of the dictionary's words to
itself, so that no two sets have a drawing in common. The same versions of Pillow and numpy draw the same pixels.
"""

from collections.abc import Callable, Sequence
from functools import cache
from pathlib import Path
from typing import Any, Literal, NamedTuple, TypeAlias

import numpy as np

from benchmarks.corpus.base import Floats
from benchmarks.corpus.pillow import pillow
from benchmarks.corpus.resizing import Image
from benchmarks.labelled import pronunciations
from testmodels.fonts import FACES, dejavu

AnySplit: TypeAlias = Literal["calibration", "development", "test"]
SETS: tuple[AnySplit, ...] = ("calibration", "development", "test")
Words: TypeAlias = Sequence[str]


class Line(NamedTuple):
    """What is written, and its picture."""

    text: str
    image: Image


class Page(NamedTuple):
    """A picture, and the box of each line: (n, 4) left, top, right, bottom."""

    image: Image
    boxes: Floats


def random_of(task: int, split: AnySplit, index: int) -> np.random.Generator:
    """The random numbers of an item."""
    return np.random.default_rng((task, SETS.index(split), index))


def third(words: Words, split: AnySplit) -> Words:
    """Every third word, from the set's own place on."""
    return words[SETS.index(split) :: len(SETS)]


@cache
def words_of(split: AnySplit) -> Words:
    """The words of a set."""
    return third(sorted(pronunciations()), split)


# ---- what is written


def _some(random: np.random.Generator, words: Words, most: int) -> str:
    return " ".join(words[int(i)] for i in random.integers(len(words), size=random.integers(1, most + 1)))


def _number(random: np.random.Generator) -> str:
    return f"{random.integers(10 ** int(random.integers(1, 6))):,}"


_KINDS: tuple[Callable[[np.random.Generator, Words], str], ...] = (
    lambda random, words: _some(random, words, 4),
    lambda random, words: _some(random, words, 4).capitalize() + ".",
    lambda random, words: _some(random, words, 3).title(),
    lambda random, words: _some(random, words, 2).upper(),
    lambda random, words: f"{_some(random, words, 2)}: {_number(random)}",
    lambda random, words: f"{_some(random, words, 1).capitalize()}, {_some(random, words, 3)}?",
    lambda random, words: f"{_some(random, words, 1)} ${_number(random)}.{random.integers(100):02}",
    lambda random, words: f"{random.integers(1, 32):02}/{random.integers(1, 13):02}/{random.integers(1950, 2050)}",
    lambda random, words: f"({_some(random, words, 1)}) {_some(random, words, 2)}-{random.integers(1, 100)}",
    lambda random, words: f"{_some(random, words, 1)}@{_some(random, words, 1)}.com",
)


def phrase(random: np.random.Generator, words: Words) -> str:
    """A few words, a date, a price and the like."""
    return _KINDS[random.integers(len(_KINDS))](random, words)


# ---- how it is drawn


@cache
def _faces() -> dict[str, Path]:
    return dejavu()


def _font(random: np.random.Generator, size: int) -> Any:
    fonts = pillow("ImageFont")
    face = _faces()[FACES[random.integers(len(FACES))]]
    return fonts.truetype(str(face), size, layout_engine=fonts.Layout.BASIC)  # the other one is not everywhere


def _colours(random: np.random.Generator) -> tuple[tuple[int, ...], tuple[int, ...]]:
    """Ink and paper: dark on light, one time in five light on dark."""
    dark, light = random.integers(0, 110, 3), random.integers(170, 256, 3)
    pair = (dark, light) if random.random() < 0.8 else (light, dark)
    ink, paper = (tuple(map(int, colour)) for colour in pair)
    return ink, paper


def worsen(image: Any, random: np.random.Generator, blur: float, noise: float) -> Image:
    """A Pillow image blurred and made noisy, each up to so much."""
    smooth = image.filter(pillow("ImageFilter").GaussianBlur(random.uniform(0, blur)))
    pixels = np.asarray(smooth, np.float32)
    pixels = pixels + random.standard_normal(pixels.shape, np.float32) * np.float32(random.uniform(0, noise))
    return np.clip(np.rint(pixels), 0, 255).astype(np.uint8)


def line(random: np.random.Generator, words: Words, *, blur: float, noise: float) -> Line:
    """One line, cut out with a little room around it."""
    text, font = phrase(random, words), _font(random, int(random.integers(14, 41)))
    left, top, right, bottom = font.getbbox(text)
    room = [int(side) for side in random.integers(1, 2 + font.size // 4, 4)]
    ink, paper = _colours(random)
    image = pillow("Image").new("RGB", (right - left + room[0] + room[2], bottom - top + room[1] + room[3]), paper)
    pillow("ImageDraw").Draw(image).text((room[0] - left, room[1] - top), text, ink, font)
    return Line(text, worsen(image, random, blur, noise))


def page(random: np.random.Generator, words: Words, *, size: tuple[int, int], blur: float, noise: float) -> Page:
    """Lines below each other, of several sizes, from the top to the bottom.

    Args:
        random: chooses everything.
        words: to write.
        size: width and height.
        blur: the most, in pixels.
        noise: the most, in steps of brightness.
    """
    ink, paper = _colours(random)
    image = pillow("Image").new("RGB", size, paper)
    draw = pillow("ImageDraw").Draw(image)
    boxes: list[tuple[float, ...]] = []
    margin = int(random.integers(10, 40))
    y = margin
    while True:
        font = _font(random, int(random.integers(11, 33)))
        x = margin + int(random.integers(0, 80))
        text = phrase(random, words)
        box = draw.textbbox((x, y), text, font)
        if box[3] > size[1] - margin:
            break
        if box[2] < size[0]:
            draw.text((x, y), text, ink, font)
            boxes.append(box)
        y = int(box[3] + font.size * random.uniform(0.3, 1.5))
    return Page(worsen(image, random, blur, noise), np.array(boxes, np.float64).reshape(-1, 4))
