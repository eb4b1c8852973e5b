"""Sparse initializers: what is kept, and what is refused before a runtime fills them with zeros."""

import numpy as np
import onnx
import pytest
from onnx import numpy_helper

from graphshrink.errors import ModelError
from graphshrink.ir.types import Array
from graphshrink.onnx_io.emit import emit
from graphshrink.onnx_io.load import load
from tests.models import two_layers

ONES = np.ones(2, np.float32)


def model_with(values: Array, indices: Array, dims: tuple[int, ...]) -> onnx.ModelProto:
    model = two_layers()
    model.graph.sparse_initializer.append(
        onnx.SparseTensorProto(
            values=numpy_helper.from_array(values, "S"), indices=numpy_helper.from_array(indices), dims=dims
        )
    )
    return model


@pytest.mark.parametrize(
    ("indices", "dims"),
    [
        (np.array([0, 7]), (2, 4)),
        (np.array([[0, 3], [1, 0]]), (2, 4)),
        (np.zeros(0, np.int64), (2, 4)),
        (np.zeros((0, 2), np.int64), (2, 4)),
        (np.zeros(0, np.int64), (0,)),
    ],
)
def test_sound_ones_are_kept(indices: Array, dims: tuple[int, ...]) -> None:
    model = model_with(ONES[: len(indices)], indices, dims)
    assert emit(load(model)) == model


@pytest.mark.parametrize(
    ("values", "indices", "dims"),
    [
        (ONES, np.array([0, 8]), (2, 4)),
        (ONES, np.array([-1, 3]), (2, 4)),
        (ONES, np.array([3, 3]), (2, 4)),
        (ONES, np.array([5, 3]), (2, 4)),
        (ONES, np.array([[0, 0], [1, 4]]), (2, 4)),
        (ONES, np.array([[1, 0], [0, 1]]), (2, 4)),
        (ONES, np.array([[0, -1], [1, 0]]), (2, 4)),
        (ONES, np.array([0]), (2, 4)),
        (ONES, np.array([0, 1], np.int32), (2, 4)),
        (ONES, np.array([[0], [1]]), (2, 4)),
        (ONES.reshape(2, 1), np.array([0, 1]), (2, 4)),
        (ONES, np.array([0, 1]), ()),
        (ONES, np.array([0, 1]), (-2, -4)),
        (ONES, np.array([0, 1]), (1 << 20, 1 << 20)),
        (ONES, np.array([0, 1]), (1 << 40, 1 << 40)),
    ],
)
def test_broken_ones_are_refused(values: Array, indices: Array, dims: tuple[int, ...]) -> None:
    with pytest.raises(ModelError, match="sparse tensor 'S'"):
        load(model_with(values, indices, dims))


@pytest.mark.parametrize("part", ["values", "indices"])
def test_a_missing_part_is_refused(part: str) -> None:
    model = model_with(ONES, np.array([0, 1]), (2, 4))
    model.graph.sparse_initializer[0].ClearField(part)  # pyright: ignore[reportArgumentType]
    with pytest.raises(ModelError, match=f"has no {part}"):
        load(model)


def test_a_shape_of_absurd_size_is_refused_also_where_it_is_only_declared() -> None:
    model = two_layers()
    model.graph.value_info.add(name="h").type.tensor_type.shape.dim.add(dim_value=1 << 62)
    with pytest.raises(ModelError, match="'h' is declared with an absurd shape"):
        load(model)
