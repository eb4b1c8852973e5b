"""How far a graph has been run: the values behind which operators have still to run, on every batch.

    x ─▶ A ─▶ a ─▶ B ─▶ b ─▶ C ...          after b was asked for: kept are b, and a if something else still needs it

A value is always that of the graph as it is now: what was computed with weights that have been changed since is
forgotten, and computed again from what is left.
"""

from collections import Counter
from collections.abc import Callable, Generator, Iterable, Sequence
from contextlib import contextmanager
from functools import partial
from itertools import count
from pathlib import Path
from typing import Any, Final, NamedTuple, TypeAlias

from graphshrink.calibration.activations import expect_finite, expect_tappable
from graphshrink.calibration.kept import Column
from graphshrink.ir.extract import dynamic_operators, extract, fed_inputs, operators_behind
from graphshrink.ir.graph import Graph
from graphshrink.ir.operator import Operator
from graphshrink.ir.tensor import ELEM_TYPES
from graphshrink.ir.types import Dimension, Feeds, TensorType, ValueInfo
from graphshrink.onnx_io.frames import PARTS_OF_BYTES
from graphshrink.onnx_io.runtime import Runtime, Session
from graphshrink.onnx_io.temporary import written

_Take: TypeAlias = Callable[[int, Feeds], Feeds]
_Contents: TypeAlias = tuple[Operator, *tuple[object, ...]]

_UNFED: Final = frozenset({"object", *PARTS_OF_BYTES})  # types of values that a session gives, and cannot be given


class Step(NamedTuple):
    """What is taken for every batch.

    Attributes:
        take: gives the values that were asked for, of the number of the batch and what the model is fed.
        fed: whether it looks at what the model is fed.
    """

    take: _Take
    fed: bool


class Frontier:
    """A graph, and its values on every batch as far as they are still needed.

    Args:
        graph: a main graph, which may be changed between two runs.
        folder: for the values; it has to be empty, and outlive this.
        coming: values that will be asked for, as often as they will; they stay until then.

    Attributes:
        operators_run: how many operators were run on all batches, each time counted.
    """

    def __init__(self, graph: Graph, folder: Path, coming: Iterable[str] = ()) -> None:
        self._graph = graph
        self._folder = folder
        self._coming = Counter(coming)
        self._names = count()
        self._columns: dict[str, Column] = {}
        self._done: dict[int, _Contents] = {}  # operators that were run, with all that they then were
        self.operators_run = 0

    @contextmanager
    def run(self, values: Sequence[str], runtime: Runtime) -> Generator[Step]:
        """Run what is needed for some values; the step has to be taken for every batch, in order.

        Raises:
            CalibrationError: a value cannot be tapped, or is not finite.
            JudgeError: ONNX Runtime refuses this part of the model.
        """
        dynamic = dynamic_operators(self._graph)
        expect_tappable(self._graph, values, dynamic)
        self._forget_what_changed()
        inputs = {info.name: info for info in fed_inputs(self._graph)}
        numbers = operators_behind(self._graph, values, {*self._columns, *inputs})
        if numbers:
            behind = {number: self._contents(number) for number in numbers}
            part = self._part(values, numbers, dynamic, inputs.values())
            read = {*values, *(info.name for info in part.inputs)}
            with self._running(part, values, runtime) as take:
                yield Step(take, not read.isdisjoint(inputs))
            self._done |= behind
            self.operators_run += len(numbers & dynamic)
        else:
            yield Step(partial(self._asked, values, {}), not inputs.keys().isdisjoint(values))
        self._drop_unneeded(values)

    def _part(self, values: Sequence[str], numbers: set[int], dynamic: set[int], inputs: Iterable[ValueInfo]) -> Graph:
        """The operators of these numbers; it gives what is asked for, and what others will need."""
        results = self._results(numbers & dynamic)
        wanted = [name for name in results if name in values or self._is_needed(name, numbers)]
        kept = [_declared(name, column) for name, column in self._columns.items() if name not in results]
        return extract(self._graph, (*inputs, *kept), (name for name in wanted if name not in self._columns))

    @contextmanager
    def _running(self, part: Graph, values: Sequence[str], runtime: Runtime) -> Generator[_Take]:
        """Run a part on every batch; keep its results, unless the run is broken off."""
        new: dict[str, Column] = {}
        try:
            with written(part) as path, runtime.open(path) as session:
                new.update((name, self._new_column()) for name in _keepable(session))
                fetched = [spec.name for spec in session.outputs if spec.name in new or spec.name in values]

                def take(batch: int, feeds: Feeds) -> Feeds:
                    outputs = session.run(self._fed(part, batch, feeds), fetched)
                    for name, column in new.items():
                        column.append(outputs[name])
                    return self._asked(values, outputs, batch, feeds)

                yield take
        except BaseException:
            for column in new.values():
                column.drop()
            raise
        self._columns |= new

    def _fed(self, part: Graph, batch: int, feeds: Feeds) -> Feeds:
        names = [info.name for info in part.inputs]
        return {name: self._columns[name].read(batch) if name in self._columns else feeds[name] for name in names}

    def _asked(self, values: Sequence[str], outputs: Feeds, batch: int, feeds: Feeds) -> Feeds:
        def value(name: str) -> Any:
            if name in outputs:
                return outputs[name]
            return self._columns[name].read(batch) if name in self._columns else feeds[name]

        found = {name: value(name) for name in values}
        expect_finite(self._graph, found)
        return found

    def _new_column(self) -> Column:
        return Column(self._folder / str(next(self._names)))

    def _results(self, numbers: set[int]) -> list[str]:
        operators = [operator for number, operator in self._graph.operators() if number in numbers]
        return [name for operator in operators for name in operator.outputs if name]

    def _is_needed(self, name: str, running: set[int]) -> bool:
        """Whether the value will be asked for, or an operator that has not run yet, nor is running now, uses it."""
        if self._coming[name] > 0:
            return True
        return any(use.operator not in self._done and use.operator not in running for use in self._graph.uses(name))

    def _drop_unneeded(self, asked: Sequence[str]) -> None:
        self._coming.subtract(asked)
        for name in list(self._columns):
            if name not in asked and not self._is_needed(name, set()):
                self._columns.pop(name).drop()

    # ---- changes of the graph

    def _forget_what_changed(self) -> None:
        changed: set[str] = set()
        for number in self._done.keys() - set(self._graph.order):
            changed.update(self._done.pop(number)[0].outputs)
        for number, operator in self._graph.operators():
            if number not in self._done:
                continue
            before = self._done[number]
            if not changed.isdisjoint(self._graph.used_by(number)) or before != self._contents(number):
                changed.update((*before[0].outputs, *operator.outputs))
                del self._done[number]
        for name in list(self._columns):
            if name in changed or name not in self._graph:
                self._columns.pop(name).drop()

    def _contents(self, number: int) -> _Contents:
        """Everything that an operator computes with, beside values: objects that are replaced when they change."""
        operator = self._graph.operator(number)
        found: list[object] = [self._graph.value(name).constant for name in self._graph.used_by(number)]
        scopes = [scope for _, body in operator.subgraphs() for _, scope in body.nested()]
        header = self._graph.header
        functions = header.functions if header is not None else []
        if scopes or any(function.name == operator.op_type for function in functions):
            scopes += [scope for function in functions for _, scope in function.body.nested()]
        for scope in scopes:
            found += [inner for _, inner in scope.operators()]
            found += [value.constant for value in scope.initializers()]
        return operator, *found


def _declared(name: str, column: Column) -> ValueInfo:
    return ValueInfo(
        name, TensorType(ELEM_TYPES[column.dtype], None if column.rank is None else (Dimension(),) * column.rank)
    )


def _keepable(session: Session) -> list[str]:
    return [spec.name for spec in session.outputs if spec.dtype.name not in _UNFED]
