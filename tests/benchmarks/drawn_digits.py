"""Tasks that need nothing fetched: two shipped models, scored on the digits that were drawn to calibrate them."""

from collections.abc import Mapping, Sequence
from functools import cache, partial
from pathlib import Path

import numpy as np

from benchmarks.corpus.base import Run, Score, Split, Task
from graphshrink.ir.types import Array
from tests.models import DIGITS, TESTMODELS

_ROWS: Mapping[Split, slice] = {"development": slice(100, 150), "test": slice(150, 200)}


@cache
def _drawn() -> Array:
    with np.load(DIGITS) as file:
        images: Array = file["input"]
    return images


def _calibration(count: int) -> Sequence[Mapping[str, Array]]:
    return [{"input": image[np.newaxis]} for image in _drawn()[: min(count, 100)]]


def _score(run: Run, split: Split) -> Score:
    (answers,) = run({"input": _drawn()[_ROWS[split]]}).values()
    return Score("accuracy", (answers.argmax(axis=1) == np.arange(len(answers)) % 10).astype(np.float64))


def _model(name: str) -> Path:
    return TESTMODELS / f"{name}.onnx"


TASKS = tuple(
    Task(name, "drawn digits", partial(_model, name), _calibration, _score, shipped=True)
    for name in ("lenet-300-100", "digit_cnn")
)


def task_named(name: str) -> Task:
    return {task.name: task for task in TASKS}[name]
