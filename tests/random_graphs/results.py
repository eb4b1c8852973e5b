"""A drawn model compressed, and the parts of the result that the properties speak of."""

import math
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Final

import ml_dtypes
import numpy as np
import onnx
from onnx import TensorProto, helper

from graphshrink.encodings import Policy, Storage, Stored, encode_graph
from graphshrink.encodings.base import FUNCTIONS, MARK
from graphshrink.ir.graph import Graph
from graphshrink.ir.tensor import ELEM_TYPES, FLOATING
from graphshrink.ir.types import Array
from graphshrink.ir.weight import weights
from graphshrink.onnx_io.emit import emit
from graphshrink.onnx_io.load import load
from graphshrink.ops import why_not_a_parameter
from graphshrink.passing.base import Context, Pass
from graphshrink.passing.pipeline import run_passes
from tests.runners import run

BFLOAT16: Final = np.dtype(ml_dtypes.bfloat16)


@dataclass(frozen=True, slots=True)
class Compressed:
    """What comes of a model.

    Attributes:
        plain: the graph after the passes, and as a model.
        encoded: the same with its weights encoded, as a model.
        stored: how each weight is stored.
        changed: labels of the weights that passes changed.
    """

    graph: Graph
    plain: onnx.ModelProto
    encoded: onnx.ModelProto
    stored: list[Stored]
    changed: set[str]


def compressed(model: onnx.ModelProto, steps: Sequence[Pass], policy: Policy) -> Compressed:
    """Load, run passes (each is followed by `ir.check`), encode, emit."""
    graph, records = run_passes(load(model), steps, Context(Storage(policy)), None)
    changed = {label for record in records for label in record.result.changed}
    plain = emit(graph)
    coded = graph.copy()
    stored = encode_graph(coded, [w for w in weights(coded) if why_not_a_parameter(w) is None], Storage(policy))
    return Compressed(graph, plain, emit(coded), stored, changed)


def bytes_of(model: onnx.ModelProto) -> bytes:
    return model.SerializeToString(deterministic=True)


# ---- what stays


def interface(model: onnx.ModelProto) -> tuple[object, ...]:
    """What callers see; inputs without the constants that have to be among them below IR version 4.

    Functions that decode weights, and their domain, are nothing that callers see.
    """
    held = {t.name for t in model.graph.initializer} if model.ir_version < 4 else set[str]()
    made = {name for node in model.graph.node for name in node.output}
    signatures = [
        (f.domain, f.name, f.overload, len(f.input), len(f.output)) for f in model.functions if f.domain != FUNCTIONS
    ]
    return (
        [info.SerializeToString() for info in model.graph.input if info.name not in held | made],
        [info.SerializeToString() for info in model.graph.output],
        [(o.domain, o.version) for o in model.opset_import if o.domain != FUNCTIONS],
        [(entry.key, entry.value) for entry in model.metadata_props],
        signatures,
        model.producer_name,
    )


def exposed(graph: Graph) -> dict[str, bytes]:
    """Constants of the main graph that callers may override or see, with their bits."""
    header = graph.header
    outputs = {info.name for info in graph.outputs}
    inputs = {info.name for info in graph.inputs} if header is not None and (header.ir_version or 0) >= 4 else set()
    return {w.name: bytes(w.tensor.buffer) for w in weights(graph) if w.graph is graph and w.name in outputs | inputs}


def not_finite(graph: Graph) -> Counter[tuple[int, tuple[int, ...], bytes]]:
    """Weights with NaN or infinities, by type, shape and bits; their names are no part of the promise."""
    found: Counter[tuple[int, tuple[int, ...], bytes]] = Counter()
    for weight in weights(graph):
        if weight.tensor.elem_type in FLOATING and not np.isfinite(weight.array.astype(np.float64)).all():
            found[weight.tensor.elem_type, weight.tensor.dims, bytes(weight.tensor.buffer)] += 1
    return found


# ---- what the encoded file says


def decoded(compressed: Compressed, *, optimised: bool) -> Iterator[tuple[Array, Array]]:
    """For each encoded weight of the main graph, what ONNX Runtime decodes and what the graph holds."""
    meant = {w.name: w.array for w in weights(compressed.graph) if w.graph is compressed.graph}
    model = onnx.ModelProto()
    model.CopyFrom(compressed.encoded)
    known = {t.name for t in model.graph.initializer}
    held = [info for info in model.graph.input if info.name in known]  # below IR version 4 they must be inputs
    del model.graph.node[:], model.graph.input[:], model.graph.output[:], model.graph.value_info[:]
    model.graph.input.extend(held)
    for node in compressed.encoded.graph.node:
        if known.issuperset(node.input) and not any(a.type == onnx.AttributeProto.GRAPH for a in node.attribute):
            known.update(node.output)
            model.graph.node.append(node)
    marked = [node.output[0] for node in model.graph.node if node.name.startswith(MARK)]
    for index, name in enumerate(marked):
        # ONNX Runtime gives no bfloat16 to Python, so it comes as float32, which holds every bfloat16.
        elem_type = TensorProto.FLOAT if meant[name].dtype == BFLOAT16 else ELEM_TYPES[meant[name].dtype]
        model.graph.node.append(helper.make_node("Cast", [name], [f"decoded {index}"], to=elem_type))
        model.graph.output.append(helper.make_tensor_value_info(f"decoded {index}", elem_type, meant[name].shape))
    if not marked:
        return
    outputs = run(model, {}, optimised=optimised)
    for index, name in enumerate(marked):
        array = meant[name]
        yield outputs[f"decoded {index}"], array.astype(np.float32) if array.dtype == BFLOAT16 else array


def distance(wanted: Array, found: Array) -> float:
    """||found - wanted|| / ||wanted||; infinite where shapes, types or what is not finite differ."""
    if (wanted.dtype, wanted.shape) != (found.dtype, found.shape):
        return math.inf
    a, b = wanted.astype(np.float64), found.astype(np.float64)
    finite = np.isfinite(a) & np.isfinite(b)
    if not np.array_equal(a[~finite], b[~finite], equal_nan=True):
        return math.inf
    a, b = a[finite], b[finite]
    return float(np.linalg.norm(b - a) / (np.linalg.norm(a) + 1e-6 * math.sqrt(a.size))) if a.size else 0.0
