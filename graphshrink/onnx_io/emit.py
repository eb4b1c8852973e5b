"""Writing the IR as ONNX: as a protobuf message, or to disk in a way that never leaves half a file."""

import filecmp
import os
import shutil
import stat
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import onnx
from google.protobuf.message import EncodeError

from graphshrink.errors import GraphshrinkError, ModelError
from graphshrink.ir.graph import Graph
from graphshrink.ir.tensor import StringData, Tensor
from graphshrink.ir.weight import constants
from graphshrink.onnx_io.external import DataWriter, Placement, flush_folders, flush_to_disk
from graphshrink.onnx_io.fields import keep_in_place
from graphshrink.onnx_io.to_proto import write_model

EXTERNAL_FROM: Final = 1_500_000_000
"""Bytes of weights from which a model is written with external data; protobuf ends at 2 GB."""

_SMALL: Final = 1024  # tensors below this stay in the model file


def emit(graph: Graph) -> onnx.ModelProto:
    """The model as a protobuf message, weights plain; what lay in external data still does."""
    return write_model(graph, keep_in_place)


def text_bytes(graph: Graph) -> int:
    """Bytes of the model's file without the elements of large tensors, which need not be read for it."""
    return write_model(graph, lambda tensor: () if tensor.nbytes >= _SMALL else keep_in_place(tensor)).ByteSize()


def plain_bytes(graph: Graph) -> int:
    """About the bytes of the model's file, weights stored plainly."""
    large = (tensor.nbytes for _, scope in graph.scopes() for _, tensor in constants(scope) if tensor.nbytes >= _SMALL)
    return text_bytes(graph) + sum(large)


@dataclass(slots=True)
class Staged:
    """A model written beside its destination, to be looked at before it takes its place.

    Attributes:
        model: the written model file.
        data: its external data, if any.
        destination: where `commit` puts the model.
    """

    model: Path
    data: Path | None
    destination: Path

    @property
    def size(self) -> int:
        """Bytes on disk, external data included."""
        return sum(path.stat().st_size for path in (self.model, self.data) if path is not None)

    def commit(self) -> None:
        """Move the files into place, the model last: at any moment the destination is the old model or the new one.

        Raises:
            GraphshrinkError: a file cannot be moved, or other data has the name of ours; nothing was changed.
        """
        placed: Path | None = None
        try:
            if self.data is not None:
                target = self.destination.parent / self.data.name
                if os.path.lexists(target):  # from an earlier run, or a stranger's: it stays
                    _expect_same(target, self.data)
                else:
                    placed = self.data.rename(target)
            self.model.replace(self.destination)
        except BaseException as e:
            if placed is not None:
                placed.unlink(missing_ok=True)
            if isinstance(e, OSError):
                raise GraphshrinkError(f"{self.destination}: cannot be written: {e.strerror or e}") from e
            raise
        flush_folders([self.destination.parent])

    def discard(self) -> None:
        """Remove what was not committed; whoever interrupts that has to wait for it."""
        try:
            shutil.rmtree(self.model.parent, ignore_errors=True)
        except KeyboardInterrupt:
            shutil.rmtree(self.model.parent, ignore_errors=True)
            raise


def stage(graph: Graph, destination: Path, *, external: bool | None = None, durable: bool = True) -> Staged:
    """Write a model into a fresh folder beside its destination, through a link if that is one.

    Args:
        graph: the model.
        destination: the path of the model file to be.
        external: whether weights go to external data; None decides by size.
        durable: wait until the disk has the bytes.

    Raises:
        GraphshrinkError: the disk is full or the folder cannot be written.
    """
    try:
        destination = destination.resolve()
        if destination.exists() and not destination.is_file():
            raise GraphshrinkError(f"{destination}: is a folder or a device; name the file to be written")
        folder = Path(tempfile.mkdtemp(prefix=f".{destination.name}.", dir=destination.parent))
    except OSError as e:
        raise GraphshrinkError(f"{destination.parent}: cannot write here: {e.strerror or e}") from e
    except (RuntimeError, ValueError) as e:  # a ring of links (before Python 3.13), a name that the system cannot spell
        raise GraphshrinkError(f"{str(destination)!r}: cannot be written: {e}") from e
    staged = Staged(folder / destination.name, None, destination)
    try:
        _write(graph, staged, external if external is not None else _weight_bytes(graph) > EXTERNAL_FROM, durable)
    except OSError as e:
        staged.discard()
        raise GraphshrinkError(f"{destination}: cannot be written: {e.strerror or e}") from e
    except BaseException:
        staged.discard()
        raise
    return staged


def save(graph: Graph, destination: Path, *, external: bool | None = None, durable: bool = True) -> None:
    """Write a model to disk at once; see `stage`."""
    staged = stage(graph, destination, external=external, durable=durable)
    try:
        staged.commit()
    finally:
        staged.discard()


def _expect_same(there: Path, data: Path) -> None:
    """Raises: GraphshrinkError, unless a file that has the name of our data has its bytes as well."""
    if not stat.S_ISREG(there.lstat().st_mode) or not filecmp.cmp(there, data, shallow=False):
        raise GraphshrinkError(f"{there}: exists and is not ours; move it away, or choose another name for the model")


def _initializers(graph: Graph) -> Iterator[Tensor]:
    for _, scope in graph.scopes():
        for value in scope.initializers():
            if isinstance(value.constant, Tensor) and not isinstance(value.constant.data, StringData):
                yield value.constant


def _weight_bytes(graph: Graph) -> int:
    return sum(tensor.nbytes for tensor in _initializers(graph))


def _write(graph: Graph, staged: Staged, external: bool, durable: bool) -> None:
    places: dict[int, Placement] = {}
    name = ""
    if external:
        staged.data = staged.model.with_suffix(".partial")
        with staged.data.open("wb") as file:
            writer = DataWriter(file)
            for tensor in _initializers(graph):
                if tensor.nbytes >= _SMALL and id(tensor) not in places:
                    places[id(tensor)] = writer.write(tensor.buffer)
            flush_to_disk(file, durable)
        # A name of its own for each content: fresh, reproducible, and never that of data another model still uses.
        name = f"{staged.model.name}.{writer.digest[:12]}.data"
        staged.data = staged.data.rename(staged.model.with_name(name))

    def relocate(tensor: Tensor) -> tuple[tuple[str, str], ...] | None:
        place = places.get(id(tensor))
        if place is None:
            return None
        return (("location", name), ("offset", str(place.offset)), ("length", str(place.length)))

    proto = write_model(graph, relocate)
    try:
        content = proto.SerializeToString(deterministic=True)
    except (ValueError, EncodeError) as e:
        raise ModelError("the model passes protobuf's limit of 2 GB; ask for --save-as-external-data") from e
    with staged.model.open("wb") as file:
        file.write(content)
        flush_to_disk(file, durable)
