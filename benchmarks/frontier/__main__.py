"""The frontier of today's tools and graphshrink on the corpus: score against bytes, and what it costs.

For each model and tool every setting is compressed and scored on development items; the smallest file within one point
of the original counts, and it alone is scored on test items, once. Each step runs in a process of its own, and is kept:
a run that was broken off goes on where it was. `python -m benchmarks.frontier.report` makes tables and pictures.

`--short` takes the models that are shipped with their data, the tools that need no extra, and few of their settings.
"""

import argparse
import importlib
import json
import os
import sys
import tempfile
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path
from typing import Any, Final, TypeVar

from benchmarks.corpus.base import Task
from benchmarks.frontier.plan import Bench, count
from benchmarks.frontier.progress import Progress
from benchmarks.frontier.report import OURS, is_ours, model_table
from benchmarks.frontier.store import Store
from benchmarks.measuring import RESULTS, Limits, Request
from benchmarks.tools import TOOLS
from benchmarks.tools.base import Tool
from testmodels.fetching import FetchError, cache_folder

_TASKS: Final = "benchmarks.corpus.tasks"
_GB: Final = 10**9

Named = TypeVar("Named", Task, Tool)


def run(
    tasks: Sequence[Task], tools: Sequence[Tool], store: Store, request: Request, known: Mapping[str, Any]
) -> list[dict[str, Any]]:
    """Rows of all models; the results so far are written after each, beside what is known of others."""
    total: Counter[str] = Counter()
    for _ in tasks:
        total.update(count(tools))
    progress = Progress(total)
    rows: list[dict[str, Any]] = []
    for task in tasks:
        try:
            rows.append(Bench(task, _TASKS, store, progress).row(tools))
        except FetchError as e:
            progress.skip(count(tools))
            rows.append({"model": task.name, "about": task.about, "failure": str(e)})
        print(f"\n{model_table(rows[-1])}\n", flush=True)
        versions = {name: version for tool in tools for name, version in tool.versions().items()}
        versions = {**known.get("tool_versions", {}), **versions}
        request.save({"tool_versions": versions, "models": merged(known.get("models", ()), rows)})
    return rows


def merged(known: Sequence[dict[str, Any]], rows: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    """Rows by model with new ones among them; in a model's row, tools by name likewise."""
    places = {tool.name: place for place, tool in enumerate(TOOLS)}
    found = {row["model"]: row for row in known}
    for row in rows:
        before = found.get(row["model"], {})
        tools = {tool["tool"]: tool for one in (before, row) for tool in one.get("tools", ())}
        order = sorted(tools, key=lambda name: places.get(name, len(places)))
        whole = row if "failure" in row or not tools else {**row, "tools": [tools[name] for name in order]}
        found[row["model"]] = whole
    return list(found.values())


def _known(into: Path | None, part: bool) -> dict[str, Any]:
    """What a file of results says; nothing where all of it is made anew."""
    if into is None or not part or not into.exists():
        return {}
    known: dict[str, Any] = json.loads(into.read_text(encoding="utf-8"))
    return known


def _shortened(tool: Tool) -> Tool:
    """The tool with its most aggressive setting; graphshrink also with the gentlest, so that there is a choice."""
    return replace(tool, settings=(*tool.settings[: int(tool.name == OURS)], tool.settings[-1]))


def _is_quick(tool: Tool) -> bool:
    """Whether a tool is there without extras, and fits nothing: that is what other short benchmarks do."""
    return set(tool.packages) <= {"graphshrink"} and not (is_ours(tool.name) and tool.name != OURS)


def _named(known: Iterable[Named], names: str | None, parser: argparse.ArgumentParser) -> list[Named]:
    by_name = {one.name: one for one in known}
    wanted = list(by_name) if names is None else names.split(",")
    unknown = [name for name in wanted if name not in by_name]
    if unknown:
        parser.error(f"there is no {', '.join(unknown)}; there are {', '.join(by_name)}")
    return [by_name[name] for name in wanted]


def _parser() -> argparse.ArgumentParser:
    summary = (__doc__ or "").strip().splitlines()[0]
    parser = argparse.ArgumentParser(prog="python -m benchmarks.frontier", description=summary)
    parser.add_argument("--models", metavar="A,B", help="only these, the rest of --json's file stays")
    parser.add_argument("--tools", metavar="A,B", help="only these, the rest of --json's file stays")
    parser.add_argument("--short", action="store_true", help="one shipped model, few tools and settings; for CI")
    parser.add_argument("--retry", action="store_true", help="try again what failed before")
    parser.add_argument("--json", type=Path, metavar="FILE", help="where the results go")
    parser.add_argument("--cache", type=Path, metavar="DIR", help="where steps are kept (default: in the cache folder)")
    parser.add_argument("--time-limit", type=float, default=1800, metavar="SECONDS", help="of one step (default: 1800)")
    parser.add_argument("--memory", type=float, metavar="GB", help="address space of a step (default: the machine's)")
    return parser


def main() -> int:
    """Run, print and store; exit code 1 if a model could not be had."""
    parser = _parser()
    options = parser.parse_args()
    every: Sequence[Task] = importlib.import_module(_TASKS).TASKS
    if options.models is None:
        every = [task for task in every if task.shipped == options.short]  # each model once: with all data, or without
    tasks, tools = _named(every, options.models, parser), _named(TOOLS, options.tools, parser)
    if options.short:
        tasks, tools = tasks[:1], [_shortened(tool) for tool in tools if _is_quick(tool)]
    machine = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    limits = Limits(options.time_limit, machine if options.memory is None else int(options.memory * _GB))
    whole = options.models is None and options.tools is None and not options.short
    request = Request("frontier", options.short, options.json or (RESULTS / "frontier.json" if whole else None))
    with ExitStack() as stack:
        # A short run is a test of the code, so that it takes nothing from earlier ones.
        scratch = stack.enter_context(tempfile.TemporaryDirectory()) if options.short else None
        folder = options.cache or (Path(scratch) if scratch else cache_folder() / "frontier")
        known = _known(request.into, options.models is not None or options.tools is not None)
        rows = run(tasks, tools, Store(folder, limits, options.retry), request, known)
    if options.short:
        _expect_sound(rows)
    return 1 if any("failure" in row for row in rows) else 0


def _expect_sound(rows: Sequence[dict[str, Any]]) -> None:
    """In CI a benchmark that measures nothing must not pass for one that runs."""
    failed = [f"{row['model']}, {tool['tool']}" for row in rows for tool in row.get("tools", ()) if "failure" in tool]
    if not rows or failed:
        raise SystemExit(f"the short run scored {len(rows)} models, and these failed: {', '.join(failed) or 'none'}")


if __name__ == "__main__":
    sys.exit(main())
