"""Backing off: milder settings, layer by layer, until the outputs are within their bound again.

Each layer's own harm is measured by changing it alone. Errors of different layers are nearly independent, so their
squares add up; the layers with the largest share get a milder setting first, and are left alone when none is left.
"""

from dataclasses import replace
from typing import Final

from graphshrink.ir import edit
from graphshrink.ir.graph import Graph
from graphshrink.ir.weight import weights
from graphshrink.passing.base import Context, Pass, PassResult
from graphshrink.passing.judge import Judge

_ROUNDS: Final = 8
_PROBES: Final = 8  # samples to measure one layer's harm on
_MARGIN: Final = 0.9  # aim below the bound, as the sum is an estimate
_MILDER_SHARE: Final = 1 / 4  # of the squared error is left, as after one more bit; corrected by what is measured


def back_off(
    before: Graph, after: Graph, step: Pass, result: PassResult, context: Context, judge: Judge
) -> tuple[Graph, PassResult, float] | None:
    """Find settings with which a pass stays within the bound.

    Args:
        before: the graph as it was; not changed.
        after: what the pass made of it, with too large an error.
        step: the pass.
        result: what it did.
        context: what it was given.
        judge: measures, and holds the bound.

    Returns:
        The graph, what was done, and its error; None if nothing is left of the pass.
    """
    assert judge.bound is not None
    harm = _harm(before, after, result.changed, context, judge)
    milder: dict[str, Pass | None] = {}
    for round_number in range(_ROUNDS):
        _soften(harm, milder, step, (_MARGIN * judge.bound) ** 2)
        context.progress(f"{step.name}: backing off", round_number, _ROUNDS)
        graph = before.copy()
        result = step.run(graph, replace(context, milder=milder))
        if not result.changed:
            return None
        error = judge.error(graph)
        if judge.allows(error):
            return graph, result, error
        predicted = sum(harm.values())
        correction = error**2 / predicted if 0 < predicted < error**2 < float("inf") else 4.0
        harm = {label: square * correction for label, square in harm.items()}
    return None


def _harm(before: Graph, after: Graph, labels: list[str], context: Context, judge: Judge) -> dict[str, float]:
    """Squared error of the outputs when one layer alone is changed."""
    new = {weight.label: weight.tensor for weight in weights(after)}
    harm: dict[str, float] = {}
    for done, label in enumerate(labels):
        context.progress("finding the layers that harm most", done, len(labels))
        trial = before.copy()
        place = next(weight for weight in weights(trial) if weight.label == label)
        edit.set_constant(place.graph, place.name, new[label])
        harm[label] = judge.error(trial, samples=_PROBES) ** 2
    return harm


def _soften(harm: dict[str, float], milder: dict[str, Pass | None], step: Pass, target: float) -> None:
    """Give the worst layers milder settings until the sum of squares should be on target; changes both dictionaries."""
    while sum(harm.values()) > target:
        worst = max(harm, key=harm.__getitem__)
        now = milder.get(worst, step)
        milder[worst] = now.gentler() if now is not None else None
        harm[worst] = harm[worst] * _MILDER_SHARE if milder[worst] is not None and harm[worst] < float("inf") else 0.0
