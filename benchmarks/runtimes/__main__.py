"""Whether encoded files decode bit for bit in ONNX Runtime, onnx.reference, OpenVINO and onnxruntime-web.

Every runtime, in a process of its own, runs plain models and the same ones encoded. One table says what came out; the
exit code is 1 if a bit differs, if a runtime refuses an encoded model and takes the plain one, or if an encoding was in
no model. A runtime that cannot be had is a line that says why. `--browser` shows a model at work in Chromium.
"""

import argparse
import itertools
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any, Final

from benchmarks.measuring import RESULTS, Request
from benchmarks.runtimes import browser, plans
from benchmarks.runtimes.cases import Case, Plan, never_used, write_cases
from benchmarks.runtimes.drive import Command, try_all
from benchmarks.runtimes.places import OPENVINO, WEB, node, node_package, openvino_python
from benchmarks.runtimes.verdict import Outcome, Verdict, failed, reasons, summary
from testmodels.fetching import FetchError
from tests.runners import newest_opset

_HERE: Final = Path(__file__).parent


def _python(runtime: str) -> Command:
    return [sys.executable, "-m", "benchmarks.runtimes.run", runtime]


def _openvino() -> Command:
    return [str(openvino_python()), "-m", "benchmarks.runtimes.run", "openvino"]


def _web(level: str) -> Command:
    module = node_package(WEB) / "dist" / "ort.node.min.mjs"
    return [node(), str(_HERE / "web.mjs"), str(module), level]


# Each with what starts it, and whether it gets portable files.
RUNTIMES: Final[Mapping[str, tuple[Callable[[], Command], bool]]] = {
    "onnxruntime, off": (lambda: _python("onnxruntime-off"), False),
    "onnxruntime, basic": (lambda: _python("onnxruntime-basic"), False),
    "onnxruntime, extended": (lambda: _python("onnxruntime-extended"), False),
    "onnxruntime, all": (lambda: _python("onnxruntime-all"), False),
    "onnx.reference": (lambda: _python("onnx.reference"), False),
    OPENVINO: (_openvino, True),
    f"{WEB}, off": (lambda: _web("disabled"), False),
    f"{WEB}, all": (lambda: _web("all"), False),
}


def _plans(short: bool) -> Iterator[Plan]:
    newest = newest_opset()
    if short:
        yield from plans.weights_alone([9, 18], step=6)
        yield from plans.consumers([(9, 3), (21, 10)])
        yield from plans.networks(["lenet-5", "lstm"], bits=(4,))
        return
    yield from plans.weights_alone(range(9, newest + 1))
    yield from plans.consumers(plans.consumer_versions())
    yield from plans.networks(plans.every_network())
    yield from plans.long_streams()


def attempt(name: str, cases: list[Case], folder: Path) -> list[Verdict] | str:
    """A runtime's verdicts, or why it is not there."""
    start, portable = RUNTIMES[name]
    try:
        command = start()
    except FetchError as e:
        return str(e)
    began = time.perf_counter()
    verdicts = try_all(cases, command, portable=portable, folder=folder)
    print(f"{name}: {len(verdicts)} cases in {time.perf_counter() - began:.0f} s", flush=True)
    return verdicts


def _counted(verdicts: list[Verdict] | str) -> Any:
    """For the results."""
    if isinstance(verdicts, str):
        return {"not_available": verdicts}
    by_family = itertools.groupby(sorted(verdicts, key=lambda v: v.case.family), lambda v: v.case.family)
    return {
        family: {str(outcome): n for outcome in Outcome if (n := sum(v.outcome == outcome for v in held))}
        for family, held in ((family, list(group)) for family, group in by_family)
    }


def _parser() -> argparse.ArgumentParser:
    summary_line = (__doc__ or "").strip().splitlines()[0]
    parser = argparse.ArgumentParser(prog="python -m benchmarks.runtimes", description=summary_line)
    parser.add_argument("--short", action="store_true", help="few opsets and networks, for CI; writes nothing")
    parser.add_argument("--runtimes", metavar="A,B", help="only those whose names start so; nothing is written")
    parser.add_argument(
        "--browser", action="store_true", help="only this: a model in headless Chromium, with a picture"
    )
    parser.add_argument("--install", action="store_true", help="with --browser: let apt-get install Chromium")
    parser.add_argument("--picture", type=Path, metavar="PNG", help="where the picture goes")
    parser.add_argument("--json", type=Path, metavar="FILE", help="where the results go")
    return parser


def main() -> int:
    """Run, print and store."""
    options = _parser().parse_args()
    if options.browser:
        return browser.main(options.picture or RESULTS / "browser.png", install=options.install)
    starts = (options.runtimes or "").split(",")
    names = [name for name in RUNTIMES if name.startswith(tuple(starts))]
    with tempfile.TemporaryDirectory(prefix="graphshrink-runtimes-") as scratch:
        began = time.perf_counter()
        cases = list(write_cases(_plans(options.short), Path(scratch) / "cases"))
        print(f"{len(cases)} cases written in {time.perf_counter() - began:.0f} s", flush=True)
        rows: dict[str, list[Verdict] | str] = {}
        for number, name in enumerate(names):
            rows[name] = attempt(name, cases, Path(scratch) / str(number))
        print("", summary(rows), sep="\n")
        return _conclude(rows, cases, options)


def _conclude(rows: Mapping[str, list[Verdict] | str], cases: list[Case], options: argparse.Namespace) -> int:
    print("", *(line for name, row in rows.items() for line in reasons(name, row)), sep="\n")
    unused = never_used(cases)
    if unused:
        print(f"no model has these encodings, so nothing was shown of them: {', '.join(unused)}")
    whole = not options.short and options.runtimes is None
    request = Request("runtimes", options.short, options.json or (RESULTS / "runtimes.json" if whole else None))
    used = sorted({encoding for case in cases for encoding in case.encodings})
    request.save({"encodings": used, "runtimes": {name: _counted(row) for name, row in rows.items()}})
    return exit_code(rows, cases)


def exit_code(rows: Mapping[str, list[Verdict] | str], cases: list[Case]) -> int:
    """1 if something must not be, or if nothing was shown of an encoding; a runtime that is not there is no failure."""
    verdicts = [verdict for row in rows.values() if not isinstance(row, str) for verdict in row]
    return int(bool(failed(verdicts) or never_used(cases)))


if __name__ == "__main__":
    sys.exit(main())
