"""Read a PyTorch state dict (`torch.save`, zip format) without torch, and without running what a pickle may ask for.

The archive holds `NAME/data.pkl`, which describes the tensors, and one raw little-endian file `NAME/data/KEY` for each
storage. The pickle is opened by an unpickler that admits only the names in `_ADMITTED` and `_DTYPES`; any other name in
it is an error before it does anything.
"""

import io
import math
import pickle
import zipfile
from collections import OrderedDict
from collections.abc import Callable
from pathlib import Path
from typing import Any, cast

import numpy as np
from numpy.typing import NDArray


class StateDictError(Exception):
    """The file is no state dict of plain, contiguous tensors."""


_DTYPES = {
    "DoubleStorage": np.dtype("<f8"),
    "FloatStorage": np.dtype("<f4"),
    "HalfStorage": np.dtype("<f2"),
    "LongStorage": np.dtype("<i8"),
    "IntStorage": np.dtype("<i4"),
    "ByteStorage": np.dtype("u1"),
}


def read_state_dict(path: Path) -> dict[str, NDArray[Any]]:
    """The tensors by name, in the order of the file."""
    with zipfile.ZipFile(path) as archive:
        pickles = [name for name in archive.namelist() if name.endswith("/data.pkl")]
        if len(pickles) != 1:
            raise StateDictError(f"{path}: holds {len(pickles)} files data.pkl, expected one")
        folder = pickles[0].removesuffix("/data.pkl")
        if f"{folder}/byteorder" in archive.namelist() and archive.read(f"{folder}/byteorder") != b"little":
            raise StateDictError(f"{path}: its storages are not little-endian")
        description = io.BytesIO(archive.read(pickles[0]))
        loaded = _Unpickler(description, lambda key: archive.read(f"{folder}/data/{key}")).load()
    if not isinstance(loaded, dict):
        raise StateDictError(f"{path}: is no dict of tensors")
    tensors = dict(cast("dict[str, object]", loaded))
    if not all(isinstance(value, np.ndarray) for value in tensors.values()):
        raise StateDictError(f"{path}: holds more than tensors")
    return cast("dict[str, NDArray[Any]]", tensors)


class _Unpickler(pickle.Unpickler):
    """Admits tensors and the dict around them; a storage is read when a tensor refers to it."""

    def __init__(self, content: io.BytesIO, read_storage: Callable[[str], bytes]) -> None:
        super().__init__(content)
        self._read_storage = read_storage

    def find_class(self, module_name: str, global_name: str, /) -> Any:
        name = f"{module_name}.{global_name}"
        if module_name == "torch" and global_name in _DTYPES:
            return _DTYPES[global_name]
        if name not in _ADMITTED:
            raise StateDictError(f"the pickle asks for {name}, which no state dict needs")
        return _ADMITTED[name]

    def persistent_load(self, pid: Any, /) -> NDArray[Any]:
        kind, dtype, key, _device, length = pid
        if kind != "storage":
            raise StateDictError(f"the pickle refers to a {kind}, expected a storage")
        elements = np.frombuffer(self._read_storage(key), dtype)
        if len(elements) != length:
            raise StateDictError(f"storage {key} has {len(elements)} elements, expected {length}")
        return elements


def _rebuild_tensor(
    storage: NDArray[Any], offset: int, shape: tuple[int, ...], strides: tuple[int, ...], *_unused: object
) -> NDArray[Any]:
    contiguous = tuple(math.prod(shape[axis + 1 :]) for axis in range(len(shape)))
    if strides != contiguous:
        raise StateDictError(f"a tensor of shape {shape} has strides {strides}; only contiguous ones are read")
    return storage[offset : offset + math.prod(shape)].reshape(shape)


_ADMITTED = {
    "collections.OrderedDict": OrderedDict,
    "torch._utils._rebuild_tensor_v2": _rebuild_tensor,
}
