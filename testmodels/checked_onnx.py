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


def digit_model(name: str, nodes: list[onnx.NodeProto], weights: dict[str, NDArray[np.float32]]) -> onnx.ModelProto:
    """A model `input` (n, 1, 28, 28) -> `logits` (n, 10), both float32, with the batch `n` left open."""
    graph = helper.make_graph(
        nodes,
        name,
        [helper.make_tensor_value_info("input", TensorProto.FLOAT, ["n", 1, 28, 28])],
        [helper.make_tensor_value_info("logits", TensorProto.FLOAT, ["n", 10])],
        [numpy_helper.from_array(np.ascontiguousarray(weight), key) for key, weight in weights.items()],
    )
    opset = helper.make_opsetid("", _OPSET)
    return helper.make_model(graph, opset_imports=[opset], ir_version=_IR_VERSION, producer_name=_PRODUCER)


def save_checked(model: onnx.ModelProto, path: Path) -> None:
    """Save after the full ONNX check, which runs strict shape inference too."""
    onnx.checker.check_model(model, full_check=True)  # pyright: ignore[reportUnknownMemberType]
    path.write_bytes(model.SerializeToString(deterministic=True))


def accuracy(path: Path, inputs: NDArray[np.float32], labels: NDArray[np.uint8]) -> float:
    """The share of `inputs` whose largest logit is at their label, measured through ONNX Runtime."""
    options: Any = ort.SessionOptions()  # pyright: ignore[reportUnknownMemberType, reportUnknownVariableType]
    options.intra_op_num_threads = 1
    session: Any = ort.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
    batches = np.split(inputs, range(500, len(inputs), 500))
    logits = np.concatenate([np.asarray(session.run(["logits"], {"input": batch})[0]) for batch in batches])
    return float((logits.argmax(axis=1) == labels).mean())
