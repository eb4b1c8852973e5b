"""The committed models and data are what testmodels/README.md says, and they work."""

import hashlib
import re
from collections.abc import Callable
from typing import Final

import numpy as np
import onnx
import pytest

from graphshrink.ir.types import Array
from testmodels.checked_onnx import accuracy
from testmodels.mnist import as_input
from tests.models import DIGITS, TESTMODELS
from tests.runners import run

README: Final = (TESTMODELS / "README.md").read_text()
MODELS: Final = sorted(path.name for path in TESTMODELS.glob("*.onnx"))
COMMITTED: Final = [*MODELS, *sorted(path.name for path in TESTMODELS.glob("*.npz"))]
FIRST: Final = {"lenet-300-100.onnx", "lenet-5.onnx", "digit_cnn.onnx", DIGITS.name, "fashion_mnist_slice.npz"}
LIMIT: Final = 12_000_000  # bytes, of all that came after the first five

Labelled = Callable[[], tuple[Array, Array]]


def rows(heading: str) -> dict[str, list[str]]:
    """A table of the README, by its first column."""
    table = README.partition(heading)[2].partition("\n\n")[0].splitlines()[2:]
    cells = [[cell.strip().strip("`") for cell in line.strip("|").split("|")] for line in table]
    return {first: rest for first, *rest in cells}


FILES: Final = rows("| file | what | origin | licence | bytes | SHA-256 | script |")
ACCURACY: Final = rows("| model | tested on | accuracy | on the committed data | accuracy there |")


def drawn_digits() -> tuple[Array, Array]:
    inputs = np.load(DIGITS)["input"]
    return inputs, np.arange(len(inputs)) % 10


def fashion() -> tuple[Array, Array]:
    data = np.load(TESTMODELS / "fashion_mnist_slice.npz")
    return as_input(data["test_images"]), data["test_labels"]


def spirals() -> tuple[Array, Array]:
    data = np.load(TESTMODELS / "spirals.npz")
    return data["test_points"], data["test_labels"]


def words() -> tuple[Array, Array]:
    data = np.load(TESTMODELS / "words.npz")
    return data["test_letters"], data["test_labels"]


LABELLED: Final[dict[str, Labelled]] = {
    "lenet-300-100.onnx": drawn_digits,
    "lenet-5.onnx": drawn_digits,
    "net-trim-lenet.onnx": drawn_digits,
    "digit_cnn.onnx": drawn_digits,
    "resnet-20.onnx": fashion,
    "depthwise.onnx": fashion,
    "spirals.onnx": spirals,
    "transformer.onnx": words,
    "lstm.onnx": words,
}


def test_every_file_is_listed() -> None:
    assert set(FILES) == set(COMMITTED)


@pytest.mark.parametrize("name", COMMITTED)
def test_file_is_the_one_listed(name: str) -> None:
    content = (TESTMODELS / name).read_bytes()
    _, _, _, size, sha256, script = FILES[name]
    assert (f"{len(content):,}", hashlib.sha256(content).hexdigest()) == (size, sha256)
    assert (TESTMODELS / f"{script}.py").is_file()


@pytest.mark.parametrize("name", MODELS)
def test_model_is_valid(name: str) -> None:
    onnx.checker.check_model(TESTMODELS / name, full_check=True)


def test_licences_named_are_there() -> None:
    named = set(re.findall(r"\]\(licenses/([^)]+)\)", README))
    assert named == {path.name for path in (TESTMODELS / "licenses").iterdir()}


def test_they_stay_small() -> None:
    assert sum((TESTMODELS / name).stat().st_size for name in COMMITTED if name not in FIRST) < LIMIT


@pytest.mark.parametrize("name", LABELLED)
def test_accuracy_is_as_listed(name: str) -> None:
    listed = float(ACCURACY[name][3])
    inputs, labels = LABELLED[name]()
    # Rounded to four digits; the kernels of another ONNX Runtime may turn a sample or two that lie on the border.
    assert accuracy(TESTMODELS / name, inputs, labels) == pytest.approx(listed, abs=0.5e-4 + 2 / len(labels))


def outputs_of(name: str, feeds: dict[str, Array]) -> dict[str, Array]:
    return run(onnx.load(TESTMODELS / name), feeds, optimised=True)


def test_swift_f0_hears_a_tone() -> None:
    seconds = np.arange(16_000) / 16_000
    tone = np.sin(2 * np.pi * 220 * seconds).astype(np.float32)[np.newaxis]
    feeds = {"audio": tone, "fmin": np.array(46.875, np.float32), "fmax": np.array(2093.75, np.float32)}
    pitch = np.median(outputs_of("swift_f0.onnx", feeds)["pitch"])
    assert pitch == pytest.approx(220, rel=0.02)  # a third of a semitone


def test_silero_vad_hears_nobody_in_silence() -> None:
    state = np.zeros((1, 1, 128), np.float32)
    outputs = outputs_of("silero_vad.onnx", {"input": np.zeros((8, 576), np.float32), "h": state, "c": state})
    assert outputs["speech_probs"].shape == (8,)
    assert np.all((outputs["speech_probs"] >= 0) & (outputs["speech_probs"] < 0.5))


def test_ppocr_cls_gives_probabilities() -> None:
    images = np.random.default_rng(0).uniform(-1, 1, (2, 3, 48, 192)).astype(np.float32)
    (probabilities,) = outputs_of("ppocr_cls.onnx", {"x": images}).values()
    assert probabilities.shape == (2, 2)
    assert probabilities.sum(axis=1) == pytest.approx([1, 1], abs=1e-5)


def test_every_model_was_run() -> None:
    """A model that is added needs data here."""
    assert {*LABELLED, "swift_f0.onnx", "silero_vad.onnx", "ppocr_cls.onnx"} == set(MODELS)
