"""Names for the states of recurrent layers while they are looked at: files leave outputs unnamed that nothing uses."""

from collections.abc import Generator
from contextlib import contextmanager
from dataclasses import replace
from itertools import count

from graphshrink.ir import edit
from graphshrink.ir.graph import Graph
from graphshrink.ir.naming import all_names

_RECURRENT = ("GRU", "LSTM", "RNN")


@contextmanager
def named_states(graph: Graph) -> Generator[None]:
    """Give every recurrent operator of a main graph a name for its first output, until the block ends."""
    taken = all_names(graph)
    fresh = (name for number in count() if (name := f"states_{number}") not in taken)
    unnamed = {
        number: operator
        for number, operator in graph.operators()
        if operator.is_a(*_RECURRENT) and operator.outputs and not operator.outputs[0]
    }
    for number, operator in unnamed.items():
        edit.replace_operator(graph, number, replace(operator, outputs=(next(fresh), *operator.outputs[1:])))
    try:
        yield
    finally:
        for number, operator in unnamed.items():
            edit.replace_operator(graph, number, operator)
