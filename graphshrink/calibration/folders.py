"""Sample inputs in folders: one .npz file a sample, or ONNX's `test_data_set_*/input_*.pb`.

1. A folder with `input_*.pb` is one sample; `input_i.pb` is a TensorProto for the i-th input of the model.
2. Else a folder with subfolders `test_data_set_*` has one sample in each.
3. Else every .npz file in the folder is one sample, its arrays in the shape in which they are fed. So samples may
   differ in size.

Numbers in names count as numbers (`10.npz` follows `9.npz`); hidden files are passed over. A sample is read when it is
asked for.
"""

import math
import re
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from graphshrink.calibration.feeds import (
    check_not_empty,
    check_shape,
    check_type,
    fit_feeds,
    one_line,
    show_inputs,
)
from graphshrink.calibration.files import readable, regular_file
from graphshrink.calibration.npz import check_single_npz, read_single_npz
from graphshrink.calibration.samples import Indexed, Samples, describe, evenly_spaced
from graphshrink.errors import CalibrationError
from graphshrink.escaping import safe
from graphshrink.ir.types import Array, Feeds, TensorSpec

_INPUT = re.compile(r"input_([0-9]{1,9})\.pb")
_MAX_PROTO = (1 << 31) - 1


def folder_samples(path: Path, inputs: Sequence[TensorSpec], limit: int) -> Samples:
    """Samples from a folder, by the rules of this module.

    Raises:
        CalibrationError: there is nothing to read, or what there is does not fit the model.
    """
    place = safe(path)
    sets = (
        [path] if _has_inputs(path) else [p for p in _listed(path, "test_data_set_*") if p.is_dir() and _has_inputs(p)]
    )
    found = sets or _listed(path, "*.npz")
    if not found:
        raise CalibrationError(
            f"{place}: has no samples; give a folder with one .npz file a sample, or with test_data_set_*/input_*.pb"
        )
    chosen = [found[index] for index in evenly_spaced(len(found), limit)]
    check, read = (_input_files, _read_set) if sets else (check_single_npz, read_single_npz)
    for sample in chosen:
        check(sample, inputs)
    return Indexed(len(chosen), lambda index: read(chosen[index], inputs), describe(place, len(chosen), len(found)))


def _listed(folder: Path, pattern: str) -> list[Path]:
    with readable(folder):
        return sorted((path for path in folder.glob(pattern) if not path.name.startswith(".")), key=_natural)


def _natural(path: Path) -> tuple[list[tuple[int, str]], str]:
    """Sorts by name, with runs of digits by their value."""
    parts = re.split(r"([0-9]+)", path.name)
    return [(int(part), "") if i % 2 else (0, part) for i, part in enumerate(parts)], path.name


def _has_inputs(folder: Path) -> bool:
    return any(_INPUT.fullmatch(path.name) for path in _listed(folder, "input_*.pb"))


def _input_files(folder: Path, inputs: Sequence[TensorSpec]) -> list[Path]:
    """The file of each input, in the model's order; CalibrationError unless each has one and there is no other."""
    files: dict[int, Path] = {}
    for path in _listed(folder, "input_*.pb"):
        match = _INPUT.fullmatch(path.name)
        index = len(inputs) if match is None else int(match[1])
        if index >= len(inputs) or index in files:
            raise CalibrationError(
                f"{safe(path)}: belongs to no input of its own; the model takes {len(inputs)}: {show_inputs(inputs)}"
            )
        files[index] = path
    for index, spec in enumerate(inputs):
        if index not in files:
            raise CalibrationError(
                f"{safe(folder)}: input_{index}.pb is missing, for {show_inputs([spec])}; give a file for every input"
            )
        if regular_file(files[index]) > _MAX_PROTO:
            raise CalibrationError(
                f"{safe(files[index])}: is larger than 2 GiB, which no TensorProto can be; give an .npz file"
            )
    return [files[index] for index in range(len(inputs))]


def _read_set(folder: Path, inputs: Sequence[TensorSpec]) -> Feeds:
    files = _input_files(folder, inputs)
    protos = [_checked_proto(path, spec) for path, spec in zip(files, inputs, strict=True)]
    check_not_empty(safe(folder), (tuple(proto.dims) for proto in protos))
    arrays = (_to_array(path, proto) for path, proto in zip(files, protos, strict=True))
    return fit_feeds(safe(folder), inputs, {spec.name: array for spec, array in zip(inputs, arrays, strict=True)})


def _checked_proto(path: Path, spec: TensorSpec) -> TensorProto:
    """Parse a TensorProto and check its type and dims against the model, before its values are unpacked."""
    place = f"{safe(path)}: '{safe(spec.name)}'"
    proto = TensorProto()
    with one_line(safe(path), "give a serialized TensorProto"):
        proto.ParseFromString(path.read_bytes())
        dtype = np.dtype(helper.tensor_dtype_to_np_dtype(proto.data_type))
    if proto.data_location == TensorProto.EXTERNAL or proto.external_data:
        raise CalibrationError(f"{place}: keeps its values in another file; store them in the TensorProto")
    check_type(place, spec, dtype)
    check_shape(place, spec, tuple(proto.dims))
    return proto


def _to_array(path: Path, proto: onnx.TensorProto) -> Array:
    with one_line(safe(path), "write it with onnx.numpy_helper.from_array"):
        array = np.asarray(numpy_helper.to_array(proto))
        if array.size != math.prod(proto.dims):
            raise ValueError(f"{array.size} values for dims {list(proto.dims)}")
    return array
