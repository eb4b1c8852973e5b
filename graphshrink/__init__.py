"""graphshrink: a compression compiler for ONNX graphs."""

from graphshrink.compiler import Compiled, compile
from graphshrink.errors import (
    CalibrationError,
    GraphshrinkError,
    InternalError,
    JudgeError,
    ModelError,
    UsageError,
    VerificationError,
)
from graphshrink.ir.graph import Graph
from graphshrink.onnx_io.emit import emit
from graphshrink.onnx_io.load import load
from graphshrink.passing.base import Changed, Context, Pass, PassResult, Skipped

__all__ = [
    "CalibrationError",
    "Changed",
    "Compiled",
    "Context",
    "Graph",
    "GraphshrinkError",
    "InternalError",
    "JudgeError",
    "ModelError",
    "Pass",
    "PassResult",
    "Skipped",
    "UsageError",
    "VerificationError",
    "compile",
    "emit",
    "load",
]
