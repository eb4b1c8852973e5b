"""One row of a table: a function in a process of its own, within limits."""

import json
import sys
from collections.abc import Callable
from typing import Any, Final

from benchmarks.frontier.store import reason
from benchmarks.measuring import Limits, watch

LIMITS: Final = Limits(seconds=900, memory=16 << 30)


def measured(function: Callable[..., dict[str, Any]], limits: Limits = LIMITS, **arguments: Any) -> dict[str, Any]:
    """What a module's function gives, or `failure` with the reason why it gives nothing."""
    command = [sys.executable, "-m", "benchmarks.measuring", _module(function), function.__name__]
    watched = watch([*command, json.dumps(arguments)], limits)
    if watched.code != 0 or watched.late:
        return {"failure": reason(watched, limits)}
    found: dict[str, Any] = json.loads(watched.output.splitlines()[-1])
    return {**found, "resident_bytes": watched.main.resident}


def _module(function: Callable[..., dict[str, Any]]) -> str:
    """Where a function can be imported from, in a run of its module too."""
    spec = sys.modules[function.__module__].__spec__
    return function.__module__ if spec is None else spec.name


def merged(known: list[dict[str, Any]], new: list[dict[str, Any]], order: list[str]) -> list[dict[str, Any]]:
    """Rows by model, the new ones in the place of the old ones, in the order of the models."""
    fresh = {row["model"] for row in new}
    rows = [*(row for row in known if row["model"] not in fresh), *new]
    return sorted(rows, key=lambda row: order.index(row["model"]) if row["model"] in order else len(order))
