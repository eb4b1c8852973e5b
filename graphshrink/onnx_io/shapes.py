"""Shapes of values, as far as they can be found out."""

from pathlib import Path

from graphshrink.errors import JudgeError
from graphshrink.ir.types import Dim
from graphshrink.onnx_io.runtime import Runtime


def known_shapes(runtime: Runtime, model: Path) -> dict[str, tuple[Dim, ...]]:
    """Shapes by value name for the main graph; empty where shape inference fails, which must stop nobody."""
    try:
        return runtime.infer_shapes(model)
    except JudgeError:
        return {}
