"""Giving back ordinary weights: the inverse of encoding."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from graphshrink.encodings import lift
from graphshrink.errors import JudgeError
from graphshrink.ir.check import check
from graphshrink.onnx_io.emit import Staged, stage
from graphshrink.onnx_io.external import expect_no_data, model_files
from graphshrink.onnx_io.load import load_as_stored
from graphshrink.onnx_io.recheck import check_written
from graphshrink.onnx_io.runtime import Limits, Runtime


@dataclass(frozen=True, slots=True)
class Expanded:
    """What became of a model: how many weights were decoded, and the bytes of its files before and after."""

    decoded: int
    bytes_before: int
    bytes_after: int


def expand_model(source: Path, destination: Path, *, external: bool | None = None) -> Expanded:
    """Write a model with every encoded weight as an ordinary constant.

    Raises:
        ModelError: the model cannot be read, or an encoded weight is damaged.
        JudgeError: ONNX Runtime or the checker takes the source and refuses the result.
        GraphshrinkError: the destination cannot be written.
    """
    graph = load_as_stored(source)
    files = model_files(graph, source)
    expect_no_data(destination, files[1:])
    before = sum(file.stat().st_size for file in files)
    lifted = lift(graph)
    check(graph)
    staged = stage(graph, destination, external=external)
    try:
        check_written(staged.model, graph)
        _ask_judges(source, staged)
        size = staged.size
        staged.commit()
    finally:
        staged.discard()
    return Expanded(len(lifted), before, size)


def _ask_judges(source: Path, staged: Staged) -> None:
    """Every judge that takes the source has to take the result."""
    result = staged.model
    with Limits().runtime([result, *([staged.data] if staged.data is not None else [])]) as runtime:
        for judge in (runtime.check, _loads(runtime)):
            try:
                accepted = judge(source) is None
            except JudgeError:
                continue
            if accepted and (complaint := judge(result)) is not None:
                raise JudgeError(f"the result is refused where the source is not: {complaint}")


def _loads(runtime: Runtime) -> Callable[[Path], str | None]:
    def load(model: Path) -> str | None:
        with runtime.open(model):
            return None

    return load
