"""Killed, interrupted, or out of space at any moment: OUT is the older model or the new one, whole."""

import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import pytest

from tests.hostile.cases import write_model
from tests.hostile.running import CHECKOUT, environment_of
from tests.hostile.size_bombs import endless
from tests.models import two_layers

_OPTIONS: Final = ("--quiet", "--no-verify", "--jobs", "1", "--passes")
_OLDER, _NEWER = "weight-sharing{bits=6}", "weight-sharing{bits=4}"
Files = Mapping[str, bytes]


@dataclass(frozen=True, slots=True)
class _Step:
    """The folder of OUT after a fault, and how the command ended."""

    code: int
    files: Files
    left: list[str]


def _command(*arguments: object, temporary: Path) -> "subprocess.CompletedProcess[str]":
    return subprocess.run(
        list(map(str, arguments)),
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
        cwd=temporary,
        env={**environment_of(CHECKOUT, {}, temporary), "OPENBLAS_NUM_THREADS": "1"},
    )


@dataclass(frozen=True, slots=True)
class _Sound:
    """What the command writes when nothing happens to it.

    Attributes:
        options: of the runs that a fault is to strike.
        older: files that are there before.
        newer: files that a run writes.
    """

    source: Path
    options: tuple[str, ...]
    older: Path
    newer: Path


@pytest.fixture(scope="module", params=[(), ("--save-as-external-data",)], ids=["one file", "external data"])
def sound(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> _Sound:
    folder, external = tmp_path_factory.mktemp("sound"), tuple(request.param)
    source = write_model(folder, two_layers(width=256))
    made = _Sound(source, (*_OPTIONS, _NEWER, *external), folder / "older", folder / "newer")
    _write(source, made.older, *_OPTIONS, _OLDER, *external)
    _write(source, made.newer, *made.options)
    return made


def _write(source: Path, folder: Path, *options: str) -> None:
    folder.mkdir()
    done = _command(*CHECKOUT.command, source, folder / "out.onnx", *options, temporary=folder.parent)
    assert done.returncode == 0, done.stderr


def _files(folder: Path) -> Files:
    return {path.name: path.read_bytes() for path in sorted(folder.iterdir()) if path.is_file()}


def _struck(fault: str, sound: _Sound, tmp_path: Path) -> tuple[Files, Files, list[_Step]]:
    """The older files, the new ones, and what each fault left."""
    temporary, rooms = tmp_path / "tmp", tmp_path / "rooms"
    temporary.mkdir()
    rooms.mkdir()
    shutil.copytree(sound.older, rooms / "older")
    module = (sys.executable, "-P", "-m", "tests.hostile.faults", fault, rooms, sound.source)
    done = _command(*module, *sound.options, temporary=temporary)
    assert done.returncode == 0, done.stderr
    steps = list(_steps(rooms))
    assert len(steps) > 4  # opened, written, renamed, removed
    return _files(sound.older), _files(sound.newer), steps


def _steps(rooms: Path) -> Iterator[_Step]:
    marks = sorted(rooms.glob("*.fault"), key=lambda mark: int(mark.stem))
    for mark in marks:
        home = mark.with_suffix("")
        folders = [path.name for path in home.iterdir() if not path.is_file()]
        yield _Step(int(mark.read_text()), _files(home), folders)


def _expect_whole(step: _Step, older: Files, newer: Files) -> None:
    """OUT is one of the two models, with its data, and the older one's data is never gone while it is there."""
    model = step.files["out.onnx"]
    assert model in (older["out.onnx"], newer["out.onnx"])
    expected = older if model == older["out.onnx"] else newer
    assert {name: step.files.get(name) for name in expected} == expected
    strangers = step.files.keys() - older.keys() - newer.keys()
    assert not strangers


def test_killed_at_any_step(sound: _Sound, tmp_path: Path) -> None:
    older, newer, steps = _struck("kill", sound, tmp_path)
    assert {step.code for step in steps} == {-signal.SIGKILL}
    for step in steps:
        _expect_whole(step, older, newer)
    assert {step.files["out.onnx"] for step in steps} == {older["out.onnx"], newer["out.onnx"]}


def test_killed_in_the_middle_of_a_write(sound: _Sound, tmp_path: Path) -> None:
    older, newer, steps = _struck("half", sound, tmp_path)
    assert {step.code for step in steps} == {-signal.SIGXFSZ}
    for step in steps:
        _expect_whole(step, older, newer)
        assert step.files == older


def test_a_full_disk_is_an_error_and_leaves_nothing(sound: _Sound, tmp_path: Path) -> None:
    older, _, steps = _struck("full", sound, tmp_path)
    assert {step.code for step in steps} == {1}
    for step in steps:
        assert (step.files, step.left) == (older, [])


def test_interrupted_at_any_step(sound: _Sound, tmp_path: Path) -> None:
    older, newer, steps = _struck("interrupt", sound, tmp_path)
    for step in steps:
        _expect_whole(step, older, newer)
        kept = step.files["out.onnx"] == older["out.onnx"]
        assert step.code == 130 or (step.code == 0 and not kept)  # too late to stop anything
        assert step.left == []
        assert step.files == older or not kept


def _interruptible() -> None:
    """A shell that puts the tests into the background has them ignore Ctrl-C, which children would inherit."""
    signal.signal(signal.SIGINT, signal.SIG_DFL)


def _waiting(folder: Path, temporary: Path) -> "subprocess.Popen[str]":
    """The command, and a model that ONNX Runtime would run for ever."""
    source = write_model(folder, endless())
    return subprocess.Popen(
        [*CHECKOUT.command, source, folder / "out.onnx"],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        cwd=temporary,
        env=environment_of(CHECKOUT, {}, temporary),
        start_new_session=True,
        preexec_fn=_interruptible,
    )


def _until_it_has_a_worker(process: "subprocess.Popen[str]") -> None:
    patience = time.monotonic() + 60
    while process.poll() is None and time.monotonic() < patience:
        tasks = Path(f"/proc/{process.pid}/task").glob("*/children")
        if any(task.read_text() for task in tasks):
            return
        time.sleep(0.1)


def test_ctrl_c_while_a_model_runs(tmp_path: Path) -> None:
    """A terminal sends Ctrl-C to the whole group, the worker included."""
    folder, temporary = tmp_path / "home", tmp_path / "tmp"
    folder.mkdir()
    temporary.mkdir()
    (folder / "out.onnx").write_bytes(b"older")
    with _waiting(folder, temporary) as process:
        _until_it_has_a_worker(process)
        time.sleep(2.0)  # in which it gets the model
        assert process.poll() is None
        os.killpg(process.pid, signal.SIGINT)
        _, printed = process.communicate(timeout=20)
    assert process.returncode == 130
    assert "Traceback" not in printed and len(printed.splitlines()) <= 2
    assert (folder / "out.onnx").read_bytes() == b"older"
    assert sorted(path.name for path in folder.iterdir()) == ["model.onnx", "out.onnx"]
    assert [path.name for path in temporary.iterdir() if path.name != ".ses"] == []
    with pytest.raises(ProcessLookupError):
        os.killpg(process.pid, 0)


def test_a_reader_that_has_gone_does_not_cost_the_file(tmp_path: Path) -> None:
    source, temporary = write_model(tmp_path, two_layers()), tmp_path / "tmp"
    temporary.mkdir()
    reading, writing = os.pipe()
    os.close(reading)
    try:
        done = subprocess.run(
            [*CHECKOUT.command, source, tmp_path / "out.onnx", "--passes", _NEWER],
            stdout=writing,
            stderr=subprocess.PIPE,
            text=True,
            check=False,
            timeout=60,
            cwd=temporary,
            env=environment_of(CHECKOUT, {}, temporary),
        )
    finally:
        os.close(writing)
    assert done.returncode == 0, done.stderr
    _write(source, tmp_path / "newer", *_OPTIONS, _NEWER)
    assert (tmp_path / "out.onnx").read_bytes() == (tmp_path / "newer" / "out.onnx").read_bytes()
