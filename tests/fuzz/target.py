"""What must hold whatever the bytes of a model file are.

Only graphshrink's own errors come out of `load`, none of them an InternalError; a file loads or not the same way
whether it is read whole or mapped; and what loads can be written again as what it was.
"""

from pathlib import Path
from unittest.mock import patch

import onnx
from google.protobuf.descriptor import FieldDescriptor
from google.protobuf.message import DecodeError

from graphshrink.errors import GraphshrinkError, InternalError
from graphshrink.ir.graph import Graph
from graphshrink.onnx_io import load as loading
from graphshrink.onnx_io import wire
from graphshrink.onnx_io.emit import emit
from tests.fuzz.mutator import messages


def one_input(data: bytes, folder: Path) -> None:
    """Load from a file read whole, from one that is mapped, and from a message in memory.

    Raises:
        Exception: something that must hold does not.
    """
    path = folder / "model.onnx"
    path.write_bytes(data)
    whole, mapped = _loaded(path), _loaded_mapped(path)
    if isinstance(whole, Graph) != isinstance(mapped, Graph):
        raise AssertionError(f"mapped or not, a model loads the same: {whole}, {mapped}")
    for graph in (whole, mapped):
        if isinstance(graph, Graph):
            emit(graph)
    model = onnx.ModelProto()
    try:
        model.ParseFromString(data)
    except DecodeError:
        return
    _loaded(model)
    _expect_round_trip(model)


def _loaded(model: Path | onnx.ModelProto) -> Graph | str:
    """The graph, or what is said against the model."""
    try:
        return loading.load(model)
    except InternalError:
        raise
    except GraphshrinkError as error:
        return str(error)


def _loaded_mapped(path: Path) -> Graph | str:
    """As a large file is: mapped, with all but the smallest tensors left in it."""
    with patch.object(loading, "_MAP_FROM", 0), patch.object(wire, "THRESHOLD", 32):
        return _loaded(path)


def _expect_round_trip(model: onnx.ModelProto) -> None:
    try:
        again = emit(loading.load_as_stored(model))
    except GraphshrinkError:
        return
    if _canonical(again) != _canonical(model):
        raise AssertionError("emit(load(m)) differs from m")


def _canonical(model: onnx.ModelProto) -> bytes:
    """Without empty texts: the IR does not tell a missing name from an empty one."""
    for message in messages(model):
        for field, value in message.ListFields():
            if field.type == FieldDescriptor.TYPE_STRING and not field.is_repeated and not value:
                message.ClearField(field.name)
    return model.SerializeToString(deterministic=True)
