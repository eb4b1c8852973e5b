"""Values inside a model, on sample inputs: the model runs in ONNX Runtime, with taps on the values that are wanted.

    for batch in Taps(graph, ["h"], runtime, batches).batches():
        batch["h"]

Only the operators behind the wanted values run.
"""

from collections.abc import Collection, Iterable, Iterator, Mapping
from typing import Final

import numpy as np

from graphshrink.calibration.feeds import category
from graphshrink.errors import CalibrationError, NotFiniteError
from graphshrink.escaping import safe
from graphshrink.ir.extract import dynamic_operators, extract, fed_inputs
from graphshrink.ir.graph import Graph
from graphshrink.ir.types import Array, Feeds
from graphshrink.onnx_io.runtime import Runtime
from graphshrink.onnx_io.temporary import written

_NUMBERS: Final = {"bool": True, "integer": True, "float": False, "complex": False}  # whether all are finite


def why_not_tapped(scope: Graph, name: str, dynamic: Collection[int] | None = None) -> str | None:
    """Why the activations of a value cannot be had, or None if they can.

    Args:
        scope: the graph that holds the value.
        name: of the value.
        dynamic: the operators of a main graph that depend on its inputs, where they are known already.
    """
    if scope.owner is not None:
        outer, number = scope.owner
        return f"it lies in a body of {safe(outer.operator(number).op_type)}, whose values are not seen from outside"
    if scope.header is None:
        return "it lies in a function of the model, whose values are not seen from outside"
    return _why_not_in_main(scope, name, dynamic_operators(scope) if dynamic is None else dynamic)


def _why_not_in_main(graph: Graph, name: str, dynamic: Collection[int]) -> str | None:
    if name not in graph:
        return "the model has no such value"
    producer = graph.producer(name)
    if producer is not None:
        return None if producer in dynamic else "it does not depend on the model's inputs"
    return None if any(info.name == name for info in fed_inputs(graph)) else "it is a constant"


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
        expect_tappable(graph, self._values, dynamic_operators(graph))

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
        expect_finite(self._graph, found)
        return found


def expect_tappable(graph: Graph, values: Iterable[str], dynamic: Collection[int]) -> None:
    """Raises: CalibrationError, unless the activations of all values of a main graph can be had.

    `dynamic` are the operators of the graph that depend on its inputs.
    """
    for name in values:
        reason = _why_not_in_main(graph, name, dynamic)
        if reason is not None:
            raise CalibrationError(f"'{_shown(graph, name)}': its activations cannot be had: {reason}")


def expect_finite(graph: Graph, values: Mapping[str, Array]) -> None:
    """Raises: CalibrationError, if a value is no tensor of numbers; NotFiniteError, if it is not finite anywhere."""
    for name, array in values.items():
        kind = category(array.dtype)
        if kind not in _NUMBERS:
            raise CalibrationError(f"'{_shown(graph, name)}': its activations are no numbers; leave its layers out")
        if _NUMBERS[kind] or bool(np.isfinite(array).all()):
            continue
        raise NotFiniteError(
            f"'{_shown(graph, name)}': its activations hold NaN or infinite values; leave the layers that use it out, "
            "or remove the samples that cause them",
            name,
        )


def _shown(graph: Graph, name: str) -> str:
    return safe(graph.original_name(name))
