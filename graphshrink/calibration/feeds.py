"""One sample against the model's inputs: names, element types, shapes and values.

What is converted is what loses nothing that matters, by `_CASTS`; everything else is an error, because a guess (of the
scale of uint8 images, say) would ruin the calibration without anybody noticing.
"""

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import AbstractContextManager
from typing import Any, TypeAlias, cast

import ml_dtypes
import numpy as np

from graphshrink.errors import CalibrationError
from graphshrink.escaping import safe
from graphshrink.ir.types import Array, Dim, TensorSpec
from graphshrink.user_code import guarded

DType: TypeAlias = np.dtype[Any]

_SHOWN_INPUTS = 8


def show_shape(shape: Sequence[Dim]) -> str:
    """A shape as models write it: `[batch, 3, ?]`."""
    return "[" + ", ".join("?" if dim is None else safe(dim) for dim in shape) + "]"


def show_inputs(inputs: Sequence[TensorSpec]) -> str:
    """The model's inputs with element type and shape, the first eight of them."""
    listed = [
        f"'{safe(spec.name)}' {type_name(spec.dtype)} "
        + ("of any rank" if spec.shape is None else show_shape(spec.shape))
        for spec in inputs[:_SHOWN_INPUTS]
    ]
    rest = [f"{len(inputs) - _SHOWN_INPUTS} more"] if len(inputs) > _SHOWN_INPUTS else []
    return ", ".join(listed + rest) or "none"


def type_name(dtype: DType) -> str:
    """The name of an element type, "string" for text."""
    return "string" if category(dtype) in ("string", "bytes") else safe(dtype)


def one_line(place: str, cure: str) -> AbstractContextManager[None]:
    """Turn whatever a library or the user's code raises on foreign data into a CalibrationError of one line."""
    return guarded(place, cure, CalibrationError)


_KINDS = {
    "b": "bool",
    "i": "integer",
    "u": "integer",
    "f": "float",
    "c": "complex",
    "O": "string",
    "T": "string",
    "U": "string",
}


def category(dtype: DType) -> str:
    """What an element type holds: "bool", "integer", "float", "complex", "string", "bytes", "raw" or "other"."""
    if dtype.kind == "S":
        return "bytes"
    if dtype.kind != "V":
        return _KINDS.get(dtype.kind, "other")
    if dtype.isbuiltin != 2:  # 2: registered by ml_dtypes
        return "other" if dtype.names is not None or dtype.subdtype is not None else "raw"
    return "float" if "float" in dtype.name else "integer"


def bounds(dtype: DType) -> tuple[int, int]:
    """Smallest and largest value of an integer or boolean type."""
    if dtype.kind == "b":
        return 0, 1
    info: Any = cast("Any", ml_dtypes).iinfo(dtype)  # Any: this class has no types
    return int(info.min), int(info.max)


def _rounded(place: str, array: Array, dtype: DType) -> Array:
    with np.errstate(over="ignore"):
        result = array.astype(dtype)
    if _all_finite(array) and not _all_finite(result):
        raise CalibrationError(f"{place}: values do not fit {dtype}; scale them as the model expects")
    return result


def _exact(place: str, array: Array, dtype: DType) -> Array:
    low, high = bounds(dtype)
    if array.size and not (low <= int(array.min()) and int(array.max()) <= high):
        raise CalibrationError(
            f"{place}: values from {int(array.min())} to {int(array.max())} do not fit {dtype} ({low} to {high}); "
            "give values the model can take"
        )
    return array.astype(dtype)


def _text(place: str, array: Array, dtype: DType) -> Array:
    result = array.astype(object)
    for value in result.flat:
        if not isinstance(value, str):
            raise CalibrationError(f"{place}: holds a {type(value).__name__} among strings; give an array of str")
    return result


def _decoded(place: str, array: Array, dtype: DType) -> Array:
    with one_line(place, "bytes have to be UTF-8 text"):
        return np.strings.decode(array, "utf-8").astype(object)


def _viewed(place: str, array: Array, dtype: DType) -> Array:
    return np.asarray(array, order="C").view(dtype)


# (what is given, what the model wants) -> how. np.save writes the types of ml_dtypes as raw bytes, hence the last rows.
_CASTS: Mapping[tuple[str, str], Callable[[str, Array, DType], Array]] = {
    ("bool", "bool"): _exact,
    ("bool", "integer"): _exact,
    ("integer", "bool"): _exact,
    ("integer", "integer"): _exact,
    ("float", "float"): _rounded,
    ("complex", "complex"): _rounded,
    ("string", "string"): _text,
    ("bytes", "string"): _decoded,
    ("raw", "float"): _viewed,
    ("raw", "integer"): _viewed,
}

_CURES = {
    (
        "integer",
        "float",
    ): "scale and convert the values as the model expects (graphshrink does not guess the scale of images)",
    ("float", "integer"): "round and convert them yourself if whole numbers are meant",
}


def check_type(place: str, spec: TensorSpec, dtype: DType) -> None:
    """Raise CalibrationError unless arrays of `dtype` can be fed to the input (their values are looked at later)."""
    given, wanted = category(dtype), category(spec.dtype)
    raw_fits = given != "raw" or (spec.dtype.isbuiltin == 2 and dtype.itemsize == spec.dtype.itemsize)
    if (given, wanted) in _CASTS and raw_fits:
        return
    cure = _CURES.get((given, wanted), f"give {type_name(spec.dtype)}")
    raise CalibrationError(f"{place}: is {type_name(dtype)} but the model takes {type_name(spec.dtype)}; {cure}")


def check_shape(place: str, spec: TensorSpec, shape: tuple[int, ...]) -> None:
    """Raise CalibrationError unless one sample of `shape` can be fed to the input: same rank, same fixed sizes."""
    if spec.shape is None:
        return
    fits = len(shape) == len(spec.shape) and all(
        size == dim or not isinstance(dim, int) for size, dim in zip(shape, spec.shape, strict=True)
    )
    if not fits:
        raise CalibrationError(
            f"{place}: a sample has shape {show_shape(shape)} but the model takes {show_shape(spec.shape)}; "
            "give samples of the model's shape"
        )


def check_names(place: str, inputs: Sequence[TensorSpec], names: Iterable[object]) -> None:
    """Raise CalibrationError unless there is a value for every input and for nothing else."""
    given = list(names)
    wanted = {spec.name for spec in inputs}
    missing = [spec for spec in inputs if spec.name not in given]
    if missing:
        raise CalibrationError(
            f"{place}: no values for {show_inputs(missing)}; give every input of the model: {show_inputs(inputs)}"
        )
    for name in given:
        if name not in wanted:
            raise CalibrationError(
                f"{place}: '{safe(name)}' is no input of the model; its inputs are {show_inputs(inputs)}"
            )


def check_not_empty(place: str, shapes: Iterable[tuple[int, ...]]) -> None:
    """Raise CalibrationError when no input of a sample has an element.

    One empty input among others is well: a decoder's past has length 0 at its first step.
    """
    listed = list(shapes)
    if listed and not any(math.prod(shape) for shape in listed):
        raise CalibrationError(f"{place}: is empty: no input has an element; give samples with values")


def _all_finite(array: Array) -> bool:
    return bool(np.isfinite(array).all())


def fit_array(place: str, spec: TensorSpec, value: object) -> Array:
    """The value of one input, in the model's element type and in C order.

    Raises:
        CalibrationError: its type, shape or values do not fit, or it is not finite.
    """
    with one_line(place, "give a NumPy array"):
        array: Array = np.asarray(value)
    check_type(place, spec, array.dtype)
    check_shape(place, spec, array.shape)
    if array.dtype != spec.dtype or category(spec.dtype) == "string":
        array = _CASTS[category(array.dtype), category(spec.dtype)](place, array, spec.dtype)
    if category(spec.dtype) in ("float", "complex") and not _all_finite(array):
        raise CalibrationError(f"{place}: holds NaN or infinite values; remove these samples")
    return np.asarray(array, order="C")  # not ascontiguousarray, which gives scalars an axis


def fit_feeds(place: str, inputs: Sequence[TensorSpec], feeds: Mapping[Any, object]) -> dict[str, Array]:
    """A whole sample, every input checked and converted by `fit_array`, in the order of the model's inputs.

    Raises:
        CalibrationError: an input is missing, unknown, or does not fit; or the sample is empty.
    """
    check_names(place, inputs, feeds)
    fitted = {spec.name: fit_array(f"{place}: '{safe(spec.name)}'", spec, feeds[spec.name]) for spec in inputs}
    check_not_empty(place, (array.shape for array in fitted.values()))
    return fitted
