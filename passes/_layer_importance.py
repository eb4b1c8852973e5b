"""How much each output of a layer counts in what the model gives, for passes that fit layers."""

from collections.abc import Iterable, Mapping
from typing import Final

import numpy as np

from graphshrink.calibration.engine import Calibration
from graphshrink.calibration.sensitivity import sensitivities
from graphshrink.ir.graph import Graph
from graphshrink.ir.types import Array
from graphshrink.passes._layer_plan import Plan

IMPORTANCES: Final = ("gradient", "uniform")
"""What passes let users choose from."""

_ALIKE: Final = 0.03
"""Share of the weighing in which all outputs count alike: samples that never need an output do not say that nobody
does. Without it magika, which tells 200 types of files apart, loses ten points with half of its weights and 100 samples
to fit to; with it half a point."""


def importances(calibration: Calibration, graph: Graph, plans: Iterable[Plan]) -> dict[str, Array]:
    """(groups, M) by label of the weight: what an error of an output is to be multiplied with; 1 in the mean square.

    Layers of which nothing is known are left out: their outputs count alike.
    """
    axes = {plan.affine.output: plan.affine.form.channel_axis for plan in plans if plan.affine.output}
    known = sensitivities(calibration, graph, axes) if axes else {}
    return {plan.weight.label: _factors(plan, known) for plan in plans if plan.affine.output in known}


def _factors(plan: Plan, known: Mapping[str, Array]) -> Array:
    form = plan.affine.form
    squares = known[plan.affine.output]
    if squares.size != form.width or not squares.max(initial=0.0) > 0:
        squares = np.ones(form.width)
    squares = (1 - _ALIKE) * squares / squares.mean() + _ALIKE
    factors: Array = form.channels(np.sqrt(squares))
    return factors
