"""Shared: a tensor with the bits of an earlier one of its scope, stored as a reference to it.

    first ─┐
    shape ─┴─ Reshape "gs:shared/gs7" ─▶ weight

The first of them is stored in its own way. It is a Reshape, though shapes are mostly equal, since its constant stands
where the weight stood: so the weight comes back to the place that it had, after the first one.
"""

import hashlib
from collections.abc import Collection, Iterable
from dataclasses import dataclass
from typing import ClassVar, Final

import numpy as np

from graphshrink.encodings.base import Builder
from graphshrink.ir.tensor import FilledData
from graphshrink.ir.types import Array
from graphshrink.ir.weight import Weight

MIN_OPSET: Final = 9
_PREFIX: Final = 64  # bytes in which tensors differ that are not meant to be equal


@dataclass(frozen=True, slots=True, eq=False)
class SharedEncoded:
    """A tensor that repeats another one.

    Attributes:
        first: the weight that it repeats, element by element in row-major order.
        shape: its own shape.
    """

    encoding: ClassVar[str] = "shared"
    first: Weight
    shape: tuple[int, ...]

    @property
    def tables(self) -> tuple[()]:
        """None."""
        return ()

    def decode(self) -> Array:
        """The tensor, bit for bit."""
        return self.first.array.reshape(self.shape)

    def emit(self, builder: Builder, output: str) -> None:
        """First -> Reshape -> the tensor."""
        shape = builder.constant(np.array(self.shape, np.int64))
        builder.op("Reshape", self.first.name, shape, output=output, mark=self.encoding)

    def can_refer(self, encoded: Collection[str], *, inline: bool) -> bool:
        """Whether the first weight is computed or known before every operator, so that decode operators may use it.

        Args:
            encoded: labels of the weights that are encoded.
            inline: whether constants of decode subgraphs have to be operators.
        """
        is_initializer = self.first.graph.producer(self.first.name) is None
        return self.first.label in encoded or (is_initializer and not inline)


def repeats(chosen: Iterable[Weight]) -> dict[str, SharedEncoded]:
    """The weights of one scope that repeat an earlier one, by label.

    Args:
        chosen: weights of one scope in file order.
    """
    alike: dict[tuple[int, int, bytes], list[Weight]] = {}
    for weight in chosen:
        tensor = weight.tensor
        if tensor.nbytes and not isinstance(tensor.data, FilledData):
            key = (tensor.elem_type, tensor.nbytes, bytes(memoryview(tensor.buffer)[:_PREFIX]))
            alike.setdefault(key, []).append(weight)
    found: dict[str, SharedEncoded] = {}
    for group in alike.values():
        firsts: dict[bytes, Weight] = {}
        for weight in group if len(group) > 1 else ():
            first = firsts.setdefault(_digest(weight), weight)
            if first is not weight:
                found[weight.label] = SharedEncoded(first, weight.tensor.dims)
    return found


def _digest(weight: Weight) -> bytes:
    return hashlib.blake2b(weight.tensor.buffer).digest()
