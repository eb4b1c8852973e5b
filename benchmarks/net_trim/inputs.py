"""Every model of testmodels/ and of the corpus with inputs to fit to and others to compare outputs on, no labels.

Held-out inputs are the first development items of a task, recorded while they are scored; no item of a task is in two
of its sets.
"""

from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from typing import Final, NamedTuple, TypeAlias

import numpy as np

from benchmarks.corpus.base import Task, runner
from benchmarks.corpus.tasks import TASKS
from benchmarks.measuring import ROOT
from benchmarks.net_trim.trimming import one_each
from graphshrink.ir.types import Array, Feeds

_FOLDER: Final = ROOT / "testmodels"
_SLICE: Final = "-slice"

Inputs: TypeAlias = Callable[[int], Sequence[Feeds]]
"""Gives so many at most."""


class Source(NamedTuple):
    """A model and where its inputs come from."""

    name: str
    model: Callable[[], str]
    fit: Inputs
    held_out: Inputs


class _EnoughError(Exception):
    """Ends a scoring from which inputs were recorded."""


def _of_task(task: Task) -> Source:
    def held_out(count: int) -> Sequence[Feeds]:
        found: list[Feeds] = []
        original = runner(task.model())

        def record(feeds: Mapping[str, Array]) -> dict[str, Array]:
            if len(found) == count:
                raise _EnoughError
            found.append(dict(feeds))
            return original(feeds)

        with suppress(_EnoughError):
            task.score(record, "development")
        return found

    return Source(task.name, lambda: str(task.model()), task.calibration, held_out)


def _shipped(name: str, arrays: str, input_name: str, fit: str, held_out: str) -> Source:
    def some(key: str) -> Inputs:
        def first(count: int) -> Sequence[Feeds]:
            with np.load(_FOLDER / arrays) as file:
                return one_each(input_name, file[key][:count])

        return first

    return Source(name, lambda: str(_FOLDER / f"{name}.onnx"), some(fit), some(held_out))


def _words(name: str) -> Source:
    return _shipped(name, "words.npz", "letters", "calibration_letters", "test_letters")


SOURCES: Final[Mapping[str, Source]] = {
    source.name: source
    for source in (
        _shipped("spirals", "spirals.npz", "input", "train_points", "test_points"),
        *(_words(name) for name in ("lstm", "transformer")),
        *(_of_task(task) for task in TASKS if not task.name.endswith(_SLICE)),
    )
}
"""By name. Models of testmodels/ that are in the corpus too are there once."""
