"""The model that tells file types by bytes (`magika`): the share of files whose largest output is the type they have.

The files lie in packages of PyPI and npm that are alike on all machines. Their type is what their extension says,
which is not always what they are: half of the HTML files are templates, and magika calls them that. So no model has a
score of 1. Of each extension at most `_MOST` files count; what is shorter than magika gives to its network is left out.
"""

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cache, partial
from itertools import islice
from pathlib import Path
from typing import Final

import numpy as np

from benchmarks import fetch_models
from benchmarks.corpus.base import Run, Score, Split, Task
from benchmarks.corpus.packages import Package
from benchmarks.corpus.sets import Sets, cut, distinct
from graphshrink.ir.types import Array
from testmodels.fetching import cache_folder, wheel_files

PACKAGES: Final = (
    Package("pip", "Django==5.1.3", "8b38a9a12da3ae00cb0ba72da985ec4b14de6345046b1e174b1fd7254398f818"),
    Package("pip", "ansible-core==2.17.6", "dab09cd49fe7e17003e13188ce1ab52a0a6e5b88bc4bf29ff101cfdcb2862395"),
    Package("pip", "bokeh==3.6.1", "6a97271bd4cc5b32c5bc7aa9c1c0dbe0beb0a8da2a22193e57c73f0c88d2075a"),
    Package("pip", "notebook==7.2.2", "c89264081f671bc02eec0ed470a627ed791b9156cad9285226b31611d3e9fe1c"),
    Package("pip", "pyqtgraph==0.13.7", "7754edbefb6c367fa0dfb176e2d0610da3ada20aa7a5318516c74af5fb72bf7a"),
    Package("pip", "sphinx==8.1.3", "09719015511837b76bf6e03e42eb7595ac8c2e41eeb9c29c5b755c6b677992a2"),
    Package("npm", "@openzeppelin/contracts@5.0.2", "709a5996fd3fdccc1b3b38c4b87dcafa103b9126b63839f248c4172ba21093fa"),
    Package(
        "npm", "@wordpress/block-library@9.10.0", "ca6ec1d7e029df3accea883b7d75ab18216362545c535461ab67b393b71115e4"
    ),
    Package("npm", "admin-lte@3.2.0", "92650fb9e582b9e01f691693be79b1213608a6282a7f062c139bfeafc8593df5"),
    Package("npm", "bootstrap@5.3.3", "38cee936dbd80138de6775683149f22e9226fc2d654392337a921f53000c789e"),
    Package("npm", "cordova-android@12.0.1", "449aac0433f8dbbdad2816ffbc1deac14a088a0deb48427f602785a08ae798f5"),
    Package("npm", "expo-modules-core@1.12.26", "6b1a51222c4c08dfe001f8e0dcf29001342202cef3ee840a415b173030d6cf23"),
    Package("npm", "google-proto-files@4.2.0", "01ad3f6f6391886326fe80221e9f0b5ad64ebe0708e61c2c2cd4c5e7343fbfee"),
    Package("npm", "hubot-scripts@2.17.2", "1d2413c17146ff583f1ff30ee83e2eeb452610c4c058955411361c7cfe798e29"),
    Package("npm", "react-native@0.72.17", "0f071827845cfd8f0a32baf7f28ad3e98f236979303886cc469d68773232573a"),
)

# As magika's own list of types has them, apart from those with several types or with too few files here. Where it
# names two, these packages hold one: m is Objective-C.
EXTENSIONS: Final = {
    "cpp": "cpp",
    "coffee": "coffeescript",
    "css": "css",
    "csv": "csv",
    "gradle": "gradle",
    "html": "html",
    "j2": "jinja",
    "java": "java",
    "jinja": "jinja",
    "jpg": "jpeg",
    "js": "javascript",
    "json": "json",
    "kt": "kotlin",
    "m": "objectivec",
    "md": "markdown",
    "mm": "objectivec",
    "php": "php",
    "png": "png",
    "po": "po",
    "proto": "proto",
    "ps1": "powershell",
    "py": "python",
    "pyi": "python",
    "rb": "ruby",
    "rst": "rst",
    "s": "asm",
    "scss": "scss",
    "sh": "shell",
    "snap": "snap",
    "sol": "solidity",
    "sty": "latex",
    "svg": "svg",
    "swift": "swift",
    "toml": "toml",
    "ts": "typescript",
    "txt": "txt",
    "woff": "woff",
    "xml": "xml",
    "yml": "yaml",
}
_NAMES: Final = {"CMakeLists.txt": "cmake"}  # which have a type of their own
_MOST: Final = 120
_FOLDER: Final = "magika/models/standard_v3_3"
_CONFIGURATION: Final = {
    f"{_FOLDER}/config.min.json": "ae24c742205358f6ff6dfd5facb6743fb69743dbba8373e73da58ff0cbd695db",
}

_BLOCK: Final = 4096  # magika looks at so many bytes at each end,
_SEEN: Final = 1024  # strips them of white space, and gives so many to the network,
_PADDING: Final = 256  # filled up with this, which is no byte.
_FEWEST: Final = 8


@dataclass(frozen=True, slots=True)
class File:
    """What magika sees of a file, its extension, and its type."""

    seen: bytes
    extension: str
    type: str

    @property
    def feeds(self) -> dict[str, Array]:
        """What the model takes."""
        return {"bytes": np.frombuffer(self.seen, np.uint16).astype(np.int32)[None]}


def seen(content: bytes) -> bytes:
    """The 2048 numbers that the network gets, as uint16."""
    first, last = content[:_BLOCK].lstrip()[:_SEEN], content[-_BLOCK:].rstrip()[-_SEEN:]
    padding = ([_PADDING] * (_SEEN - len(part)) for part in (first, last))
    return np.array([*first, *next(padding), *next(padding), *last], np.uint16).tobytes()


def _files(package: Package) -> Iterator[File]:
    for path, content in package.files():
        name = path.rpartition("/")[2]
        extension = name.rpartition(".")[2].lower() if "." in name else ""
        if extension in EXTENSIONS and len(content[:_BLOCK].lstrip()) >= _FEWEST:
            yield File(seen(content), extension, _NAMES.get(name, EXTENSIONS[extension]))


@cache
def typed() -> Sets[File]:
    """Of each extension a half for the test, a quarter for development, a quarter for calibration."""
    everything = distinct((file for package in PACKAGES for file in _files(package)), lambda file: file.seen)
    parts: list[Sets[File]] = []
    for extension in EXTENSIONS:
        chosen = list(islice((file for file in everything if file.extension == extension), _MOST))
        parts.append(cut(chosen, test=len(chosen) // 2, development=len(chosen) // 4))
    # The extensions in turn, so that the first items to calibrate with are of many types.
    turns = range(_MOST)
    mixed = [part.calibration[turn] for turn in turns for part in parts if turn < len(part.calibration)]
    return Sets(
        mixed, [file for part in parts for file in part.development], [file for part in parts for file in part.test]
    )


def types_file() -> Path:
    """What magika's package says about its model."""
    package = fetch_models.MODELS["magika"].package
    (path,) = wheel_files(package, _CONFIGURATION, into=cache_folder() / "magika").values()
    return path


@cache
def _types() -> Sequence[str]:
    """The types in the order of the outputs."""
    return tuple(json.loads(types_file().read_text(encoding="utf-8"))["target_labels_space"])


def _score(run: Run, split: Split) -> Score:
    files = typed().of(split)
    right = [_types()[int(run(file.feeds)["target_label"].argmax())] == file.type for file in files]
    return Score("accuracy", np.array(right, np.float64))


def _calibrate(count: int) -> Sequence[Mapping[str, Array]]:
    return [file.feeds for file in islice(typed().calibration, count)]


TASKS: Final = (
    Task("magika", "convolution over bytes; types of files", partial(fetch_models.get, "magika"), _calibrate, _score),
)
