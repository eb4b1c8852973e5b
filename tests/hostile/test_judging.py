"""The judge of the hostile cases finds what is wrong: here programs stand in for graphshrink that behave badly."""

import sys
from pathlib import Path
from typing import Final

import pytest

from tests.hostile.cases import DONE, GIB, REFUSED, Outcome, model_case
from tests.hostile.judging import complaints, leaves_older
from tests.hostile.running import Program
from tests.models import two_layers

_ERROR: Final = "print('graphshrink: error: model.onnx: broken', file=sys.stderr)"
_COPY: Final = "shutil.copy(source, out)"
_EDIT: Final = "import onnx; model = onnx.load(source); {}; onnx.save(model, out)"
_SPOILT: Final = _EDIT.format("model.graph.initializer[0].raw_data = bytes(32 * 64 * 4)")
_RENAMED: Final = _EDIT.format("model.graph.input[0].name = model.graph.node[0].input[0] = 'z'")

# What it does, the code it ends with, what was expected of it, and a word of the complaint; none for a good one.
_PROGRAMS: Final = (
    ("refuses well", _ERROR, 1, REFUSED, None),
    ("copies well", _COPY, 0, DONE, None),
    ("ends with another code", _ERROR, 2, REFUSED, "exit code 2"),
    ("dies", "os.kill(os.getpid(), 11)", 0, REFUSED, "exit code -11"),
    ("says nothing", "pass", 1, REFUSED, "0 error lines"),
    ("says too much", f"{_ERROR}; {_ERROR}", 1, REFUSED, "2 error lines"),
    ("names no file", "print('graphshrink: error: broken', file=sys.stderr)", 1, REFUSED, "names none"),
    ("shows a traceback", f"print('Traceback (most recent call last):'); {_ERROR}", 1, REFUSED, "traceback"),
    ("colours", "print('graphshrink: error: model.onnx \\x1b[31m', file=sys.stderr)", 1, REFUSED, "U+001B"),
    ("speaks to GitHub", f"print('  ::error::x'); {_ERROR}", 1, REFUSED, "CI system"),
    ("speaks to Azure", f"print('x ##vso[task]'); {_ERROR}", 1, REFUSED, "CI system"),
    ("writes and fails", f"{_COPY}; {_ERROR}", 1, REFUSED, "out.onnx"),
    ("spoils its input", f"open(source, 'ab').write(b'x'); {_ERROR}", 1, REFUSED, "changed: model.onnx"),
    ("removes its input", f"os.remove(source); {_ERROR}", 1, REFUSED, "removed: model.onnx"),
    ("leaves a file", f"open(source + '.tmp', 'w'); {_ERROR}", 1, REFUSED, "left behind: model.onnx.tmp"),
    ("leaves a temporary file", f"tempfile.mkdtemp(); {_ERROR}", 1, REFUSED, "TMPDIR"),
    ("leaves a file where it stands", f"open('core', 'w'); {_ERROR}", 1, REFUSED, "working directory"),
    ("leaves a process", f"subprocess.Popen(['sleep', '60']); {_ERROR}", 1, REFUSED, "process running"),
    ("writes nothing", "pass", 0, DONE, "nothing was written"),
    ("writes half", "open(out, 'wb').write(open(source, 'rb').read()[:-999])", 0, DONE, "cannot be loaded"),
    ("writes another model", _SPOILT, 0, DONE, "differs"),
    ("renames an input", _RENAMED, 0, DONE, "interface"),
    ("takes too long", "time.sleep(60)", 1, Outcome(frozenset({1}), seconds=1), "stopped"),
    ("takes too much", f"b'x' * {GIB >> 1}; {_ERROR}", 1, Outcome(frozenset({1}), memory=GIB >> 2), "of memory"),
)

_IMPORTS: Final = "import os, shutil, subprocess, sys, tempfile, time; source, out = sys.argv[1:3]"


@pytest.mark.parametrize("older", [False, True], ids=["no older output", "older output"])
@pytest.mark.parametrize(
    ("action", "code", "expected", "word"), [row[1:] for row in _PROGRAMS], ids=[row[0] for row in _PROGRAMS]
)
def test_what_a_program_does(
    action: str, code: int, expected: Outcome, word: str | None, older: bool, tmp_path: Path
) -> None:
    program = Program((sys.executable, "-c", f"{_IMPORTS}; {action}; sys.exit({code})"))
    name = next(name for name in map(str, range(99)) if leaves_older(name) == older)
    found, _ = complaints(model_case(name, two_layers, expected), program, tmp_path)
    if word is None:
        assert found == []
    else:
        assert any(word in line for line in found), found
