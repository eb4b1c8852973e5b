"""Read a PyTorch state dict (`torch.save`) without torch, and without running what a pickle may ask for.

The zip format holds `NAME/data.pkl`, which describes the tensors, and one raw little-endian file `NAME/data/KEY` for
each storage. The format before torch 1.6 is one stream: a magic number, a version, facts on the machine, the
description, and the list of keys, each pickled; then for each key the number of elements (int64) and the elements. All
pickles are opened by an unpickler that admits only the names in `_ADMITTED` and `_DTYPES`; any other name in them is an
error before it does anything.
"""

import io
import math
import pickle
import zipfile
from collections import OrderedDict
from pathlib import Path
from typing import IO, Any, cast

import numpy as np
from numpy.typing import NDArray


class StateDictError(Exception):
    """The file is no state dict of plain tensors."""


_DTYPES = {
    "DoubleStorage": np.dtype("<f8"),
    "FloatStorage": np.dtype("<f4"),
    "HalfStorage": np.dtype("<f2"),
    "LongStorage": np.dtype("<i8"),
    "IntStorage": np.dtype("<i4"),
    "ByteStorage": np.dtype("u1"),
}

_STREAM_MAGIC = 0x1950A86A20F9469CFC6C
_STREAM_VERSION = 1001


def read_state_dict(path: Path) -> dict[str, NDArray[Any]]:
    """The tensors by name, in the order of the file."""
    loaded = _read_zip(path) if zipfile.is_zipfile(path) else _read_stream(path)
    if not isinstance(loaded, dict):
        raise StateDictError(f"{path}: is no dict of tensors")
    tensors = dict(cast("dict[str, object]", loaded))
    if not all(isinstance(value, np.ndarray) for value in tensors.values()):
        raise StateDictError(f"{path}: holds more than tensors")
    return {name: np.array(value, order="C") for name, value in cast("dict[str, NDArray[Any]]", tensors).items()}


def _read_zip(path: Path) -> object:
    with zipfile.ZipFile(path) as archive:
        pickles = [name for name in archive.namelist() if name.endswith("/data.pkl")]
        if len(pickles) != 1:
            raise StateDictError(f"{path}: holds {len(pickles)} files data.pkl, expected one")
        folder = pickles[0].removesuffix("/data.pkl")
        if f"{folder}/byteorder" in archive.namelist() and archive.read(f"{folder}/byteorder") != b"little":
            raise StateDictError(f"{path}: its storages are not little-endian")
        unpickler = _Unpickler(io.BytesIO(archive.read(pickles[0])), limit=path.stat().st_size)
        loaded = unpickler.load()
        for key, storage in unpickler.storages.items():
            _fill(storage, archive.read(f"{folder}/data/{key}"), key)
    return loaded


def _read_stream(path: Path) -> object:
    size = path.stat().st_size
    with path.open("rb") as file:
        if _next(file) != _STREAM_MAGIC or _next(file) != _STREAM_VERSION:
            raise StateDictError(f"{path}: is neither of the two formats of torch.save")
        machine = _next(file)
        if not isinstance(machine, dict) or not cast("dict[str, object]", machine).get("little_endian"):
            raise StateDictError(f"{path}: its storages are not little-endian")
        unpickler = _Unpickler(file, limit=size)
        loaded = unpickler.load()
        for key in cast("list[str]", _next(file)):
            storage = unpickler.storages[key]
            length = int.from_bytes(file.read(8), "little")
            if length != len(storage):
                raise StateDictError(f"storage {key} has {length} elements, expected {len(storage)}")
            _fill(storage, file.read(storage.nbytes), key)
    return loaded


def _next(file: IO[bytes]) -> object:
    try:
        return _Unpickler(file, limit=0).load()
    except (pickle.UnpicklingError, EOFError) as e:
        raise StateDictError(f"{file.name}: is neither of the two formats of torch.save") from e


def _fill(storage: NDArray[Any], content: bytes, key: str) -> None:
    if len(content) != storage.nbytes:
        raise StateDictError(f"storage {key} has {len(content)} bytes, expected {storage.nbytes}")
    storage[:] = np.frombuffer(content, storage.dtype)


class _Unpickler(pickle.Unpickler):
    """Admits tensors and the dict around them; tensors look into `storages`, which are to be filled afterwards."""

    def __init__(self, content: IO[bytes], limit: int) -> None:
        super().__init__(content)
        self.storages: dict[str, NDArray[Any]] = {}
        self._limit = limit  # a storage of more bytes than the file is a lie

    def find_class(self, module_name: str, global_name: str, /) -> Any:
        name = f"{module_name}.{global_name}"
        if module_name == "torch" and global_name in _DTYPES:
            return _DTYPES[global_name]
        if name not in _ADMITTED:
            raise StateDictError(f"the pickle asks for {name}, which no state dict needs")
        return _ADMITTED[name]

    def persistent_load(self, pid: Any, /) -> NDArray[Any]:
        kind, dtype, key, _device, length, *view = pid
        if kind != "storage" or any(part is not None for part in view):
            raise StateDictError(f"the pickle refers to a {kind}, or to a part of one; expected a storage")
        if not 0 <= length * dtype.itemsize <= self._limit:
            raise StateDictError(f"storage {key} is to have {length} elements, more than the file holds")
        return self.storages.setdefault(key, np.zeros(int(length), cast("np.dtype[Any]", dtype)))


def _rebuild_tensor(
    storage: NDArray[Any], offset: int, shape: tuple[int, ...], strides: tuple[int, ...], *_unused: object
) -> NDArray[Any]:
    if len(shape) != len(strides) or min((offset, *shape, *strides)) < 0:
        raise StateDictError(f"a tensor of shape {shape} has strides {strides} and offset {offset}")
    last = offset + sum((size - 1) * stride for size, stride in zip(shape, strides, strict=True))
    if math.prod(shape) and last >= len(storage):
        raise StateDictError(f"a tensor of shape {shape} and strides {strides} ends beyond its storage")
    steps = [stride * storage.itemsize for stride in strides]
    return np.lib.stride_tricks.as_strided(storage[offset:], shape, steps)


_ADMITTED = {
    "collections.OrderedDict": OrderedDict,
    "torch._utils._rebuild_tensor_v2": _rebuild_tensor,
}
