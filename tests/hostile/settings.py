"""Options, specifications of passes, configuration files, and the user's own code for metrics and plug-ins."""

import os
from collections.abc import Callable
from pathlib import Path
from typing import Final

from tests.hostile.calibration import npy
from tests.hostile.cases import DONE, USAGE, Argument, Case, Command, Outcome, compress, write_model
from tests.models import normal, two_layers

_REFUSED_EARLY: Final = Outcome(frozenset({1, 2}))
_MISSED: Final = Outcome(frozenset({4}), tolerance=None)  # as many channels as can go: outputs are far away
_DONE_OR_USAGE: Final = Outcome(frozenset({0, 2}))
_DONE_OR_EARLY: Final = Outcome(frozenset({0, 1, 2}))


def _with(*options: Argument) -> Callable[[Path], Command]:
    """An ordinary run with these options."""

    def prepare(folder: Path) -> Command:
        write_model(folder, two_layers())
        return compress(folder, *options, names=())

    return prepare


def _alone(*arguments: str) -> Callable[[Path], Command]:
    """These arguments and no others; IN and OUT stand for the files."""

    def prepare(folder: Path) -> Command:
        places = {"IN": str(write_model(folder, two_layers())), "OUT": str(folder / "out.onnx")}
        return Command(tuple(places.get(argument, argument) for argument in arguments), folder / "out.onnx")

    return prepare


def _config(content: str | bytes, name: str = "run.toml", **more: object) -> Callable[[Path], Command]:
    def prepare(folder: Path) -> Command:
        (folder / name).write_bytes(content if isinstance(content, bytes) else content.encode())
        write_model(folder, two_layers())
        return Command(
            (folder / "model.onnx", folder / "out.onnx", "--quiet", "--config", folder / name),
            folder / "out.onnx",
            folder / "model.onnx",
        )

    return prepare


def _config_at(make: Callable[[Path], object], name: str = "run.toml") -> Callable[[Path], Command]:
    """The configuration file is made by a function that is given its path."""

    def prepare(folder: Path) -> Command:
        make(folder / name)
        write_model(folder, two_layers())
        return compress(folder, "--config", folder / name, names=())

    return prepare


def _code(option: str, code: str, suffix: str = "", *more: str) -> Callable[[Path], Command]:
    """An option that names a Python file."""

    def prepare(folder: Path) -> Command:
        (folder / "mine.py").write_text(code)
        (folder / "samples.npy").write_bytes(npy(normal(20, 32)))
        write_model(folder, two_layers())
        given = f"{folder / 'mine.py'}{suffix}"
        return compress(
            folder, option, given, "--calibration", folder / "samples.npy", *more, names=("mine.py", "model.onnx")
        )

    return prepare


def _metric(*lines: str) -> Callable[[Path], Command]:
    code = "\n    ".join(("import numpy as np\ndef score(model):", *lines)) + "\n"
    return _code("--metric", code, ":score", "--max-drop", "0.5")


def _laughing_yaml(depth: int) -> str:
    """10^depth words, by aliases of aliases."""
    lines = ["a0: &a0 {x: 1}"] + [
        f"a{i}: &a{i} {{{', '.join(f'k{j}: *a{i - 1}' for j in range(10))}}}" for i in range(1, depth)
    ]
    return "\n".join(lines)


_OPTIONS: Final[tuple[tuple[str, tuple[str, ...], Outcome], ...]] = (
    ("max-error NaN", ("--max-error", "nan"), USAGE),
    ("max-error infinity", ("--max-error", "inf"), USAGE),
    ("max-error below 0", ("--max-error=-1",), USAGE),
    ("max-error of text", ("--max-error", "little"), USAGE),
    ("samples 0", ("--samples", "0"), USAGE),
    ("samples below 0", ("--samples=-5",), USAGE),
    ("samples 2^70", ("--samples", str(1 << 70)), _DONE_OR_USAGE),
    ("samples of text", ("--samples", "all"), USAGE),
    ("seed below 0", ("--seed=-1",), USAGE),
    ("seed 2^200", ("--seed", str(1 << 200)), _DONE_OR_USAGE),
    ("jobs 0", ("--jobs", "0"), USAGE),
    ("jobs below 0", ("--jobs=-1",), USAGE),
    ("jobs 10^9", ("--jobs", "1000000000"), _DONE_OR_USAGE),
    ("a number of a million digits", ("--seed", "9" * 100_000), USAGE),
    ("no passes", ("--passes", ""), _DONE_OR_USAGE),
    ("an unknown pass", ("--passes", "shrink-well"), USAGE),
    ("a pass by a path", ("--passes", "../../etc/passwd"), USAGE),
    ("bits 0", ("--passes", "weight-sharing{bits=0}"), USAGE),
    ("bits 10^9", ("--passes", "weight-sharing{bits=1000000000}"), USAGE),
    ("bits NaN", ("--passes", "weight-sharing{bits=nan}"), USAGE),
    ("bits twice", ("--passes", "weight-sharing{bits=4, bits=5}"), USAGE),
    ("an unknown option of a pass", ("--passes", "weight-sharing{bytes=4}"), USAGE),
    ("ratio 1", ("--passes", "channel-removal{ratio=1}"), USAGE),
    ("ratio below 0", ("--passes", "channel-removal{ratio=-0.1}"), USAGE),
    ("ratio NaN", ("--passes", "channel-removal{ratio=nan}"), USAGE),
    ("ratio of text", ("--passes", "channel-removal{ratio=half}"), USAGE),
    ("a cost that is none", ("--passes", "channel-removal{of=watts}"), USAGE),
    ("latency without a table", ("--passes", "channel-removal{of=latency}"), USAGE),
    ("a multiple below 0", ("--passes", "channel-removal{multiple=-1}"), USAGE),
    ("a multiple of 10^9", ("--passes", "channel-removal{multiple=1000000000}"), USAGE),
    ("a ratio that cannot be reached", ("--passes", "channel-removal{ratio=0.999}"), _MISSED),
    ("density below 0", ("--passes", "sparsify{density=-0.1}"), USAGE),
    ("density above 1", ("--passes", "sparsify{density=1.5}"), USAGE),
    ("density NaN", ("--passes", "sparsify{density=nan}"), USAGE),
    ("a pattern that divides no layer", ("--passes", 'sparsify{pattern="5:7"}'), DONE),
    ("a pattern that keeps more than there are", ("--passes", 'sparsify{pattern="4:2"}'), USAGE),
    ("a target below 0", ("--passes", "frequency-packing{target_error=-1}"), USAGE),
    ("a size of nothing", ("--passes", "weight-sharing{bits=auto, size=-1kB}"), USAGE),
    ("halving tensors below 0", ("--passes", "half{most=-1}"), USAGE),
    ("an option of a pass that has none", ("--passes", "fold{bits=4}"), USAGE),
    ("an open brace", ("--passes", "weight-sharing{bits=4"), USAGE),
    ("braces in braces", ("--passes", "weight-sharing" + "{" * 10_000 + "}" * 10_000), USAGE),
    ("a specification of 100 kB", ("--passes", "a," * 50_000), USAGE),
    ("an unknown encoding", ("--encoding", "best"), USAGE),
    ("an unknown provider", ("--providers", "NoneExecutionProvider"), _REFUSED_EARLY),
    ("a pattern that matches nothing", ("--exclude", "nothing"), USAGE),
    ("a pattern of many stars", ("--include", "*a" * 30 + "b"), USAGE),
    ("shape of an unknown input", ("--input-shape", "z:1,32"), _REFUSED_EARLY),
    ("shape without numbers", ("--input-shape", "x:"), _REFUSED_EARLY),
    ("shape below 0", ("--input-shape", "x:-1,32"), USAGE),
    ("shape of no rows", ("--input-shape", "x:0,32"), _REFUSED_EARLY),
    ("shape of another rank", ("--input-shape", "x:1,32,1"), _REFUSED_EARLY),
    ("shape of a million sizes", ("--input-shape", "x:" + "1," * 50_000), _REFUSED_EARLY),
    ("time limit 0", ("--time-limit", "0"), _REFUSED_EARLY),
    ("time limit below 0", ("--time-limit=-1",), USAGE),
    ("time limit NaN", ("--time-limit", "nan"), USAGE),
    ("time limit infinity", ("--time-limit", "inf"), _DONE_OR_USAGE),
    ("memory 0", ("--worker-memory", "0"), _REFUSED_EARLY),
    ("memory of a megabyte", ("--worker-memory", "1MB"), _REFUSED_EARLY),
    ("memory of 10^30 bytes", ("--worker-memory", "1" + "0" * 30), _DONE_OR_USAGE),
    ("memory of text", ("--worker-memory", "lots"), USAGE),
    ("memory of the main process: a megabyte", ("--max-memory", "1MB"), _REFUSED_EARLY),
    ("an unknown option", ("--nonsense",), USAGE),
    ("calibration is a folder up", ("--calibration", ".."), _REFUSED_EARLY),
    ("plug-in that is not there", ("--plugin", "missing.py"), _REFUSED_EARLY),
    ("metric that is not there", ("--metric", "missing.py:score"), _REFUSED_EARLY),
    ("metric that is no function", ("--metric", "score"), USAGE),
)

_CONFIGS: Final[tuple[tuple[str, Callable[[Path], Command], Outcome], ...]] = (
    ("config: missing", _config_at(lambda path: None), _REFUSED_EARLY),
    ("config: a folder", _config_at(Path.mkdir), _REFUSED_EARLY),
    ("config: a named pipe", _config_at(os.mkfifo), _REFUSED_EARLY),
    ("config: a device", _config_at(lambda path: path.symlink_to("/dev/zero")), _REFUSED_EARLY),
    ("config: broken TOML", _config("passes = ["), USAGE),
    ("config: no UTF-8", _config(b"passes = '\xff'"), USAGE),
    ("config: an unknown key", _config("colour = 'red'"), USAGE),
    ("config: an unknown pass", _config("[shrink-well]\nbits = 4"), USAGE),
    ("config: IN and OUT", _config("IN = '/etc/passwd'"), USAGE),
    ("config: another type", _config("samples = [1, 2]\nmax-error = 'x'"), USAGE),
    ("config: a table for a flag", _config("[calibration]\nx = 1"), USAGE),
    ("config: nested deep", _config("passes = " + "[" * 20_000 + "]" * 20_000), USAGE),
    ("config: YAML that makes objects", _config("a: !!python/object/apply:os.mkdir [made]", "run.yaml"), USAGE),
    ("config: YAML of 10^12 words", _config(_laughing_yaml(12), "run.yaml"), USAGE),
    ("config: YAML that holds itself", _config("a: &a {b: *a}", "run.yaml"), USAGE),
    ("config: YAML nested deep", _config("[" * 5_000 + "]" * 5_000, "run.yaml"), USAGE),
    ("config: YAML of a number", _config("5", "run.yaml"), USAGE),
    ("config: YAML of several documents", _config("a: 1\n---\nb: 2\n", "run.yaml"), USAGE),
    ("config: keys that are no text", _config("1: 2\ntrue: 3\n", "run.yaml"), USAGE),
    ("config: empty", _config(""), DONE),
)

_CODES: Final[tuple[tuple[str, Callable[[Path], Command], Outcome], ...]] = (
    ("metric: raises", _metric("raise ValueError('no')"), _REFUSED_EARLY),
    ("metric: sys.exit(0)", _metric("import sys; sys.exit(0)"), _REFUSED_EARLY),
    ("metric: NaN", _metric("return float('nan')"), _REFUSED_EARLY),
    ("metric: text", _metric("return 'good'"), _REFUSED_EARLY),
    ("metric: None", _metric("return None"), _REFUSED_EARLY),
    ("metric: an array", _metric("return np.ones(5)"), _REFUSED_EARLY),
    ("metric: feeds nonsense", _metric("return model({'nonsense': None})"), _REFUSED_EARLY),
    ("metric: changes its feed and the file", _metric("open(model.path, 'ab').close()", "return 1.0"), DONE),
    ("plug-in: raises", _code("--plugin", "raise ValueError('no')"), _REFUSED_EARLY),
    ("plug-in: sys.exit(0)", _code("--plugin", "import sys; sys.exit(0)"), _REFUSED_EARLY),
    ("plug-in: not Python", _code("--plugin", "def ("), _REFUSED_EARLY),
    ("plug-in: holds no pass", _code("--plugin", "x = 1"), _DONE_OR_EARLY),
)

_ARGUMENTS: Final = (
    ("no arguments", ()),
    ("IN alone", ("IN",)),
    ("three files", ("IN", "OUT", "OUT")),
    ("inspect of nothing", ("inspect",)),
    ("verify of one", ("verify", "IN")),
    ("expand of one", ("expand", "IN")),
    ("an option without its value", ("IN", "OUT", "--passes")),
)

CASES: Final[tuple[Case, ...]] = (
    *(Case(name, _with(*options), expected) for name, options, expected in _OPTIONS),
    *(Case(*row) for row in (*_CONFIGS, *_CODES)),
    *(Case(name, _alone(*arguments), USAGE) for name, arguments in _ARGUMENTS),
)
