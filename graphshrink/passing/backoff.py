"""Backing off: milder settings, layer by layer, until the outputs are within their bound again.

Each layer's own harm is measured by changing it alone. Errors of different layers are nearly independent, so their
squares add up; the layers with the largest share get a milder setting first, and are left alone when none is left.
"""

import math
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Final, NamedTuple

from graphshrink.errors import JudgeError
from graphshrink.ir import edit
from graphshrink.ir.graph import Graph
from graphshrink.ir.weight import weights
from graphshrink.passing.base import Context, Pass, PassResult
from graphshrink.passing.judge import Judge, Measured

_ROUNDS: Final = 12
_STEPS: Final = 2  # of one layer in one round
_PROBES: Final = 8  # samples to measure one layer's harm on
_MARGIN: Final = 0.9  # aim below the bound, as the sum is an estimate
_TIGHTER: Final = 1 / 2  # of the squared error, when the user's metric asks for less
_MILDER_SHARE: Final = 1 / 4  # of the squared error is left, as after one more bit; corrected by what is measured
_COMPENSATED: Final = 2.0  # times the measured squared error: a larger sum is no accident of few samples
_FLOOR: Final = 1e-3  # of the bound: the least harm that a layer is credited with, since a few samples may not show it

Attempt = Callable[[Pass, Context], tuple[Graph, PassResult]]
"""Runs a pass in a given context on a copy of the graph, and checks what comes out."""


class Attempted(NamedTuple):
    """What a pass did, with too large an error: the graph as it was (not changed here), what became of it, and both."""

    before: Graph
    after: Graph
    result: PassResult
    measured: Measured


def back_off(
    found: Attempted, step: Pass, context: Context, judge: Judge, attempt: Attempt
) -> tuple[Graph, PassResult, Measured] | None:
    """Find settings with which a pass stays within the bound.

    Args:
        found: what the pass did.
        step: the pass.
        context: what it was given.
        judge: measures, and holds the bound.
        attempt: runs the pass anew.

    Returns:
        The graph, what was done, and how it measures; None if nothing is left of the pass.
    """
    if step.as_one:
        return _as_one(step, context, judge, attempt)
    if not found.result.changed:  # there are no layers to soften
        return None
    before, measured = found.before, found.measured
    target = _target(math.inf if judge.bound is None else (_MARGIN * judge.bound) ** 2, measured, judge)
    floor = _FLOOR**2 * (target if math.isfinite(target) else 0.0)
    harm = _harm(before, found.after, found.result.units, context, judge.probing(_PROBES), floor)
    _share_out(harm, found.measured.error)
    milder: dict[str, Pass | None] = {
        weight.label: context.settings(step, weight) for weight in weights(before) if weight.label in harm
    }
    for done in range(_ROUNDS):
        _soften(harm, milder, target)
        context.progress(f"{step.name}: backing off", done, _ROUNDS)
        graph, result = attempt(step, replace(context, milder=milder))
        if not result.did_anything:
            return None
        measured = judge.measure(graph)
        if judge.allows(measured):
            return graph, result, measured
        if not result.changed:  # what is left was done to the graph as a whole
            return None
        target = _target(target, measured, judge)
        _correct(harm, milder, measured.error)
    return None


def _as_one(step: Pass, context: Context, judge: Judge, attempt: Attempt) -> tuple[Graph, PassResult, Measured] | None:
    """Milder settings for the pass as a whole, where what it does to one layer is nothing without the others."""
    milder = step.gentler()
    for done in range(_ROUNDS):
        if milder is None:
            return None
        context.progress(f"{step.name}: backing off", done, _ROUNDS)
        graph, result = attempt(milder, context)
        if not result.did_anything:
            return None
        measured = judge.measure(graph)
        if judge.allows(measured):
            return graph, result, measured
        milder = milder.gentler()
    return None


def _target(target: float, measured: Measured, judge: Judge) -> float:
    """The squared output error to aim at: less than there is, where only the user's metric objects to it."""
    if not judge.allows_error(measured.error):
        return target
    return min(target, _TIGHTER * measured.error**2)


def _harm(
    before: Graph, after: Graph, units: Mapping[str, list[str]], context: Context, judge: Judge, floor: float
) -> dict[str, float]:
    """Squared error of the outputs when one layer alone is changed, with all that was changed together with it.

    It is infinite where the model does not even run.
    """
    new = {weight.label: weight.tensor for weight in weights(after)}
    harm: dict[str, float] = {}
    for done, (label, together) in enumerate(units.items()):
        context.progress("finding the layers that harm most", done, len(units))
        trial = before.copy()
        for place in weights(trial):
            if place.label in together:
                edit.set_constant(place.graph, place.name, new[place.label])
        try:
            harm[label] = max(floor, judge.measure(trial).error ** 2)
        except JudgeError:
            harm[label] = math.inf
    return harm


def _share_out(harm: dict[str, float], error: float) -> None:
    """Scale the estimates down to an error that is far less than their sum.

    Layers that make up for those before them do more harm alone than together.
    """
    predicted = sum(harm.values())
    if math.isfinite(predicted) and math.isfinite(error) and predicted > _COMPENSATED * error**2:
        for label in harm:
            harm[label] *= error**2 / predicted


def _soften(harm: dict[str, float], milder: dict[str, Pass | None], target: float) -> None:
    """Give the worst layers milder settings until the sum of squares should be on target; changes both dictionaries.

    A layer that breaks the outputs altogether is left alone at once. Others go a few steps in a round at most: the
    estimate may be far off, and what is given up is not taken back.
    """
    steps: Counter[str] = Counter()
    while (total := sum(harm.values())) > target or not math.isfinite(total):
        movable = [label for label in harm if steps[label] < _STEPS]
        if not movable:
            return
        worst = max(movable, key=harm.__getitem__)
        steps[worst] += 1
        _one_milder(worst, harm, milder)


def _one_milder(label: str, harm: dict[str, float], milder: dict[str, Pass | None]) -> None:
    now = milder[label]
    milder[label] = now.gentler() if now is not None and math.isfinite(harm[label]) else None
    if milder[label] is None:
        del harm[label]
    else:
        harm[label] *= _MILDER_SHARE


def _correct(harm: dict[str, float], milder: dict[str, Pass | None], error: float) -> None:
    """Learn from an error that is still too large: scale the estimates to it, or doubt every layer where that fails."""
    predicted = sum(harm.values())
    if math.isfinite(error) and 0 < predicted < error**2:
        for label in harm:
            harm[label] *= error**2 / predicted
        return
    # Some layer does more harm than was seen: one step for the worse half of those that are left, so that this ends.
    for label in sorted(harm, key=harm.__getitem__, reverse=True)[: -(-len(harm) // 2)]:
        _one_milder(label, harm, milder)
