"""The rows of a layer's problem, out of the activations of the model as it was and as it is."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Final, NamedTuple

import numpy as np

from graphshrink.calibration.rows import Wanted
from graphshrink.errors import UnfitError
from graphshrink.ir.types import Array
from graphshrink.ops.affine import places
from graphshrink.ops.form import Form
from graphshrink.passes._net_trim_plan import Plan

_THEN, _NOW = "then", "now"
_ROWS: Final = 2  # for each input: with fewer, noisy copies are added
_NOISE: Final = 0.5  # of an input's size
_FLOOR: Final = 0.1  # of the mean energy of all inputs, for inputs that the samples do not show


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


def wanted(plan: Plan, seed: int) -> tuple[list[Wanted], list[Wanted]]:
    """What to ask for, of the model as it was and of the model as it is."""
    return list(_of(plan, seed, _THEN)), list(_of(plan, seed, _NOW))


def _of(plan: Plan, seed: int, when: str) -> Iterator[Wanted]:
    form, graph, fed = plan.affine.form, plan.affine.use.graph, plan.affine.input
    yield Wanted(f"{when} inputs", (fed,), _Inputs(form, seed))
    for number, (name, _) in enumerate(plan.following.skips):
        constant = graph.constant(name)
        values = (fed, name) if constant is None else (fed,)
        held = None if constant is None else constant.array
        yield Wanted(f"{when} skip {number}", values, _Added(form, seed, held))


def collected(plan: Plan, rows: Mapping[str, Array]) -> Both:
    """What was asked for, in the layer's own shapes."""
    return Both(_collected(plan, rows, _THEN), _collected(plan, rows, _NOW))


def enough(rows: Both, generator: np.random.Generator, memory: int) -> Both:
    """With noisy copies of the rows, where there are too few to tell what each input is for.

    Fitted to fewer rows than inputs, weights do anything at all on other rows. What the layer does near the rows that
    there are keeps them in check, by inputs of each one's own size.

    Args:
        rows: they.
        generator: of the noise.
        memory: bytes that rows and copies may take; there are fewer copies where they would take more.
    """
    (inputs, skips), (inputs_now, skips_now) = ((part.inputs, part.skips) for part in rows)
    groups, count, width = inputs.shape
    held = [array for part in rows for array in (part.inputs, part.skips) if array is not None]
    affordable = memory * count // sum(array.nbytes for array in held)
    missing = min(_ROWS * width, affordable) - count
    if missing <= 0:
        return rows
    source = np.arange(missing, dtype=np.intp) % count
    energy = np.mean(inputs.astype(np.float64) ** 2, axis=1, keepdims=True)
    size = np.sqrt(energy + _FLOOR * energy.mean(axis=2, keepdims=True))
    noise = generator.standard_normal((groups, missing, width), np.float32)
    noise *= (_NOISE * size).astype(np.float32)

    def more(kept: Array, added: Array | float = 0.0) -> Array:
        return np.concatenate([kept, kept[:, source] + added], axis=1)

    return Both(
        Rows(more(inputs, noise), None if skips is None else more(skips)),
        Rows(more(inputs_now, noise), None if skips_now is None else more(skips_now)),
    )


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
