"""Weights in files beside the model: where a model may point, and what it finds there."""

import os
from collections.abc import Callable
from pathlib import Path
from typing import Final

import onnx
from onnx import TensorProto

from tests.hostile.cases import (
    DONE,
    DONE_OR_REFUSED,
    REFUSED,
    Case,
    Command,
    Outcome,
    compress,
    write_model,
)
from tests.hostile.tensor import tensor
from tests.models import normal, two_layers

_DATA: Final = normal(32, 64).tobytes()
_LENGTH: Final = len(_DATA)
_FILE: Final = "weights.bin"


def outside(*entries: tuple[str, str], dims: tuple[int, ...] = (32, 64)) -> onnx.TensorProto:
    """W1 as external data with these entries."""
    made = tensor(dims=[*dims], raw_data=None, data_location=TensorProto.EXTERNAL)
    for key, value in entries:
        entry = made.external_data.add()
        entry.key, entry.value = key, value
    return made


def model_with(weight: onnx.TensorProto) -> onnx.ModelProto:
    """two_layers with another first weight."""
    made = two_layers()
    made.graph.initializer[0].CopyFrom(weight)
    return made


def _at(location: str, *, offset: str | None = "0", length: str | None = str(_LENGTH)) -> onnx.ModelProto:
    given = (("location", location), ("offset", offset), ("length", length))
    return model_with(outside(*((key, value) for key, value in given if value is not None)))


def _prepared(model: onnx.ModelProto, arrange: Callable[[Path], object]) -> Callable[[Path], Command]:
    """The model in a folder of its own, which `arrange` is given; it may also write outside of that folder."""

    def prepare(folder: Path) -> Command:
        home = folder / "home"
        home.mkdir()
        arrange(home)
        write_model(home, model)
        return compress(home)

    return prepare


def _data(path: Path, content: bytes = _DATA) -> Path:
    path.parent.mkdir(exist_ok=True)
    path.write_bytes(content)
    return path


def _beside(home: Path) -> Path:
    """Data in the model's folder, the ordinary way."""
    return _data(home / _FILE)


def _above(home: Path) -> Path:
    """Data outside of the model's folder, which nobody may read."""
    return _data(home.parent / "secret" / _FILE)


def _named(location: str, arrange: Callable[[Path], object] = _beside) -> Callable[[Path], Command]:
    return _prepared(_at(location), arrange)


def _absolute(folder: Path) -> Command:
    home = folder / "home"
    home.mkdir()
    write_model(home, _at(str(_beside(home))))
    return compress(home)


def _linked_folder(home: Path) -> None:
    (home / "sub").symlink_to(_above(home).parent)


def _hub(home: Path) -> None:
    """As a model hub's cache lays files out: links to blobs one folder up."""
    (home / _FILE).symlink_to(_data(home.parent / "blobs" / "0a1b"))


def _link_inside(home: Path) -> None:
    (home / _FILE).symlink_to(_data(home / "real.bin"))


def _hard_link(home: Path) -> None:
    os.link(_above(home), home / _FILE)


def _with_subfolder(home: Path) -> None:
    _beside(home)
    (home / "sub").mkdir()


def _output_is_data(folder: Path) -> Command:
    _beside(folder)
    write_model(folder, _at(_FILE))
    return compress(folder, out=_FILE)


def _external_output(folder: Path) -> Command:
    """External data in, external data out, under a name that cannot be foreseen; OUT is IN."""
    _beside(folder)
    write_model(folder, _at(_FILE))
    return compress(folder, out="model.onnx")


def _own_folder(folder: Path) -> Command:
    """The model is opened through a link from another folder: its data lies beside the real file."""
    real = folder / "real"
    real.mkdir()
    _beside(real)
    (folder / "model.onnx").symlink_to(write_model(real, _at(_FILE)))
    return compress(folder)


def _relative(folder: Path) -> Command:
    """Data is looked for beside the model, not in the working directory."""
    (folder / "elsewhere").mkdir()
    _data(folder / "elsewhere" / _FILE)
    home = folder / "home"
    home.mkdir()
    write_model(home, _at(_FILE))
    return compress(home, cwd=folder / "elsewhere")


def _in_attribute(folder: Path) -> Command:
    """A Constant operator with a tensor that points out of the folder."""
    made = two_layers()
    del made.graph.initializer[0]
    constant = onnx.NodeProto(op_type="Constant", output=["W1"])
    held = constant.attribute.add(name="value", type=onnx.AttributeProto.TENSOR)
    held.t.CopyFrom(outside(("location", f"../secret/{_FILE}")))
    made.graph.node.insert(0, constant)
    return _prepared(made, _above)(folder)


def _itself() -> onnx.ModelProto:
    """The data are the last bytes of the model file, which hold the second weight and some text."""
    size = len(_at("model.onnx", offset="0000").SerializeToString())
    return _at("model.onnx", offset=f"{size - _LENGTH:04d}".lstrip("0") or "0")


def _numbers(offset: str | None = "0", length: str | None = str(_LENGTH)) -> Callable[[Path], Command]:
    return _prepared(_at(_FILE, offset=offset, length=length), _beside)


def _twice(key: str, first: str, second: str) -> Callable[[Path], Command]:
    given = [("location", _FILE), ("offset", "0"), ("length", str(_LENGTH))]
    entries = [entry for entry in given if entry[0] != key]
    return _prepared(model_with(outside((key, first), *entries, (key, second))), _beside)


def _two_of_one() -> onnx.ModelProto:
    """Two weights that share their bytes, and overlap."""
    made = _at(_FILE)
    second = outside(("location", _FILE), ("offset", "1024"), ("length", str(64 * 10 * 4)), dims=(64, 10))
    second.name = "W2"
    made.graph.initializer[1].CopyFrom(second)
    return made


_BAD_LOCATIONS: Final = (
    ("a folder up", f"../secret/{_FILE}"),
    ("down and up again", f"sub/../../secret/{_FILE}"),
    ("through a folder that is not there", f"nowhere/../{_FILE}/../../secret/{_FILE}"),
    ("the password file", "/etc/passwd"),
    ("up to the password file", "../" * 30 + "etc/passwd"),
    ("a device", "/dev/zero"),
    ("no location", ""),
    ("the folder itself", "."),
    ("the folder above", ".."),
    ("a folder's name with a slash", f"{_FILE}/"),
    ("backslashes", f"..\\secret\\{_FILE}"),
    ("a drive", f"C:\\{_FILE}"),
    ("a drive without slash", f"c:{_FILE}"),
    ("a network share", f"\\\\server\\share\\{_FILE}"),
    ("a web address", f"https://example.com/{_FILE}"),
    ("a file address", f"file:///tmp/{_FILE}"),
    ("NUL", f"{_FILE}\0.txt"),
    ("a line break", f"{_FILE}\n"),
    ("percent signs for dots", f"%2e%2e/secret/{_FILE}"),
    ("a user's home", f"~/{_FILE}"),
    ("a variable", f"$HOME/{_FILE}"),
    ("a megabyte of text", "n" * 1_000_000),
    ("a missing file", "missing.bin"),
)

_BAD_NUMBERS: Final = (
    ("negative offset", ("-1", str(_LENGTH))),
    ("offset 1", ("1", str(_LENGTH))),
    ("offset 2^63", (str(1 << 63), str(_LENGTH))),
    ("offset 2^64, which is 0 in 64 bits", (str(1 << 64), str(_LENGTH))),
    ("offset of a thousand digits", ("9" * 1000, str(_LENGTH))),
    ("hexadecimal offset", ("0x0", str(_LENGTH))),
    ("offset with a blank", (" 0", str(_LENGTH))),
    ("offset with a sign", ("+0", str(_LENGTH))),
    ("offset in Arabic digits", ("\u0660", str(_LENGTH))),
    ("fractional offset", ("0.0", str(_LENGTH))),
    ("empty offset", ("", str(_LENGTH))),
    ("length 0", ("0", "0")),
    ("length -1", ("0", "-1")),
    ("length below that of the shape", ("0", str(_LENGTH - 4))),
    ("length above that of the shape", ("0", str(_LENGTH + 4))),
)

CASES: Final[tuple[Case, ...]] = (
    *(Case(name, _named(location, _above), REFUSED) for name, location in _BAD_LOCATIONS),
    *(Case(name, _numbers(*numbers), REFUSED) for name, numbers in _BAD_NUMBERS),
    Case("an absolute path into the folder", _absolute, REFUSED),
    Case("a link out of the folder", _named(_FILE, lambda home: (home / _FILE).symlink_to(_above(home))), REFUSED),
    Case("a model hub's cache", _named(_FILE, _hub), REFUSED),
    Case("a folder that leads out", _named(f"sub/{_FILE}", _linked_folder), REFUSED),
    Case("a link to the password file", _named(_FILE, lambda home: (home / _FILE).symlink_to("/etc/passwd")), REFUSED),
    Case("a link to itself", _named(_FILE, lambda home: (home / _FILE).symlink_to(_FILE)), REFUSED),
    Case("a hard link", _named(_FILE, _hard_link), REFUSED),
    Case("a named pipe", _named(_FILE, lambda home: os.mkfifo(home / _FILE)), REFUSED),
    Case("a link to /dev/zero", _named(_FILE, lambda home: (home / _FILE).symlink_to("/dev/zero")), REFUSED),
    Case("a folder in the file's place", _named(_FILE, lambda home: (home / _FILE).mkdir()), REFUSED),
    Case("an empty file", _named(_FILE, lambda home: _data(home / _FILE, b"")), REFUSED),
    Case("one byte short", _named(_FILE, lambda home: _data(home / _FILE, _DATA[:-1])), REFUSED),
    Case(
        "a git-lfs pointer",
        _named(_FILE, lambda home: _data(home / _FILE, b"version https://git-lfs.github.com/spec/v1\nsize 8192\n")),
        REFUSED,
    ),
    Case("data in the working directory", _relative, REFUSED),
    Case("location given twice", _twice("location", _FILE, f"../secret/{_FILE}"), REFUSED),
    Case("offset given twice", _twice("offset", "0", "4"), REFUSED),
    Case("no entries", _prepared(model_with(outside()), _beside), REFUSED),
    Case("a folder up, in an attribute", _in_attribute, REFUSED),
    Case("OUT is the data of IN", _output_is_data, Outcome(frozenset({1, 2}))),
    Case("plain", _numbers(), DONE),
    Case("no offset and no length", _numbers(None, None), DONE),
    Case("in a folder below", _named(f"sub/{_FILE}", lambda home: _data(home / "sub" / _FILE)), DONE),
    Case("a dot before the name", _named(f"./{_FILE}"), DONE),
    Case("two weights of the same bytes", _prepared(_two_of_one(), _beside), DONE),
    Case("OUT is IN", _external_output, DONE),
    Case("the model through a link", _own_folder, DONE_OR_REFUSED),  # ONNX Runtime looks beside the link
    Case("a link within the folder", _named(_FILE, _link_inside), DONE_OR_REFUSED),  # some ONNX Runtimes refuse it
    Case("up and down within the folder", _named(f"sub/../{_FILE}", _with_subfolder), DONE_OR_REFUSED),
    Case("the model file itself", _prepared(_itself(), lambda home: None), DONE_OR_REFUSED),
)
