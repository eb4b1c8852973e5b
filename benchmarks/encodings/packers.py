"""Clustered weights of real models: encoded, with all that decodes them, beside what packers make of their bytes."""

import importlib
import lzma
import shutil
import subprocess
import tempfile
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any, Final

import onnx

import graphshrink
from benchmarks.encodings.account import account
from benchmarks.fetch_models import fetch
from benchmarks.measuring import ROOT, Request, table
from graphshrink.encodings import lift
from graphshrink.onnx_io.load import load_as_stored
from graphshrink.onnx_io.runtime import Runtime

_PASS: Final = "weight-sharing{bits=4}"
_SHORT: Final = ("lenet-5", "spirals")

Packer = Callable[[bytes], int]
"""How many bytes are left."""


def packers() -> dict[str, Packer]:
    """Those at hand, by name; zstd is the package zstandard, else the command."""
    found: dict[str, Packer] = {"xz -9": lambda content: len(lzma.compress(content, preset=9))}
    try:
        package: Any = importlib.import_module("zstandard")
    except ModuleNotFoundError:
        command = shutil.which("zstd")
    else:
        return {"zstd -19": lambda content: len(package.ZstdCompressor(level=19).compress(content)), **found}
    if command is None:
        print("neither the package zstandard nor the command zstd is there: xz alone is compared")
        return found
    return {"zstd -19": lambda content: len(_piped([command, "-19", "-c", "-q"], content)), **found}


def _piped(command: list[str], content: bytes) -> bytes:
    return subprocess.run(command, input=content, stdout=subprocess.PIPE, check=True).stdout


def models(short: bool) -> dict[str, Path]:
    """Testmodels, and the models of the corpus that are there or can be had."""
    shipped = {path.stem: path for path in sorted((ROOT / "testmodels").glob("*.onnx"))}
    return {name: shipped[name] for name in _SHORT} if short else {**fetch(), **shipped}


def examine(name: str, path: Path, pack: Mapping[str, Packer], folder: Path) -> dict[str, Any]:
    """One row of the tables."""
    result, plain = folder / "result.onnx", folder / "plain.onnx"
    graphshrink.compile(path, _PASS, encoding="small", verify=False, save_as_external_data=False).save(result)
    graph = load_as_stored(result)
    found = lift(graph)
    arrays = [tensor.array for lifted in found if (tensor := lifted.graph.constant(lifted.name)) is not None]
    graphshrink.save(graph, plain, external=False)
    content = b"".join(array.tobytes() for array in arrays)
    parts = account(onnx.load(result))
    with Runtime(threads=1) as runtime, runtime.open(plain) as before, runtime.open(result) as after:
        same = before.operator_counts() == after.operator_counts()
    return {
        "model": name,
        "weights": len(arrays),
        "elements": sum(array.size for array in arrays),
        "plain_bytes": len(content),
        "encoded_bytes": parts.encoded,
        "functions_bytes": parts.functions,
        "packed_bytes": {packer: size(content) for packer, size in pack.items()},
        "file_bytes": parts.file,
        "host_bytes": parts.host,
        "plain_file_bytes": plain.stat().st_size,
        "packed_file_bytes": {packer: size(plain.read_bytes()) for packer, size in pack.items()},
        "same_operators": same,
    }


def against_packers(asked: Request) -> list[dict[str, Any]]:
    """All models."""
    pack = packers()
    rows: list[dict[str, Any]] = []
    for name, path in models(asked.short).items():
        asked.note(name)
        with tempfile.TemporaryDirectory(prefix="graphshrink-encodings-") as folder:
            rows.append(examine(name, path, pack, Path(folder)))
    print(f"\nEncoded weights, functions included, beside packers of the same bytes; {_PASS}, `small`")
    header = ("model", "encoded", "elements", "plain", "ours", *_columns(pack), "operators left")
    print(table(header, [tuple(_line(asked, row)) for row in rows]))
    print("\nWhole files; text: what is neither an encoded weight nor decodes one, plain weights included")
    header = ("model", "plain", "ours", "of it text", "without text", *pack)
    print(table(header, [tuple(_whole(row)) for row in rows]))
    return rows


def _columns(pack: Mapping[str, Packer]) -> Iterator[str]:
    for name in pack:
        yield from (name, "ours to it", "bar 1")


def _line(asked: Request, row: Mapping[str, Any]) -> Iterator[object]:
    yield from (row["model"], row["weights"], row["elements"], row["plain_bytes"], row["encoded_bytes"])
    for size in row["packed_bytes"].values():
        if row["weights"]:
            ratio = row["encoded_bytes"] / size
            yield from (size, f"{ratio:.3f}", asked.verdict(ratio, 1))
        else:
            yield from (size, "-", "nothing encoded")
    yield "same" if row["same_operators"] else "OTHER"


def _whole(row: Mapping[str, Any]) -> Iterator[object]:
    yield from (row["model"], row["plain_file_bytes"], row["file_bytes"], row["host_bytes"])
    yield row["file_bytes"] - row["host_bytes"]
    yield from row["packed_file_bytes"].values()
