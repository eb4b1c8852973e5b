"""Random sample inputs, for want of real ones.

1. Sizes: an input in `shapes` takes that shape whole, which binds the symbols of its axes. Of the other symbols, those
   that stand on a first axis are 1 (the batch) and the rest `free`. A symbol has one size in all inputs. Unnamed axes
   are 1 when first and `free` otherwise.
2. Values: standard normal for floats and both parts of complex numbers; integers from the half-open range of the input,
   [0, 2) when nothing is said; booleans; strings of one letter.
3. Sample i depends on the seed, i and the model's inputs alone.
"""

import math
from collections.abc import Callable, Mapping, Sequence
from typing import TypeAlias

import numpy as np

from graphshrink.calibration.feeds import DType, bounds, category, show_inputs, show_shape, type_name
from graphshrink.calibration.samples import Indexed, Samples
from graphshrink.errors import CalibrationError, UsageError
from graphshrink.escaping import safe
from graphshrink.ir.types import Array, Dim, Feeds, TensorSpec

_DEFAULT_RANGE = (0, 2)
_MAX_BYTES = 1 << 31
_LETTERS = np.array(list("abcdefghijklmnopqrstuvwxyz"), dtype=object)

Shape: TypeAlias = tuple[int, ...]
Range: TypeAlias = tuple[int, int]
_Draw: TypeAlias = Callable[[np.random.Generator, Shape, DType, Range], Array]


def random_samples(
    inputs: Sequence[TensorSpec],
    *,
    count: int = 8,
    seed: int = 0,
    ranges: Mapping[str, Range] | None = None,
    shapes: Mapping[str, Shape] | None = None,
    free: int = 16,
) -> Samples:
    """Random samples for a model's inputs, drawn when they are asked for.

    Args:
        inputs: the model's inputs that have to be fed, in their order.
        count: number of samples.
        seed: not negative.
        ranges: half-open range of values of integer inputs, by name.
        shapes: shape of one sample of an input, by name.
        free: size of axes that nothing is known of.

    Raises:
        CalibrationError: a shape or range contradicts the model, is missing for an input of unknown rank, or is
            absurdly large.
        UsageError: `count` is below 1 or `seed` below 0.
    """
    if count < 1:
        raise UsageError(f"the number of random samples is {count}; it has to be 1 or more")
    if seed < 0:
        raise UsageError(f"the seed is {seed}; it has to be 0 or more")
    known_ranges: Mapping[str, Range] = {} if ranges is None else ranges
    known_shapes: Mapping[str, Shape] = {} if shapes is None else shapes
    _check_names(inputs, known_ranges, "--input-range")
    _check_names(inputs, known_shapes, "--input-shape")
    sizes = _sizes(inputs, known_shapes, free)
    limits = {spec.name: _range(spec, known_ranges.get(spec.name)) for spec in inputs}
    for spec in inputs:
        _check_drawable(spec, sizes[spec.name])

    def read(index: int) -> Feeds:
        generator = np.random.default_rng([seed, index])
        return {
            spec.name: _DRAWS[category(spec.dtype)](generator, sizes[spec.name], spec.dtype, limits[spec.name])
            for spec in inputs
        }

    return Indexed(count, read, f"{count} random samples (seed {seed})")


def _floats(generator: np.random.Generator, shape: Shape, dtype: DType, limits: Range) -> Array:
    return np.asarray(generator.standard_normal(shape)).astype(dtype)


def _complex(generator: np.random.Generator, shape: Shape, dtype: DType, limits: Range) -> Array:
    real, imaginary = generator.standard_normal((2, *shape))
    return np.asarray(real + 1j * imaginary).astype(dtype)


def _integers(generator: np.random.Generator, shape: Shape, dtype: DType, limits: Range) -> Array:
    wide = np.uint64 if dtype == np.uint64 else np.int64
    return np.asarray(generator.integers(*limits, size=shape, dtype=wide)).astype(dtype)


def _strings(generator: np.random.Generator, shape: Shape, dtype: DType, limits: Range) -> Array:
    return np.asarray(_LETTERS[generator.integers(len(_LETTERS), size=shape)], dtype=object)


_DRAWS: Mapping[str, _Draw] = {
    "float": _floats,
    "complex": _complex,
    "integer": _integers,
    "bool": _integers,
    "string": _strings,
}


def _check_names(inputs: Sequence[TensorSpec], given: Mapping[str, object], option: str) -> None:
    names = [spec.name for spec in inputs]
    for name in given:
        if name not in names:
            raise CalibrationError(
                f"{option} '{safe(name)}': is no input of the model; its inputs are {show_inputs(inputs)}"
            )


def _sizes(inputs: Sequence[TensorSpec], shapes: Mapping[str, Shape], free: int) -> dict[str, Shape]:
    """The shape of each input, by rule 1."""
    symbols: dict[str, int] = {}
    for spec in inputs:
        if spec.name in shapes:
            _bind(spec, shapes[spec.name], symbols)
    for spec in inputs:
        if spec.shape and isinstance(spec.shape[0], str) and spec.name not in shapes:
            symbols.setdefault(spec.shape[0], 1)
    return {
        spec.name: tuple(shapes[spec.name]) if spec.name in shapes else _resolved(spec, symbols, free)
        for spec in inputs
    }


def _bind(spec: TensorSpec, shape: Shape, symbols: dict[str, int]) -> None:
    place = f"--input-shape '{safe(spec.name)}'"
    if any(size < 0 for size in shape):
        raise CalibrationError(f"{place}: {show_shape(shape)} has a negative size; give sizes of 0 or more")
    if spec.shape is None:
        return
    if len(shape) != len(spec.shape):
        raise CalibrationError(
            f"{place}: {show_shape(shape)} is not of the rank of {show_shape(spec.shape)}; give a size for each axis"
        )
    for size, dim in zip(shape, spec.shape, strict=True):
        known = symbols.setdefault(dim, size) if isinstance(dim, str) else dim
        if known not in (size, None):
            raise CalibrationError(
                f"{place}: {show_shape(shape)} gives {size} where {show_shape(spec.shape)} has {known}; give {known}"
            )


def _resolved(spec: TensorSpec, symbols: Mapping[str, int], free: int) -> Shape:
    if spec.shape is None:
        raise CalibrationError(
            f"input '{safe(spec.name)}': the model does not say its rank; "
            f"give its shape, as in --input-shape {safe(spec.name)}:1,3,224,224"
        )
    return tuple(_size(dim, free, first=axis == 0, symbols=symbols) for axis, dim in enumerate(spec.shape))


def _size(dim: Dim, free: int, *, first: bool, symbols: Mapping[str, int]) -> int:
    if isinstance(dim, int):
        return dim
    if dim is not None:
        return symbols.get(dim, free)
    return 1 if first else free


def _range(spec: TensorSpec, given: Range | None) -> Range:
    if given is None:
        return _DEFAULT_RANGE
    place = f"--input-range '{safe(spec.name)}'"
    if category(spec.dtype) != "integer":
        raise CalibrationError(f"{place}: the input is {type_name(spec.dtype)}; give ranges for integer inputs only")
    smallest, largest = bounds(spec.dtype)
    low, high = given
    if not smallest <= low < high <= largest + 1:
        raise CalibrationError(
            f"{place}: [{low}, {high}) is no range of {type_name(spec.dtype)}; "
            f"give low < high within [{smallest}, {largest + 1})"
        )
    return low, high


def _check_drawable(spec: TensorSpec, shape: Shape) -> None:
    place = f"input '{safe(spec.name)}'"
    if category(spec.dtype) not in _DRAWS:
        raise CalibrationError(
            f"{place}: there are no random values of type {type_name(spec.dtype)}; give real samples"
        )
    if math.prod(shape) * 8 > _MAX_BYTES:  # 8: values are drawn as float64 or int64
        raise CalibrationError(
            f"{place}: {show_shape(shape)} is too large for random values; give a smaller --input-shape"
        )
