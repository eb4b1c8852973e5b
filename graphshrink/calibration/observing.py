"""What one run shows of a model: shapes and types of all values, and those values that do not depend on inputs."""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

import numpy as np

from graphshrink.ir import edit
from graphshrink.ir.extract import dynamic_operators
from graphshrink.ir.graph import Graph
from graphshrink.ir.naming import all_names
from graphshrink.ir.operator import Operator
from graphshrink.ir.tensor import Tensor
from graphshrink.ir.types import Array, Feeds, ValueInfo
from graphshrink.onnx_io.runtime import Runtime
from graphshrink.onnx_io.temporary import written

_SMALL: Final = 4096  # elements; larger values are not looked at
_LISTS: Final = re.compile("Sequence|Optional")  # operators whose results are no tensors, and have no shape


@dataclass(frozen=True, slots=True)
class Observed:
    """A main graph as it was seen on one sample.

    Attributes:
        shapes: of its tensors, by name, constants included.
        dtypes: likewise.
        known: values that do not depend on inputs, by name, where they are small.
    """

    shapes: Mapping[str, tuple[int, ...]]
    dtypes: Mapping[str, np.dtype[Any]]
    known: Mapping[str, Array]


def observe(graph: Graph, feeds: Feeds, runtime: Runtime) -> Observed:
    """Run a main graph once, with taps on everything.

    Raises:
        JudgeError: it does not run.
    """
    constants = {value.name: tensor for value in graph.values() if (tensor := graph.constant(value.name)) is not None}
    operators = [operator for _, operator in graph.operators() if not _gives_no_tensor(operator)]
    made = [name for operator in operators for name in operator.outputs if name and name not in constants]
    dynamic = dynamic_operators(graph)
    static = [name for name in made if graph.producer(name) not in dynamic]
    known = {name: tensor.array for name, tensor in constants.items() if tensor.size <= _SMALL}
    model, sizes = _sized(graph, made)
    with written(model) as path, runtime.open(path) as session:
        dtypes = {spec.name: spec.dtype for spec in session.outputs}
        tensors = {
            spec.name: sizes[spec.name] for spec in session.outputs if spec.name in sizes and spec.dtype != object
        }
        found = session.run(feeds, list(tensors.values())) if tensors else {}
        shapes = {name: tuple(map(int, found[size])) for name, size in tensors.items()}
        small = [name for name in static if name in shapes and int(np.prod(shapes[name], dtype=np.float64)) <= _SMALL]
        known |= session.run(feeds, small) if small else {}
    shapes |= {name: tensor.dims for name, tensor in constants.items()}
    shapes |= {name: array.shape for name, array in feeds.items()}
    dtypes |= {name: tensor.array.dtype for name, tensor in constants.items() if not _is_text(tensor)}
    dtypes |= {name: array.dtype for name, array in feeds.items()}
    return Observed(shapes, dtypes, known)


def _gives_no_tensor(operator: Operator) -> bool:
    return bool(_LISTS.search(operator.op_type)) or "sparse_value" in operator.attributes


def _is_text(tensor: Tensor) -> bool:
    return tensor.array.dtype == object


def _sized(graph: Graph, made: list[str]) -> tuple[Graph, dict[str, str]]:
    """A graph that gives all of its values, and the size of each; the names of those sizes by value."""
    model = graph.copy()
    taken = all_names(graph)
    sizes: dict[str, str] = {}
    for number, name in enumerate(made):
        sizes[name] = f"{name}_size_{number}"
        while sizes[name] in taken:
            sizes[name] += "_"
        edit.add_operator(model, Operator("Shape", (name,), (sizes[name],)))
    declared = {info.name for info in graph.outputs}
    more = [name for name in (*made, *sizes.values()) if name not in declared]
    edit.set_outputs(model, (*graph.outputs, *(ValueInfo(name, graph.type_of(name)) for name in more)))
    return model, sizes
