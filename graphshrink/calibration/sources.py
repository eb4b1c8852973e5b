"""Where sample inputs come from.

A source is one of

1. an object with `get_next()` that gives `{name: array}` or None at its end (ONNX Runtime's CalibrationDataReader);
2. a mapping `{name: array}` of arrays that hold many samples, cut by the rules of `cuts`;
3. an iterable of `{name: array}`, one sample each;
4. the path of an `.npz` file, cut by the rules of `cuts`;
5. the path of an `.npy` file, for a model with one input, cut likewise and read when asked for;
6. the path of a folder, by the rules of `folders`;
7. `file.py:function`, a function without arguments that returns one of 1 to 3.

When the length is known and there are more samples than wanted, evenly spaced ones are taken; of a stream the first
ones, and no more are read. Whatever is wrong raises CalibrationError with one line: the place, what is wrong, the cure.
"""

import os
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from itertools import islice
from pathlib import Path
from typing import Any, Protocol, TypeAlias, cast, runtime_checkable

from graphshrink.calibration.feeds import fit_feeds, one_line
from graphshrink.calibration.files import readable, regular_file
from graphshrink.calibration.folders import folder_samples
from graphshrink.calibration.npz import array_samples, npy_samples, npz_samples
from graphshrink.calibration.samples import Samples, describe, evenly_spaced, held, split
from graphshrink.errors import CalibrationError, UsageError
from graphshrink.escaping import safe
from graphshrink.ir.types import Feeds, TensorSpec
from graphshrink.user_code import FunctionName, function_name, function_of, imported

__all__ = ["Reader", "Samples", "Source", "open_samples", "split"]


@runtime_checkable
class Reader(Protocol):
    """ONNX Runtime's CalibrationDataReader, as far as it matters here."""

    def get_next(self) -> Mapping[str, Any] | None:
        """The next sample, or None after the last one."""
        ...


Source: TypeAlias = Reader | Mapping[str, Any] | Iterable[Mapping[str, Any]] | str | os.PathLike[str]

_BY_SUFFIX: Mapping[str, Callable[[Path, Sequence[TensorSpec], int], Samples]] = {
    ".npy": npy_samples,
    ".npz": npz_samples,
}
_KNOWN_PATHS = "give an .npz or .npy file, a folder of .npz files or test_data_set_*, or file.py:function"
_KNOWN_OBJECTS = "give an object with get_next(), a mapping or an iterable of {name: array}, or a path"
_USER_CODE = "correct the code that gives the samples"


def open_samples(source: Source, inputs: Sequence[TensorSpec], *, limit: int = 128) -> Samples:
    """Open a source of sample inputs for a model.

    Args:
        source: see this module.
        inputs: the model's inputs that have to be fed, in their order.
        limit: take no more samples than this.

    Returns:
        At least one sample; each fits the inputs, has finite values, and can be read again.

    Raises:
        CalibrationError: the source cannot be read or does not fit the model.
        UsageError: `limit` is below 1.
    """
    if limit < 1:
        raise UsageError(f"the number of samples is {limit}; it has to be 1 or more")
    if isinstance(source, str | os.PathLike):
        return _from_path(os.fspath(source), inputs, limit)
    return _from_object(source, inputs, limit, f"samples of a {safe(type(source).__name__)}")


def _from_path(source: str, inputs: Sequence[TensorSpec], limit: int) -> Samples:
    name, path = function_name(source), Path(source)
    with readable(path):
        is_folder = path.is_dir()
    if name is not None:
        return _from_function(name, inputs, limit)
    if is_folder:
        return folder_samples(path, inputs, limit)
    regular_file(path)
    reader = _BY_SUFFIX.get(path.suffix.lower())
    if reader is None:
        raise CalibrationError(f"{safe(source)}: is no known kind of samples; {_KNOWN_PATHS}")
    return reader(path, inputs, limit)


def _from_object(source: object, inputs: Sequence[TensorSpec], limit: int, place: str) -> Samples:
    if isinstance(source, Mapping):
        return array_samples(place, cast("Mapping[str, object]", source), inputs, limit)
    with one_line(place, _USER_CODE):
        total = None if isinstance(source, Reader) else _length(source)
    wanted = range(limit) if total is None else evenly_spaced(total, limit)
    samples = [
        _fitted(f"{place}: sample {index}", inputs, sample) for index, sample in _pulled(source, place, wanted, total)
    ]
    if not samples:
        raise CalibrationError(f"{place}: is empty; give at least one sample")
    if total is None and len(samples) == limit:
        return held(samples, f"{place} (the first {limit} samples)")
    return held(samples, describe(place, len(samples), total or len(samples)))


def _fitted(place: str, inputs: Sequence[TensorSpec], sample: object) -> Feeds:
    if not isinstance(sample, Mapping):
        raise CalibrationError(f"{place}: is a {safe(type(sample).__name__)}; give a mapping of input name to array")
    return fit_feeds(place, inputs, cast("Mapping[Any, object]", sample))


@runtime_checkable
class _Indexable(Protocol):
    def __len__(self) -> int: ...

    def __getitem__(self, index: int, /) -> object: ...


def _length(source: object) -> int | None:
    """The number of samples, None for streams (some classes have a length only now and then)."""
    try:
        return len(cast("Collection[object]", source))
    except (TypeError, NotImplementedError):
        return None


def _pulled(source: object, place: str, wanted: Sequence[int], total: int | None) -> Iterator[tuple[int, object]]:
    """The wanted samples with their indices, rising; the user's code runs in here, and no further than the last one."""
    with one_line(place, _USER_CODE):
        if isinstance(source, Reader):
            yield from _chosen(iter(source.get_next, None), wanted)
        elif total is not None and isinstance(source, _Indexable):
            for index in wanted:
                yield index, source[index]
        elif isinstance(source, Iterable):
            yield from _chosen(iter(cast("Iterable[object]", source)), wanted)
        else:
            raise CalibrationError(f"{place}: holds no samples; {_KNOWN_OBJECTS}")


def _chosen(samples: Iterator[object], wanted: Sequence[int]) -> Iterator[tuple[int, object]]:
    position = 0
    for index in wanted:  # so that no sample is asked for after the last one wanted
        for sample in islice(samples, index - position, index - position + 1):
            yield index, sample
        position = index + 1


def _from_function(name: FunctionName, inputs: Sequence[TensorSpec], limit: int) -> Samples:
    regular_file(name.path)
    with imported(name.path, _USER_CODE, CalibrationError) as module:
        function = function_of(module, name, CalibrationError)
        with one_line(name.place, _USER_CODE):
            source = function()
        if isinstance(source, str | os.PathLike):
            raise CalibrationError(f"{name.place}: returns a path; return the samples, or name the path instead")
        return _from_object(source, inputs, limit, name.place)
