"""Sample inputs from strangers: files of NumPy and ONNX, folders, and the user's own code."""

import io
import os
import pickle
import struct
import zipfile
import zlib
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Final

import numpy as np
from onnx import TensorProto, numpy_helper

from graphshrink.ir.types import Array
from tests.hostile.cases import DONE, REFUSED, Case, Command, compress, write_model
from tests.hostile.tensor import tensor
from tests.models import normal, two_layers

_GOOD: Final = normal(20, 32)
_NPZ, _NPY, _CODE = "samples.npz", "samples.npy", "samples.py"


def npy(array: Any, **options: Any) -> bytes:
    """An array as .npy."""
    buffer = io.BytesIO()
    np.save(buffer, array, **options)
    return buffer.getvalue()


def header(text: str, *, version: tuple[int, int] = (1, 0), length: int | None = None) -> bytes:
    """The head of an .npy file with any text for its header."""
    size = len(text) if length is None else length
    return b"\x93NUMPY" + bytes(version) + struct.pack("<H" if version == (1, 0) else "<I", size) + text.encode()


def described(shape: str, kind: str = "<f4") -> bytes:
    """The head of an .npy file that says this shape."""
    return header(f"{{'descr': '{kind}', 'fortran_order': False, 'shape': {shape}, }}\n")


def npz(members: Mapping[str, bytes], *, compression: int = zipfile.ZIP_STORED) -> bytes:
    """A zip archive."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", compression) as archive:
        for name, content in members.items():
            archive.writestr(zipfile.ZipInfo(name), content, compression)
    return buffer.getvalue()


def of_x(array: Any, **options: Any) -> bytes:
    """An .npz with samples of x."""
    return npz({"x.npy": npy(array, **options)})


def bomb(head: bytes, size: int) -> bytes:
    """An .npz whose member x unpacks to `head` and zeros, `size` bytes together, of which few are here."""
    block, compressor = bytes(1 << 20), zlib.compressobj(9, zlib.DEFLATED, -15)
    start = compressor.compress(head + bytes(size - len(head) & ((1 << 20) - 1)))
    start += compressor.flush(zlib.Z_FULL_FLUSH)
    again = compressor.compress(block) + compressor.flush(zlib.Z_FULL_FLUSH)
    count = (size - len(head)) >> 20
    content = start + again * count + zlib.compressobj(9, zlib.DEFLATED, -15).flush()
    checksum = zlib.crc32(bytes(size - len(head) & ((1 << 20) - 1)), zlib.crc32(head))
    for _ in range(count):
        checksum = zlib.crc32(block, checksum)
    return _archive_of(b"x.npy", content, size, checksum=checksum)


def _zeros() -> bytes:
    """1 GB that fits the model."""
    head = described("(7812500, 32)")
    return bomb(head, len(head) + 1_000_000_000)


def _archive_of(name: bytes, content: bytes, size: int, *, method: int = 8, flags: int = 0, checksum: int = 0) -> bytes:
    """A zip archive of one deflated member, by hand."""
    common = struct.pack("<HHHHHIII", 20, flags, method, 0, 0x21, checksum, len(content), min(size, (1 << 32) - 2))
    local = b"PK\x03\x04" + common + struct.pack("<HH", len(name), 0) + name + content
    sizes = struct.pack("<HHHHHII", len(name), 0, 0, 0, 0, 0, 0)
    central = b"PK\x01\x02" + struct.pack("<H", 20) + common + sizes + name
    return local + central + b"PK\x05\x06" + struct.pack("<HHHHIIH", 0, 0, 1, 1, len(central), len(local), 0)


def _file(name: str, make: Callable[[], bytes]) -> Callable[[Path], Command]:
    """Samples in a file."""

    def prepare(folder: Path) -> Command:
        (folder / name).write_bytes(make())
        return _with(folder, name)

    return prepare


def _with(folder: Path, name: str, function: str = "") -> Command:
    write_model(folder, two_layers())
    return compress(folder, "--calibration", f"{folder / name}{function}", names=(name,))


def _made(make: Callable[[Path], object]) -> Callable[[Path], Command]:
    """The .npz is made by a function that is given its path."""

    def prepare(folder: Path) -> Command:
        make(folder / _NPZ)
        return _with(folder, _NPZ)

    return prepare


def _folder(arrange: Callable[[Path], object]) -> Callable[[Path], Command]:
    """Samples in a folder that is called samples."""

    def prepare(folder: Path) -> Command:
        (folder / "samples").mkdir()
        arrange(folder / "samples")
        return _with(folder, "samples")

    return prepare


def _set_of(*protos: bytes) -> Callable[[Path], Command]:
    """test_data_set_0 with these inputs."""

    def arrange(folder: Path) -> None:
        (folder / "test_data_set_0").mkdir()
        for i, content in enumerate(protos):
            (folder / "test_data_set_0" / f"input_{i}.pb").write_bytes(content)

    return _folder(arrange)


def _code(*lines: str, function: str = ":samples") -> Callable[[Path], Command]:
    """Samples from a function of the user's; the lines are its body, or a whole file if they define it."""

    def prepare(folder: Path) -> Command:
        whole = any(line.startswith("def samples") for line in lines) or function != ":samples"
        body = "\n".join(lines) if whole else "\n    ".join(("def samples():", *lines))
        (folder / _CODE).write_text(f"import numpy as np\n\n{body}\n", encoding="utf-8")
        return _with(folder, _CODE, function)

    return prepare


class _Touch:
    """Unpickling it makes a file in the working directory, which is looked for."""

    def __reduce__(self) -> tuple[Any, ...]:
        return (Path.touch, (Path("unpickled"),))


def _objects() -> Array:
    return np.array([_Touch()], dtype=object)


def _tensor(array: Array) -> bytes:
    return numpy_helper.from_array(array, "x").SerializeToString()


def _outside() -> bytes:
    made = tensor("x", dims=[2, 32], raw_data=None, data_location=TensorProto.EXTERNAL)
    made.external_data.add(key="location", value="/etc/passwd")
    return made.SerializeToString()


def _not_finite(value: float) -> Array:
    array = _GOOD.copy()
    array[7, 5] = value
    return array


def _relative(folder: Path) -> Command:
    """The user's code goes to another folder, while IN and OUT are relative."""
    (folder / _CODE).write_text(
        "import os\nimport numpy as np\n\ndef samples():\n    os.chdir('/')\n    return {'x': np.ones((8, 32), 'f')}\n"
    )
    write_model(folder, two_layers())
    arguments = ("model.onnx", "out.onnx", "--quiet", "--calibration", f"{_CODE}:samples")
    return Command(arguments, folder / "out.onnx", folder / "model.onnx", cwd=folder)


_LONG_AGO: Final = "{'descr': '<f4', 'fortran_order': False, 'shape': (20, 32), 'x': __import__('os').mkdir('made')}\n"
_BIG: Final = described("(20000000, 32)")

_FILES: Final[tuple[tuple[str, str, Callable[[], bytes]], ...]] = (
    ("npy: pickled objects", _NPY, lambda: npy(_objects(), allow_pickle=True)),
    ("npz: pickled objects", _NPZ, lambda: of_x(_objects(), allow_pickle=True)),
    ("npy: a bare pickle", _NPY, lambda: pickle.dumps(_Touch())),
    ("npz: a bare pickle", _NPZ, lambda: pickle.dumps(_Touch())),
    ("npy: code in the header", _NPY, lambda: header(_LONG_AGO) + _GOOD.tobytes()),
    ("npy: empty", _NPY, lambda: b""),
    ("npz: empty", _NPZ, lambda: b""),
    ("npz: no members", _NPZ, lambda: npz({})),
    ("npy: truncated", _NPY, lambda: npy(_GOOD)[:-5]),
    ("npy: truncated in its header", _NPY, lambda: npy(_GOOD)[:40]),
    ("npz: truncated", _NPZ, lambda: of_x(_GOOD)[:-60]),
    ("npz: its first half", _NPZ, lambda: of_x(_GOOD)[:1000]),
    ("npy: one byte too many", _NPY, lambda: npy(_GOOD) + b"0"),
    ("npy: a header of 4 GB", _NPY, lambda: header("{", version=(2, 0), length=0xFFFFFFF0)),
    ("npy: version 9", _NPY, lambda: header("{}", version=(9, 0))),
    ("npy: 2^62 x 32", _NPY, lambda: described(f"({1 << 62}, 32)") + _GOOD.tobytes()),
    ("npy: nothing mod 2^64", _NPY, lambda: described(f"({1 << 59}, 32)")),
    ("npy: a negative size", _NPY, lambda: described("(-20, 32)") + _GOOD.tobytes()),
    ("npy: sizes nested deep", _NPY, lambda: described("(" * 9000 + ")" * 9000) + _GOOD.tobytes()),
    ("npy: a type of nothing", _NPY, lambda: described("(20, 32)", "|V0")),
    ("npy: records", _NPY, lambda: npy(np.zeros(20, [("a", "f4"), ("b", "f4")]))),
    ("npy: times", _NPY, lambda: npy(np.zeros((20, 32), "M8[s]"))),
    ("npy: text", _NPY, lambda: npy(np.full((20, 32), "text"))),
    ("npy: complex", _NPY, lambda: npy(_GOOD.astype(np.complex64))),
    ("npy: images of bytes", _NPY, lambda: npy(np.ones((20, 32), np.uint8))),
    ("npy: NaN", _NPY, lambda: npy(_not_finite(np.nan))),
    ("npy: infinity", _NPY, lambda: npy(_not_finite(np.inf))),
    ("npy: finite in double precision alone", _NPY, lambda: npy(_GOOD.astype(np.float64) * 1e300)),
    ("npy: no samples", _NPY, lambda: npy(_GOOD[:0])),
    ("npy: too narrow", _NPY, lambda: npy(_GOOD[:, :31])),
    ("npy: a number", _NPY, lambda: npy(np.float32(1))),
    ("npy: five axes", _NPY, lambda: npy(_GOOD.reshape(1, 1, 1, 20, 32))),
    ("npz: another name", _NPZ, lambda: npz({"y.npy": npy(_GOOD)})),
    ("npz: one name too many", _NPZ, lambda: npz({"x.npy": npy(_GOOD), "y.npy": npy(_GOOD)})),
    ("npz: a name that leads elsewhere", _NPZ, lambda: npz({"../../x.npy": npy(_GOOD)})),
    ("npz: no array", _NPZ, lambda: npz({"x.txt": b"text"})),
    ("npz: a password", _NPZ, lambda: _archive_of(b"x.npy", npy(_GOOD), len(npy(_GOOD)), method=0, flags=1)),
    ("npz: another compression", _NPZ, lambda: npz({"x.npy": npy(_GOOD)}, compression=zipfile.ZIP_LZMA)),
    ("npz: a wrong checksum", _NPZ, lambda: of_x(_GOOD).replace(_GOOD[3].tobytes(), _GOOD[4].tobytes())),
    ("npz: 4 GB of zeros for another shape", _NPZ, lambda: bomb(described("(1000000000,)"), 4_000_000_000)),
    ("npz: says 4 GB and has little", _NPZ, lambda: _archive_of(b"x.npy", zlib.compress(_BIG)[2:-4], 4_000_000_000)),
    ("a text file", "samples.csv", lambda: b"1,2,3\n"),
    ("a pickle by name", "samples.pkl", lambda: pickle.dumps(_Touch())),
    ("a text file called npz", _NPZ, lambda: b"1,2,3\n"),
    ("a model called npz", _NPZ, lambda: two_layers().SerializeToString()),
)

_BODIES: Final = (
    ("raises", "raise ValueError('no data')"),
    ("raises its own kind of text", "raise type('E', (Exception,), {'__str__': lambda self: 1})()"),
    ("never comes back from recursion", "return samples()"),
    ("fills its memory", "raise MemoryError"),
    ("calls sys.exit(0)", "import sys; sys.exit(0)"),
    ("returns None", "return None"),
    ("returns a number", "return 5"),
    ("returns a path", "return '/etc/passwd'"),
    ("returns lists of numbers", "return [1, 2, 3]"),
    ("returns another name", "return {'y': np.ones((8, 32), 'f')}"),
    ("returns NaN", "return {'x': np.full((8, 32), np.nan, 'f')}"),
    ("returns nothing to iterate over", "return iter(())"),
    ("returns objects", "return [{'x': object()}]"),
    ("returns ragged lists", "return [{'x': [[1.0], [1.0, 2.0]]}]"),
    ("fails at the third sample", "yield from ({'x': np.ones((1, 32), 'f')} for i in (1, 2, 0) if 1 / i)"),
    ("returns a thing of strange length", "return type('S', (), {'__len__': lambda s: -1, '__iter__': iter})()"),
)

CASES: Final[tuple[Case, ...]] = (
    *(Case(name, _file(file, make), REFUSED) for name, file, make in _FILES),
    *(Case(f"code: {name}", _code(body), REFUSED) for name, body in _BODIES),
    Case("code: no such function", _code("x = 1", function=":samples_"), REFUSED),
    Case("code: not a function", _code("samples_ = 1", function=":samples_"), REFUSED),
    Case("code: wants an argument", _code("def samples(count):", "    return count"), REFUSED),
    Case("code: not Python", _code("def samples(:"), REFUSED),
    Case("code: sys.exit while imported", _code("import sys", "sys.exit(0)", "def samples(): pass"), REFUSED),
    Case("code: prints", _code("print('hello')", "return {'x': np.ones((8, 32), 'f')}"), DONE),
    Case("code: samples without end", _code("while True:", "    yield {'x': np.ones((2, 32), 'f')}"), DONE),
    Case("code: changes the working directory", _relative, DONE),
    Case("a missing file", lambda folder: _with(folder, "missing.npz"), REFUSED),
    Case("a device", _made(lambda path: path.symlink_to("/dev/zero")), REFUSED),
    Case("a named pipe", _made(os.mkfifo), REFUSED),
    Case("a folder of nothing", _folder(lambda path: None), REFUSED),
    Case("a folder of other things", _folder(lambda path: (path / "a.txt").write_text("text")), REFUSED),
    Case("a folder of a hidden file", _folder(lambda path: (path / ".a.npz").write_bytes(of_x(_GOOD))), REFUSED),
    Case("a folder with a broken file", _folder(lambda path: (path / "a.npz").write_bytes(b"PK")), REFUSED),
    Case("a folder with a named pipe", _folder(lambda path: os.mkfifo(path / "a.npz")), REFUSED),
    Case("a set of no protobuf", _set_of(b"\xff\xff"), REFUSED),
    Case("a set of another type", _set_of(_tensor(np.ones((2, 32), np.int64))), REFUSED),
    Case("a set of another shape", _set_of(_tensor(normal(2, 31))), REFUSED),
    Case("a set with one input too many", _set_of(_tensor(normal(2, 32)), _tensor(normal(2, 32))), REFUSED),
    Case("a set of 2^62 x 32", _set_of(tensor(dims=[1 << 62, 32]).SerializeToString()), REFUSED),
    Case("a set in another file", _set_of(_outside()), REFUSED),
    Case("good: npz", _file(_NPZ, lambda: of_x(_GOOD)), DONE),
    Case("good: npy of doubles in Fortran's order", _file(_NPY, lambda: npy(np.asfortranarray(_GOOD, "f8"))), DONE),
    Case("good: a set", _set_of(_tensor(normal(4, 32))), DONE),
    Case("npz: 1 GB of zeros", _file(_NPZ, _zeros), DONE),
)
