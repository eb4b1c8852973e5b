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
        encoding=str(setting.get("encoding", "fast")),
        file_name=out.name,
    )
    compiled.save(out)


def _sharing(bits: int, max_error: float) -> Setting:
    return {"passes": f"strip, weight-sharing{{bits={bits}}}", "max_error": max_error}


def _fitted(sharing: str, max_error: float = 1.0, density: float = 1.0) -> Setting:
    """Where no error is too large, the score on development items alone decides whether a setting counts."""
    thinned = f"sparsify{{density={density:g}}}, " if density < 1 else ""
    shared = f"weight-sharing{{{sharing}, assignment=compensated}}"
    return {"passes": f"strip, fold, {thinned}{shared}, half", "max_error": max_error, "encoding": "small"}


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
    Tool(
        "graphshrink-fitted",
        "graphshrink, text out, scales folded, weights pruned, shared and fitted, biases halved, stored as streams",
        shrink,
        (
            *(_fitted("bits=auto, codebook=entropy", error) for error in (0.2, 0.45, 0.7)),
            *(_fitted(f"bits={bits}", density=density) for density, bits in ((0.5, 4), (0.3, 3), (0.15, 3))),
        ),
        calibrated=True,
        packages=("graphshrink",),
        sources=("graphshrink", "passes"),
    ),
)
