"""The three digit models at 4 and 6 bits: bytes, error, accuracy on MNIST's test images, load time, latency.

Each is compiled with two sets of samples: the drawn digits of testmodels, and 200 MNIST training images (without their
labels). Accuracy is on the 10,000 test images, through ONNX Runtime. Load time and latency (batch of 1, one thread) are
ratios to the original, whose runs alternate with the result's and with those of a plain copy of the original: what the
copy shows is noise. The table also goes to results/mnist.md.

`--short` takes the smallest model at 4 bits with drawn digits, and scores it on the drawn digits too: MNIST has to be
fetched.
"""

import shutil
import statistics
import tempfile
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import product
from pathlib import Path
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

import graphshrink
from benchmarks.measuring import ROOT, request, table
from graphshrink.metrics.latency import interleaved, median_ratio
from graphshrink.onnx_io.runtime import Runtime, Session
from testmodels.checked_onnx import accuracy
from testmodels.mnist import as_input, load_mnist

_MODELS: Final = ("lenet-300-100", "lenet-5", "digit_cnn")
_DRAWN: Final = ROOT / "testmodels" / "digits_calibration.npz"
_SAMPLES: Final = 200
_ROUNDS, _ROUNDS_SHORT = 31, 3
_RUNS: Final = 50  # in one round


@dataclass(frozen=True, slots=True)
class Digits:
    """What the models are fitted to and scored on."""

    calibration: Mapping[str, NDArray[np.float32]]
    images: NDArray[np.float32]
    labels: NDArray[np.uint8]


def digits(short: bool) -> Digits:
    """The samples by name, and the images that are scored."""
    with np.load(_DRAWN) as file:
        drawn: NDArray[np.float32] = file["input"]
    if short:
        return Digits({"drawn digits": drawn}, drawn, (np.arange(len(drawn)) % 10).astype(np.uint8))
    mnist = load_mnist()
    training = as_input(mnist.train_images[:_SAMPLES])
    return Digits({"drawn digits": drawn, "MNIST training": training}, as_input(mnist.test_images), mnist.test_labels)


def examine(name: str, samples: str, bits: int, encoding: str, data: Digits, rounds: int) -> dict[str, Any]:
    """One row of the table."""
    source = ROOT / "testmodels" / f"{name}.onnx"
    feeds = {"input": data.calibration[samples]}
    compiled = graphshrink.compile(
        source, f"weight-sharing{{bits={bits}}}", calibration=feeds, samples=_SAMPLES, encoding=encoding
    )
    report = compiled.report
    with tempfile.TemporaryDirectory() as folder:
        result = Path(folder, "result.onnx")
        compiled.save(result)
        before, after = report["input"], report["output"]
        row: dict[str, Any] = {
            "model": name,
            "samples": samples,
            "bits": bits,
            "encoding": encoding,
            "bytes": before["bytes"],
            "bytes_after": result.stat().st_size,
            "gzip_bytes": before["gzip_bytes"],
            "gzip_bytes_after": after["gzip_bytes"],
            "error": report["verification"]["held_out"]["error"],
            "backed_off": report["passes"][0]["backed_off"],
            "accuracy": accuracy(source, data.images, data.labels),
            "accuracy_after": accuracy(result, data.images, data.labels),
        }
        return row | speed(source, result, rounds)


def speed(source: Path, result: Path, rounds: int) -> dict[str, Any]:
    """Ratios of load time and latency to the original; and whether ONNX Runtime has the same operators left to run."""
    copy = result.with_name("copy.onnx")
    shutil.copyfile(source, copy)
    files = {"original": source, "copy": copy, "result": result}
    with Runtime(threads=1) as runtime:
        runtime.open(source).close()  # the worker's start is not what is measured
        loads = interleaved({name: _loading(runtime, path) for name, path in files.items()}, rounds)
        sessions = {name: runtime.open(path) for name, path in files.items()}
        runs = interleaved({name: _running(session) for name, session in sessions.items()}, rounds)
        same = sessions["original"].operator_counts() == sessions["result"].operator_counts()
    return {
        "load_seconds": {name: statistics.median(seconds) for name, seconds in loads.items()},
        "load": _against_original(loads),
        "latency_seconds": {name: statistics.median(seconds) for name, seconds in runs.items()},
        "latency": _against_original(runs),
        "same_operators": same,
    }


def _loading(runtime: Runtime, path: Path) -> Callable[[], float]:
    def once() -> float:
        started = time.perf_counter()
        session = runtime.open(path)
        seconds = time.perf_counter() - started
        session.close()
        return seconds

    return once


def _running(session: Session) -> Callable[[], float]:
    feeds = {"input": np.random.default_rng(0).random((1, 1, 28, 28), np.float32)}
    return lambda: statistics.median(session.time(feeds, _RUNS))


def _against_original(seconds: Mapping[str, Sequence[float]]) -> dict[str, Any]:
    """Median ratios, and between which the middle 80 % of the copy's ratios lie."""
    original = seconds["original"]
    noise = sorted(copy / plain for copy, plain in zip(seconds["copy"], original, strict=True))
    tenth = len(noise) // 10
    return {
        "result": median_ratio(seconds["result"], original),
        "copy": statistics.median(noise),
        "copy_spread": [noise[tenth], noise[-1 - tenth]],
    }


_HEADER: Final = (
    *("model", "samples", "bits", "encoding", "bytes", "after", "ratio", "gzip", "gzip after", "gzip ratio", "error"),
    *("accuracy", "after", "load", "(plain)", "latency", "(plain)", "operators"),
)


def _line(row: Mapping[str, Any]) -> Iterable[object]:
    bits = f"{row['bits']}{' +' if row['backed_off'] else ''}"
    yield from (row["model"], row["samples"], bits, row["encoding"])
    for key in ("bytes", "gzip_bytes"):
        yield from (row[key], row[f"{key}_after"], f"{row[key] / row[f'{key}_after']:.2f}")
    yield from (f"{row['error']:.4f}", f"{row['accuracy']:.4f}", f"{row['accuracy_after']:.4f}")
    for key in ("load", "latency"):
        ratios = row[key]
        low, high = ratios["copy_spread"]
        yield from (f"{ratios['result']:.2f}", f"{ratios['copy']:.2f} ({low:.2f}-{high:.2f})")
    yield "same" if row["same_operators"] else "OTHER"


def main() -> None:
    """Run, print and store."""
    asked = request("mnist", __doc__)
    data = digits(asked.short)
    models, bits, encodings = (
        (("lenet-300-100",), (4,), ("fast",)) if asked.short else (_MODELS, (4, 6), ("fast", "small"))
    )
    rounds = _ROUNDS_SHORT if asked.short else _ROUNDS
    settings = product(data.calibration, models, bits, encodings)
    rows = [examine(name, samples, count, encoding, data, rounds) for samples, name, count, encoding in settings]
    shown = table(_HEADER, map(tuple, map(_line, rows)))
    notes = (
        f"Accuracy on {len(data.labels):,} images. Error on the held-out fifth of {_SAMPLES} samples.\n"
        "Load and latency: median ratio to the original; (plain): the same for a copy of the original, with the\n"
        "middle 80 % of its ratios. `+` at bits: some layers got more bits, since the error would have passed 0.1."
    )
    print(f"{shown}\n\n{notes}")
    asked.save({"rows": rows})
    if asked.into is not None:
        asked.into.with_suffix(".md").write_text(f"{shown}\n\n{notes}\n", encoding="utf-8")


if __name__ == "__main__":
    main()
