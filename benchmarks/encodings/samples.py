"""Weights of a known entropy: independent Laplace numbers, the smallest set to zero, the others moved onto a grid."""

from math import isqrt
from typing import Any, Final, NamedTuple

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

import graphshrink
from graphshrink.encodings import Policy, Storage, Stored, encode_graph
from graphshrink.ir.weight import weights

Floats = NDArray[np.float32]

SEED: Final = 5
OPSET: Final = 17
WEIGHT: Final = "weight"


class Setting(NamedTuple):
    """How weights are drawn.

    Attributes:
        n: how many.
        density: share of those that are not zero.
        values: how many grid points, from the least to the largest of them.
    """

    n: int
    density: float
    values: int

    @property
    def text(self) -> str:
        """For tables."""
        return f"{self.n:,} at {self.density:g}, {self.values} values"


class Sample(NamedTuple):
    """The weights, and how few bytes their positions and values can take if each is coded by itself."""

    weight: Floats
    entropy_bytes: float


def draw(setting: Setting) -> Sample:
    """Weights as a matrix; the same each time."""
    n, density, values = setting
    drawn = np.random.default_rng([SEED, n]).laplace(size=n)
    kept = round(density * n)
    magnitude = np.abs(drawn)
    survives = np.ones(n, bool) if kept == n else magnitude > np.partition(magnitude, n - kept - 1)[n - kept - 1]
    survivors = drawn[survives]
    grid = np.linspace(survivors.min(), survivors.max(), values)
    nearest = np.rint((survivors - grid[0]) / (grid[1] - grid[0])).astype(np.int64)
    weight = np.zeros(n, np.float32)
    weight[survives] = grid[nearest]
    bits = entropy_bits(np.array([kept, n - kept])) + entropy_bits(np.bincount(nearest))
    return Sample(weight.reshape(_rows(n), -1), bits / 8)


def entropy_bits(counts: NDArray[np.int64]) -> float:
    """The least bits for symbols that occur so often, each coded by itself."""
    some = counts[counts > 0]
    return float((some * np.log2(some.sum() / some)).sum())


def _rows(n: int) -> int:
    """The matrix is as square as can be."""
    return next(rows for rows in range(isqrt(n), 0, -1) if n % rows == 0)


def matmul(weight: Floats, decode: tuple[list[onnx.NodeProto], list[TensorProto]] | None = None) -> onnx.ModelProto:
    """A MatMul with the weight, which is an initializer or is computed by other operators."""
    nodes, tensors = decode or ([], [numpy_helper.from_array(weight, WEIGHT)])
    ends = [
        helper.make_tensor_value_info(name, TensorProto.FLOAT, ["n", channels])
        for name, channels in zip("xy", weight.shape, strict=True)
    ]
    node = helper.make_node("MatMul", ["x", WEIGHT], ["y"], "product")
    graph = helper.make_graph([*nodes, node], "one", ends[:1], ends[1:], tensors)
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", OPSET)], ir_version=8)


def reference(weight: Floats) -> onnx.ModelProto:
    """The decode that everybody would write: one index a weight, Cast to int32, Gather, Reshape."""
    entries, labels = np.unique(weight, return_inverse=True)
    constants: dict[str, NDArray[Any]] = {
        "codes": labels.astype(np.uint8).reshape(-1),
        "entries": entries,
        "shape": np.array(weight.shape, np.int64),
    }
    nodes = [
        helper.make_node("Cast", ["codes"], ["index"], to=TensorProto.INT32),
        helper.make_node("Gather", ["entries", "index"], ["flat"]),
        helper.make_node("Reshape", ["flat", "shape"], [WEIGHT]),
    ]
    return matmul(weight, (nodes, [numpy_helper.from_array(array, name) for name, array in constants.items()]))


def encoded(model: onnx.ModelProto, policy: Policy) -> tuple[onnx.ModelProto, list[Stored]]:
    """A model with all of its weights encoded, and how."""
    graph = graphshrink.load(model)
    stored = encode_graph(graph, list(weights(graph)), Storage(policy))
    return graphshrink.emit(graph), stored
