"""frequency-packing: weights become few multiples of a step, of themselves or of coefficients in a basis."""

import math
import time
from collections import Counter
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import ClassVar, Final, NamedTuple, Self

import numpy as np

from graphshrink.calibration.engine import Calibration
from graphshrink.calibration.sequential import Sequential
from graphshrink.encodings import Policy
from graphshrink.errors import UsageError
from graphshrink.ir import edit
from graphshrink.ir.graph import Graph
from graphshrink.ir.weight import Weight
from graphshrink.ops.lookup import Lookup
from graphshrink.passes._frequency_bases import FAMILIES, fixed_key, layouts
from graphshrink.passes._frequency_fit import Form, Forms, Wish, forms, plain_size, settled, smallest
from graphshrink.passes._layer_moments import layer_moments
from graphshrink.passes._layer_plan import Plan
from graphshrink.passes._layer_states import named_states
from graphshrink.passes._layerwise import attempted, cannot_be_fitted, planned, put, to_fit_to
from graphshrink.passes._weight_sharing_fit import task
from graphshrink.passes._weight_sharing_grouping import Grouping
from graphshrink.passing.base import Context, Pass, PassResult, Skipped

_BASES: Final = ("auto", *FAMILIES, "none")
_BOUND: Final = 0.1  # to split over the layers where the user gives none
_MARGIN: Final = 0.9  # of the bound is split, as in the manager
_LEAST: Final = 1e-4  # target error
_STEP: Final = 2.0  # by which the target error falls when a layer is to harm less


@dataclass(frozen=True)
class FrequencyPacking(Pass):
    """Quantise each layer in the basis in which it takes the fewest bytes: its own, cosines, or one made for it.

    The cosine transform of kernels is that of CNNpack (Wang et al., NIPS 2016) and FreshNets (Chen et al. 2016,
    arXiv:1506.04449); pruning and quantisation with error compensation (Frantar et al. 2022, arXiv:2208.11580) see the
    Gram matrix of the inputs in the basis.

    Given:  y = conv(x, W) + b
    Result: y = conv(x, C @ B) + b'    C few multiples of a step, most of them zero; B orthonormal, stored once a model

    1. Every layer is fitted to the inputs that the layers before now give, in its own space and in each basis, with as
       wide a step as one and the same error of its outputs allows; the form of fewest bytes stays.
    2. Where a basis does not save as much as it takes, over all layers together, all are fitted once more without it.

    Attributes:
        target_error: by how much each layer's outputs may change, relative to these, 0 to 1; 0 splits the model's
            bound.
        basis: "dct" for whole kernels, "block" for cosines along 8, 16 or 32 channels of matrices, "gram" and "klt" for
            bases made from a layer's inputs and from its weights, "auto" for all, or "none".
        damping: keeps weights close to the old ones where there are few samples, 0 to 10.
    """

    name: ClassVar[str] = "frequency-packing"
    buys: ClassVar[str] = "disk"
    target_error: float = 0.0
    basis: str = "auto"
    damping: float = 0.3

    def __post_init__(self) -> None:
        limits = {
            f"target_error={self.target_error} is outside 0 to 1": 0 <= self.target_error <= 1,
            f"basis={self.basis!r} is none of {', '.join(_BASES)}": self.basis in _BASES,
            f"damping={self.damping} is outside 0 to 10": 0 <= self.damping <= 10,
        }
        if broken := [text for text, holds in limits.items() if not holds]:
            raise UsageError(f"frequency-packing: {broken[0]}")

    def refuses(self, weight: Weight, policy: Policy) -> str | None:
        """Weights that are empty, filled with one value, or not finite."""
        return cannot_be_fitted(weight)

    def gentler(self) -> Self | None:
        """Half the error."""
        softer = (self.target_error or _MARGIN * _BOUND) / _STEP
        return replace(self, target_error=softer) if softer >= _LEAST else None

    def run(self, graph: Graph, context: Context) -> PassResult:
        """Pack every layer that can be fitted, in the order in which they run."""
        layers, result = context.layers(graph, self)
        calibration = to_fit_to(context, layers, result)
        if calibration is None:
            return result
        with named_states(graph):
            todo = [one for one in planned(self, graph, layers, context, result) if _fits(one[0], calibration, result)]
            _Run(graph, context, calibration, result, todo).run()
        return result


def _fits(plan: Plan, calibration: Calibration, result: PassResult) -> bool:
    """Whether a layer can be worked on; else the result says why not."""
    groups, inputs, _ = plan.affine.matrix(plan.weight.tensor.array).shape
    memory = 8 * groups * (inputs + 1) ** 2
    reason = f"its Gram matrix would take {memory >> 20:,} MB" if memory > calibration.row_memory else None
    if isinstance(plan.affine.form, Lookup):
        reason = "a table, of which rows are looked up"
    if reason is not None:
        result.layers[plan.weight.label] = Skipped(reason)
    return reason is None


def _constants(plan: Plan) -> Iterator[str]:
    """Names of what a layer may change."""
    yield plan.weight.name
    if plan.bias is not None:
        yield plan.bias.weight.name


class _Packed(NamedTuple):
    """A layer in a basis, and what it would be without."""

    plan: Plan
    form: Form
    forms: Forms
    seconds: float


@dataclass(slots=True)
class _Run:
    """One run of the pass over a graph."""

    graph: Graph
    context: Context
    calibration: Calibration
    result: PassResult
    todo: Sequence[tuple[Plan, FrequencyPacking]]

    def run(self) -> None:
        """Pack all layers; once more without the bases that turn out not to pay for themselves."""
        before = {name: self.graph.constant(name) for plan, _ in self.todo for name in _constants(plan)}
        tried = self._pack(None)
        best = settled([one.forms.tried for one in tried])
        if all(form is one.form for one, form in zip(tried, best, strict=True)):
            return
        # Layers behind one that changes its form were fitted to what it gave.
        for name, tensor in before.items():
            if tensor is not None:
                edit.set_constant(self.graph, name, tensor)
        self._pack({form.basis.key for form in best if form.basis is not None})

    def _pack(self, allowed: Collection[bytes] | None) -> list[_Packed]:
        """Choose a form for layer after layer, among bases whose keys are allowed; None allows all."""
        shared = Counter(key for plan, _ in self.todo for key in {fixed_key(layout) for layout in layouts(plan)})
        coming = [(plan.values, plan.values) for plan, _ in self.todo]
        packed: list[_Packed] = []
        with self.calibration.sequential(self.graph, coming=coming) as sequential:
            for place, (plan, own) in enumerate(self.todo):
                self.context.progress(FrequencyPacking.name, place, len(self.todo))
                started = time.perf_counter()
                found = attempted(plan, partial(self._forms, sequential, plan, own, shared, allowed))
                if isinstance(found, str):
                    self.result.layers[plan.weight.label] = Skipped(found)
                    continue
                best = smallest(found.tried, shared, allowed)
                packed.append(_Packed(plan, best, found, time.perf_counter() - started))
                self._put(packed[-1])
        return packed

    def _forms(
        self,
        sequential: Sequential,
        plan: Plan,
        own: FrequencyPacking,
        shared: Mapping[bytes, int],
        allowed: Collection[bytes] | None,
    ) -> Forms | str:
        problem = task(plan, layer_moments(plan, sequential, self.context.seed), Grouping(0, 1), own.damping)
        if isinstance(problem, str):
            return problem
        wish = Wish(self._target(own), own.basis, self.context.storage, self.graph.opset)
        found = forms(problem, wish, shared, allowed)
        plain = plain_size(plan.weight.tensor, wish)
        if not isinstance(found, str) and min(form.bytes for form in found.tried) >= plain:
            return f"takes {plain:,} bytes as it is, and no less in any form that keeps its outputs"
        return found

    def _target(self, own: FrequencyPacking) -> float:
        """The error that a layer may make: errors of different layers add up as squares."""
        bound = _MARGIN * (_BOUND if self.context.max_error is None else self.context.max_error)
        return own.target_error or float(bound / len(self.todo) ** 0.5)

    def _put(self, one: _Packed) -> None:
        """Change a layer, and say what was chosen; its coefficients stay declared where it has any."""
        plan, form, found, seconds = one
        stored = form.tensor.array
        zeros = 1 - np.count_nonzero(form.coefficients) / stored.size
        detail = (
            f"{form.label}: {form.bytes:,} bytes{found.beside(form)}; {zeros:.1%} zero, "
            f"coding gain {10 * math.log10(form.gain):.2f} dB, residual {form.fitted.residual:.2%}"
        )
        put(self.result, plan, stored, form.fitted.bias, detail, seconds)
        edit.set_constant(plan.weight.graph, plan.weight.name, form.tensor)
