"""Spectral: coefficients in an orthonormal basis, stored in any other way, and the basis.

    coefficients ─▶ ... ─┐
    basis ───────────────┴─ MatMul ─▶ [Reshape] "gs:spectral/gs7" ─▶ weight

A pass declares what the coefficients are (`Tensor.in_basis`), since they cannot be seen in the weights. A basis is
stored once a scope. Runtimes add up in float32 and in an order of their own, so that this is the one encoding that is
not bit for bit: `most_ulps` bounds by how much.
"""

import math
from collections.abc import Hashable
from dataclasses import dataclass
from typing import ClassVar, Final

import numpy as np

from graphshrink.encodings.base import Builder, Encoded
from graphshrink.ir.basis import SpectralData, spectral_data
from graphshrink.ir.graph import Graph
from graphshrink.ir.operator import Operator
from graphshrink.ir.tensor import Tensor
from graphshrink.ir.types import Array

SPECTRAL: Final = "spectral"


def most_ulps(k: int) -> float:
    """How far a runtime's weights may be from ours, in units in the last place of the largest weight.

    The error grows with the square root of what is added up; at least 1.8 times what was measured (docs/format.md).
    """
    return 4 * math.sqrt(k)


@dataclass(frozen=True, slots=True, eq=False)
class SpectralEncoded:
    """A tensor as coefficients in a basis.

    Attributes:
        shape: of the tensor.
        coefficients: in encoded form.
        data: the coefficients and their basis.
    """

    encoding: ClassVar[str] = SPECTRAL
    shape: tuple[int, ...]
    coefficients: Encoded
    data: SpectralData

    @property
    def tables(self) -> Hashable:
        """The basis, and what the coefficients share."""
        return (SPECTRAL, self.data.basis.tobytes(), self.coefficients.tables)

    def decode(self) -> Array:
        """The tensor, as the IR has it."""
        return self.data.array.reshape(self.shape)

    def emit(self, builder: Builder, output: str) -> None:
        """The coefficients' operators -> MatMul -> the tensor; see docs/format.md."""
        held = next(builder.names)
        self.coefficients.emit(builder, held)
        builder.unmark()
        shape, rows = self.data.coefficients.shape, self.data.basis
        basis = builder.shared_constant(rows if len(shape) == 2 else np.ascontiguousarray(rows.T))
        builder.shared.add(basis)
        product = builder.op("MatMul", *((held, basis) if len(shape) == 2 else (basis, held)))
        if shape != self.shape:
            builder.reshape(product, self.shape)
        builder.finish(output, self.encoding)


def stored_values(tensor: Tensor, encoding: str) -> Array:
    """What an encoding had to store of a tensor: its coefficients, or its elements themselves."""
    if encoding == SPECTRAL and isinstance(tensor.data, SpectralData):
        return tensor.data.coefficients
    return tensor.array


# ---- reading it back


def product_of(scope: Graph, name: str) -> str | None:
    """The value that a MatMul computes: this one, or the one that is reshaped to it, once, or again to be shared."""
    for _ in range(3):
        number = scope.producer(name) if name in scope else None
        operator = None if number is None else scope.operator(number)
        if operator is None or operator.is_a("MatMul"):
            return None if operator is None else name
        if not operator.is_a("Reshape") or not operator.inputs:
            return None
        name = operator.inputs[0]
    return None


def multiply(operator: Operator, inputs: list[Array]) -> Array | None:
    """What a MatMul computes, if it has the form that coefficients in a basis have."""
    data = data_of(inputs)
    return None if data is None or operator.attributes else data.array


def data_of(factors: list[Array]) -> SpectralData | None:
    """The coefficients and the basis of a product: three axes have the coefficients that stand behind their basis."""
    if len(factors) != 2 or factors[0].ndim != 2:
        return None
    left, right = factors
    return spectral_data(left, right) if right.ndim == 2 else spectral_data(right, left.T)
