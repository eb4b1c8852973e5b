"""Shared: a tensor with the bits of an earlier one of its scope, stored as a reference to it.

    first ─┐
    shape ─┴─ Reshape "gs:shared/gs7" ─▶ weight

The first of them is stored in its own way. It is a Reshape, though shapes are mostly equal, since its constant stands
where the weight stood: so the weight comes back to the place that it had, after the first one.
"""

import hashlib
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from typing import ClassVar, Final

import numpy as np

from graphshrink.encodings.base import Builder
from graphshrink.encodings.choose import MOST_GROWTH, Chooser, Plan, movable, plain_bytes
from graphshrink.ir.basis import SpectralData
from graphshrink.ir.tensor import FilledData
from graphshrink.ir.types import Array
from graphshrink.ir.weight import Weight

_MIN_OPSET: Final = 9
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


def share(chooser: Chooser, chosen: Sequence[Weight]) -> dict[str, Plan]:
    """The plans to follow for the weights of one scope, by label: `Chooser.choose`, and those that repeat others.

    Args:
        chooser: chooses for those that repeat none.
        chosen: in file order.
    """
    opset = chooser.builder.opset
    # What refers to another weight can have no kernel of its own.
    possible = opset >= _MIN_OPSET and chooser.storage.policy not in ("plain", "quantised")
    again = repeats(w for w in chosen if movable(w.tensor.elem_type, opset)) if possible else {}
    plans = chooser.choose([weight for weight in chosen if weight.label not in again])
    uses: Counter[str] = Counter()
    heads: dict[str, Weight] = {}
    for weight in chosen:
        if weight.label not in again:
            continue
        head = heads.get(again[weight.label].label, again[weight.label])
        own = plans.get(head.label)
        referred = _can_be_referred_to(head, own, chooser.builder)
        if referred and _may_grow(head, own, uses[head.label] + 2, chooser.builder):
            uses[head.label] += 1
            plan = chooser.plan(weight, SharedEncoded(head, weight.tensor.dims), len(chosen))
            plans |= {weight.label: plan} if plan.saves > 0 else {}
        else:
            heads[again[weight.label].label] = weight
            plans |= (
                {weight.label: replace(own, weight=weight)} if own and weight.tensor.dims == head.tensor.dims else {}
            )
    return plans


def _can_be_referred_to(head: Weight, own: Plan | None, builder: Builder) -> bool:
    """Whether a weight is computed or known before every operator of the model, so that decode operators may use it."""
    return own is not None or (head.graph.producer(head.name) is None and not builder.constants_inline)


def _may_grow(head: Weight, own: Plan | None, count: int, builder: Builder) -> bool:
    """Whether so many tensors may come of what one is stored in; beyond that a reader would take them for a bomb."""
    size = plain_bytes(head, builder) - (0 if own is None else own.saves)
    return count * head.tensor.nbytes <= MOST_GROWTH * size


def repeats(chosen: Iterable[Weight]) -> dict[str, Weight]:
    """For the weights of one scope that repeat an earlier one, by label: the first of its kind.

    Args:
        chosen: weights of one scope in file order.
    """
    alike: dict[tuple[int, int, bytes], list[Weight]] = {}
    for weight in chosen:
        tensor = weight.tensor
        if tensor.nbytes and not isinstance(tensor.data, FilledData):
            key = (tensor.elem_type, tensor.nbytes, bytes(memoryview(tensor.buffer)[:_PREFIX]))
            alike.setdefault(key, []).append(weight)
    found: dict[str, Weight] = {}
    for group in alike.values():
        firsts: dict[bytes, Weight] = {}
        for weight in group if len(group) > 1 else ():
            first = firsts.setdefault(_digest(weight), weight)
            if first is not weight:
                found[weight.label] = first
    return found


def _digest(weight: Weight) -> bytes:
    data = weight.tensor.data
    if not isinstance(data, SpectralData):
        return hashlib.blake2b(weight.tensor.buffer).digest()
    parts = (repr(data.coefficients.shape).encode(), data.coefficients.tobytes(), data.basis.tobytes())
    return hashlib.blake2b(b"".join(parts)).digest()
