"""The rows of a layer's problem, out of the activations of the model as it was and as it is."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from graphshrink.calibration.rows import Wanted
from graphshrink.errors import UnfitError
from graphshrink.ir.types import Array
from graphshrink.ops.affine import places
from graphshrink.ops.form import Form
from graphshrink.passes._layer_plan import Plan

_THEN, _NOW = "then", "now"


@dataclass(frozen=True, slots=True)
class Rows:
    """What a layer gets on the samples.

    Attributes:
        inputs: (groups, P, N), what the layer is fed.
        skips: (groups, P, M), what is added to z behind it, all of it together; None if nothing is.
    """

    inputs: Array
    skips: Array | None


class Both(NamedTuple):
    """The rows in the model as it was, and in the model as it is."""

    then: Rows
    now: Rows


def wanted(then: Plan, now: Plan, seed: int) -> tuple[list[Wanted], list[Wanted]]:
    """What to ask for, of the layer in the model as it was and of the layer in the model as it is."""
    return list(_of(then, seed, _THEN)), list(_of(now, seed, _NOW))


def _of(plan: Plan, seed: int, when: str) -> Iterator[Wanted]:
    form, graph, fed = plan.affine.form, plan.affine.use.graph, plan.affine.input
    yield Wanted(f"{when} inputs", (fed,), _Inputs(form, seed))
    for number, (name, _) in enumerate(plan.following.skips):
        constant = graph.constant(name)
        values = (fed, name) if constant is None else (fed,)
        held = None if constant is None else constant.array
        yield Wanted(f"{when} skip {number}", values, _Added(form, seed, held))


def collected(then: Plan, now: Plan, rows: Mapping[str, Array]) -> Both:
    """What was asked for, in the shapes of the layer as it was, and as it is."""
    return Both(_collected(then, rows, _THEN), _collected(now, rows, _NOW))


def _collected(plan: Plan, rows: Mapping[str, Array], when: str) -> Rows:
    skips: Array | None = None
    for number, (_, factor) in enumerate(plan.following.skips):
        added = _by_group(rows[f"{when} skip {number}"]) * plan.affine.form.channels(factor)[:, None]
        skips = added if skips is None else skips + added
    return Rows(_by_group(rows[f"{when} inputs"]), skips)


def _by_group(rows: Array) -> Array:
    return np.ascontiguousarray(np.swapaxes(rows, 0, 1))


class _Places:
    """Places of the samples of one batch after the other."""

    def __init__(self, form: Form, seed: int) -> None:
        self._form = form
        self._seed = seed
        self._first = 0

    def next(self, x: Array) -> Array:
        at = places(self._form, x.shape, self._first, self._seed)
        self._first += len(at)
        return at


class _Inputs:
    """Rows (P, groups, N) of a layer's input."""

    def __init__(self, form: Form, seed: int) -> None:
        self._form = form
        self._places = _Places(form, seed)

    def __call__(self, values: Sequence[Array]) -> Array:
        [x] = values
        return np.swapaxes(self._form.rows(x, self._places.next(x)), 0, 1)


class _Added:
    """Rows (P, groups, M) of a value that is added to the layer's output."""

    def __init__(self, form: Form, seed: int, constant: Array | None) -> None:
        self._form = form
        self._places = _Places(form, seed)
        self._constant = constant

    def __call__(self, values: Sequence[Array]) -> Array:
        x = values[0]
        added = values[1] if self._constant is None else self._constant
        wanted = self._form.shape(x.shape)
        try:
            whole = np.broadcast_to(added, wanted)
        except ValueError as e:
            raise UnfitError(f"what is added to its outputs {wanted} is larger than they are, {added.shape}") from e
        return np.swapaxes(self._form.targets(whole, self._places.next(x)), 0, 1)
