"""What the benchmarks share: options, fresh processes and their memory, interleaved timing, tables, result files.

Times are only ever compared within one run: the machine is shared and noisy, so a benchmark reports medians of
interleaved repeats and ratios to a baseline that ran beside them.

`python -m benchmarks.measuring MODULE FUNCTION JSON` is the child of `in_fresh_process`: it calls the function with the
keyword arguments in JSON, and prints what it returns as JSON on the last line.
"""

import argparse
import importlib
import importlib.metadata
import json
import os
import platform
import resource
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final

RESULTS: Final = Path(__file__).parent / "results"
ROOT: Final = Path(__file__).parent.parent
MB: Final = 1_000_000

_PACKAGES: Final = ("graphshrink", "onnx", "onnxruntime", "numpy", "scipy", "protobuf")
_POLL: Final = 0.01  # seconds between two looks at a process's memory
_LOOK_FOR_CHILDREN: Final = 0.25


# ---- options and results


@dataclass(frozen=True, slots=True)
class Request:
    """What the command line asks of a benchmark.

    Attributes:
        short: small sizes, for CI.
        into: the JSON file to write, or None.
        only: what to confine the run to, by option; empty for all.
    """

    name: str
    short: bool
    into: Path | None
    only: Mapping[str, tuple[str, ...]] = field(default_factory=lambda: dict[str, tuple[str, ...]]())

    def verdict(self, value: float, bar: float) -> str:
        """Whether a figure is under its bar; short runs are not judged."""
        if self.short:
            return "not judged"
        return "met" if value < bar else "MISSED"

    def note(self, what: str) -> None:
        """Say on stderr what comes next in a run that takes long."""
        if not self.short:
            print(f"{self.name}: {what}", file=sys.stderr, flush=True)

    def save(self, content: Mapping[str, Any]) -> None:
        """Write the results with versions, date and machine, if they are to be written."""
        if self.into is None:
            return
        self.into.parent.mkdir(parents=True, exist_ok=True)
        whole = {"benchmark": self.name, "short": self.short, **circumstances(), **content}
        self.into.write_text(json.dumps(whole, indent=1, allow_nan=False) + "\n", encoding="utf-8")
        print(f"wrote {self.into}")


def request(name: str, description: str | None, choices: Mapping[str, Iterable[str]] | None = None) -> Request:
    """Parse the command line of a benchmark.

    Args:
        name: of the benchmark.
        description: its first line is shown.
        choices: options such as `--parts A,B` that confine the run, and what may be named there.
    """
    summary = (description or "").strip().splitlines()[0]
    parser = argparse.ArgumentParser(prog=f"python -m benchmarks.{name}", description=summary)
    parser.add_argument(
        "--short", action="store_true", help="small sizes, seconds; writes nothing unless --json is given"
    )
    parser.add_argument(
        "--json", type=Path, metavar="FILE", help=f"where the results go (default: benchmarks/results/{name}.json)"
    )
    known = {option: tuple(names) for option, names in (choices or {}).items()}
    for option, names in known.items():
        parser.add_argument(f"--{option}", default="", metavar="A,B", help=f"only these of {', '.join(names)}")
    options = parser.parse_args()
    default = None if options.short else RESULTS / f"{name}.json"
    only = {option: tuple(filter(None, getattr(options, option).split(","))) for option in known}
    for option, names in only.items():
        if strange := set(names) - set(known[option]):
            parser.error(f"--{option}: {', '.join(sorted(strange))} is none of {', '.join(known[option])}")
    return Request(name, options.short, options.json or default, only)


def circumstances() -> dict[str, Any]:
    """Versions, date and machine."""
    versions = {"python": platform.python_version(), **{name: importlib.metadata.version(name) for name in _PACKAGES}}
    machine = {
        "system": platform.platform(),
        "processor": _processor(),
        "cpus": os.cpu_count(),
        "memory_bytes": _memory(),
    }
    return {"date": datetime.now(UTC).isoformat(timespec="seconds"), "versions": versions, "machine": machine}


def _processor() -> str:
    with_name = Path("/proc/cpuinfo")
    lines = with_name.read_text(encoding="utf-8").splitlines() if with_name.exists() else []
    return next(
        (line.partition(":")[2].strip() for line in lines if line.startswith("model name")), platform.processor()
    )


def _memory() -> int | None:
    return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") if hasattr(os, "sysconf") else None


def table(header: Sequence[str], rows: Iterable[Sequence[object]]) -> str:
    """An aligned Markdown table; numbers to the right."""
    cells = [[str(cell) for cell in row] for row in rows]
    widths = [max(map(len, column)) for column in zip(header, *cells, strict=True)]
    right = [all(_numeric(cell) for cell in column) for column in zip(*cells, strict=True)] or [False] * len(header)

    def line(row: Sequence[str]) -> str:
        return "| " + " | ".join(_padded(*cell) for cell in zip(row, widths, right, strict=True)) + " |"

    rule = "|" + "|".join("-" * (width + 1) + (":" if r else "-") for width, r in zip(widths, right, strict=True)) + "|"
    return "\n".join([line(header), rule, *map(line, cells)])


def _padded(text: str, width: int, right: bool) -> str:
    return text.rjust(width) if right else text.ljust(width)


def _numeric(cell: str) -> bool:
    return not cell or cell == "-" or cell[0].isdigit() or cell[0] in "+-.<" or cell in ("inf", "nan")


# ---- timing


def spread(values: Sequence[float]) -> str:
    """The median, with the least and the largest value."""
    return f"{statistics.median(values):.3g} ({min(values):.3g}-{max(values):.3g})"


# ---- fresh processes


@dataclass(slots=True)
class Peak:
    """The most memory that a process had, in bytes; Linux only, 0 elsewhere.

    Attributes:
        resident: VmHWM. Pages of mapped files that are in memory count, though the system may drop them at any time.
        anonymous: the largest RssAnon seen (it is read every 10 ms): memory that is no copy of a file.
    """

    resident: int = 0
    anonymous: int = 0

    def look(self, pid: int) -> None:
        """Take another sample."""
        try:
            lines = Path(f"/proc/{pid}/status").read_text(encoding="utf-8").splitlines()
        except OSError:  # no such file: the process has ended, or this is no Linux
            return
        found = {name: rest for name, _, rest in (line.partition(":") for line in lines)}
        if "VmHWM" in found:  # a zombie has none
            self.resident = max(self.resident, int(found["VmHWM"].split()[0]) * 1024)
            self.anonymous = max(self.anonymous, int(found["RssAnon"].split()[0]) * 1024)

    def as_dict(self) -> dict[str, int]:
        """For the results."""
        return {"resident_bytes": self.resident, "anonymous_bytes": self.anonymous}


@dataclass(frozen=True, slots=True)
class Limits:
    """What a process and its children may use.

    Attributes:
        seconds: wall time of all.
        memory: bytes of address space of each; enforced on Linux.
    """

    seconds: float
    memory: int


@dataclass(slots=True)
class Watched:
    """A command that has run.

    Attributes:
        seconds: wall time from start to end of the process.
        late: whether it was ended because its time was over.
        main: memory of the process itself.
        worker: memory of its largest child process.
    """

    seconds: float = 0.0
    code: int = 0
    late: bool = False
    output: str = ""
    errors: str = ""
    main: Peak = field(default_factory=Peak)
    worker: Peak = field(default_factory=Peak)


def watch(command: Sequence[str], limits: Limits | None = None) -> Watched:
    """Run a command from the top folder to its end, and watch the memory of its process and of its children."""
    found = Watched()
    children: dict[int, Peak] = {}
    with (
        tempfile.TemporaryFile("w+", errors="replace") as output,
        tempfile.TemporaryFile("w+", errors="replace") as errors,
    ):
        started = looked = time.perf_counter()
        process = subprocess.Popen(
            command,
            cwd=ROOT,
            stdout=output,
            stderr=errors,
            start_new_session=limits is not None,  # so that its children can be ended with it
            preexec_fn=None if limits is None else lambda: _bound_memory(limits.memory),
        )
        try:
            while process.poll() is None and not found.late:
                now = time.perf_counter()
                if now - looked > _LOOK_FOR_CHILDREN:
                    looked = now
                    children |= {pid: Peak() for pid in _children(process.pid) if pid not in children}
                for pid, peak in ((process.pid, found.main), *children.items()):
                    peak.look(pid)
                found.late = limits is not None and now - started > limits.seconds
                time.sleep(_POLL)
        finally:
            if limits is not None:
                _end_session(process)
        found.seconds = time.perf_counter() - started
        found.code = process.returncode
        for file, name in ((output, "output"), (errors, "errors")):
            file.seek(0)
            setattr(found, name, file.read())
    for peak in children.values():
        found.worker = Peak(max(found.worker.resident, peak.resident), max(found.worker.anonymous, peak.anonymous))
    return found


def _bound_memory(size: int) -> None:
    resource.setrlimit(resource.RLIMIT_AS, (size, size))


def _end_session(process: subprocess.Popen[bytes]) -> None:
    """End what is left of a process that leads a session, and of its children."""
    with suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
    process.wait()


def _children(parent: int) -> list[int]:
    found: list[int] = []
    for stat in Path("/proc").glob("[0-9]*/stat"):
        try:
            after_name = stat.read_text(encoding="utf-8").rpartition(")")[2].split()
        except OSError:
            continue
        if int(after_name[1]) == parent:
            found.append(int(stat.parent.name))
    return found


def graphshrink_command(*arguments: str) -> Watched:
    """Run the command line in a fresh process; an error ends the benchmark."""
    return _expect_done(watch([sys.executable, "-m", "graphshrink", *arguments]))


def in_fresh_process(function: Callable[..., Any], **arguments: Any) -> tuple[Any, Watched]:
    """Call a module's function in a fresh process; arguments and result travel as JSON."""
    module = function.__module__ if function.__module__ != "__main__" else f"benchmarks.{Path(sys.argv[0]).stem}"
    command = [sys.executable, "-m", "benchmarks.measuring", module, function.__name__, json.dumps(arguments)]
    watched = _expect_done(watch(command))
    return json.loads(watched.output.splitlines()[-1]), watched


def _expect_done(watched: Watched) -> Watched:
    if watched.code != 0:
        raise RuntimeError(f"a process of the benchmark ended with {watched.code}: {watched.errors[-2000:]}")
    return watched


def _child(module: str, function: str, arguments: str) -> None:
    print(json.dumps(getattr(importlib.import_module(module), function)(**json.loads(arguments))))


if __name__ == "__main__":
    _child(*sys.argv[1:])
