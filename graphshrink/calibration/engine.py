"""What a pass may ask of the sample inputs: `Context.calibration`."""

import statistics
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Final

from graphshrink.calibration.activations import Taps
from graphshrink.calibration.batches import Batches, batches_of
from graphshrink.calibration.observing import Observed, observe
from graphshrink.calibration.rows import RowSample, Wanted, values_of
from graphshrink.calibration.samples import Samples
from graphshrink.calibration.sequential import Asked, Sequential
from graphshrink.ir.graph import Graph
from graphshrink.ir.types import Array, Feeds
from graphshrink.onnx_io.runtime import Runtime
from graphshrink.onnx_io.temporary import written

DEFAULT_MEMORY: Final = 2 << 30
_ROWS: Final = 4  # sampled rows may take one part in four of the memory; solvers need some of the rest


class Calibration:
    """Activations of a model on the samples that passes may fit to.

    Args:
        samples: they.
        runtime: where models run.
        memory: bytes that this process may use.
        seed: of every random choice.
        random: whether the samples were made up, so that little can be learned from them.

    Attributes:
        samples, random: as given.
        row_memory: bytes that sampled rows may take.
    """

    def __init__(
        self,
        samples: Samples,
        runtime: Runtime,
        *,
        memory: int = DEFAULT_MEMORY,
        seed: int = 0,
        random: bool = False,
    ) -> None:
        self.samples = samples
        self.random = random
        self._runtime = runtime
        self.row_memory = memory // _ROWS
        self._seed = seed
        self._batches: Batches | None = None

    def batches(self, graph: Graph, values: Iterable[str]) -> Iterator[Mapping[str, Array]]:
        """Values of the main graph, batch by batch, for statistics of any kind.

        Raises:
            CalibrationError: a value cannot be tapped, or is not finite.
            JudgeError: ONNX Runtime refuses the model.
        """
        return Taps(graph, values, self._runtime, self._batches_of(graph)).batches()

    def rows(self, graph: Graph, wanted: Sequence[Wanted], most: int) -> dict[str, Array]:
        """A sample of rows by key, in one run.

        Args:
            graph: the model.
            wanted: what is wanted of it.
            most: rows to keep of each group; fewer are kept where they would take too much memory.

        Raises:
            CalibrationError, JudgeError: as for `batches`.
        """
        sample = RowSample(wanted, most, self.row_memory, self._seed)
        for values in self.batches(graph, values_of(wanted)):
            sample.add((wanted, values))
        return sample.rows()

    def sequential(self, graph: Graph, reference: Graph | None = None, coming: Iterable[Asked] = ()) -> Sequential:
        """Go through a graph layer by layer while it is being changed; see `graphshrink.calibration.sequential`.

        Args:
            graph: the model that is being changed.
            reference: what to compare with; by default the graph as it is now.
            coming: what will be asked for, as pairs (reference, current), where layers look ahead.

        Raises:
            JudgeError: the model does not run.
        """
        batches = self._batches_of(graph)
        return Sequential(
            graph, batches, self._runtime, memory=self.row_memory, seed=self._seed, reference=reference, coming=coming
        )

    def observed(self, graph: Graph) -> Observed:
        """Shapes and types of a model's values on the first sample; see `graphshrink.calibration.observing`.

        Raises:
            JudgeError: the model does not run.
        """
        return observe(graph, self.samples[0], self._runtime)

    def first(self, graph: Graph, values: Iterable[str]) -> Mapping[str, Array]:
        """Values of the main graph on the first sample.

        Raises:
            CalibrationError, JudgeError: as for `batches`.
        """
        return next(iter(Taps(graph, values, self._runtime, [self.samples[0]]).batches()))

    def seconds(self, graph: Graph, feeds: Feeds, runs: int) -> float:
        """Median time of a run of a model, on one thread.

        Raises:
            JudgeError: the model does not run.
        """
        with written(graph) as path, self._runtime.open(path) as session:
            session.time(feeds, 1)
            return statistics.median(session.time(feeds, runs))

    def outputs(self, graph: Graph, count: int, *, optimise: bool = True) -> list[Feeds]:
        """The outputs of a model on the first samples, with all of ONNX Runtime's optimisations or with none.

        Raises:
            JudgeError: the model does not run.
        """
        with written(graph) as path, self._runtime.open(path, optimise=optimise) as session:
            return [session.run(self.samples[index]) for index in range(min(count, len(self.samples)))]

    def _batches_of(self, graph: Graph) -> Batches:
        if self._batches is None:
            self._batches = batches_of(graph, self.samples, self._runtime)
        return self._batches
