"""The bases that the weights of a layer may be stored in, and how the stored tensor is divided into blocks."""

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final, Literal, TypeAlias

import numpy as np
from numpy.typing import NDArray

from graphshrink.encodings.size import tensor_bytes
from graphshrink.ir.tensor import T, tensor_of
from graphshrink.ir.types import Array
from graphshrink.passes._layer_plan import Plan
from graphshrink.passes._weight_sharing_fit import Task, rows_of
from graphshrink.solvers.transform import Rotation, block_moment, cosine_of, eigenbasis

Family: TypeAlias = Literal["dct", "block", "gram", "klt"]

FAMILIES: Final[tuple[Family, ...]] = ("dct", "block", "gram", "klt")
_BLOCKS: Final = (8, 16, 32)
_LONGEST: Final = 256  # elements of a kernel, or of a block; a basis takes the square of it


@dataclass(frozen=True, slots=True)
class Layout:
    """How a stored tensor is divided into blocks: coefficients (rows, k), or (n, k, m) with blocks across rows.

    Attributes:
        shape: of the coefficients.
        sizes: of the axes of a block, whose product is k.
    """

    shape: tuple[int, ...]
    sizes: tuple[int, ...]

    @property
    def block(self) -> int:
        """Elements of a block, k."""
        return math.prod(self.sizes)

    def order(self, plan: Plan) -> NDArray[np.intp] | None:
        """(N,) the columns of a layer's rows, block after block; None where blocks are not parts of single rows."""
        dims = plan.weight.tensor.dims
        ids = np.rint(rows_of(plan, np.arange(math.prod(dims), dtype=np.float64).reshape(dims))).astype(np.intp)
        if self.block == 0 or ids.shape[2] % self.block:
            return None
        across = self.shape[2] if len(self.shape) == 3 else 1
        place = ids // across % self.block
        number = ids // (across * self.block) * across + ids % across
        order = np.lexsort((place, number))
        if (order != order[:1, :1]).any():
            return None
        ends = np.take_along_axis(number, order, axis=2).reshape(*ids.shape[:2], -1, self.block)
        whole = bool((ends == ends[..., :1]).all())
        return order[0, 0] if whole else None


@dataclass(frozen=True, slots=True)
class Basis:
    """A basis for a layer.

    Attributes:
        family: of which kind it is.
        layout: of the coefficients.
        rotation: of the layer's rows.
    """

    family: Family
    layout: Layout
    rotation: Rotation

    @property
    def key(self) -> bytes:
        """The same for equal bases, which are stored once."""
        return self.rotation.basis.tobytes()

    @property
    def table(self) -> int:
        """Bytes of the basis in a file."""
        return tensor_bytes(tensor_of(self.rotation.basis, "gs00"))

    @property
    def label(self) -> str:
        """For reports."""
        return f"{self.family} {'x'.join(map(str, self.layout.sizes))}"

    def coefficients(self, plan: Plan, values: Array) -> Array:
        """The coefficients (G, R, N), block after block, in the layout of the stored tensor, float32."""
        placed = np.swapaxes(self.rotation.placed(values), 1, 2)
        return plan.affine.stored(np.ascontiguousarray(placed)).astype(np.float32).reshape(self.layout.shape)


def layouts(plan: Plan) -> list[Layout]:
    """The ways to divide the weight of a layer: kernels as a whole, or 8, 16 or 32 inputs."""
    tensor, operator = plan.weight.tensor, plan.affine.use.operator
    dims = tensor.dims
    if tensor.elem_type != T.FLOAT or len(dims) < 2:
        return []
    if operator.is_a("Conv", "ConvTranspose") and math.prod(dims[2:]) > 1:
        kernel = tuple(size for size in dims[2:] if size > 1)
        return [Layout((math.prod(dims[:2]), math.prod(kernel)), kernel)] if math.prod(kernel) <= _LONGEST else []
    flat, size = dims[:2] if len(dims) == 2 or operator.is_a("Conv", "ConvTranspose") else dims[-2:], tensor.size
    along = [Layout((size // k, k), (k,)) for k in _BLOCKS if flat[1] % k == 0]
    across = [Layout((size // (k * flat[1]), k, flat[1]), (k,)) for k in _BLOCKS if flat[0] % k == 0]
    return [*along, *across]


def families(plan: Plan, asked: str) -> list[Family]:
    """Which bases a layer may have, of those that are asked for."""
    operator, dims = plan.affine.use.operator, plan.weight.tensor.dims
    kernel = operator.is_a("Conv", "ConvTranspose") and math.prod(dims[2:]) > 1
    possible: tuple[Family, ...] = ("dct" if kernel else "block", "gram", "klt")
    return [family for family in possible if asked in ("auto", family)]


def fixed_key(layout: Layout) -> bytes:
    """The key of the cosine basis of a layout, which layers of the same block share."""
    return cosine_of(layout.sizes).astype(np.float32).tobytes()


def bases(task: Task, start: Array, asked: str) -> Iterator[Basis]:
    """All bases for a layer.

    Args:
        task: the layer.
        start: (G, R, N), its weights before they are quantised.
        asked: a family, or "auto" for all of them.
    """
    plan = task.plan
    for layout in layouts(plan) if asked != "none" else []:
        order = layout.order(plan)
        if order is None:
            continue
        for family in families(plan, asked):
            made = _made(family, layout, order, task, start)
            yield Basis(family, layout, Rotation(order, made.astype(np.float32)))


def _made(family: Family, layout: Layout, order: NDArray[np.intp], task: Task, start: Array) -> Array:
    if family == "gram":
        return eigenbasis(block_moment(task.rows.gram, order, layout.block))
    if family == "klt":
        blocks = start[..., order].reshape(-1, layout.block)
        return eigenbasis(blocks.T @ blocks)
    return cosine_of(layout.sizes)
