"""A model beside itself as it was: activations layer by layer, while the layers before are being changed.

    with calibration.sequential(graph) as sequential:
        for layer in layers:                                     # in the order in which they run
            for batch in sequential.batches([layer.input, layer.output], [layer.input]):
                batch.reference[layer.input], batch.current[layer.input]
            edit.set_constant(graph, ...)                        # seen by all layers behind this one

Every operator runs once in each of the two, whatever the number of layers, as long as layers come in order: a part of
the model is run from the values that the part before it left. What a layer asks for behind a layer that is still to be
changed is run again after the change.
"""

import tempfile
from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import repeat
from pathlib import Path
from types import TracebackType
from typing import NamedTuple, Self, TypeAlias

from graphshrink.calibration.batches import Batches
from graphshrink.calibration.frontier import Frontier
from graphshrink.calibration.rows import RowSample, Wanted, values_of
from graphshrink.ir.extract import dynamic_operators
from graphshrink.ir.graph import Graph
from graphshrink.ir.types import Array, Feeds
from graphshrink.onnx_io.runtime import TEMPORARY, Runtime

Asked: TypeAlias = tuple[Sequence[str], Sequence[str]]
"""Names of values of the reference, and of the graph as it is now."""


class Both(NamedTuple):
    """The values that were asked for on one batch.

    Attributes:
        reference: in the model as it was.
        current: in the model as it is now.
    """

    reference: Mapping[str, Array]
    current: Mapping[str, Array]


class Sequential:
    """A graph that is being changed, beside a reference; the values between their parts are kept on disk.

    Args:
        graph: the model that is being changed.
        batches: what both are fed.
        runtime: where they run.
        memory: bytes that sampled rows may take.
        seed: of the sample.
        reference: what to compare with; by default the graph as it is now.
        coming: what will be asked for, as pairs (reference, current), so that it is kept until then. Needed only where
            a layer looks at values behind a later one, such as a skip connection of its own convolution.
    """

    def __init__(
        self,
        graph: Graph,
        batches: Batches,
        runtime: Runtime,
        *,
        memory: int,
        seed: int = 0,
        reference: Graph | None = None,
        coming: Iterable[Asked] = (),
    ) -> None:
        asked = list(coming)
        reference = graph.copy() if reference is None else reference
        self._batches = batches
        self._runtime = runtime
        self._memory = memory
        self._seed = seed
        self._count: int | None = None  # of batches, once it is known
        self._operators = len(dynamic_operators(reference))
        self._folder = tempfile.TemporaryDirectory(prefix=TEMPORARY)
        self._reference = Frontier(reference, self._subfolder("reference"), [name for one, _ in asked for name in one])
        self._current = Frontier(graph, self._subfolder("current"), [name for _, one in asked for name in one])

    def batches(self, reference: Sequence[str] = (), current: Sequence[str] = ()) -> Iterator[Both]:
        """Values of both models, batch by batch; to be read to the end, else the work is done again.

        Raises:
            CalibrationError: a value cannot be tapped, or is not finite.
            JudgeError: ONNX Runtime refuses a part of a model.
        """
        with (
            self._reference.run(reference, self._runtime) as then,
            self._current.run(current, self._runtime) as now,
        ):
            number = -1
            for number, feeds in enumerate(self._feeds(then.fed or now.fed)):
                yield Both(then.take(number, feeds), now.take(number, feeds))
            self._count = number + 1

    def _feeds(self, needed: bool) -> Iterable[Feeds]:
        """What the models are fed; nothing for each batch where nobody looks, since samples may take long to read."""
        return self._batches if needed or self._count is None else repeat({}, self._count)

    def rows(self, reference: Sequence[Wanted], current: Sequence[Wanted], most: int) -> dict[str, Array]:
        """A sample of the rows of both models by key; see `Calibration.rows`.

        Raises:
            CalibrationError, JudgeError: as for `batches`.
        """
        sample = RowSample((*reference, *current), most, self._memory, self._seed)
        for both in self.batches(values_of(reference), values_of(current)):
            sample.add((reference, both.reference), (current, both.current))
        return sample.rows()

    @property
    def is_stacked(self) -> bool:
        """Whether batches may hold several samples."""
        return self._batches.most > 1

    @property
    def forward_passes(self) -> float:
        """Operators that were run so far, as a multiple of those of the reference."""
        return (self._reference.operators_run + self._current.operators_run) / max(1, self._operators)

    def close(self) -> None:
        """Remove what was kept."""
        self._folder.cleanup()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()

    def _subfolder(self, name: str) -> Path:
        path = Path(self._folder.name, name)
        path.mkdir()
        return path
