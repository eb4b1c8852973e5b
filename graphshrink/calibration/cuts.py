"""How an array that holds many samples is cut into samples.

With r the rank of the model's input:

1. An array of rank r + 1 is stacked: sample i is `array[i]`.
2. An array of rank r whose input has a symbolic or unnamed first axis is split along it: each sample keeps it, with
   size 1.
3. An array of rank r whose input has a fixed first axis of size k is cut into chunks of k, so its length has to be a
   multiple of k.
4. An input of unknown rank is split by rule 2.
5. An array of rank 0 (a scalar) is the same for every sample, also of an input whose axes can all have size 1.
6. All inputs that are not scalars give the same number of samples; with scalars alone there is one sample.
7. Rule 2 is refused when all inputs have rank 1 and nothing tells a batch from a length (a waveform would fall into
   single numbers): some first axis has to be named like a batch. Rule 1 works always.
8. Samples fit the model's element type and fixed sizes. An array that is no case above is an error.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from graphshrink.calibration.feeds import (
    DType,
    check_names,
    check_not_empty,
    check_shape,
    check_type,
    one_line,
    show_shape,
)
from graphshrink.errors import CalibrationError
from graphshrink.escaping import safe
from graphshrink.ir.types import Array, Dim, TensorSpec

_BATCH_NAMES = ("n", "b", "bs")


@dataclass(frozen=True, slots=True)
class Header:
    """What is known of an array before its data is read.

    Attributes:
        place: file and array, for messages.
        dtype: element type.
        shape: of the whole array.
        fortran: whether the data lies in Fortran order.
        offset: where the data starts in its file.
    """

    place: str
    dtype: DType
    shape: tuple[int, ...]
    fortran: bool = False
    offset: int = 0


@dataclass(frozen=True, slots=True)
class Cut:
    """How many samples an array gives, and the shape of one; always consecutive runs of the first axis.

    Attributes:
        count: number of samples; 1 for a constant.
        shape: of one sample.
        constant: the array is one value for every sample.
    """

    count: int
    shape: tuple[int, ...]
    constant: bool = False

    def take(self, array: Array, index: int) -> Array:
        """Sample `index` of the array, without copying."""
        if self.constant:
            return array.reshape(self.shape)
        rows = array.shape[0] // self.count
        return array[index * rows : (index + 1) * rows].reshape(self.shape)


def plan(place: str, inputs: Sequence[TensorSpec], headers: Mapping[str, Header]) -> tuple[int, dict[str, Cut]]:
    """Decide from the headers alone how arrays are cut: the number of samples, and the cut of each input.

    Raises:
        CalibrationError: names, types, shapes or numbers of samples do not fit the model or each other.
    """
    check_names(place, inputs, headers)
    lengths_known = any(_tells_batch(spec) for spec in inputs)
    cuts: dict[str, Cut] = {}
    for spec in inputs:
        header = headers[spec.name]
        check_type(header.place, spec, header.dtype)
        cuts[spec.name] = cut = _cut(spec, header, lengths_known)
        check_shape(header.place, spec, cut.shape)
    check_not_empty(place, (cut.shape for cut in cuts.values()))
    return _common_count(place, cuts), cuts


def cut_arrays(
    place: str, arrays: Mapping[str, object], inputs: Sequence[TensorSpec]
) -> tuple[int, dict[str, Array], dict[str, Cut]]:
    """`plan` for arrays in memory; also gives them as arrays."""
    check_names(place, inputs, arrays)
    with one_line(place, "give a NumPy array for each input"):
        known: dict[str, Array] = {name: np.asarray(value) for name, value in arrays.items()}
    headers = {name: Header(f"{place}: '{safe(name)}'", array.dtype, array.shape) for name, array in known.items()}
    count, cuts = plan(place, inputs, headers)
    return count, known, cuts


def _cut(spec: TensorSpec, header: Header, lengths_known: bool) -> Cut:
    shape = header.shape
    if not shape:
        return Cut(1, (1,) * len(spec.shape or ()), constant=True)
    if spec.shape is not None and len(shape) == len(spec.shape) + 1:
        return Cut(shape[0], shape[1:])
    if spec.shape is not None and len(shape) != len(spec.shape):
        raise CalibrationError(
            f"{header.place}: has shape {show_shape(shape)} but the model takes {show_shape(spec.shape)}; "
            "stack the samples along a new first axis"
        )
    first = None if spec.shape is None else spec.shape[0]
    if not isinstance(first, int):
        return _split(spec, header, lengths_known)
    if first < 1 or shape[0] % first:
        raise CalibrationError(
            f"{header.place}: its length {shape[0]} is no multiple of the {first} that the model takes at once; "
            "give a multiple, or stack the samples along a new first axis"
        )
    return Cut(shape[0] // first, (first, *shape[1:]))


def _split(spec: TensorSpec, header: Header, lengths_known: bool) -> Cut:
    if not lengths_known:
        raise CalibrationError(
            f"{header.place}: has shape {show_shape(header.shape)}, one sample or {header.shape[0]} of them; "
            "stack the samples along a new first axis, also when it is one"
        )
    return Cut(header.shape[0], (1, *header.shape[1:]))


def _tells_batch(spec: TensorSpec) -> bool:
    """Whether this input shows that a first axis counts samples: it has other axes too, or says so by name."""
    if spec.shape is None:
        return True
    return len(spec.shape) > 1 or (len(spec.shape) == 1 and _named_batch(spec.shape[0]))


def _named_batch(dim: Dim) -> bool:
    return isinstance(dim, str) and ("batch" in dim.lower() or dim.lower() in _BATCH_NAMES)


def _common_count(place: str, cuts: Mapping[str, Cut]) -> int:
    counts = {name: cut.count for name, cut in cuts.items() if not cut.constant}
    if len(set(counts.values())) > 1:
        listed = ", ".join(f"'{safe(name)}' gives {count}" for name, count in list(counts.items())[:8])
        raise CalibrationError(
            f"{place}: inputs give different numbers of samples: {listed}; give each the same number"
        )
    count = next(iter(counts.values()), 1)
    if count < 1:
        raise CalibrationError(f"{place}: is empty: its arrays hold no samples; give at least one")
    return count
