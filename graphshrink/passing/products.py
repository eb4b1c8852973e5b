"""The part of the emission check that is about weights in a basis: they are added up by the runtime, and rounded."""

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from graphshrink.encodings import most_ulps
from graphshrink.errors import InternalError
from graphshrink.ir import edit
from graphshrink.ir.basis import SpectralData
from graphshrink.ir.graph import Graph, Header
from graphshrink.ir.tensor import Tensor
from graphshrink.ir.types import Dimension, TensorType, ValueInfo
from graphshrink.ir.weight import weights
from graphshrink.onnx_io.load import load_as_stored
from graphshrink.onnx_io.runtime import Runtime
from graphshrink.onnx_io.temporary import written


def check_products(runtime: Runtime, path: Path, graph: Graph, labels: Sequence[str]) -> None:
    """Let ONNX Runtime decode weights in a basis, and compare them; those of the main graph.

    Args:
        runtime: where models run.
        path: the written file.
        graph: what it was made from.
        labels: of the weights that are stored so.

    Raises:
        InternalError: a weight is further from what was meant than adding up in float32 explains.
        JudgeError: ONNX Runtime does not decode them.
    """
    wanted = {w.name: w.tensor for w in weights(graph) if w.label in labels and w.graph is graph}
    if not wanted:
        return
    with written(_decoding(load_as_stored(path), wanted)) as model, runtime.open(model) as session:
        for name, tensor in wanted.items():
            expected, found = tensor.array, session.run({}, [name])[name]
            k = len(tensor.data.basis) if isinstance(tensor.data, SpectralData) else 0
            far = float(np.abs(found - expected).max() / np.spacing(np.abs(expected).max()))
            if not far <= most_ulps(k):
                raise InternalError(f"ONNX Runtime decodes weight {name!r} with an error of {far:.3g} ulps")


def _decoding(stored: Graph, wanted: Mapping[str, Tensor]) -> Graph:
    """What computes some weights of a written model, as a model that gives them out."""
    header = stored.header or Header()
    model = Graph("weights", header=Header(ir_version=header.ir_version, functions=list(header.functions)))
    model.opsets = stored.opsets
    names, needed = set(wanted), list[int]()
    for number, operator in reversed(list(stored.operators())):
        if not names.isdisjoint(operator.outputs):
            needed.append(number)
            names.update(operator.inputs)
    for value in stored.initializers():
        if value.name in names and value.constant is not None:
            edit.add_initializer(model, value.constant)
    edit.add_operators(model, [stored.operator(number) for number in reversed(needed)], 0)
    shapes = {name: tuple(map(Dimension, tensor.dims)) for name, tensor in wanted.items()}
    edit.set_outputs(
        model, [ValueInfo(name, TensorType(tensor.elem_type, shapes[name])) for name, tensor in wanted.items()]
    )
    return model
