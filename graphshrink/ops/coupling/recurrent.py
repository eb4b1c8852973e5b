"""LSTM, GRU and RNN: a unit has a row for each gate, a column, and its states."""

from collections.abc import Mapping
from typing import Final

from graphshrink.ir.types import Array
from graphshrink.ops.coupling.base import Links, Site

_GATES: Final[Mapping[str, int]] = {"GRU": 3, "LSTM": 4, "RNN": 1}
_STATES: Final = (5, 6)
_PEEPHOLES: Final = 7


def couple(site: Site, links: Links) -> None:
    """Units of both directions lie along one axis, and go together."""
    gates = _GATES[site.operator.op_type]
    units = site.input(2, 2)
    links.join(site.input(0, 2), site.input(1, 2))
    for index in (1, 2):
        links.join(site.input(index, 1).reshape(gates, -1), units)
        _hold_directions(site, links, site.input(index, 0))
    if site.has_input(3):
        links.join(site.input(3, 1).reshape(2 * gates, -1), units)
    for index in (3, _PEEPHOLES):
        if site.has_input(index):
            _hold_directions(site, links, site.input(index, 0))
    if site.has_input(_PEEPHOLES):
        links.join(site.input(_PEEPHOLES, 1).reshape(3, -1), units)
    batch_first = site.operator.integer("layout", 0) != 0
    batch, sequence = (0, 1) if batch_first else (1, 0)
    links.hold(site.input(0, sequence), f"{site.title} goes along this axis")
    for index in _STATES:
        if site.has_input(index):
            links.join(site.input(index, 2), units)
            _hold_directions(site, links, site.input(index, 1 if batch_first else 0))
            links.join(site.input(index, 0 if batch_first else 1), site.input(0, batch))
    if site.has_input(4):
        links.join(site.input(4, 0), site.input(0, batch))
    for index in range(len(site.outputs)):
        if site.has_output(index):
            _couple_output(site, links, index, units, batch)


def _couple_output(site: Site, links: Links, index: int, units: Array, batch: int) -> None:
    """Y (sequence, directions, batch, units), or the last states (directions, batch, units)."""
    rank = len(site.output_shape(index))
    links.join(site.output(index, -1), units)
    batch_first = batch == 0
    directions = (2 if batch_first else 1) if rank == 4 else (1 if batch_first else 0)
    _hold_directions(site, links, site.output(index, directions))
    links.join(site.output(index, 0 if batch_first else rank - 2), site.input(0, batch))
    if rank == 4:
        links.join(site.output(index, 1 - batch), site.input(0, 1 - batch))


def _hold_directions(site: Site, links: Links, numbers: Array) -> None:
    links.hold(numbers, f"{site.title} has a direction for each")
