"""What graphs tell of the indices that they are fed."""

from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper

from graphshrink.calibration.ranges import input_ranges
from graphshrink.onnx_io.load import load
from tests.models import model_of, normal


def ranges(nodes: list[onnx.NodeProto], **constants: Any) -> dict[str, tuple[int, int]]:
    inputs: dict[str, list[int | str]] = {"ids": ["n"], "x": ["n"]}
    model = model_of(nodes, constants, inputs, {nodes[-1].output[0]: ["n"]})
    model.graph.input[0].type.tensor_type.elem_type = TensorProto.INT64
    return input_ranges(load(model))


def look_up(table: str, ids: str = "ids", **attributes: Any) -> onnx.NodeProto:
    return helper.make_node("Gather", [table, ids], [f"{table}_{ids}"], **attributes)


def test_an_index_is_one_of_the_rows() -> None:
    assert ranges([look_up("w")], w=normal(50, 8)) == {"ids": (0, 50)}


@pytest.mark.parametrize(("axis", "rows"), [(0, 5), (1, 6), (2, 7), (-1, 7), (-3, 5)])
def test_the_axis_counts(axis: int, rows: int) -> None:
    assert ranges([look_up("w", axis=axis)], w=normal(5, 6, 7)) == {"ids": (0, rows)}


@pytest.mark.parametrize("axis", [3, -4, 100])
def test_an_axis_that_is_not_there_tells_nothing(axis: int) -> None:
    assert ranges([look_up("w", axis=axis)], w=normal(5, 6, 7)) == {}


def test_the_smallest_table_counts() -> None:
    assert ranges([look_up("w"), look_up("v")], w=normal(50, 8), v=normal(20, 8)) == {"ids": (0, 20)}


def test_indices_that_are_moved_first() -> None:
    nodes = [
        helper.make_node("Cast", ["ids"], ["a"], to=TensorProto.INT32),
        helper.make_node("Unsqueeze", ["a", "zero"], ["b"]),
        helper.make_node("Slice", ["b", "zero", "zero"], ["c"]),
        helper.make_node("Identity", ["c"], ["d"]),
        look_up("w", "d"),
    ]
    assert ranges(nodes, w=normal(50, 8), zero=np.array([0])) == {"ids": (0, 50)}


def test_indices_that_are_calculated_with_tell_nothing() -> None:
    assert (
        ranges([helper.make_node("Add", ["ids", "one"], ["a"]), look_up("w", "a")], w=normal(9, 8), one=np.array([1]))
        == {}
    )


def test_tables_that_are_no_constants_and_inputs_that_are_no_indices() -> None:
    assert ranges([helper.make_node("Gather", ["x", "ids"], ["y"])]) == {}
    assert ranges([helper.make_node("Relu", ["x"], ["y"])]) == {}
    assert ranges([look_up("w")], w=np.float32(3)) == {}
    assert ranges([look_up("w")], w=np.zeros((0, 3), np.float32)) == {}


def test_tables_in_constant_nodes_and_used_in_bodies() -> None:
    output = helper.make_tensor_value_info("b", TensorProto.FLOAT, ["n", 8])
    body = helper.make_graph([helper.make_node("Gather", ["w", "a"], ["b"])], "body", [], [output])
    nodes = [
        helper.make_node("Constant", [], ["w"], value=onnx.numpy_helper.from_array(normal(30, 8))),
        helper.make_node("Identity", ["ids"], ["a"]),
        helper.make_node("If", ["x"], ["y"], then_branch=body, else_branch=body),
    ]
    assert ranges(nodes) == {"ids": (0, 30)}


def test_diamonds_end() -> None:
    nodes = [helper.make_node("Expand", [f"v{i}", f"v{i}"], [f"v{i + 1}"]) for i in range(500)]
    first = helper.make_node("Identity", ["ids"], ["v0"])
    assert ranges([first, *nodes, look_up("w", "v500")], w=normal(50, 8)) == {"ids": (0, 50)}
