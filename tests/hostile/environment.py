"""Outputs that cannot be written or are something else, and surroundings of a process that nobody foresaw."""

import os
import resource
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any, Final

from tests.hostile.calibration import of_x
from tests.hostile.cases import (
    DONE,
    DONE_OR_REFUSED,
    REFUSED,
    SHARING,
    USAGE,
    Argument,
    Case,
    Command,
    Outcome,
    compress,
    write_model,
)
from tests.hostile.external_data import model_with, outside
from tests.models import normal, two_layers

_REFUSED_EARLY: Final = Outcome(frozenset({1, 2}))
_UP_TO_THE_USER: Final = Outcome(frozenset({0, 1, 2}))  # root may do what others may not

# Modules that a careless search path would take from the working directory. Each leaves a trace.
_SHADOWS: Final = (
    *("cyclopts", "google", "ml_dtypes", "networkx", "numpy", "onnx", "onnxruntime", "rich", "scipy", "yaml"),
    *("gzip", "json", "random", "tempfile"),
)
_OF_PYTHON: Final = ("graphshrink", "sitecustomize", "usercustomize")  # which Python itself takes from PYTHONPATH


def _plain(folder: Path, *options: str, **more: Any) -> Command:
    write_model(folder, two_layers())
    return compress(folder, *options, **more)


def _to(arrange: Callable[[Path], Path | str]) -> Callable[[Path], Command]:
    """OUT is what a function gives, which may make things in the folder."""

    def prepare(folder: Path) -> Command:
        given = write_model(folder, two_layers())
        out = arrange(folder)
        return Command((given, out, "--passes", SHARING, "--quiet"), Path(out), given)

    return prepare


def _onto(make: Callable[[Path], object]) -> Callable[[Path], Command]:
    """OUT exists already, made by a function that is given its path."""

    def arrange(folder: Path) -> Path:
        make(folder / "out.onnx")
        return folder / "out.onnx"

    return _to(arrange)


def _beside_a_file(folder: Path) -> Path:
    (folder / "file").write_text("text")
    return folder / "file" / "out.onnx"


def _hard_link(path: Path) -> None:
    os.link(path.parent / "model.onnx", path)


def _folder_with_things(path: Path) -> None:
    path.mkdir()
    (path / "precious").write_text("text")


def _unwritable(folder: Path) -> Path:
    (folder / "closed").mkdir(mode=0o500)
    return folder / "closed" / "out.onnx"


def _still_a_link(folder: Path) -> str | None:
    linked = (folder / "out.onnx").is_symlink() and (folder / "model.onnx").is_file()
    return None if linked else "the link was replaced instead of what it leads to"


def _output_is_calibration(folder: Path) -> Command:
    samples = folder / "samples.npz"
    samples.write_bytes(of_x(normal(20, 32)))
    write_model(folder, two_layers())
    return compress(folder, "--calibration", samples, out=samples.name)


def _report_is(name: str) -> Callable[[Path], Command]:
    """The report would take the place of something that the run reads or writes."""

    def prepare(folder: Path) -> Command:
        (folder / "weights.bin").write_bytes(normal(32, 64).tobytes())
        write_model(folder, model_with(outside(("location", "weights.bin"))))
        return compress(folder, "--report", folder / name)

    return prepare


def _report_to(arrange: Callable[[Path], Path]) -> Callable[[Path], Command]:
    return lambda folder: _plain(folder, "--report", str(arrange(folder)))


def _made(path: Path, make: Callable[[Path], object]) -> Path:
    make(path)
    return path


def _around(environment: Mapping[str, str | None], *options: str, quiet: bool = True) -> Callable[[Path], Command]:
    """An ordinary run with other variables."""

    def prepare(folder: Path) -> Command:
        given = write_model(folder, two_layers())
        out, report = folder / "out.onnx", folder / "report.json"
        more: tuple[Argument, ...] = (*(("--quiet",) if quiet else ()), *options)
        arguments: tuple[Argument, ...] = (given, out, "--passes", SHARING, "--report", report, *more)
        return Command(arguments, out, given, (report,), ("model.onnx",), environment=environment)

    return prepare


def _shadowed(folder: Path, names: Iterable[str]) -> None:
    """Fill a folder with modules that leave a trace when they are imported."""
    trace = f"open({str(folder / 'imported')!r}, 'a').write(__name__ + ' ')\nraise ImportError(__name__)\n"
    for name in names:
        (folder / f"{name}.py").write_text(trace)


def _from_shadows(path: str | None) -> Callable[[Path], Command]:
    """The working directory, which is the model's folder too, is full of modules; PYTHONPATH may point there."""

    def prepare(folder: Path) -> Command:
        names = (*_SHADOWS, *(_OF_PYTHON if path is None else ()))
        _shadowed(folder, names)
        environment = {} if path is None else {"PYTHONPATH": path}
        return _plain(folder, cwd=folder, environment=environment)

    return prepare


def _named(given: str, out: str, environment: Mapping[str, str | None], *options: str) -> Callable[[Path], Command]:
    """Files of other names."""

    def prepare(folder: Path) -> Command:
        write_model(folder, two_layers(), given)
        arguments: tuple[Argument, ...] = (folder / given, folder / out, "--passes", SHARING, "--quiet", *options)
        return Command(arguments, folder / out, folder / given, environment=environment)

    return prepare


def _not_utf8(content: Callable[[], Any]) -> Callable[[Path], Command]:
    """The name of the model is no UTF-8."""

    def prepare(folder: Path) -> Command:
        name = os.fsdecode(b"mod\xff\xfel.onnx")
        write_model(folder, content(), name)
        return Command((folder / name, folder / "out.onnx", "--quiet"), folder / "out.onnx", folder / name)

    return prepare


def _loud(folder: Path, **more: Any) -> Command:
    """Not quiet."""
    given = write_model(folder, two_layers())
    return Command((given, folder / "out.onnx", "--passes", SHARING), folder / "out.onnx", given, **more)


def _broken_in_the_dark(folder: Path) -> Command:
    write_model(folder, b"broken")
    return compress(folder, closed=(0, 1, 2))


def _dashed(folder: Path) -> Command:
    """IN looks like an option, and stands after the mark that ends options."""
    write_model(folder, two_layers(), "--quiet.onnx")
    arguments = ("--passes", SHARING, "--quiet", "--", "--quiet.onnx", "out.onnx")
    return Command(arguments, folder / "out.onnx", folder / "--quiet.onnx", cwd=folder)


def _short_of(limit: int, value: int, *options: str) -> Callable[[Path], Command]:
    return lambda folder: _plain(folder, *options, limits={limit: value}, names=("out.onnx", "model.onnx"))


_FULL: Final = (resource.RLIMIT_FSIZE, 1024)
_ASCII: Final[dict[str, str | None]] = {
    "LC_ALL": "C",
    "LANG": "C",
    "PYTHONUTF8": "0",
    "PYTHONCOERCECLOCALE": "0",
    "PYTHONIOENCODING": "ascii",
}

_OUTPUTS: Final[tuple[tuple[str, Callable[[Path], Command], Outcome], ...]] = (
    ("OUT is IN", _to(lambda folder: folder / "model.onnx"), DONE),
    ("OUT is IN by another spelling", _to(lambda folder: folder / ".." / folder.name / "model.onnx"), DONE),
    (
        "OUT is a link to IN",
        _onto(lambda path: path.symlink_to("model.onnx")),
        Outcome(frozenset({0}), holds=_still_a_link),
    ),
    ("OUT is a hard link to IN", _onto(_hard_link), DONE),
    ("OUT is a link to nothing", _onto(lambda path: path.symlink_to("later.onnx")), DONE),
    ("OUT is a link to itself", _onto(lambda path: path.symlink_to(path)), _REFUSED_EARLY),
    ("OUT is a link to a folder", _onto(lambda path: path.symlink_to(path.parent)), USAGE),
    ("OUT is a folder", _onto(_folder_with_things), USAGE),
    ("OUT is a named pipe", _onto(os.mkfifo), USAGE),
    ("OUT is a device", _to(lambda _: os.devnull), USAGE),
    ("OUT is empty", _to(lambda _: ""), USAGE),
    ("OUT is in no folder", _to(lambda folder: folder / "missing" / "out.onnx"), USAGE),
    ("OUT is below a file", _to(_beside_a_file), USAGE),
    ("OUT is in a folder that may not be written", _to(_unwritable), _UP_TO_THE_USER),
    ("OUT is in /proc", _to(lambda _: "/proc/out.onnx"), _REFUSED_EARLY),
    ("OUT has a name of 255 bytes", _to(lambda folder: folder / ("n" * 250 + ".onnx")), DONE_OR_REFUSED),
    ("OUT has a name of 300 bytes", _to(lambda folder: folder / ("n" * 300)), _REFUSED_EARLY),
    ("OUT is the calibration", _output_is_calibration, USAGE),
    ("the report is IN", _report_is("model.onnx"), USAGE),
    ("the report is OUT", _report_is("out.onnx"), USAGE),
    ("the report is IN's data", _report_is("weights.bin"), _REFUSED_EARLY),
    ("the report is a folder", _report_to(lambda folder: _made(folder / "r.json", Path.mkdir)), USAGE),
    ("the report is a named pipe", _report_to(lambda folder: _made(folder / "r.json", os.mkfifo)), USAGE),
    ("the report is in no folder", _report_to(lambda folder: folder / "missing" / "r.json"), USAGE),
)

_VARIABLES: Final[tuple[tuple[str, dict[str, str | None]], ...]] = (
    ("no HOME", {"HOME": None, "USER": None, "LOGNAME": None}),
    ("a HOME that is not there", {"HOME": "/nonexistent/home"}),
    ("nothing but the bare necessities", dict.fromkeys(("HOME", "PATH", "LANG", "TERM", "SHELL", "PWD"))),
    ("TMPDIR that is not there", {"TMPDIR": "/nonexistent/tmp"}),
    ("TMPDIR that is a file", {"TMPDIR": "/etc/passwd"}),
    ("a terminal of one column", {"COLUMNS": "1", "LINES": "1", "TERM": "dumb"}),
    ("a terminal of nonsense", {"COLUMNS": "wide", "TERM": "\x1b[31m", "FORCE_COLOR": "1", "NO_COLOR": ""}),
    ("Python without asserts and docstrings", {"PYTHONOPTIMIZE": "2"}),
    ("Python in development mode", {"PYTHONDEVMODE": "1"}),
    ("threads of nonsense", {"OMP_NUM_THREADS": "many", "OPENBLAS_NUM_THREADS": "-1", "MKL_NUM_THREADS": "0"}),
    ("a locale that is not there", {"LC_ALL": "xx_YY.UTF-8"}),
    ("ASCII alone", _ASCII),
    ("a proxy of nonsense", {"HTTPS_PROXY": "http://127.0.0.1:1", "HTTP_PROXY": "nonsense"}),
)

CASES: Final[tuple[Case, ...]] = (
    *(Case(*row) for row in _OUTPUTS),
    *(Case(name, _around(variables, quiet=False), DONE) for name, variables in _VARIABLES),
    Case("modules in the working directory", _from_shadows(None), DONE),
    Case("modules in the working directory, empty entry of PYTHONPATH", _from_shadows(""), DONE),
    Case("modules in the working directory, a dot in PYTHONPATH", _from_shadows("."), DONE),
    Case("names that are not ASCII, the C locale", _named("módèl-模型.onnx", "óut-出.onnx", {"LC_ALL": "C"}), DONE),
    Case("names that are not ASCII, ASCII alone", _named("módèl-模型.onnx", "óut-出.onnx", _ASCII), DONE_OR_REFUSED),
    Case("a name that is not UTF-8", _not_utf8(two_layers), DONE_OR_REFUSED),
    Case("a name that is not UTF-8, broken", _not_utf8(lambda: b"broken"), REFUSED),
    Case("a name that begins with a dash", _dashed, DONE),
    Case("working directory deleted", lambda folder: _plain(folder, delete_cwd=True), DONE),
    Case("stdout closed", lambda folder: _loud(folder, closed=(1,)), DONE),
    Case("stdout full", lambda folder: _loud(folder, stdout=Path("/dev/full")), DONE),
    Case("stderr closed", lambda folder: _loud(folder, closed=(2,)), DONE),
    Case("stdin closed", lambda folder: _loud(folder, closed=(0,)), DONE),
    Case("all streams closed", lambda folder: _loud(folder, closed=(0, 1, 2)), DONE),
    Case("all streams closed, broken model", _broken_in_the_dark, REFUSED),
    Case("disk full", _short_of(*_FULL), REFUSED),
    Case("disk full, external data", _short_of(*_FULL, "--save-as-external-data"), REFUSED),
    Case("24 open files", _short_of(resource.RLIMIT_NOFILE, 24), DONE_OR_REFUSED),
)
