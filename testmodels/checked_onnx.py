"""Build, save and score the small ONNX models of this folder."""

from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime as ort
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

_OPSET = 13
_IR_VERSION = 8
_PRODUCER = "graphshrink-testmodels"


def classifier_model(
    name: str,
    nodes: list[onnx.NodeProto],
    weights: dict[str, NDArray[Any]],
    source: onnx.ValueInfoProto,
    classes: int,
    opset: int = _OPSET,
) -> onnx.ModelProto:
    """A model from the one input `source` to `logits` (n, classes), float32, with the batch `n` left open."""
    graph = helper.make_graph(
        nodes,
        name,
        [source],
        [helper.make_tensor_value_info("logits", TensorProto.FLOAT, ["n", classes])],
        [numpy_helper.from_array(np.ascontiguousarray(weight), key) for key, weight in weights.items()],
    )
    version = helper.make_opsetid("", opset)
    return helper.make_model(graph, opset_imports=[version], ir_version=_IR_VERSION, producer_name=_PRODUCER)


def image_model(name: str, nodes: list[onnx.NodeProto], weights: dict[str, NDArray[Any]]) -> onnx.ModelProto:
    """A model `input` (n, 1, 28, 28) -> `logits` (n, 10), both float32."""
    source = helper.make_tensor_value_info("input", TensorProto.FLOAT, ["n", 1, 28, 28])
    return classifier_model(name, nodes, weights, source, 10)


def save_checked(model: onnx.ModelProto, path: Path) -> None:
    """Save after the full ONNX check, which runs strict shape inference too."""
    onnx.checker.check_model(model, full_check=True)  # pyright: ignore[reportUnknownMemberType]
    path.write_bytes(model.SerializeToString(deterministic=True))


def accuracy(path: Path, inputs: NDArray[Any], labels: NDArray[Any]) -> float:
    """The share of `inputs` whose largest logit is at their label, measured through ONNX Runtime."""
    options: Any = ort.SessionOptions()  # pyright: ignore[reportUnknownMemberType, reportUnknownVariableType]
    options.intra_op_num_threads = 1
    session: Any = ort.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
    name: str = session.get_inputs()[0].name
    batches = np.split(inputs, range(500, len(inputs), 500))
    logits = np.concatenate([np.asarray(session.run(["logits"], {name: batch})[0]) for batch in batches])
    return float((logits.argmax(axis=1) == labels).mean())
