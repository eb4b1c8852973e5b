"""Comparing models by their outputs, side by side in ONNX Runtime."""

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

import numpy as np

from graphshrink.calibration.random_inputs import random_samples
from graphshrink.calibration.ranges import input_ranges
from graphshrink.calibration.samples import Indexed, Samples, evenly_spaced
from graphshrink.calibration.sources import Source, open_samples
from graphshrink.errors import CalibrationError, JudgeError
from graphshrink.escaping import safe
from graphshrink.ir.graph import Graph
from graphshrink.ir.types import Feeds, TensorSpec
from graphshrink.metrics.output_error import OutputComparison, OutputError
from graphshrink.onnx_io.external import model_files
from graphshrink.onnx_io.load import load
from graphshrink.onnx_io.runtime import Limits, Runtime, Session

_CACHED_BYTES: Final = 256 << 20
"""Outputs of the original up to this much are kept, so that it need not run again for every candidate."""

DEFAULT_BOUND: Final = 0.1
"""The largest error allowed when there are sample inputs and nothing else is said."""

_RANDOM_SAMPLES: Final = 10
_FREE_SIZES: Final = (
    16,
    64,
    224,
    1,
)  # for axes of any size: small first; networks that halve their input need multiples of 32


@dataclass(frozen=True, slots=True)
class SampleRequest:
    """Where samples are to come from.

    Attributes:
        source: sample inputs, or None for random ones.
        limit: samples to use at most.
        seed: of random samples.
        shapes: of inputs whose size the model leaves open, for random samples.
    """

    source: Source | None = None
    limit: int = 128
    seed: int = 0
    shapes: Mapping[str, tuple[int, ...]] = field(default_factory=lambda: dict[str, tuple[int, ...]]())

    @property
    def random(self) -> bool:
        """Whether the samples are made up."""
        return self.source is None

    def open(self, graph: Graph, session: Session) -> Samples:
        """The samples, for a model that is running.

        Raises:
            CalibrationError: the samples do not fit the model.
            JudgeError: the model does not run on random inputs of any size tried.
        """
        if self.source is not None:
            return open_samples(self.source, session.inputs, limit=self.limit)
        ranges = _usable(input_ranges(graph), session.inputs)
        refusal: JudgeError | None = None
        tried: set[tuple[tuple[int, ...], ...]] = set()
        for free in _FREE_SIZES:
            samples = self._random(session, ranges, free)
            shapes = tuple(array.shape for array in samples[0].values())
            if shapes in tried:
                break
            tried.add(shapes)
            try:
                outputs = session.run(samples[0])
            except JudgeError as e:
                refusal = refusal or e
                continue
            comparison = OutputComparison()
            comparison.add(outputs, outputs)
            if any(output.comparable for output in comparison.results().values()):
                return samples
            refusal = refusal or JudgeError("its outputs are empty or not finite")
        place = safe(session.model.name)
        raise JudgeError(f"{place}: does not run on random inputs; give --calibration, or --input-shape: {refusal}")

    def _random(self, session: Session, ranges: Mapping[str, tuple[int, int]], free: int) -> Samples:
        """Raises: CalibrationError, which names the model as well: here there is no file of samples to name."""
        try:
            return random_samples(
                session.inputs, count=_RANDOM_SAMPLES, seed=self.seed, ranges=ranges, shapes=self.shapes, free=free
            )
        except CalibrationError as e:
            raise CalibrationError(f"{safe(session.model.name)}: {e}") from e

    def bound(self, given: float | None) -> float | None:
        """The bound that holds: what was given, else the default, which random inputs say too little for."""
        return given if given is not None or self.random else DEFAULT_BOUND


@dataclass(frozen=True, slots=True)
class Verdict:
    """How far a model's outputs are from another's over some samples.

    Attributes:
        outputs: figures for every output.
        worst: the largest error of any output; see `OutputError.error`.
        samples: how many samples were compared.
    """

    outputs: dict[str, OutputError]
    worst: float
    samples: int

    @property
    def says_something(self) -> bool:
        """Whether anything could be compared: outputs that are empty, or NaN on both sides, prove nothing."""
        return any(output.comparable for output in self.outputs.values())


def compare_files(
    runtime: Runtime, expected: Path, actual: Path, samples: Samples, *, optimise: bool = True
) -> Verdict:
    """Run two models on the same samples, both with ONNX Runtime's optimisations or both without.

    Raises:
        JudgeError: one of them does not run.
    """
    with Original(runtime, expected, optimise) as original:
        return original.compare(actual, samples)


@dataclass(slots=True)
class _Remembered:
    """Outputs for samples by index; holding the samples keeps their identity from being given to others."""

    samples: Samples
    outputs: dict[int, Feeds] = field(default_factory=lambda: dict[int, Feeds]())


@dataclass(slots=True)
class Original:
    """The model that everything is compared with; its session stays open and its outputs are remembered.

    Attributes:
        runtime: where models run.
        path: the model file.
        optimise: whether ONNX Runtime optimises it and what it is compared with.
    """

    runtime: Runtime
    path: Path
    optimise: bool = True
    _session: Session | None = None
    _outputs: dict[int, _Remembered] = field(default_factory=lambda: dict[int, _Remembered]())
    _cached: int = 0

    @property
    def session(self) -> Session:
        """The running original, opened when first needed."""
        if self._session is None:
            self._session = self.runtime.open(self.path, optimise=self.optimise)
        return self._session

    def compare(self, candidate: Path, samples: Samples) -> Verdict:
        """Compare a candidate's outputs with the original's.

        Raises:
            JudgeError: one of the models does not run, or takes other inputs.
        """
        comparison = OutputComparison()
        with self.runtime.open(candidate, optimise=self.optimise) as session:
            for index, feeds in _numbered(samples):
                comparison.add(self._expected(samples, index, feeds), session.run(feeds))
        return Verdict(comparison.results(), comparison.worst, len(samples))

    def expect_repeatable(self, samples: Samples) -> None:
        """Make sure that the model gives the same outputs twice.

        Raises:
            JudgeError: it does not (random operators), so that nothing could be verified.
        """
        comparison = OutputComparison()
        comparison.add(self._expected(samples, 0, samples[0]), self.session.run(samples[0]))
        if comparison.worst > 1e-6:
            raise JudgeError(
                f"{self.path.name}: other outputs for the same inputs, so nothing can be verified; use --no-verify"
            )

    def _expected(self, samples: Samples, index: int, feeds: Feeds) -> Feeds:
        known = self._outputs.setdefault(id(samples), _Remembered(samples)).outputs
        if index in known:
            return known[index]
        outputs = self._run(feeds)
        size = sum(array.nbytes for array in outputs.values())
        if self._cached + size <= _CACHED_BYTES:
            known[index] = outputs
            self._cached += size
        return outputs

    def _run(self, feeds: Feeds) -> Feeds:
        """Run the original, in a new session where a candidate has taken the worker down with it."""
        try:
            return self.session.run(feeds)
        except JudgeError:
            self._session = None
            return self.session.run(feeds)

    def close(self) -> None:
        """End the session."""
        if self._session is not None:
            self._session.close()

    def __enter__(self) -> "Original":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def some(samples: Samples, count: int) -> Samples:
    """A few samples, evenly spaced."""
    chosen = evenly_spaced(len(samples), count)
    return Indexed(len(chosen), lambda index: samples[chosen[index]], f"{len(chosen)} of {samples.description}")


def _usable(ranges: Mapping[str, tuple[int, int]], inputs: Sequence[TensorSpec]) -> dict[str, tuple[int, int]]:
    """Ranges learned from the graph, as far as the types of the inputs can hold them: hints, never a reason to fail."""
    usable: dict[str, tuple[int, int]] = {}
    for spec in inputs:
        if spec.name in ranges and spec.dtype.kind in "iu":
            low, high = ranges[spec.name]
            usable[spec.name] = (low, min(high, int(np.iinfo(spec.dtype).max)))
    return usable


def _numbered(samples: Samples) -> Iterator[tuple[int, Feeds]]:
    for index in range(len(samples)):
        try:
            feeds = samples[index]
        except OSError as e:
            raise CalibrationError(
                f"{samples.description}: sample {index} cannot be read any more: {e.strerror or e}"
            ) from e
        yield index, feeds


@dataclass(frozen=True, slots=True)
class Comparison:
    """Two models side by side.

    Attributes:
        verdict: figures for every output.
        inputs: where the samples came from.
        random: whether they were made up.
        bound: the largest error allowed, or None.
    """

    verdict: Verdict
    inputs: str
    random: bool
    bound: float | None

    @property
    def passed(self) -> bool:
        """Whether the outputs could be compared and are within the bound."""
        limit = math.inf if self.bound is None else self.bound
        return math.isfinite(self.verdict.worst) and self.verdict.worst <= limit


def compare_models(
    expected: Path,
    actual: Path,
    request: SampleRequest,
    bound: float | None,
    limits: Limits | None = None,
    providers: Sequence[str] = ("CPUExecutionProvider",),
) -> Comparison:
    """Compare the outputs of two model files; with sample inputs and no bound given, the bound is `DEFAULT_BOUND`.

    Raises:
        ModelError: a file is no sound model.
        JudgeError: a model does not run.
        CalibrationError: the samples do not fit the models.
    """
    graph, other = load(expected), load(actual)
    files = (*model_files(graph, expected), *model_files(other, actual))
    with (limits or Limits()).runtime(files, providers) as runtime, Original(runtime, expected) as original:
        samples = request.open(graph, original.session)
        return Comparison(original.compare(actual, samples), samples.description, request.random, request.bound(bound))
