"""Giving back ordinary weights: the inverse of encoding."""

from pathlib import Path

from graphshrink.encodings import lift
from graphshrink.ir.check import check
from graphshrink.onnx_io.emit import stage
from graphshrink.onnx_io.load import load_as_stored
from graphshrink.onnx_io.recheck import check_written


def expand_model(source: Path, destination: Path, *, external: bool | None = None) -> int:
    """Write a model with every encoded weight as an ordinary constant; returns how many there were.

    Raises:
        ModelError: the model cannot be read, or an encoded weight is damaged.
        GraphshrinkError: the destination cannot be written.
    """
    graph = load_as_stored(source)
    lifted = lift(graph)
    check(graph)
    staged = stage(graph, destination, external=external)
    try:
        check_written(staged.model, graph)
        staged.commit()
    finally:
        staged.discard()
    return len(lifted)
