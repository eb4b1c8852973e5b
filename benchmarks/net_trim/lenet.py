"""The LeNet of the Net-Trim paper: its fully connected layers at 6.8 %, without any training afterwards."""

import tempfile
from pathlib import Path
from typing import Any, Final

import numpy as np

from benchmarks.measuring import ROOT, Request, table
from benchmarks.net_trim.magnitude_pruning import prune
from benchmarks.net_trim.trimming import Bench, nonzeros, one_each
from graphshrink.ir.graph import Graph
from graphshrink.onnx_io.emit import save
from graphshrink.passes.net_trim import NetTrim
from testmodels.checked_onnx import accuracy
from testmodels.mnist import as_input, load_mnist

_MODEL, _MODEL_SHORT = "net-trim-lenet", "lenet-300-100"
_LAYERS: Final = ("Gemm",)
_DENSITY: Final = 0.068
_ROWS, _ROWS_SHORT = 3000, 150
_PAPER: Final = {"before": 0.9921, "after": 0.9848, "left": 109_460 / 1_610_752}  # the latter on validation images
_BAR_FALL: Final = 0.0073


def lenet(asked: Request) -> dict[str, Any]:
    """Net-Trim and magnitude pruning, on MNIST's test images; fitted to the first training images."""
    source = ROOT / "testmodels" / f"{_MODEL_SHORT if asked.short else _MODEL}.onnx"
    fit, images, labels = _digits(asked.short)
    asked.note(f"lenet: {len(fit):,} images to fit to")
    with Bench(source, one_each("input", fit), one_each("input", images[:500])) as bench:
        trimmed = bench.trim(NetTrim(density=_DENSITY, samples=len(fit)), _LAYERS)
        left = nonzeros(trimmed.graph, trimmed.solved)
        pruned = prune(bench.graph, {label: count for label, (count, _) in left.items()})
        errors = [bench.compare(graph).worst for graph in (trimmed.graph, pruned)]
    before = accuracy(source, images, labels)
    scores = [_accuracy_of(graph, images, labels) for graph in (trimmed.graph, pruned)]
    count, whole = (sum(numbers) for numbers in zip(*left.values(), strict=True))
    lines = [
        ("net-trim", f"{count:,}", f"{count / whole:.2%}", f"{before:.4f}", *_line(before, scores[0], errors[0])),
        ("magnitude", f"{count:,}", f"{count / whole:.2%}", f"{before:.4f}", *_line(before, scores[1], errors[1])),
        ("the paper", "109,460", f"{_PAPER['left']:.2%}", _PAPER["before"], *_line(_PAPER["before"], _PAPER["after"])),
    ]
    print("\nFully connected layers of a LeNet")
    print(table(("method", "weights left", "share", "accuracy", "after", "fall, points", "output error"), lines))
    print(f"{trimmed.seconds:.0f} s; left alone: {trimmed.skipped or 'nothing'}")
    enough = count / whole <= _DENSITY and not any(label.endswith(".weight") for label in trimmed.skipped)
    fall = before - scores[0] if enough else 1.0
    print(f"bar fall < {100 * _BAR_FALL:g} points at {_DENSITY:.1%}: {asked.verdict(fall, _BAR_FALL)}")
    return {
        "model": source.stem,
        "fit": len(fit),
        "left": left,
        "accuracy": {"original": before, "net_trim": scores[0], "magnitude": scores[1], "test_images": len(labels)},
        "output_error": {"net_trim": errors[0], "magnitude": errors[1]},
        "seconds": trimmed.seconds,
        "skipped": trimmed.skipped,
        "paper": _PAPER,
    }


def _line(before: float, after: float, error: float | None = None) -> tuple[str, str, str]:
    return f"{after:.4f}", f"{100 * (before - after):.2f}", "-" if error is None else f"{error:.4f}"


def _digits(short: bool) -> tuple[Any, Any, Any]:
    """Images to fit to, images to score, and their labels."""
    if short:
        with np.load(ROOT / "testmodels" / "digits_calibration.npz") as file:
            drawn = file["input"]
        return drawn[:_ROWS_SHORT], drawn[_ROWS_SHORT:], np.arange(_ROWS_SHORT, len(drawn)) % 10
    mnist = load_mnist()
    return as_input(mnist.train_images[:_ROWS]), as_input(mnist.test_images), mnist.test_labels


def _accuracy_of(graph: Graph, images: Any, labels: Any) -> float:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "model.onnx")
        save(graph, path)
        return accuracy(path, images, labels)
