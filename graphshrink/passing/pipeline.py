"""Running passes, none of which is trusted: after each the graph is checked, outputs are compared, harm is undone."""

import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

from graphshrink.errors import InternalError, JudgeError, ModelError
from graphshrink.ir.check import check
from graphshrink.ir.compare import difference, interface_difference
from graphshrink.ir.graph import Graph
from graphshrink.passing.backoff import Attempted, back_off
from graphshrink.passing.base import Context, Pass, PassResult, Skipped
from graphshrink.passing.judge import Judge, Measured
from graphshrink.passing.workers import one_thread_each


@dataclass(frozen=True, slots=True)
class PassRecord:
    """One pass as it went.

    Attributes:
        name, options: the pass.
        result: what it did to each layer.
        measured: the outputs, and the user's metric, after this pass; None when nothing was measured.
        seconds: wall time, checks included.
        backed_off: whether some layers got milder settings than asked for.
        rolled_back: why nothing of it is left, or None.
    """

    name: str
    options: dict[str, Any]
    result: PassResult
    measured: Measured | None
    seconds: float
    backed_off: bool = False
    rolled_back: str | None = None

    @property
    def error(self) -> float | None:
        """Worst output error against the original after this pass, if it was measured."""
        return None if self.measured is None else self.measured.error


def run_passes(
    graph: Graph, passes: Sequence[Pass], context: Context, judge: Judge | None
) -> tuple[Graph, list[PassRecord]]:
    """Run passes in order, each matrix product on one thread.

    So the result does not depend on how many cores there are, and small products, of which solvers make many, do not
    wait for threads that others keep from running.

    Args:
        graph: the model; not changed.
        passes: what to run.
        context: what passes are given.
        judge: compares outputs after each pass; None to trust them.

    Returns:
        The transformed graph, and how every pass went.
    """
    records: list[PassRecord] = []
    with one_thread_each():
        for step in passes:
            started = time.perf_counter()
            graph, record = _run_one(graph, step, context, judge, started)
            records.append(record)
    return graph, records


def _run_one(
    before: Graph, step: Pass, context: Context, judge: Judge | None, started: float
) -> tuple[Graph, PassRecord]:
    def record(result: PassResult, measured: Measured | None, **rest: Any) -> PassRecord:
        return PassRecord(step.name, asdict(step), result, measured, time.perf_counter() - started, **rest)  # type: ignore[call-overload]

    def undo(result: PassResult, reason: str) -> tuple[Graph, PassRecord]:
        layers = {
            label: Skipped("rolled back") if label in set(result.changed) else outcome
            for label, outcome in result.layers.items()
        }
        return before, record(PassResult(layers, kept=result.kept, missed=result.missed), None, rolled_back=reason)

    def attempt(setting: Pass, given: Context) -> tuple[Graph, PassResult]:
        graph = before.copy()
        outcome = setting.run(graph, given)
        _expect_kept_promises(setting, before, graph, outcome)
        return graph, outcome

    after, result = attempt(step, context)
    if judge is None or not result.did_anything:
        return after, record(result, None)
    context.progress(f"{step.name}: comparing outputs", 0, 1)
    try:
        measured = judge.measure(after)
        if judge.allows(measured):
            return after, record(result, measured)
        softened = back_off(Attempted(before, after, result, measured), step, context, judge, attempt)
    except JudgeError as e:
        return undo(result, f"its result does not run: {e}")
    if softened is None:
        helped = ", and milder settings did not help" if result.changed else ""
        return undo(result, f"{judge.complaint(measured)}{helped}")
    graph, result, measured = softened
    return graph, record(result, measured, backed_off=True)


def _expect_kept_promises(step: Pass, before: Graph, after: Graph, result: PassResult) -> None:
    """Raises: InternalError, if a pass broke the graph or its interface, or did what it does not own up to."""
    try:
        check(after)
    except ModelError as e:
        raise InternalError(f"{step.name} broke the graph: {e}") from e
    seen = interface_difference(before, after)
    if seen is not None:
        raise InternalError(f"{step.name} changed the model as seen from outside: other {seen}")
    if not result.did_anything and (hidden := difference(before, after)) is not None:
        raise InternalError(f"{step.name} says that it did nothing, but {hidden}")


def missed(records: Sequence[PassRecord]) -> list[str]:
    """What was asked for and not done, as lines for the user."""
    back = [
        f"{record.name} was rolled back: {record.rolled_back}" for record in records if record.rolled_back is not None
    ]
    return back + [f"{record.name}: {line}" for record in records for line in record.result.missed]
