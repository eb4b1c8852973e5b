"""A pass that declares weights to be coefficients in a basis: a plug-in for tests."""

import math
from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from graphshrink import Changed, Context, Graph, Pass, PassResult, Skipped
from graphshrink.ir import edit
from graphshrink.ir.tensor import T, Tensor
from graphshrink.ir.types import Array


@dataclass(frozen=True)
class Frequencies(Pass):
    """Round the cosine transform of each kernel, and of parts of the first axis of matrices, to 16 steps a side."""

    name: ClassVar[str] = "frequencies"
    buys: ClassVar[str] = "disk"

    def run(self, graph: Graph, context: Context) -> PassResult:
        """Every float32 weight that is finite."""
        layers, result = context.layers(graph, self)
        for weight in (layer.weight for layer in layers):
            if weight.tensor.elem_type != T.FLOAT or not np.isfinite(weight.array).all() or not weight.array.any():
                result.layers[weight.label] = Skipped("no finite float32, or all zeros")
                continue
            tensor = transformed(weight.tensor)
            edit.set_constant(weight.graph, weight.name, tensor)
            error = np.linalg.norm(tensor.array - weight.array) / np.linalg.norm(weight.array)
            result.layers[weight.label] = Changed("rounded", float(error))
        return result


def transformed(tensor: Tensor) -> Tensor:
    """A tensor whose cosine transform is rounded."""
    shape = arranged(tensor.dims)
    basis = cosines(shape[1])
    array = tensor.array.reshape(shape)
    exact = array @ basis.T if len(shape) == 2 else basis @ array
    step = np.abs(exact).max() / np.float32(16)
    return tensor.in_basis(np.round(exact / step) * step, basis)


def arranged(dims: tuple[int, ...]) -> tuple[int, ...]:
    """Kernels in rows; parts of the first axis of a matrix, or of the last one of what has few axes or many."""
    if len(dims) == 2:
        k = _divisor(dims[0])
        return (dims[0] // k, k, dims[1])
    kernel = math.prod(dims[2:]) if len(dims) > 3 else _divisor(dims[-1] if dims else 1)
    return (math.prod(dims) // kernel, kernel)


def _divisor(length: int) -> int:
    """The largest one up to 16."""
    return max(k for k in range(1, 17) if length % k == 0)


def cosines(k: int) -> Array:
    """The basis of the cosine transform: row u is the cosine of frequency u."""
    waves = np.cos(np.pi * (2 * np.arange(k) + 1) * np.arange(k)[:, None] / (2 * k)) * math.sqrt(2 / k)
    waves[0] /= math.sqrt(2)
    basis: Array = waves.astype(np.float32)
    return basis
