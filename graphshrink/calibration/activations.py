"""Values inside a model, on sample inputs: the model runs in ONNX Runtime, with taps on the values that are wanted.

    for batch in Taps(graph, ["h"], runtime, batches).batches():
        batch["h"]

Only the operators behind the wanted values run.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Final

import numpy as np

from graphshrink.errors import CalibrationError
from graphshrink.escaping import safe
from graphshrink.ir.extract import dynamic_operators, extract, fed_inputs
from graphshrink.ir.graph import Graph
from graphshrink.ir.types import Array, Feeds
from graphshrink.onnx_io.runtime import Runtime
from graphshrink.onnx_io.temporary import written

_EXACT: Final = "biu"  # kinds of element types that have no NaN


def why_not_tapped(scope: Graph, name: str) -> str | None:
    """Why the activations of a value cannot be had, or None if they can.

    Args:
        scope: the graph that holds the value.
        name: of the value.
    """
    if scope.owner is not None:
        outer, number = scope.owner
        return f"it lies in a body of {safe(outer.operator(number).op_type)}, whose values are not seen from outside"
    if scope.header is None:
        return "it lies in a function of the model, whose values are not seen from outside"
    if name not in scope:
        return "the model has no such value"
    producer = scope.producer(name)
    if producer is None:
        fed = any(info.name == name for info in fed_inputs(scope))
        return None if fed else "it is a constant"
    return None if producer in dynamic_operators(scope) else "it does not depend on the model's inputs"


class Taps:
    """A main graph that is run for the sake of some of its values.

    Args:
        graph: the model.
        values: names of values in its main graph; see `why_not_tapped`.
        runtime: where it runs.
        batches: what it is fed.

    Raises:
        CalibrationError: a value cannot be tapped.
    """

    def __init__(self, graph: Graph, values: Iterable[str], runtime: Runtime, batches: Iterable[Feeds]) -> None:
        self._graph = graph
        self._values = tuple(dict.fromkeys(values))
        self._runtime = runtime
        self._batches = batches
        expect_tappable(graph, self._values)

    def batches(self) -> Iterator[Mapping[str, Array]]:
        """The wanted values, batch by batch.

        Raises:
            CalibrationError: activations are NaN or infinite.
            JudgeError: ONNX Runtime refuses the model, or a value is of a type that it cannot give.
        """
        inner = [name for name in self._values if self._graph.producer(name) is not None]
        if not inner:
            yield from (self._with(feeds, {}) for feeds in self._batches)
            return
        part = extract(self._graph, fed_inputs(self._graph), inner)
        with written(part) as path, self._runtime.open(path) as session:
            for feeds in self._batches:
                yield self._with(feeds, session.run({info.name: feeds[info.name] for info in part.inputs}))

    def _with(self, feeds: Feeds, outputs: Feeds) -> Mapping[str, Array]:
        found = {name: outputs[name] if name in outputs else feeds[name] for name in self._values}
        expect_finite(found)
        return found


def expect_tappable(graph: Graph, values: Sequence[str]) -> None:
    """Raises: CalibrationError, unless the activations of all values can be had."""
    for name in values:
        reason = why_not_tapped(graph, name)
        if reason is not None:
            raise CalibrationError(f"'{safe(name)}': its activations cannot be had: {reason}")


def expect_finite(values: Mapping[str, Array]) -> None:
    """Raises: CalibrationError, if a value is NaN or infinite anywhere."""
    for name, array in values.items():
        if array.dtype == object or array.dtype.kind in _EXACT or bool(np.isfinite(array).all()):
            continue
        raise CalibrationError(
            f"'{safe(name)}': its activations hold NaN or infinite values; leave the layers that use it out, "
            "or remove the samples that cause them"
        )
