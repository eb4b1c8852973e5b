"""graphshrink itself, at the pipelines that exist."""

from collections.abc import Sequence
from pathlib import Path
from typing import Final

import graphshrink
from benchmarks.tools.base import Setting, Tool
from graphshrink.ir.types import Feeds


def shrink(model: Path, out: Path, feeds: Sequence[Feeds], setting: Setting) -> None:
    """Compile and save, as the command does."""
    compiled = graphshrink.compile(
        model,
        str(setting["passes"]),
        calibration=list(feeds),
        max_error=float(setting["max_error"]),
        file_name=out.name,
    )
    compiled.save(out)


def _sharing(bits: int, max_error: float) -> Setting:
    return {"passes": f"strip, weight-sharing{{bits={bits}}}", "max_error": max_error}


TOOLS: Final = (
    Tool(
        "graphshrink",
        "graphshrink, text out and weights shared",
        shrink,
        (
            *(_sharing(bits, 0.1) for bits in (8, 6, 4)),
            *(_sharing(bits, 0.3) for bits in (5, 4, 3)),
        ),
        calibrated=True,
        packages=("graphshrink",),
        sources=("graphshrink", "passes"),
    ),
)
