"""Problems of random and of real layers."""

from collections.abc import Iterator
from typing import Final, NamedTuple

import numpy as np
import onnx
from onnx import numpy_helper

from benchmarks.measuring import ROOT
from graphshrink.ir.types import Array
from graphshrink.solvers.net_trim import AT_LEAST, AT_MOST, EQUAL, Problem
from testmodels.mnist import as_input, load_mnist

_MODEL: Final = ROOT / "testmodels" / "lenet-300-100.onnx"
_DRAWN: Final = ROOT / "testmodels" / "digits_calibration.npz"  # for short runs: needs no download
_SHARES: Final = (0.02, 0.05, 0.1, 0.2)  # epsilon's share of the targets' norm
_LAYERS: Final = 3
_CUT: Final = 200  # samples of a problem cut from a layer


class Named(NamedTuple):
    """A problem and what it is."""

    name: str
    problem: Problem


def digits(samples: int, drawn: bool) -> Array:
    """MNIST's first training images as LeNet takes them, or the drawn digits that come with the repository."""
    if drawn:
        return np.asarray(np.load(_DRAWN)["input"][:samples], np.float32).reshape(-1, 784)
    return as_input(load_mnist().train_images[:samples]).reshape(-1, 784)


def small(count: int, seed: int, images: Array) -> Iterator[Named]:
    """Problems small enough for the full program: every other one cut out of a real layer."""
    rng = np.random.default_rng(seed)
    layers = [lenet_layer(layer, images) for layer in range(_LAYERS)]
    for number in range(count):
        share = float(rng.choice(_SHARES))
        if number % 2 == 0:
            yield Named(f"random {number}", _random(rng, share))
        else:
            layer = number // 2 % _LAYERS
            yield Named(f"lenet layer {layer + 1}, {number}", _cut(rng, layers[layer], share, layer + 1 < _LAYERS))


def _random(rng: np.random.Generator, share: float) -> Problem:
    samples, inputs, neurons = (int(rng.integers(*limits)) for limits in ((80, 300), (8, 40), (1, 9)))
    rank = int(rng.integers(inputs // 2, inputs + 1))
    mixed = rng.standard_normal((samples, rank)) @ rng.standard_normal((rank, inputs))
    x = np.maximum(mixed + 0.3 * rng.standard_normal(mixed.shape), 0).astype(np.float32)
    weights = rng.standard_normal((inputs, neurons)) * (rng.random((inputs, neurons)) < 0.5)
    return rectified(x, x @ weights + rng.standard_normal(neurons), share, limit=bool(rng.integers(2)))


def _cut(rng: np.random.Generator, layer: tuple[Array, Array], share: float, relu: bool) -> Problem:
    inputs, outputs = layer
    rows = np.sort(rng.choice(len(inputs), _CUT, replace=False))
    part = inputs[rows]
    columns = np.argsort(-part.var(axis=0), kind="stable")[:40]  # dead pixels say nothing
    neurons = np.sort(rng.choice(outputs.shape[1], 4, replace=False))
    x = part[:, np.sort(columns)]
    design = np.hstack([x, np.ones((len(x), 1))])
    fitted = design @ np.linalg.lstsq(design, outputs[np.ix_(rows, neurons)], rcond=None)[0]  # can be reached
    return rectified(x, fitted, share) if relu else linear(x, fitted, share)


def rectified(inputs: Array, outputs: Array, share: float, limit: bool = False) -> Problem:
    """The problem of a layer with ReLU, or with ReLU cut off at its outputs' upper tenth."""
    top = float(np.quantile(outputs, 0.9)) if limit else np.inf
    kind = np.where(outputs <= 0, AT_MOST, np.where(outputs >= top, AT_LEAST, EQUAL)).astype(np.uint8)
    target = np.clip(outputs, 0, top).astype(np.float32)
    return _with_epsilon(Problem(inputs, target, kind, 0.0, bias=True), share)


def linear(inputs: Array, outputs: Array, share: float) -> Problem:
    """The problem of a layer without an activation."""
    return _with_epsilon(
        Problem(inputs, outputs.astype(np.float32), np.zeros(outputs.shape, np.uint8), 0.0, True), share
    )


def _with_epsilon(problem: Problem, share: float) -> Problem:
    return Problem(problem.inputs, problem.target, problem.kind, share * problem.norm(), problem.bias)


def lenet_layer(layer: int, images: Array) -> tuple[Array, Array]:
    """Inputs and outputs before the activation of a layer of LeNet-300-100."""
    weights = {tensor.name: numpy_helper.to_array(tensor) for tensor in onnx.load(_MODEL).graph.initializer}
    x = images
    for number in range(1, layer + 2):
        y = x @ weights[f"fc{number}.weight"].T + weights[f"fc{number}.bias"]
        if number == layer + 1:
            return x, y
        x = np.maximum(y, 0)
    raise ValueError(f"no layer {layer}")


def synthetic(samples: int, inputs: int, neurons: int, share: float, seed: int) -> Problem:
    """A layer of any size with inputs that hang together: rectified mixtures, and noise."""
    rng = np.random.default_rng(seed)
    rank = max(inputs // 8, 1)
    mixing = rng.standard_normal((rank, inputs), np.float32) / np.float32(np.sqrt(rank))
    x = np.empty((samples, inputs), np.float32)
    outputs = np.empty((samples, neurons), np.float32)
    weights = rng.standard_normal((inputs, neurons), np.float32) / np.float32(np.sqrt(inputs))
    for start in range(0, samples, 1000):  # in blocks, so that making it needs no more memory than solving it
        rows = slice(start, min(start + 1000, samples))
        height = rows.stop - rows.start
        mixed = rng.standard_normal((height, rank), np.float32) @ mixing
        mixed += np.float32(0.3) * rng.standard_normal(mixed.shape, np.float32)
        x[rows] = np.maximum(mixed, 0)
        outputs[rows] = x[rows] @ weights
    kind = np.where(outputs <= 0, np.uint8(AT_MOST), np.uint8(EQUAL))
    return _with_epsilon(Problem(x, np.maximum(outputs, 0, out=outputs), kind, 0.0, bias=True), share)
