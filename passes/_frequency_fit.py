"""One layer, coded in its own space and in bases, each as coarsely as one error allows, and compared by bytes."""

import math
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Final

import numpy as np

from graphshrink.encodings import Storage, stored_values
from graphshrink.encodings.choose import encoded_bytes, forms_of
from graphshrink.encodings.spectral import SPECTRAL
from graphshrink.ir.tensor import Tensor
from graphshrink.ir.types import Array
from graphshrink.passes._frequency_bases import Basis, bases
from graphshrink.passes._weight_sharing_fit import Fitted, Task, finished
from graphshrink.solvers.coded_rows import least_squares
from graphshrink.solvers.rate_coded import Problem, step_within
from graphshrink.solvers.transform import coding_gain

_TRIED: Final = 2  # bases of a layer that are fitted: those that promise most
_DOUBT: Final = 0.02  # of the bytes: at low rates a basis may do better than it promises
_FIRST: Final = 0.5  # of the step that goes by the error at high rates


@dataclass(frozen=True, slots=True)
class Wish:
    """What a layer is to be.

    Attributes:
        target: error of its outputs, relative to them.
        basis: a family of bases, "auto" or "none".
        storage: how weights will be stored.
        opset: of the model.
    """

    target: float
    basis: str
    storage: Storage
    opset: int


@dataclass(frozen=True, slots=True)
class Form:
    """A way to store a layer.

    Attributes:
        basis: that its weights are coefficients in; None for the weights themselves.
        fitted: the layer with these weights.
        tensor: what is stored.
        bytes: that it takes in a file with its decode subgraph, without the basis.
        gain: arithmetic over geometric mean of the variances of its coefficients by their place in the block.
        error: of the outputs, beyond what free weights would leave, relative to them.
    """

    basis: Basis | None
    fitted: Fitted
    tensor: Tensor
    bytes: int
    gain: float
    error: float

    @property
    def label(self) -> str:
        """For reports."""
        return "spatial" if self.basis is None else self.basis.label

    @property
    def coefficients(self) -> Array:
        """What is stored."""
        return self.tensor.array if self.basis is None else stored_values(self.tensor, SPECTRAL)

    @property
    def table(self) -> int:
        """Bytes of the basis, once for all layers that have it."""
        return 0 if self.basis is None else self.basis.table


@dataclass(frozen=True, slots=True)
class Forms:
    """A layer in every form that was tried, the spatial one first.

    Attributes:
        tried: they.
        best: the most promising basis, whether it was tried or not; None if there is none.
        promised: by how much it lowers the geometric mean of the variances, as a ratio; 1 if it does not.
    """

    tried: list[Form]
    best: Basis | None
    promised: float

    def beside(self, chosen: Form) -> str:
        """What was not chosen, for reports."""
        spatial = self.tried[0]
        if chosen.basis is not None:
            return f" + {chosen.table:,} of the basis, spatial {spatial.bytes:,}"
        if len(self.tried) > 1:
            other = min(self.tried[1:], key=lambda form: form.bytes)
            return f", {other.label} {other.bytes:,} + {other.table:,} of the basis, its coding gain {_db(other.gain)}"
        if self.best is None:
            return ", no basis fits"
        return f", no basis promises to pay ({self.best.label} {_db(self.promised)})"


def forms(task: Task, wish: Wish, shared: Mapping[bytes, int], allowed: Collection[bytes] | None = None) -> Forms | str:
    """The layer itself, and in the bases that promise most; or why no error is small enough.

    Args:
        task: the layer.
        wish: what it is to be.
        shared: how many layers may have a basis, by its key; 1 where it is not listed.
        allowed: keys of the bases that there are; None for all.
    """
    energy = float(task.moments.energy.sum())
    if energy == 0:
        return "its outputs are zero"
    start = least_squares(task.rows)
    spatial = _form(task, wish, start, None, energy)
    if spatial is None:
        return "no step that was tried keeps its outputs"
    ranked = sorted(
        ((_promise(one, start, shared), place, one) for place, one in enumerate(bases(task, start, wish.basis))),
        key=lambda entry: (-entry[0], entry[1]),
    )
    hopeful = [one for promise, _, one in ranked if allowed is not None or promise > -_DOUBT * spatial.bytes]
    worth = [one for one in hopeful if allowed is None or one.key in allowed][:_TRIED]
    others = [_form(task, wish, start, one, energy) for one in worth]
    best = ranked[0][2] if ranked else None
    promised = 1.0 if best is None else _gained(best, start)
    return Forms([spatial, *(one for one in others if one is not None)], best, promised)


def _gained(basis: Basis, start: Array) -> float:
    """The coding gain of a basis over that of the same blocks as they are."""
    block, rotation = basis.layout.block, basis.rotation
    return coding_gain(rotation.forth(start), block) / coding_gain(start[..., rotation.order], block)


def _promise(basis: Basis, start: Array, shared: Mapping[bytes, int]) -> float:
    """Bytes that a basis saves at high rates, its share of the table being paid."""
    table = basis.table / max(1, shared.get(basis.key, 1))
    return start.size * 0.5 * math.log2(_gained(basis, start)) / 8 - table


def _db(gain: float) -> str:
    return f"{10 * math.log10(gain):.2f} dB"


def _form(task: Task, wish: Wish, start: Array, basis: Basis | None, energy: float) -> Form | None:
    if basis is None:
        problem = Problem.of(task.rows, start)
    else:
        problem = Problem.of(basis.rotation.rows(task.rows), basis.rotation.forth(start))
    error_of = partial(_error, problem, energy)
    values = step_within(problem, wish.target, _guess(problem, wish.target, energy), error_of)
    if values is None:
        return None
    tensor, spatial = _stored(task, basis, values)
    fitted = finished(task, spatial)
    if not np.isfinite(fitted.stored).all():
        return None
    block = start.shape[2] if basis is None else basis.layout.block
    size = _bytes(tensor, basis, wish)
    return Form(basis, fitted, tensor, size, coding_gain(problem.start, block), error_of(values))


def _error(problem: Problem, energy: float, values: Array) -> float:
    return math.sqrt(max(problem.excess(values), 0.0) / energy)


def _guess(problem: Problem, target: float, energy: float) -> float:
    """The step that makes the error at high rates, a twelfth of its square a weight."""
    step = target * math.sqrt(12 * energy / (problem.curvature * problem.start.size))
    return min(problem.widest, max(_FIRST * step, 1e-12)) or 1.0


def _stored(task: Task, basis: Basis | None, values: Array) -> tuple[Tensor, Array]:
    """The tensor that is stored, and the weights (G, R, N) that it stands for."""
    plan = task.plan
    tensor = plan.weight.tensor
    if basis is None:
        stored = plan.affine.stored(np.ascontiguousarray(np.swapaxes(values, 1, 2))).astype(tensor.array.dtype)
        return tensor.with_array(stored), values
    return tensor.in_basis(basis.coefficients(plan, values), basis.rotation.basis), basis.rotation.back(values)


def _bytes(tensor: Tensor, basis: Basis | None, wish: Wish) -> int:
    """Bytes in a file, in the smallest form."""
    every = forms_of(tensor, wish.storage, wish.opset)
    sizes = [encoded_bytes(one, wish.opset) for one in every if (one.encoding == SPECTRAL) == (basis is not None)]
    return min([tensor.nbytes, *sizes])


def plain_size(tensor: Tensor, wish: Wish) -> int:
    """Bytes that a tensor takes in a file as it is."""
    return min(_bytes(tensor, None, wish), tensor.nbytes)


def smallest(found: list[Form], shared: Mapping[bytes, int], allowed: Collection[bytes] | None = None) -> Form:
    """The form of fewest bytes, the share of the basis included unless it is there in any case.

    Args:
        found: all forms of a layer.
        shared: how many layers may have a basis, by its key; 1 where it is not listed.
        allowed: keys of the bases that are there; None if that is not known yet.
    """

    def cost(form: Form) -> float:
        if allowed is not None:
            return form.bytes
        return form.bytes + (0 if form.basis is None else form.table / max(1, shared.get(form.basis.key, 1)))

    return min(found, key=cost)


def settled(layers: Sequence[list[Form]]) -> list[Form]:
    """A form for each layer, of the fewest bytes together when every basis is stored once.

    Bases are given up one after the other, as long as that saves bytes; never more than with all of them given up.

    Args:
        layers: all forms of each layer, the one without a basis first.
    """
    open_ = {form.basis.key: form.table for forms in layers for form in forms if form.basis is not None}

    def chosen(keys: Collection[bytes]) -> list[Form]:
        allowed = ([f for f in forms if f.basis is None or f.basis.key in keys] for forms in layers)
        return [min(forms, key=lambda form: form.bytes) for forms in allowed]

    def total(keys: Collection[bytes]) -> int:
        found = chosen(keys)
        used = {form.basis.key for form in found if form.basis is not None}
        return sum(form.bytes for form in found) + sum(open_[key] for key in used)

    kept = list(open_)
    while kept:
        fewer = min(([key for key in kept if key != gone] for gone in kept), key=total)
        if total(fewer) > total(kept):
            break
        kept = fewer
    return chosen(kept if total(kept) < total(()) else ())
