"""Sample inputs in NumPy's files, read without ever unpickling and only after their headers fit the model.

A header is believed when the bytes it declares are the bytes that are there: no array larger than its file is ever
allocated, but for deflate, which packs a thousand bytes into one at most.
"""

import io
import math
import warnings
import zipfile
from collections.abc import Generator, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import IO

import numpy as np

from graphshrink.calibration.cuts import Cut, Header, cut_arrays, plan
from graphshrink.calibration.feeds import (
    check_names,
    check_not_empty,
    check_shape,
    check_type,
    fit_feeds,
    show_inputs,
)
from graphshrink.calibration.files import readable, regular_file
from graphshrink.calibration.samples import Indexed, Samples, describe, evenly_spaced, held
from graphshrink.errors import CalibrationError
from graphshrink.escaping import safe
from graphshrink.ir.types import Array, Feeds, TensorSpec

_PREFIX = 1 << 14  # more than the longest header that NumPy reads
_BLOCK = 1 << 20
_MAX_SIZE = (1 << 63) - 1
_MAX_INFLATION = 1040  # deflate reaches 1032
_HEADERS = {(1, 0): np.lib.format.read_array_header_1_0, (2, 0): np.lib.format.read_array_header_2_0}
_NPY_CURE = "write it with numpy.save"
_NPZ_CURE = "write it with numpy.savez"


def npy_samples(path: Path, inputs: Sequence[TensorSpec], limit: int) -> Samples:
    """Samples of a model with one input from a .npy file, which is mapped and read sample by sample."""
    place = safe(path)
    if len(inputs) != 1:
        raise CalibrationError(
            f"{place}: holds one array but the model takes {len(inputs)}: {show_inputs(inputs)}; "
            "give an .npz with an array for each"
        )
    name = inputs[0].name
    size = regular_file(path)
    with _open(path) as file:
        header = _header(file.read(_PREFIX), size, place)
    total, cuts = plan(place, inputs, {name: header})
    with readable(path):
        array = np.memmap(path, header.dtype, "r", header.offset, header.shape, "F" if header.fortran else "C")
    chosen = evenly_spaced(total, limit)

    def read(index: int) -> Feeds:
        return fit_feeds(f"{place}: sample {chosen[index]}", inputs, {name: cuts[name].take(array, chosen[index])})

    return Indexed(len(chosen), read, describe(place, len(chosen), total))


def npz_samples(path: Path, inputs: Sequence[TensorSpec], limit: int) -> Samples:
    """Samples from an .npz file by the rules of `cuts`; only those that are used are kept in memory."""
    place = safe(path)
    with _archive(path) as archive:
        headers = _member_headers(archive, place, inputs)
        total, cuts = plan(place, inputs, headers)
        chosen = evenly_spaced(total, limit)
        columns = {name: _read_member(archive, name, headers[name], cut, chosen) for name, cut in cuts.items()}
    samples = [
        fit_feeds(f"{place}: sample {index}", inputs, {name: column[i] for name, column in columns.items()})
        for i, index in enumerate(chosen)
    ]
    return held(samples, describe(place, len(chosen), total))


def array_samples(place: str, arrays: Mapping[str, object], inputs: Sequence[TensorSpec], limit: int) -> Samples:
    """Samples from arrays in memory, by the same rules as from an .npz file."""
    total, known, cuts = cut_arrays(place, arrays, inputs)
    chosen = evenly_spaced(total, limit)

    def read(index: int) -> Feeds:
        feeds = {name: cut.take(known[name], chosen[index]) for name, cut in cuts.items()}
        return fit_feeds(f"{place}: sample {chosen[index]}", inputs, feeds)

    return Indexed(len(chosen), read, describe(place, len(chosen), total))


def check_single_npz(path: Path, inputs: Sequence[TensorSpec]) -> None:
    """Raise CalibrationError unless an .npz file holds one sample as it is fed; reads headers alone."""
    with _archive(path) as archive:
        _check_single(safe(path), inputs, _member_headers(archive, safe(path), inputs))


def read_single_npz(path: Path, inputs: Sequence[TensorSpec]) -> Feeds:
    """The one sample that an .npz file of a folder holds."""
    place = safe(path)
    with _archive(path) as archive:
        headers = _member_headers(archive, place, inputs)
        _check_single(place, inputs, headers)
        feeds = {
            name: _read_member(archive, name, header, Cut(1, header.shape), [0])[0] for name, header in headers.items()
        }
    return fit_feeds(place, inputs, feeds)


def _check_single(place: str, inputs: Sequence[TensorSpec], headers: Mapping[str, Header]) -> None:
    for spec in inputs:
        header = headers[spec.name]
        check_type(header.place, spec, header.dtype)
        check_shape(header.place, spec, header.shape)
    check_not_empty(place, (header.shape for header in headers.values()))


@contextmanager
def _open(path: Path) -> Generator[IO[bytes]]:
    with readable(path):
        file = path.open("rb")
    with file:
        yield file


def _header(prefix: bytes, size: int, place: str) -> Header:
    """Read the header from the first bytes of a file of `size` bytes; what it declares has to be what is there."""
    stream = io.BytesIO(prefix)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of Python 2's files, and of odd literals in hostile ones
            read = _HEADERS[np.lib.format.read_magic(stream)]
            shape, fortran, dtype = read(stream)
    except Exception as error:  # the parser fails in a dozen ways, from KeyError to TokenError
        raise CalibrationError(f"{place}: its .npy header cannot be read ({safe(error)}); {_NPY_CURE}") from error
    if dtype.hasobject:
        raise CalibrationError(
            f"{place}: holds Python objects, which are never unpickled; save numbers, or text of dtype U"
        )
    if dtype.names is not None or dtype.subdtype is not None or not dtype.itemsize:
        raise CalibrationError(f"{place}: has elements of type {safe(dtype)}; save plain numbers or text")
    if not all(0 <= dim <= _MAX_SIZE for dim in shape):  # 0xfff... may have too many digits to be printed
        raise CalibrationError(f"{place}: its header declares a size that no array can have; {_NPY_CURE}")
    if math.prod(shape) * dtype.itemsize != size - stream.tell():
        raise CalibrationError(
            f"{place}: its header declares {safe(dtype)} of shape {safe(shape)}, "
            f"which are not the {size - stream.tell()} bytes that are there; {_NPY_CURE}"
        )
    return Header(place, dtype, shape, fortran, stream.tell())


@contextmanager
def _archive(path: Path) -> Generator[zipfile.ZipFile]:
    """Open an .npz file; whatever zipfile or zlib raise in the block becomes one line that names the file."""
    regular_file(path)
    try:
        with zipfile.ZipFile(path) as archive:
            yield archive
    except CalibrationError:
        raise
    except Exception as error:  # BadZipFile, zlib.error, EOFError, RuntimeError (a password), MemoryError, ...
        raise CalibrationError(f"{safe(path)}: is no sound .npz file ({safe(error)}); {_NPZ_CURE}") from error


def _member_headers(archive: zipfile.ZipFile, place: str, inputs: Sequence[TensorSpec]) -> dict[str, Header]:
    infos = archive.infolist()
    size = Path(str(archive.filename)).stat().st_size
    for info in infos:
        _check_member(info, size, f"{place}: '{safe(info.filename)}'")
    names = [info.filename.removesuffix(".npy") for info in infos]
    if len(set(names)) < len(names):
        raise CalibrationError(f"{place}: holds two arrays of one name; {_NPZ_CURE}")
    check_names(place, inputs, names)
    headers: dict[str, Header] = {}
    for name, info in zip(names, infos, strict=True):
        with archive.open(info) as stream:
            headers[name] = _header(stream.read(_PREFIX), info.file_size, f"{place}: '{safe(name)}'")
    return headers


def _check_member(info: zipfile.ZipInfo, archive_size: int, place: str) -> None:
    if not info.filename.endswith(".npy"):
        raise CalibrationError(f"{place}: is no array; {_NPZ_CURE}")
    if info.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
        raise CalibrationError(f"{place}: is compressed by other means than NumPy's; {_NPZ_CURE}")
    inflation = 1 if info.compress_type == zipfile.ZIP_STORED else _MAX_INFLATION
    if info.compress_size > archive_size or info.file_size > inflation * info.compress_size:
        raise CalibrationError(
            f"{place}: declares {info.file_size} bytes in {info.compress_size}, which cannot be; {_NPZ_CURE}"
        )


def _read_member(archive: zipfile.ZipFile, name: str, header: Header, cut: Cut, chosen: Sequence[int]) -> list[Array]:
    """The chosen samples of one array; the rest of its bytes passes by in small blocks, which checks the CRC too."""
    size = math.prod(header.shape) * header.dtype.itemsize
    with archive.open(f"{name}.npy") as stream:
        _skip(stream, header.offset)
        if cut.constant or header.fortran:
            whole = _array(stream, header, header.shape, size)
            taken = [cut.take(whole, index).copy() for index in chosen]  # a view would keep the whole
        else:
            taken = list(_runs(stream, header, cut, chosen, size // cut.count))
        while stream.read(_BLOCK):
            pass
    return taken


def _runs(stream: IO[bytes], header: Header, cut: Cut, chosen: Sequence[int], size: int) -> Iterator[Array]:
    position = 0
    for index in chosen:
        _skip(stream, (index - position) * size)
        yield _array(stream, header, cut.shape, size)
        position = index + 1


def _array(stream: IO[bytes], header: Header, shape: tuple[int, ...], size: int) -> Array:
    data = stream.read(size)
    if len(data) < size:
        raise CalibrationError(f"{header.place}: ends early; {_NPZ_CURE}")
    return np.ndarray(shape, header.dtype, data, order="F" if header.fortran else "C")


def _skip(stream: IO[bytes], count: int) -> None:
    while count > 0:
        passed = len(stream.read(min(count, _BLOCK)))
        count = count - passed if passed else 0  # `_array` finds the early end
