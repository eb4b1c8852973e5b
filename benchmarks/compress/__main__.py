"""How small do LeNets get without labels or training: bytes of the .onnx file against errors on MNIST's test images?

Layers are fitted to the first training images, without their labels. Settings are chosen on the last 10,000 training
images, which nothing is fitted to: of the files that are as small as the bar asks for, the one with the fewest errors
there. All settings are then scored on the test images, once each, so that the frontier can be seen; none of those
scores decides anything. The networks were trained on the images that settings are chosen on and know them by heart, so
that these are turned and moved a little, until about as many are mistaken as of images that no network has seen.

Deep Compression (Han et al. 2016, arXiv:1510.00149), which prunes and retrains with labels, has 40 x at 1.64 -> 1.58 %
for LeNet-300-100 and 39 x at .80 -> .74 % for LeNet-5. Its ratios are of weights alone; ours are of whole files.
"""

import tempfile
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np
import onnx
from numpy.typing import NDArray
from scipy.ndimage import affine_transform

import graphshrink
from benchmarks.measuring import ROOT, Request, request, table
from testmodels.checked_onnx import accuracy
from testmodels.mnist import as_input, load_mnist

_FIT, _FIT_SHORT = 5000, 120
_CHOICE: Final = 50_000  # the first image that settings are chosen on
_TURNED, _MOVED = 8.0, 0.8  # degrees and pixels, at most
_SEED: Final = 5
_SHARED: Final = "granularity=tensor, assignment=compensated"
_DEEP_COMPRESSION: Final[Mapping[str, float]] = {"lenet-300-100": 40.0, "lenet-5": 39.0}


@dataclass(frozen=True, slots=True)
class Network:
    """What is asked of a network.

    Attributes:
        name: of the file in testmodels/.
        ratio: bytes before over bytes after, at least.
        points: of test error, at most.
        settings: density, and what is said to weight-sharing.
    """

    name: str
    ratio: float
    points: float
    settings: tuple[tuple[float, str], ...]


_NETWORKS: Final = {
    network.name: network
    for network in (
        Network(
            "lenet-300-100", 45.0, 0.25, tuple((d, f"bits={b}") for b in (2, 3) for d in (0.06, 0.07, 0.075, 0.08, 0.1))
        ),
        Network(
            "lenet-5", 60.0, 0.20, tuple((d, f"bits={b}") for b in (2, 3) for d in (0.04, 0.05, 0.055, 0.06, 0.08))
        ),
    )
}

Images = NDArray[np.float32]
Labels = NDArray[np.generic]


@dataclass(frozen=True, slots=True)
class Digits:
    """Images to fit to, and two sets with labels."""

    fit: Images
    choice: tuple[Images, Labels]
    test: tuple[Images, Labels]


def main() -> None:
    """Run, print and store."""
    asked = request("compress", __doc__, {"models": _NETWORKS})
    digits = _digits(asked.short)
    found: dict[str, Any] = {"fit": len(digits.fit)}
    for name in asked.only["models"] or tuple(_NETWORKS)[: 1 if asked.short else None]:
        found[name] = _network(asked, _NETWORKS[name], digits)
        asked.save(found)


def _network(asked: Request, network: Network, digits: Digits) -> dict[str, Any]:
    """The frontier of one network, and the chosen point of it."""
    source = ROOT / "testmodels" / f"{network.name}.onnx"
    before = {"bytes": source.stat().st_size, **_errors(source, digits)}
    rows: list[dict[str, Any]] = []
    for density, sharing in network.settings[-1:] if asked.short else network.settings:
        passes = f"strip, sparsify{{density={density}}}, weight-sharing{{{sharing}, {_SHARED}}}, half"
        asked.note(f"{network.name}: {passes}")
        rows.append({"density": density, "sharing": sharing, "passes": passes, **_shrunk(source, passes, digits)})
    chosen = _chosen(rows, before, network)
    print(f"\n{network.name}: {before['bytes']:,} bytes, {before['test']:.2f} % errors on test images")
    print(table(_HEADER, [_line(row, before, row is chosen) for row in rows]))
    met = chosen is not None and _fall(chosen, before) <= network.points
    bar = f"bar {network.ratio:g} x at {network.points} points, by the setting marked `*`"
    print(f"{bar}: {asked.verdict(0 if met else 1, 0.5)}")
    print(f"Deep Compression has {_DEEP_COMPRESSION[network.name]:g} x, with retraining")
    return {"before": before, "rows": rows, "chosen": None if chosen is None else rows.index(chosen)}


def _shrunk(source: Path, passes: str, digits: Digits) -> dict[str, Any]:
    started = time.perf_counter()
    [name] = [info.name for info in onnx.load(source).graph.input]
    feeds = [{name: digits.fit[i : i + 1]} for i in range(len(digits.fit))]
    compiled = graphshrink.compile(
        source, passes, calibration=feeds, samples=len(feeds), max_error=1.0, encoding="small"
    )
    seconds = time.perf_counter() - started
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, source.name)
        compiled.save(path)
        return {"bytes": path.stat().st_size, **_errors(path, digits), "seconds": seconds}


def _errors(path: Path, digits: Digits) -> dict[str, float]:
    """Percent of images that are taken for other digits."""
    sets = {"choice": digits.choice, "test": digits.test}
    return {name: 100 * (1 - accuracy(path, images, labels)) for name, (images, labels) in sets.items()}


def _chosen(rows: Sequence[dict[str, Any]], before: Mapping[str, float], network: Network) -> dict[str, Any] | None:
    """Of the files that are small enough, the one with the fewest errors on the images that settings are chosen on."""
    small = [row for row in rows if before["bytes"] / row["bytes"] >= network.ratio]
    return min(small, key=lambda row: float(row["choice"]), default=None)


def _fall(row: Mapping[str, Any], before: Mapping[str, float]) -> float:
    """Points of test error, rounded to single images of 10,000."""
    fall: float = round(row["test"] - before["test"], 4)
    return fall


_HEADER: Final = ("density", "sharing", "bytes", "ratio", "errors, chosen on", "errors, test", "points", "s")


def _line(row: Mapping[str, Any], before: Mapping[str, float], is_chosen: bool) -> tuple[object, ...]:
    return (
        f"{row['density']:g}" + " *" * is_chosen,
        row["sharing"],
        f"{row['bytes']:,}",
        f"{before['bytes'] / row['bytes']:.1f} x",
        f"{row['choice']:.2f} %",
        f"{row['test']:.2f} %",
        f"{_fall(row, before):+.2f}",
        f"{row['seconds']:.0f}",
    )


def _digits(short: bool) -> Digits:
    if short:  # drawn digits, which are shipped
        with np.load(ROOT / "testmodels" / "digits_calibration.npz") as file:
            drawn = file["input"]
        labels = np.arange(len(drawn)) % 10
        rest = (drawn[_FIT_SHORT:], labels[_FIT_SHORT:])
        return Digits(drawn[:_FIT_SHORT], rest, rest)
    mnist = load_mnist()
    return Digits(
        as_input(mnist.train_images[:_FIT]),
        (moved(as_input(mnist.train_images[_CHOICE:])), mnist.train_labels[_CHOICE:]),
        (as_input(mnist.test_images), mnist.test_labels),
    )


def moved(images: Images) -> Images:
    """Images (n, ..., rows, columns), each turned about its middle and moved by chance, by no more than the limits."""
    random = np.random.default_rng(_SEED)
    made = np.empty_like(images)
    middle = (np.array(images.shape[-2:]) - 1) / 2
    for image, result in zip(images, made, strict=True):
        angle = np.deg2rad(random.uniform(-_TURNED, _TURNED))
        turn = np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
        offset = middle - turn @ middle + random.uniform(-_MOVED, _MOVED, 2)
        flat = image.reshape(images.shape[-2:])
        result[...] = affine_transform(flat, turn, offset, order=1).reshape(image.shape)
    return made


if __name__ == "__main__":
    main()
