"""What a compilation gives."""

from dataclasses import dataclass
from os import PathLike
from pathlib import Path
from typing import Any

import onnx

from graphshrink.errors import InternalError
from graphshrink.ir.graph import Graph
from graphshrink.metrics.size import sha256
from graphshrink.onnx_io.emit import Staged, emit, stage
from graphshrink.onnx_io.external import expect_no_data
from graphshrink.onnx_io.recheck import check_written


@dataclass(slots=True, weakref_slot=True)
class Compiled:
    """A compressed model that was verified, and what is known about it.

    Attributes:
        report: as docs/report.md describes it.
        missed: what was asked for and could not be done, as lines for people.
        data: files of the original's external data, which nothing may be written over.
    """

    report: dict[str, Any]
    missed: list[str]
    data: tuple[Path, ...]
    _plain: Graph
    _graph: Graph
    _staged: Staged
    _external: bool | None

    @property
    def model(self) -> onnx.ModelProto:
        """The model as a protobuf message."""
        return emit(self._graph)

    def save(self, path: str | PathLike[str]) -> None:
        """Write the model, atomically: the path holds what it held before, or the whole new model.

        Raises:
            UsageError: the path is that of the original's external data.
            GraphshrinkError: the path cannot be written.
        """
        expect_no_data(Path(path), self.data)
        staged = stage(self._graph, Path(path), external=self._external)
        try:
            if staged.data is None and sha256([staged.model]) != sha256([self._staged.model]):
                raise InternalError("the written file is not the one that was verified")
            if staged.data is not None:  # its name, which follows the model's, is part of the model file
                check_written(staged.model, self._plain)
            staged.commit()
        finally:
            staged.discard()
