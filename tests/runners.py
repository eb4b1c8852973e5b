"""Running models in ONNX Runtime, with its optimisations and without, and seeing what they leave."""

import functools
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any, Final

import onnx
import onnxruntime as ort
from onnx import helper

from graphshrink.ir.types import Array
from tests.models import model_of

OPTIMISED: Final = (False, True)


def _options(optimised: bool) -> Any:
    options = ort.SessionOptions()
    options.log_severity_level = 3
    options.intra_op_num_threads = 1
    level = ort.GraphOptimizationLevel
    options.graph_optimization_level = level.ORT_ENABLE_ALL if optimised else level.ORT_DISABLE_ALL
    return options


def run(model: onnx.ModelProto, feeds: Mapping[str, Array], *, optimised: bool) -> dict[str, Array]:
    """Every output by name."""
    [outputs] = run_all(model, [feeds], optimised=optimised)
    return outputs


def run_all(
    model: onnx.ModelProto, samples: Iterable[Mapping[str, Array]], *, optimised: bool
) -> list[dict[str, Array]]:
    """The outputs for each sample."""
    options = _options(optimised)
    session = ort.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])
    names = [output.name for output in session.get_outputs()]
    found: list[Any] = [session.run(None, dict(feeds)) for feeds in samples]
    return [dict(zip(names, arrays, strict=True)) for arrays in found]


def operators_left(model: onnx.ModelProto, folder: Path) -> Counter[str]:
    """How many operators of each type run after ONNX Runtime's optimisations, bodies included, Constants not."""
    options = _options(True)
    path = folder / "optimised.onnx"
    options.optimized_model_filepath = str(path)
    ort.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])
    return Counter(node.op_type for node in _nodes(onnx.load(path).graph.node) if node.op_type != "Constant")


def _nodes(nodes: Iterable[onnx.NodeProto]) -> Iterator[onnx.NodeProto]:
    for node in nodes:
        yield node
        for attribute in node.attribute:
            yield from _nodes(attribute.g.node)


@functools.cache
def newest_opset() -> int:
    """The newest opset that both the installed onnx and the installed ONNX Runtime know."""
    for opset in range(onnx.defs.onnx_opset_version(), 21, -1):
        model = model_of([helper.make_node("Relu", ["x"], ["y"])], {}, {"x": [1]}, {"y": [1]}, opset=opset)
        try:
            ort.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
        except Exception:  # "under development": ONNX Runtime lags behind onnx
            continue
        return opset
    return 21


def inner_values(model: onnx.ModelProto, feeds: Mapping[str, Array], names: Iterable[str]) -> dict[str, Array]:
    """Values of the main graph, on a model that says no more than that they are outputs."""
    tapped = onnx.ModelProto()
    tapped.CopyFrom(model)
    del tapped.graph.output[:]
    tapped.graph.output.extend(onnx.ValueInfoProto(name=name) for name in names)
    return run(tapped, feeds, optimised=False)
