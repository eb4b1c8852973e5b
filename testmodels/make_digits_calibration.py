"""Draw `digits_calibration.npz`: 200 digits in the manner of MNIST, free to be shipped, for calibrating the LeNets.

MNIST itself is not part of this repository, and the README's example needs sample inputs. Each digit is a DejaVu glyph,
thinned or thickened, turned, sheared, stretched and warped like handwriting, scaled into a 20x20 box, blurred, and
placed with its centre of mass in the middle of 28x28: the steps by which MNIST itself was normalised. White on black;
digit i % 10 at place i.

Run: `python -m testmodels.make_digits_calibration` on a Debian system, with Pillow (`pip install pillow==13.0.0`; made
with that, numpy 2.4.6 and scipy 1.17.1). The seed is fixed: the same versions give the same bytes every time.
"""

import sys
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw, ImageFont
from scipy import ndimage

from testmodels.checked_onnx import accuracy
from testmodels.fetching import FetchError
from testmodels.fixed_npz import save_npz
from testmodels.fonts import dejavu
from testmodels.mnist import as_input

COUNT = 200
SEED = 0
CANVAS = 160  # pixels of the large drawing, reduced to 28 at the end
# Least and (exclusive) greatest change of the pen; the serif face has hairlines that only bear thickening. There is no
# monospaced face: its zero carries a dot.
STROKES = {"DejaVuSans.ttf": (-1, 2), "DejaVuSans-Bold.ttf": (-4, -1), "DejaVuSerif.ttf": (1, 3)}


def draw(digit, font_path, random):
    """One digit as a (28, 28) uint8 image."""
    canvas = Image.new("L", (CANVAS, CANVAS))
    font = ImageFont.truetype(str(font_path), 96)
    sign = "l" if digit == 1 and random.random() < 0.6 else str(digit)  # people mostly write 1 as a bare stroke
    ImageDraw.Draw(canvas).text((CANVAS / 2, CANVAS / 2), sign, 255, font, anchor="mm")
    glyph = np.asarray(canvas, np.float64) / 255
    glyph = _stroke(glyph, int(random.integers(*STROKES[font_path.name])))
    glyph = _warp(glyph, random)
    return _normalise(glyph, random)


def _stroke(glyph, pixels):
    """Make the pen thinner (below 0) or thicker all round by some pixels of the large drawing."""
    if pixels == 0:
        return glyph
    disc = np.hypot(*np.mgrid[-abs(pixels) : abs(pixels) + 1, -abs(pixels) : abs(pixels) + 1]) <= abs(pixels)
    change = ndimage.grey_dilation if pixels > 0 else ndimage.grey_erosion
    return change(glyph, footprint=disc)


def _warp(glyph, random):
    """Turn, shear and stretch about the middle, and move points smoothly by a few pixels of the large drawing."""
    turn, shear = np.deg2rad(random.normal(0, 8)), random.normal(0.15, 0.15)
    stretch = np.diag([1.0, random.uniform(0.8, 1.25)])  # along y, x; above 1 is narrower
    rotation = np.array([[np.cos(turn), np.sin(turn)], [-np.sin(turn), np.cos(turn)]])
    matrix = rotation @ np.array([[1.0, 0.0], [shear, 1.0]]) @ stretch
    grid = np.mgrid[:CANVAS, :CANVAS].reshape(2, -1) - (CANVAS - 1) / 2
    moves = np.stack([ndimage.gaussian_filter(random.normal(0, 1, (CANVAS, CANVAS)), 16) for _ in range(2)])
    moves *= random.uniform(2, 5) / moves.std()
    places = matrix @ grid + (CANVAS - 1) / 2 + moves.reshape(2, -1)
    return ndimage.map_coordinates(glyph, places, order=1).reshape(CANVAS, CANVAS)


def _normalise(glyph, random):
    """Fit into 20x20 (a little less at times), blur slightly, and put the centre of mass into the middle of 28x28."""
    rows, columns = (np.flatnonzero(glyph.max(axis=axis) > 0.3) for axis in (1, 0))
    tight = glyph[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1]
    scale = random.uniform(18.5, 20.0) / max(tight.shape)
    side = np.arange(28) - 13.5
    centre = ndimage.center_of_mass(tight)
    smooth = ndimage.gaussian_filter(np.pad(tight, 40), random.uniform(0.35, 0.5) / scale)
    places = np.meshgrid(*(side / scale + middle + 40 for middle in centre), indexing="ij")
    small = ndimage.map_coordinates(smooth, np.stack(places), order=1)
    small[small < 0.02] = 0
    return np.round(np.clip(1.3 * small / small.max(), 0, 1) * 255).astype(np.uint8)


def main():
    """Write the digits beside this file and print how well the committed networks read them."""
    try:
        fonts = sorted(dejavu(*STROKES).values())
    except FetchError as e:
        print(f"error: {e}", file=sys.stderr)
        return 1
    random = np.random.default_rng(SEED)
    labels = (np.arange(COUNT) % 10).astype(np.uint8)
    inputs = as_input(np.stack([draw(digit, fonts[random.integers(len(fonts))], random) for digit in labels]))
    folder = Path(__file__).parent
    save_npz(folder / "digits_calibration.npz", {"input": inputs})
    print(
        f"digits_calibration.npz: {len(inputs)} digits, mean {inputs.mean():.3f}, {(inputs > 0).mean():.3f} not black"
    )
    for name in ("lenet-300-100", "lenet-5", "digit_cnn"):
        print(f"read by {name}: {accuracy(folder / f'{name}.onnx', inputs, labels):.3f}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
