"""Seconds that operators take at full and at half width, measured once and kept in a file, so that runs repeat.

    {"Conv group=1 ... (1, 64, 56, 56) (64, 64, 3, 3)": 0.00241, ...}

Of an operator that takes t at full width and t' with a share s of its multiplications, (t - t') / (1 - s) goes with the
channels, and the rest stays.
"""

import json
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np

from graphshrink.calibration.engine import Calibration
from graphshrink.errors import JudgeError, UsageError
from graphshrink.escaping import safe
from graphshrink.ir import edit
from graphshrink.ir.graph import Graph, Header
from graphshrink.ir.operator import Attribute, AttributeType, Operator
from graphshrink.ir.tensor import ELEM_TYPES, FLOATING, tensor_of
from graphshrink.ir.types import Array, Dimension, TensorType, ValueInfo
from graphshrink.ops.coupling.base import Shape, Site

_RUNS: Final = 15
_LONGEST: Final = 400  # characters of a key


class Table:
    """Seconds by what was measured.

    Args:
        path: of the file; it need not be there yet.

    Raises:
        UsageError: the file cannot be read, or holds something else.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._seconds: dict[str, float] = {}
        self._measured = False
        if not path.exists():
            return
        try:
            found: Any = json.loads(path.read_text())
            self._seconds = {str(key): float(value) for key, value in found.items()}
        except (OSError, ValueError, TypeError, AttributeError) as e:
            raise UsageError(f"channel-removal: {safe(path)} is no table of latencies ({safe(e)}); remove it") from e

    def seconds(self, key: str, model: Graph, feeds: Mapping[str, Array], calibration: Calibration) -> float | None:
        """Median time of a run; None where the model does not run."""
        if key not in self._seconds:
            try:
                self._seconds[key] = calibration.seconds(model, feeds, _RUNS)
            except JudgeError:
                return None
            self._measured = True
        return self._seconds[key]

    def save(self) -> None:
        """Write the file, if there is something new.

        Raises:
            UsageError: it cannot be written.
        """
        if not self._measured:
            return
        try:
            with tempfile.NamedTemporaryFile("w", dir=self._path.absolute().parent, delete=False) as file:
                json.dump(self._seconds, file, indent=1, sort_keys=True)
            Path(file.name).replace(self._path)
        except OSError as e:
            raise UsageError(f"channel-removal: {safe(self._path)} cannot be written: {e.strerror or e}") from e


@dataclass(frozen=True, slots=True)
class Timed:
    """An operator's time: fixed seconds, and seconds that go with its channels."""

    fixed: float
    moving: float


def timed(
    site: Site,
    halves: Mapping[tuple[str, int], int],
    share: float,
    dtypes: Mapping[str, np.dtype[Any]],
    table: Table,
    calibration: Calibration,
) -> Timed | None:
    """The time of one operator by itself; None where it does not run by itself.

    Args:
        site: the operator.
        halves: for axes of values that can lose channels, the size with half of them.
        share: of its multiplications that are left then.
        dtypes: of values.
        table: of what was measured before.
        calibration: where it is measured.
    """
    whole = list(site.inputs)
    narrow = [
        None if shape is None else tuple(halves.get((name, axis), size) for axis, size in enumerate(shape))
        for name, shape in zip(site.operator.inputs, site.inputs, strict=True)
    ]
    full = _measured(site, whole, site.operator, dtypes, table, calibration)
    if full is None or narrow == whole:
        return None if full is None else Timed(full, 0.0)
    half = _measured(site, narrow, _narrower(site, narrow), dtypes, table, calibration)
    if half is None or share >= 1:
        return Timed(0.0, full)
    moving = min(full, max(0.0, (full - half) / (1 - share)))
    return Timed(full - moving, moving)


def _narrower(site: Site, shapes: Sequence[Shape | None]) -> Operator:
    """The operator with attributes that say how many channels it has."""
    operator = site.operator
    groups, data, old = operator.integer("group", 1), shapes[0], site.inputs[0]
    if groups > 1 and data is not None and old is not None and groups == old[1]:
        return operator.with_attribute(Attribute("group", AttributeType.INT, data[1]))
    units = shapes[2] if len(shapes) > 2 else None
    if "hidden_size" in operator.attributes and units is not None:
        return operator.with_attribute(Attribute("hidden_size", AttributeType.INT, units[2]))
    return operator


def _measured(
    site: Site,
    shapes: Sequence[Shape | None],
    operator: Operator,
    dtypes: Mapping[str, np.dtype[Any]],
    table: Table,
    calibration: Calibration,
) -> float | None:
    arrays = dict(_arrays(operator, shapes, dtypes))
    if not arrays:
        return None
    model = Graph("operator", header=Header(ir_version=8))
    model.opsets = site.graph.root.opsets
    constant = {name for name in operator.inputs if name and site.graph.constant(name) is not None}
    feeds = {name: array for name, array in arrays.items() if name not in constant}
    edit.set_inputs(model, [_declared(name, array) for name, array in feeds.items()])
    for name in constant & arrays.keys():
        edit.add_initializer(model, tensor_of(arrays[name], name))
    edit.add_operator(model, operator)
    edit.set_outputs(model, [ValueInfo(name, None) for name in operator.outputs if name])
    return table.seconds(_key(operator, shapes), model, feeds, calibration)


def _arrays(
    operator: Operator, shapes: Sequence[Shape | None], dtypes: Mapping[str, np.dtype[Any]]
) -> Iterator[tuple[str, Array]]:
    rng = np.random.default_rng(0)
    for name, shape in zip(operator.inputs, shapes, strict=True):
        if shape is not None and ELEM_TYPES.get(dtypes.get(name, np.dtype(np.int64))) in FLOATING:
            yield name, rng.standard_normal(shape).astype(dtypes[name])


def _declared(name: str, array: Array) -> ValueInfo:
    return ValueInfo(name, TensorType(ELEM_TYPES[array.dtype], tuple(map(Dimension, array.shape))))


def _key(operator: Operator, shapes: Sequence[Shape | None]) -> str:
    attributes = " ".join(f"{name}={operator.attributes[name].value!r}" for name in sorted(operator.attributes))
    return f"{operator.op_type} {attributes} {' '.join(map(str, shapes))}"[:_LONGEST]
