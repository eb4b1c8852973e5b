"""Random inputs for a model of the zoo, or any other whose open axes are known."""

from typing import Final

import numpy as np
import onnx
from onnx import helper

from benchmarks.channels.zoo.maker import BATCH
from graphshrink.ir.types import Array

_WORDS: Final = 2  # integers below this, where the model does not say


def feeds(model: onnx.ModelProto, seed: int, batch: int) -> dict[str, Array]:
    """One sample of `batch` rows: normal floats, integers below the bound that the model's metadata give (below 2 if
    none, truths as well).

    Axes of the name "batch" get `batch` rows; other open axes the size that the metadata give, or 1. Closed axes stay.
    """
    metadata = {entry.key: entry.value for entry in model.metadata_props}
    rng = np.random.default_rng(seed)
    held = {tensor.name for tensor in model.graph.initializer}
    made: dict[str, Array] = {}
    for value in (value for value in model.graph.input if value.name not in held):
        tensor = value.type.tensor_type
        sizes = {BATCH: batch}
        shape = [
            dim.dim_value
            if dim.HasField("dim_value")
            else sizes.get(dim.dim_param, int(metadata.get(f"size:{dim.dim_param}", 1)))
            for dim in tensor.shape.dim
        ]
        dtype = helper.tensor_dtype_to_np_dtype(tensor.elem_type)
        if np.issubdtype(dtype, np.floating):
            made[value.name] = np.asarray(rng.standard_normal(shape).astype(dtype))
        else:
            below = int(metadata.get(f"below:{value.name}", _WORDS))
            made[value.name] = np.asarray(rng.integers(below, size=shape)).astype(dtype)
    return made
