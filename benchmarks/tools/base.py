"""What a compression tool is to the benchmarks: a name, settings from gentle to aggressive, and a function."""

import importlib
import importlib.metadata
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, TypeAlias

import onnx
from onnx import version_converter

from graphshrink.ir.types import Feeds

Setting: TypeAlias = Mapping[str, str | int | float | bool]
Compress: TypeAlias = Callable[[Path, Path, Sequence[Feeds], Setting], None]
"""Compresses a model file into another file, with inputs to calibrate with and one of the tool's settings."""

ALWAYS: Final = ("onnx", "onnxruntime", "numpy", "protobuf")
"""Packages that every tool stands on."""


@dataclass(frozen=True, slots=True)
class Tool:
    """A way to make a model smaller.

    Attributes:
        name: in tables and on the command line.
        about: one line for documents.
        compress: a plain function of its module; all that varies is in the setting.
        settings: from gentle to aggressive.
        calibrated: whether the function uses the inputs to calibrate with; otherwise it gets none.
        packages: distributions beyond `ALWAYS` that it needs; the `peers` extra holds them.
        optional: distributions that change what it does where they are installed.
        sources: files and folders of this repository that it consists of, beside what its module imports.
    """

    name: str
    about: str
    compress: Compress
    settings: tuple[Setting, ...]
    calibrated: bool = False
    packages: tuple[str, ...] = ()
    optional: tuple[str, ...] = ()
    sources: tuple[str, ...] = ()

    def versions(self) -> dict[str, str | None]:
        """Of all packages that matter; None for one that is not installed."""
        return {name: version_of(name) for name in (*ALWAYS, *self.packages, *self.optional)}

    def missing(self) -> str | None:
        """Why the tool cannot run here, or None."""
        absent = [name for name in self.packages if version_of(name) is None]
        return f"{', '.join(absent)} not installed (the extra `peers`)" if absent else None


def version_of(distribution: str) -> str | None:
    """The installed version, or None."""
    try:
        return importlib.metadata.version(distribution)
    except importlib.metadata.PackageNotFoundError:
        return None


def library(name: str) -> Any:
    """A module of a tool: imported when it is used, and untyped, since none of them is a dependency."""
    return importlib.import_module(name)


def at_opset(model: onnx.ModelProto, least: int) -> onnx.ModelProto:
    """The model in this opset or a later one: some schemes need newer operators than models have."""
    (own,) = (opset.version for opset in model.opset_import if opset.domain in ("", "ai.onnx"))
    return model if own >= least else version_converter.convert_version(model, least)


def lifted(model: onnx.ModelProto) -> onnx.ModelProto:
    """The model with float tensors of Constant nodes as initializers: some tools see no weights in nodes."""
    for node in [node for node in model.graph.node if _holds_weights(node)]:
        tensor = model.graph.initializer.add()
        tensor.CopyFrom(node.attribute[0].t)
        tensor.name = node.output[0]
        model.graph.node.remove(node)
    return model


def _holds_weights(node: onnx.NodeProto) -> bool:
    if node.op_type != "Constant" or node.attribute[0].name != "value":
        return False
    tensor = node.attribute[0].t
    return tensor.data_type == onnx.TensorProto.FLOAT and len(tensor.dims) > 0
