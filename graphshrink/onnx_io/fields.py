"""Fields of protobuf messages: told apart from those that a file does not have, and from text that is none."""

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeAlias

from graphshrink.errors import ModelError
from graphshrink.ir.tensor import ExternalData, Tensor
from graphshrink.ir.types import Metadata
from graphshrink.onnx_io.wire import Chunk


@dataclass(frozen=True, slots=True)
class Source:
    """Where a model comes from: its folder (for external data), and how to get at tensors left in the file."""

    folder: Path | None = None
    resolve: Callable[[bytes], Chunk] = field(default=lambda raw: raw)


Relocate: TypeAlias = Callable[[Tensor], tuple[tuple[str, str], ...] | None]
"""Says for a tensor where its data lies outside the file (entries of `external_data`), or None to keep it as it is."""


def keep_in_place(tensor: Tensor) -> tuple[tuple[str, str], ...] | None:
    """Tensors that were outside stay where they were."""
    return tensor.data.entries if isinstance(tensor.data, ExternalData) else None


def optional(message: Any, name: str) -> Any:
    """A field's value, or None where the file has no such field; not for bytes."""
    return text(getattr(message, name)) if message.HasField(name) else None


def text(value: Any) -> Any:
    """Raises: ModelError, if this is text that is no UTF-8, which protobuf hands out as bytes."""
    if isinstance(value, bytes):
        raise ModelError(f"not an ONNX model, or a damaged one: {value[:40]!r} is no text")
    return value


def texts(values: Iterable[Any]) -> tuple[str, ...]:
    """`text` for each of several."""
    return tuple(map(text, values))


def pairs(entries: Iterable[Any]) -> Metadata:
    """Keys and values of StringStringEntryProtos."""
    return tuple((text(entry.key), text(entry.value)) for entry in entries)


def set_fields(message: Any, **values: Any) -> None:
    """Set those fields whose value is not None, which stands for a field that the file does not have."""
    for name, value in values.items():
        if value is not None:
            setattr(message, name, value)


def add_pairs(entries: Any, items: Metadata) -> None:
    """Append StringStringEntryProtos; the inverse of `pairs`."""
    for key, value in items:
        entries.add(key=key, value=value)
