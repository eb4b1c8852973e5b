"""Samples, several at a time where that changes nothing.

Whether samples may be stacked is tried, not guessed: a model can declare a symbolic first axis and mix what lies along
it. Some samples are run one by one and together, and every output has to be the same.
"""

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from typing import Final

import numpy as np

from graphshrink.calibration.samples import Samples, evenly_spaced, held
from graphshrink.errors import CalibrationError, JudgeError
from graphshrink.ir import edit
from graphshrink.ir.extract import fed_inputs
from graphshrink.ir.graph import Graph
from graphshrink.ir.types import Array, Dimension, Feeds, TensorType, ValueInfo
from graphshrink.onnx_io.runtime import Runtime
from graphshrink.onnx_io.shapes import known_shapes
from graphshrink.onnx_io.temporary import written

_MOST: Final = 256  # samples in a batch
_BATCH_BYTES: Final = 64 << 20  # of all values of a model together, for a batch
_ELEMENT: Final = 4  # bytes; most values are float32
_TRIED: Final = 3  # samples that are run together, and one by one
_ROUNDING: Final = 1e-4  # kernels for other sizes add in another order


@dataclass(frozen=True, slots=True)
class Batches:
    """Samples in the order in which they come, stacked along the first axis; the same batches each time.

    Attributes:
        samples: where they come from.
        most: how many samples a batch may have.
        stacked: inputs that are stacked; a batch holds samples that agree in all others, and in shape.
    """

    samples: Samples
    most: int = 1
    stacked: frozenset[str] = field(default_factory=lambda: frozenset[str]())

    def __iter__(self) -> Iterator[Feeds]:
        batch: list[Feeds] = []
        for index in range(len(self.samples)):
            sample = _read(self.samples, index)
            if batch and (len(batch) >= self.most or not self._fit(batch[0], sample)):
                yield self._stack(batch)
                batch = []
            batch.append(sample)
        if batch:
            yield self._stack(batch)

    def _fit(self, first: Feeds, sample: Feeds) -> bool:
        return all(
            array.shape == first[name].shape if name in self.stacked else np.array_equal(array, first[name])
            for name, array in sample.items()
        )

    def _stack(self, batch: Sequence[Feeds]) -> Feeds:
        if len(batch) == 1:
            return batch[0]
        return {
            name: np.concatenate([sample[name] for sample in batch]) if name in self.stacked else array
            for name, array in batch[0].items()
        }


def batches_of(graph: Graph, samples: Samples, runtime: Runtime) -> Batches:
    """Batches as large as the model and a bound on their bytes allow.

    Raises:
        JudgeError: the model does not run.
    """
    inputs = frozenset(info.name for info in fed_inputs(graph) if _open_first_axis(info))
    few = [_read(samples, index) for index in evenly_spaced(len(samples), _TRIED)]
    together = list(Batches(held(few, samples.description), len(few), inputs))
    alone = Batches(samples)
    if not inputs or len(few) < 2 or len(together) > 1 or _all_equal(few):
        return alone
    most = min(_MOST, _BATCH_BYTES // max(1, _bytes_of_values(graph, few[0], runtime)))
    if most < 2:
        return alone
    with written(graph) as path, runtime.open(path) as session:
        one_by_one = [session.run(sample) for sample in few]
        try:
            whole = session.run(together[0])
        except JudgeError:  # a shape that the model wrote down for one sample
            return alone
    same = all(_same([outputs[name] for outputs in one_by_one], array) for name, array in whole.items())
    return Batches(samples, most, inputs) if same else alone


def _read(samples: Samples, index: int) -> Feeds:
    try:
        return samples[index]
    except OSError as e:
        place = f"{samples.description}: sample {index}"
        raise CalibrationError(f"{place} cannot be read any more: {e.strerror or e}") from e


def _all_equal(samples: Sequence[Feeds]) -> bool:
    """Whether samples could not show that they are mixed up."""
    return all(np.array_equal(array, samples[0][name]) for sample in samples for name, array in sample.items())


def _open_first_axis(info: ValueInfo) -> bool:
    dims = info.dims
    return dims is not None and len(dims) > 0 and not isinstance(dims[0], int)


def _bytes_of_values(graph: Graph, sample: Feeds, runtime: Runtime) -> int:
    """About what all values of a model take for one sample, as far as their shapes can be told."""
    fixed = graph.copy()
    edit.set_inputs(fixed, (_of_size(info, sample) for info in graph.inputs))
    with written(fixed) as path:
        shapes = known_shapes(runtime, path)
    known = [[dim for dim in dims if isinstance(dim, int)] for dims in shapes.values()]
    return sum(_ELEMENT * math.prod(dims) for dims in known)


def _of_size(info: ValueInfo, sample: Feeds) -> ValueInfo:
    if info.name not in sample or not isinstance(info.type, TensorType):
        return info
    return replace(info, type=replace(info.type, shape=tuple(map(Dimension, sample[info.name].shape))))


def _same(parts: Sequence[Array], whole: Array) -> bool:
    """Whether an output of several samples is what they give one by one, laid side by side along some axis."""
    if whole.dtype == object or whole.ndim == 0:
        return False
    return any(_side_by_side(parts, whole, axis) for axis in range(whole.ndim))


def _side_by_side(parts: Sequence[Array], whole: Array, axis: int) -> bool:
    try:
        expected = np.concatenate(parts, axis)
    except ValueError:
        return False
    if expected.shape != whole.shape:
        return False
    if whole.dtype.kind in "biu":
        return bool(np.array_equal(expected, whole))
    wanted, got = expected.astype(np.float64), whole.astype(np.float64)
    return bool(np.linalg.norm(wanted - got) <= _ROUNDING * np.linalg.norm(wanted))
