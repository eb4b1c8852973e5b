"""graphshrink: a compression compiler for ONNX graphs.

    compiled = graphshrink.compile("in.onnx", "weight-sharing{bits=4}", calibration="samples.npz")
    compiled.save("out.onnx")

The names below are the public ones. They are imported when first used, so that `graphshrink --help` answers at once.
"""

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
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
    from graphshrink.onnx_io.emit import emit, save
    from graphshrink.onnx_io.load import load
    from graphshrink.passing.base import Changed, Context, Found, Pass, PassResult, Skipped

__all__ = [
    "CalibrationError",
    "Changed",
    "Compiled",
    "Context",
    "Found",
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
    "save",
]

_HOMES = {
    "graphshrink.compiler": ("Compiled", "compile"),
    "graphshrink.errors": tuple(name for name in __all__ if name.endswith("Error")),
    "graphshrink.ir.graph": ("Graph",),
    "graphshrink.onnx_io.emit": ("emit", "save"),
    "graphshrink.onnx_io.load": ("load",),
    "graphshrink.passing.base": ("Changed", "Context", "Found", "Pass", "PassResult", "Skipped"),
}
_HOME_OF = {name: home for home, names in _HOMES.items() for name in names}


def __getattr__(name: str) -> Any:
    if name not in _HOME_OF:
        raise AttributeError(f"module 'graphshrink' has no attribute {name!r}")
    return getattr(importlib.import_module(_HOME_OF[name]), name)
