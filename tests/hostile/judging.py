"""Was a case's outcome the right one? Everything that is wrong, as lines."""

import hashlib
import json
import os
import re
import shutil
import stat
import zlib
from collections.abc import Iterator, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any, Final, TypeAlias

import numpy as np
import onnx
import onnxruntime as ort

from graphshrink.ir.types import Array
from tests.hostile.cases import Case, Command, Outcome
from tests.hostile.running import Done, Program, run

OLDER: Final = b"an older result"

_ERROR: Final = "graphshrink: error: "
_LONGEST: Final = 700  # characters of a line for people
_SMALL: Final = 16 << 20  # larger files are compared by size and time
_OF_ONNXRUNTIME: Final = ".ses"  # its telemetry's identity, which importing it puts into the temporary folder
_DISCARDED: Final = frozenset({1, 2, 3})
_WRITTEN: Final = frozenset({0, 4})

# Raw control characters, direction characters, line separators, and surrogates (bytes that are no UTF-8).
_RAW: Final = re.compile(
    r"[\x00-\x08\x0b-\x1f\x7f-\x9f\u061c\u200e\u200f\u2028\u2029\u202a-\u202e\u2066-\u2069\ud800-\udfff]"
)
_COMMAND: Final = re.compile(r"^[ \t]*::|##\w*\[", re.MULTILINE)

Snapshot: TypeAlias = Mapping[Path, tuple[Any, ...]]


def complaints(case: Case, program: Program, room: Path) -> tuple[list[str], float]:
    """Run a case in an empty folder; give what is wrong with the outcome, and the seconds it took."""
    folder = room / "case"
    folder.mkdir()
    command = case.prepare(folder)
    _leave_older(case, command)
    source = _kept_source(command, room)
    before = snapshot(folder)
    done = run(command, program, room, case.expected.seconds)
    found = [*_process(done, case.expected), *_texts(done)]
    if not found:
        found = [*_stderr(done, command), *_files(before, folder, done, command), *_strays(room, command)]
    if not found and done.code in _WRITTEN:
        found = [*_result(command, source, case.expected), *_kept(case.expected.holds(folder))]
    said = f" | {done.stderr.strip()[:400]!r}" if found else ""
    return [line + said for line in found], done.seconds


def leaves_older(name: str) -> bool:
    """Half of the cases, always the same ones, find an older output in the place of theirs."""
    return zlib.crc32(name.encode()) % 2 == 0


def _leave_older(case: Case, command: Command) -> None:
    output = command.output
    if output is None or os.path.lexists(output) or not leaves_older(case.name):
        return
    with suppress(OSError):  # a place where nothing can be
        output.write_bytes(OLDER)


def _kept_source(command: Command, room: Path) -> Path | None:
    """The source, or a copy of it where the command may replace it."""
    if command.source is None or command.output is None or not command.source.is_file():
        return command.source
    if _real(command.source) != _real(command.output):
        return command.source
    shutil.copytree(command.source.parent, room / "before", symlinks=True)
    return room / "before" / command.source.name


def _real(path: Path) -> Path:
    """Links resolved, as far as that goes; `Path.resolve` would raise where they are a ring."""
    return Path(os.path.realpath(path))


def snapshot(folder: Path) -> Snapshot:
    """Everything in a folder: kind, size, and content."""
    return {path: _state(path) for path in sorted(folder.rglob("*"))}


def _state(path: Path) -> tuple[Any, ...]:
    info = path.lstat()
    kind = stat.S_IFMT(info.st_mode)
    if kind == stat.S_IFLNK:
        return (kind, path.readlink())
    if kind != stat.S_IFREG:
        return (kind,)
    small = info.st_size <= _SMALL
    content = hashlib.sha256(path.read_bytes()).hexdigest() if small and os.access(path, os.R_OK) else info.st_mtime_ns
    return (kind, info.st_size, content)


def _process(done: Done, expected: Outcome) -> Iterator[str]:
    if done.expired:
        yield f"had to be stopped after {expected.seconds:g} s"
        return
    if done.code not in expected.codes:
        yield f"exit code {done.code} where {sorted(expected.codes)} is right"
    if done.memory > expected.memory:
        yield f"took {done.memory / 1e9:.1f} GB of memory where {expected.memory / 1e9:.1f} are allowed"
    if done.survivor:
        yield "left a process running"


def _texts(done: Done) -> Iterator[str]:
    for name, text in (("stdout", done.stdout), ("stderr", done.stderr)):
        yield from dirt(text, name)
        if "Traceback (most recent call last)" in text:
            yield f"{name} holds a traceback"


def dirt(text: str, name: str) -> Iterator[str]:
    """What a terminal or a CI system would act on; JSON is read by machines, so its lines may be long."""
    raw = _RAW.search(text)
    if raw is not None:
        yield f"{name} holds the raw character U+{ord(raw[0]):04X}"
    command = _COMMAND.search(text)
    if command is not None:
        yield f"{name} holds {command[0]!r}, which a CI system takes for a command"
    longest = max(map(len, text.split("\n")))
    if longest > _LONGEST and not text.startswith("{"):
        yield f"{name} has a line of {longest} characters"


def _stderr(done: Done, command: Command) -> Iterator[str]:
    if 2 in command.closed:
        return
    lines = done.stderr.splitlines()
    errors = [line for line in lines if line.startswith(_ERROR)]
    if done.code in _DISCARDED:
        if len(lines) != 1 or len(errors) != 1:
            yield f"{len(errors)} error lines among {len(lines)} on stderr, where one is to be"
        elif done.code == 1 and command.names and not any(name in errors[0] for name in command.names):
            yield f"the error line names none of {list(command.names)}"
    elif errors:
        yield f"an error line with exit code {done.code}"
    yield from (f"stderr holds {line[:100]!r}" for line in lines if not line.startswith("graphshrink: "))


def _files(before: Snapshot, folder: Path, done: Done, command: Command) -> Iterator[str]:
    after = snapshot(folder)
    changed = {path for path in before.keys() | after.keys() if before.get(path) != after.get(path)}
    allowed: set[Path] = set()
    if done.code in _WRITTEN and command.output is not None:
        allowed = {command.output, _real(command.output), *command.also_writes}
    for path in sorted(changed - allowed):
        what = "left behind" if path not in before else "removed" if path not in after else "changed"
        yield f"{what}: {path.relative_to(folder)!s:.100}"


def _strays(room: Path, command: Command) -> Iterator[str]:
    for place in ("tmp", "cwd"):
        left = sorted(path.name for path in (room / place).glob("*") if path.name != _OF_ONNXRUNTIME)
        if left and room / place != command.cwd:
            yield f"left behind in {'TMPDIR' if place == 'tmp' else 'the working directory'}: {left[:3]}"


def _kept(complaint: str | None) -> Iterator[str]:
    if complaint is not None:
        yield complaint


# ---- the written model


def _result(command: Command, source: Path | None, expected: Outcome) -> Iterator[str]:
    for path in command.also_writes:
        if path.suffix == ".json":
            text = path.read_text(encoding="utf-8")
            json.loads(text)
            yield from dirt(text, path.name)
    if command.output is None:
        return
    if not command.output.is_file() or command.output.read_bytes() == OLDER:
        yield "exit code 0, but nothing was written"
    elif expected.tolerance is not None and source is not None:
        try:
            yield from _differences(source, command.output, expected.tolerance)
        except Exception as error:  # of ONNX Runtime, which has one class for each of its codes
            yield f"it cannot be loaded and run: {str(error)[:200]}"


def _differences(source: Path, output: Path, tolerance: float) -> Iterator[str]:
    """Compare interface and outputs, the output's with and without ONNX Runtime's optimisations."""
    have, want = _interface(output), _interface(source)
    if have != want:
        yield f"the interface is {have} where it was {want}"
        return
    original = _session(source, optimised=True)
    feeds = {spec.name: _feed(spec) for spec in original.get_inputs()}
    wanted: list[Any] = original.run(None, feeds)
    for optimised in (False, True):
        session = _session(output, optimised)
        for spec, given, meant in zip(original.get_outputs(), session.run(None, feeds), wanted, strict=True):
            far = _distance(given, meant)
            if not far <= tolerance:
                yield f"output {spec.name!r:.100} differs by {far:.3g} (optimisations {optimised})"


def _session(path: Path, optimised: bool) -> Any:
    options = ort.SessionOptions()
    options.log_severity_level = 4
    options.intra_op_num_threads = 1
    level = ort.GraphOptimizationLevel
    options.graph_optimization_level = level.ORT_ENABLE_ALL if optimised else level.ORT_DISABLE_ALL
    return ort.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])


def _interface(path: Path) -> list[Any]:
    """What callers see; below IR version 4, inputs that have an initializer are constants."""
    model = onnx.load(path, load_external_data=False)
    fixed = {tensor.name for tensor in model.graph.initializer} if model.ir_version < 4 else set[str]()
    inputs = [info for info in model.graph.input if info.name not in fixed]
    return [*inputs, *model.graph.output, *model.opset_import, *model.metadata_props, model.doc_string]


_DTYPES: Final = {"tensor(float)": np.float32, "tensor(double)": np.float64, "tensor(float16)": np.float16}
_INTEGERS: Final = {"tensor(int64)": np.int64, "tensor(int32)": np.int32, "tensor(bool)": np.bool_}


def _feed(spec: Any) -> Array:
    shape = [size if isinstance(size, int) and size >= 0 else 4 for size in spec.shape]
    if spec.type == "tensor(string)":
        return np.full(shape, "text", object)
    if spec.type in _INTEGERS:
        return np.ones(shape, _INTEGERS[spec.type])
    return np.asarray(np.random.default_rng(0).standard_normal(shape)).astype(_DTYPES[spec.type])


def _distance(have: Any, want: Any) -> float:
    """Relative, by norm; NaN and infinities have to be the same."""
    if isinstance(want, list):
        items: list[Any] = want
        return max((_distance(*pair) for pair in zip(have, items, strict=True)), default=0.0)
    if want.dtype.kind not in "fc":
        return 0.0 if np.array_equal(np.asarray(have), np.asarray(want)) else 1.0
    finite = np.isfinite(want)
    if have.shape != want.shape or not np.array_equal(have[~finite], want[~finite], equal_nan=True):
        return float("inf")
    size = float(np.linalg.norm(want[finite].astype(np.float64)))
    return float(np.linalg.norm((have[finite] - want[finite]).astype(np.float64))) / (size or 1.0)
