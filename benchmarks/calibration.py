"""Does the memory of calibration depend on the number of samples, and what do all layers of a model cost?

1. Statistics of three values of LeNet-5: second moments with a bias, means and variances, histograms, and a sample of
   rows, in one run over 1,000 and over 100,000 samples, each in a fresh process (bar: peak memory within 10 %).
2. All layers of LeNet-300-100 in turn, beside the model as it was, while each is changed: a sample of the rows of both
   (bars: the same, and at most 3 forward passes over the data, counted in operators that run).

Samples are drawn when they are asked for, so that they take no memory themselves. Memory is the peak of the process
(VmHWM); the process in which the models run is shown beside it.
"""

import time
from collections.abc import Callable, Generator, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final

import numpy as np

from benchmarks.measuring import MB, ROOT, in_fresh_process, request, table
from graphshrink.calibration.engine import Calibration
from graphshrink.calibration.reservoir import Reservoir
from graphshrink.calibration.rows import Wanted
from graphshrink.calibration.samples import Indexed
from graphshrink.calibration.statistics import Gram, Histogram, Moments
from graphshrink.ir import edit
from graphshrink.ir.extract import dynamic_operators
from graphshrink.ir.graph import Graph
from graphshrink.ir.types import Array
from graphshrink.onnx_io.load import load
from graphshrink.onnx_io.runtime import Runtime

_FEW, _MANY = 1_000, 100_000
_FEW_SHORT, _MANY_SHORT = 600, 3_000
_ROWS: Final = 500  # fewer than the fewest samples, so that every sample of rows is full
_MEMORY_BAR: Final = 1.1
_PASSES_BAR: Final = 3.0


@contextmanager
def _calibrating(model: str, samples: int) -> Generator[tuple[Graph, Calibration]]:
    """A model of testmodels/, and noise to feed it."""
    graph = load(ROOT / "testmodels" / f"{model}.onnx")
    [info] = graph.inputs
    shape = tuple(dim if isinstance(dim, int) else 1 for dim in info.dims or ())

    def draw(index: int) -> dict[str, Array]:
        return {info.name: np.random.default_rng(index).random(shape, np.float32)}

    with Runtime() as runtime:
        yield graph, Calibration(Indexed(samples, draw, "noise"), runtime)


def _layers(graph: Graph) -> Iterator[tuple[str, str, str]]:
    """Input, output and weight of every layer."""
    dynamic = dynamic_operators(graph)
    for number, operator in graph.operators():
        if number in dynamic and operator.is_a("Conv", "Gemm", "MatMul"):
            yield operator.inputs[0], operator.outputs[0], operator.inputs[1]


def statistics(samples: int) -> dict[str, Any]:
    """Run the first part; the checks are that all rows were seen."""
    started = time.perf_counter()
    with _calibrating("lenet-5", samples) as (graph, calibration):
        names = [output for _, output, _ in _layers(graph)][-3:]
        gathered = {name: (Gram(bias=True), Moments(), Histogram(), Reservoir(_ROWS, 64 * MB)) for name in names}
        for batch in calibration.batches(graph, names):
            for name, (gram, moments, histogram, reservoir) in gathered.items():
                rows = np.moveaxis(batch[name], 1, -1).reshape(-1, batch[name].shape[1])
                gram.add(rows)
                moments.add(rows)
                histogram.add(rows)
                reservoir.add({name: rows})
    for gram, moments, histogram, reservoir in gathered.values():
        assert gram.total[-1, -1] == moments.count == reservoir.seen
        assert histogram.counts.sum() == histogram.count
    return {"seconds": time.perf_counter() - started}


def layer_by_layer(samples: int) -> dict[str, Any]:
    """Run the second part; the check is that the first layer's rows are the same in both, and the last one's not."""
    started = time.perf_counter()
    with _calibrating("lenet-300-100", samples) as (graph, calibration), calibration.sequential(graph) as sequential:
        apart: list[float] = []
        for value, output, weight in _layers(graph):
            reference = [Wanted("before", (value,)), Wanted("target", (output,))]
            rows = sequential.rows(reference, [Wanted("now", (value,))], _ROWS)
            apart.append(float(np.linalg.norm(rows["now"] - rows["before"]) / np.linalg.norm(rows["before"])))
            tensor = graph.constant(weight)
            assert tensor is not None
            edit.set_constant(graph, weight, tensor.with_array(tensor.array * np.float32(0.9)))
        assert apart[0] == 0 < apart[-1]
        passes = sequential.forward_passes
    return {"seconds": time.perf_counter() - started, "forward_passes": passes}


_PARTS: Final[dict[str, Callable[[int], dict[str, Any]]]] = {
    "statistics, LeNet-5": statistics,
    "layer by layer, LeNet-300-100": layer_by_layer,
}


def main() -> None:
    """Run, print and store."""
    asked = request(Path(__file__).stem, __doc__)
    counts = (_FEW_SHORT, _MANY_SHORT) if asked.short else (_FEW, _MANY)
    results: list[dict[str, Any]] = []
    lines: list[tuple[object, ...]] = []
    for name, part in _PARTS.items():
        peaks: list[int] = []
        for count in counts:
            asked.note(f"{name}, {count:,} samples")
            found, watched = in_fresh_process(part, samples=count)
            peaks.append(watched.main.resident)
            ratio = peaks[-1] / peaks[0]
            passes = found.get("forward_passes")
            memory = {"main": watched.main.as_dict(), "worker": watched.worker.as_dict()}
            results.append({"part": name, "samples": count, "memory_ratio": ratio, **memory, **found})
            lines.append(
                (
                    name,
                    count,
                    f"{found['seconds']:.1f}",
                    f"{watched.main.resident / MB:.0f}",
                    f"{watched.worker.resident / MB:.0f}",
                    f"{ratio:.3f} {'' if count == counts[0] else asked.verdict(ratio, _MEMORY_BAR)}",
                    "-" if passes is None else f"{passes:.2f} {asked.verdict(passes, _PASSES_BAR)}",
                )
            )
    header = ("part", "samples", "seconds", "MB", "MB, worker", "memory to few (bar 1.1)", "forward passes (bar 3)")
    print(table(header, lines))
    asked.save({"parts": results})


if __name__ == "__main__":
    main()
