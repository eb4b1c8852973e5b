"""What the models of OCR say, made into text and boxes, as rapidocr-onnxruntime 1.4.4 does; and how good boxes are.

Its boxes may be turned; here text lies straight, so that they are upright: a region's own, not the smallest turned one.
"""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import onnx
from numpy.typing import NDArray
from scipy import ndimage

from benchmarks.corpus.base import Floats

_INK = 0.3  # a pixel belongs to text
_SURE = 0.5  # a region is text: mean over its box
_UNCLIP = 1.6  # the model is trained on shrunken regions
_SMALLEST, _SMALLEST_GROWN = 3, 5  # pixels
_BLANK = 0


def characters(model: Path) -> Sequence[str]:
    """What each class of the recogniser stands for: blank, the list in the model's metadata, space."""
    metadata = {entry.key: entry.value for entry in onnx.load(str(model), load_external_data=False).metadata_props}
    return ["", *metadata["character"].splitlines(), " "]


def ctc_text(scores: NDArray[np.float32], signs: Sequence[str]) -> str:
    """The best class of each step (steps, classes); repetitions count once, blanks separate and are left out."""
    best = scores.argmax(axis=1)
    first = np.concatenate([[True], best[1:] != best[:-1]])
    return "".join(signs[int(index)] for index in best[first & (best != _BLANK)])


def boxes_of(probabilities: NDArray[np.float32]) -> Floats:
    """Boxes (n, 4) left, top, right, bottom of the text in a map (height, width)."""
    ink = ndimage.binary_dilation(probabilities > _INK, np.ones((2, 2), bool), origin=-1)
    regions, _ = ndimage.label(ink, np.ones((3, 3)))
    grown = [_grown(rows, columns, probabilities) for rows, columns in ndimage.find_objects(regions)]
    return np.array([box for box in grown if box is not None], np.float64).reshape(-1, 4)


def _grown(rows: slice, columns: slice, probabilities: NDArray[np.float32]) -> tuple[float, float, float, float] | None:
    """The box that a region stands for, or None when it is no text."""
    height, width = rows.stop - rows.start - 1, columns.stop - columns.start - 1  # between the middles of pixels
    if min(height, width) < _SMALLEST or probabilities[rows, columns].mean() < _SURE:
        return None
    by = height * width * _UNCLIP / (2 * (height + width))
    if min(height, width) + 2 * by < _SMALLEST_GROWN:
        return None
    return (columns.start - by, rows.start - by, columns.stop - 1 + by, rows.stop - 1 + by)


def overlaps(first: Floats, second: Floats) -> Floats:
    """Intersection over union of boxes (n, 4) and (m, 4): (n, m)."""
    low = np.maximum(first[:, None, :2], second[None, :, :2])
    high = np.minimum(first[:, None, 2:], second[None, :, 2:])
    shared = np.prod(np.maximum(high - low, 0), axis=2)
    areas = [np.prod(boxes[:, 2:] - boxes[:, :2], axis=1) for boxes in (first, second)]
    return np.asarray(shared / (areas[0][:, None] + areas[1][None, :] - shared))


def f1(found: Floats, true: Floats, least: float = 0.5) -> float:
    """F1 of boxes; a found and a true box make a pair, the best first, when they overlap by `least`."""
    shared = overlaps(found, true)
    pairs = 0
    while shared.size and shared.max() >= least:
        row, column = np.unravel_index(shared.argmax(), shared.shape)
        shared[row, :] = shared[:, column] = -1
        pairs += 1
    return 2 * pairs / (len(found) + len(true)) if len(found) + len(true) else 1.0
