"""Quantised: uniform grids as int8 or int4 behind a DequantizeLinear that ONNX Runtime fuses into its consumer.

    codes, scale, [zero points] ─▶ DequantizeLinear ─▶ [Transpose] "gs:quantised/gs7" ─▶ weight

ONNX Runtime keeps such a weight packed in memory and multiplies by it with kernels of few bits (MatMulNBits), which
round what they multiply it with to 8 bits as well: outputs then differ by about 0.6 % of their norm for each such
operator from those without optimisations, where the weight is decoded bit for bit. Behind every other operator it
would be decoded anew at every run; so only the consumers of `KERNELS` get this form, which were measured.
"""

from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Final, NamedTuple

import ml_dtypes
import numpy as np

from graphshrink.encodings.base import Builder
from graphshrink.encodings.uniform import Grid, find_grid
from graphshrink.ir.graph import Graph
from graphshrink.ir.operator import Operator
from graphshrink.ir.tensor import T
from graphshrink.ir.types import Array
from graphshrink.ir.weight import Weight


class Kernel(NamedTuple):
    """A form of DequantizeLinear, and the weights for which it measures no slower than plain.

    Attributes:
        opset: since when it exists.
        ir_version: since when its types exist.
        bits: of a code.
        block: how many neighbouring inputs repeat a channel's scale; 0: a scale is stored once for its channel.
        inputs, outputs: the least the weight must have.
    """

    opset: int
    ir_version: int
    bits: int
    block: int
    inputs: int
    outputs: int


# Measured by benchmarks/quantised.py in ONNX Runtime 1.32 on one thread, for 1 to 256 rows of input, where the worst
# counts: at most 0.96 x plain. Blocks of 128 run faster than a scale for each channel, of which ONNX Runtime makes
# blocks of 32 (4 bits then take up to 1.16 x). Conv, ConvTranspose, LSTM and GRU (1.1 to 3.7 x) and Gather (17 to
# 450 x) have no such kernel; with small weights (up to 2.1 x) a run is mostly the rounding of its input.
_DENSE: Final = (
    Kernel(opset=21, ir_version=10, bits=4, block=128, inputs=512, outputs=256),
    Kernel(opset=21, ir_version=10, bits=8, block=128, inputs=512, outputs=256),
    Kernel(opset=13, ir_version=3, bits=8, block=0, inputs=512, outputs=512),
)
KERNELS: Final[Mapping[str, tuple[Kernel, ...]]] = {"MatMul": _DENSE, "Gemm": _DENSE}
"""For each operator type, the forms that its weights can have, the preferred one first."""

# Behind a bias or not, these are joined to a product before its weight is looked at, which then stays decoded at every
# run (Relu in ONNX Runtime 1.32 becomes part of a FusedGemm, Clip bars the way).
_JOINED_FIRST: Final = ("Relu", "Clip")
_REMOVED: Final = ("Identity", "Dropout")

_CODES: Final[Mapping[int, np.dtype[Any]]] = {4: np.dtype(ml_dtypes.int4), 8: np.dtype(np.int8)}


@dataclass(frozen=True, slots=True, eq=False)
class QuantisedEncoded:
    """A matrix in quantised form.

    Attributes:
        codes: (inputs, outputs) int8 or int4.
        scale: float32, for each channel (outputs,), each block (blocks, outputs), or for all ().
        zero: zero points in the shape of the scale and the type of the codes, or None.
        block: inputs in a block, or 0.
        transposed: whether the weight itself is (outputs, inputs).
    """

    encoding: ClassVar[str] = "quantised"
    codes: Array
    scale: Array
    zero: Array | None
    block: int
    transposed: bool

    @property
    def tables(self) -> Hashable:
        """None are shared."""
        return ()

    def decode(self) -> Array:
        """The tensor, bit for bit."""
        decoded = _dequantised(self.codes, self.scale, self.zero, 0 if self.block else 1, self.block)
        return np.ascontiguousarray(decoded.T) if self.transposed else decoded

    def emit(self, builder: Builder, output: str) -> None:
        """Codes -> DequantizeLinear -> [Transpose] -> the tensor; see docs/format.md."""
        inputs = [part for part in (self.codes, self.scale, self.zero) if part is not None]
        names = map(builder.constant, inputs)
        if self.block:
            decoded = builder.op("DequantizeLinear", *names, axis=0, block_size=self.block)
        elif self.scale.ndim:
            decoded = builder.op("DequantizeLinear", *names, axis=1)
        else:
            decoded = builder.op("DequantizeLinear", *names)
        if self.transposed:
            builder.op("Transpose", decoded, perm=(1, 0))
        builder.finish(output, self.encoding)


def dequantize_linear(operator: Operator, inputs: list[Array]) -> Array | None:
    """What a DequantizeLinear computes, if it has the form that quantised weights have."""
    codes, scale, *zero = inputs
    axis, block = operator.integer("axis", 1), operator.integer("block_size", 0)
    if not {"axis", "block_size"} >= operator.attributes.keys() or len(zero) > 1 or block < 0:
        return None
    if codes.dtype not in _CODES.values() or scale.dtype != np.float32:
        return None
    if any((part.dtype, part.shape) != (codes.dtype, scale.shape) for part in zero):
        return None
    if scale.ndim and not (0 <= axis < codes.ndim and scale.shape == _scale_shape(codes.shape, axis, block)):
        return None
    return _dequantised(codes, scale, zero[0] if zero else None, axis, block if scale.ndim else 0)


def _scale_shape(shape: tuple[int, ...], axis: int, block: int) -> tuple[int, ...]:
    if not block:
        return (shape[axis],)
    return (*shape[:axis], -(-shape[axis] // block), *shape[axis + 1 :])


def _dequantised(codes: Array, scale: Array, zero: Array | None, axis: int, block: int) -> Array:
    """For a scalar scale, one for each index along an axis, or one for each block along it."""

    def spread(values: Array) -> Array:
        if block:
            length = codes.shape[axis]  # a block may claim to be far longer
            return np.repeat(values, min(block, length), axis)[(slice(None),) * axis + (slice(length),)]
        return values.reshape((-1,) + (1,) * (codes.ndim - axis - 1)) if values.ndim else values

    steps = codes.astype(np.int32)
    if zero is not None:
        steps -= spread(zero.astype(np.int32))
    decoded: Array = steps.astype(np.float32)
    decoded *= spread(scale)
    return decoded


def quantise(weight: Weight, opset: int) -> QuantisedEncoded | None:
    """The quantised form of a weight, where it lies on a uniform grid and its one consumer has a kernel for it."""
    outputs = _outputs_axis(weight)
    if outputs is None:
        return None
    header = weight.graph.header
    ir_version = 0 if header is None else header.ir_version or 0
    fitting = [
        kernel
        for kernel in KERNELS[weight.operator_types[0]]
        if opset >= kernel.opset and ir_version >= kernel.ir_version
        and weight.tensor.dims[1 - outputs] >= kernel.inputs and weight.tensor.dims[outputs] >= kernel.outputs
    ]  # fmt: skip
    grid = find_grid(weight.array, (outputs,)) if fitting else None
    return None if grid is None else _first_that_fits(grid, outputs, fitting)


def _outputs_axis(weight: Weight) -> int | None:
    """Which axis of a matrix numbers output channels, where one operator of the main graph with kernels uses it."""
    if len(weight.uses) != 1 or len(weight.tensor.dims) != 2 or weight.tensor.elem_type != T.FLOAT:
        return None
    [use] = weight.uses
    main = use.graph is weight.graph and weight.graph.header is not None
    if not main or use.via or use.index != 1 or not use.operator.is_a(*KERNELS):
        return None
    operator = use.operator
    if _is_joined_first(use.graph, operator):
        return None
    if operator.op_type == "MatMul":
        return 1
    if {"alpha", "beta"} & operator.attributes.keys() and not _unscaled(operator.attributes):
        return None
    return None if operator.integer("transA", 0) else int(not operator.integer("transB", 0))


def _is_joined_first(graph: Graph, operator: Operator) -> bool:
    """Whether an activation that ONNX Runtime joins to a product follows it, or its bias."""
    stack = [(name, True) for name in operator.outputs]
    seen: set[tuple[str, bool]] = set()
    while stack:
        place = stack.pop()
        if place in seen:
            continue
        seen.add(place)
        name, may_add = place
        for number, _ in graph.uses(name):
            follower = graph.operator(number)
            if follower.is_a(*_JOINED_FIRST):
                return True
            if follower.is_a(*_REMOVED) or (may_add and follower.is_a("Add")):
                stack.extend((output, may_add and not follower.is_a("Add")) for output in follower.outputs if output)
    return False


def _unscaled(attributes: Mapping[str, Any]) -> bool:
    return all(attributes[name].value == 1.0 for name in ("alpha", "beta") if name in attributes)


def _first_that_fits(grid: Grid, outputs: int, kernels: Sequence[Kernel]) -> QuantisedEncoded | None:
    low, high = grid.extremes()
    for kernel in kernels:
        zero = _zero_points(low, high, kernel.bits)
        if zero is not None:
            return _encoded(grid, outputs, kernel, zero)
    return None


def _zero_points(low: Array, high: Array, bits: int) -> Array | None:
    """For each channel, what is added to its steps so that they fit, 0 if it can be; None where nothing does."""
    least, most = -(1 << (bits - 1)), (1 << (bits - 1)) - 1
    zero: Array = np.clip(0, least - low.astype(np.int32), most - high.astype(np.int32))
    fits = (zero >= least) & (zero <= most) & (low + zero >= least) & (high + zero <= most)
    return zero if fits.all() else None


def _encoded(grid: Grid, outputs: int, kernel: Kernel, zero: Array) -> QuantisedEncoded:
    dtype = _CODES[kernel.bits]
    transposed = outputs == 0
    steps, scale = grid.steps.T if transposed else grid.steps, grid.scale
    codes = np.ascontiguousarray((steps + zero).astype(np.int8)).astype(dtype)
    if kernel.block:
        shape = (-(-steps.shape[0] // kernel.block), steps.shape[1])
        scale, zero = np.broadcast_to(scale, shape).copy(), np.broadcast_to(zero, shape)
    elif grid.axis is None:
        scale, zero = scale.reshape(()), zero.reshape(())
    points = zero.astype(np.int8).astype(dtype) if zero.any() else None
    return QuantisedEncoded(codes, scale, points, kernel.block, transposed)
