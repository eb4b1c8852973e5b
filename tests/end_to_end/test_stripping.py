"""strip through `graphshrink.compile`: beside other passes, in the report, and with patterns."""

import pytest

import graphshrink
from graphshrink.ir.graph import Graph
from graphshrink.onnx_io.load import load
from tests.models import DIGITS, LENET, two_layers


def value_names(graph: Graph) -> set[str]:
    return {value.name for _, scope in graph.scopes() for value in scope.values()}


@pytest.mark.parametrize("passes", ["strip, weight-sharing", "weight-sharing, strip"])
def test_goes_with_other_passes_in_any_order(passes: str) -> None:
    alone = graphshrink.compile(LENET, "weight-sharing", calibration=DIGITS)
    both = graphshrink.compile(LENET, passes, calibration=DIGITS)
    assert both.missed == []
    saved = alone.report["output"]["bytes"] - both.report["output"]["bytes"]
    assert saved > 200
    assert both.report["verification"]["held_out"]["error"] == alone.report["verification"]["held_out"]["error"]
    of_pass = {entry["name"]: entry for entry in both.report["passes"]}
    assert of_pass["weight-sharing"]["layers"].keys() == alone.report["passes"][0]["layers"].keys()
    assert of_pass["strip"]["graph"] and of_pass["strip"]["error"] is not None
    labels = [(layer["label"], layer["done"], layer["macs"]) for layer in both.report["layers"]]
    assert labels == [(layer["label"], layer["done"], layer["macs"]) for layer in alone.report["layers"]]
    assert {entry["macs"] for entry in both.report["passes"]} == {alone.report["input"]["macs"]}
    assert {layer["name"] for layer in both.report["layers"]} <= value_names(load(both.model))
    again = graphshrink.compile(both.model, passes, calibration=DIGITS)
    assert again.model == both.model


@pytest.mark.parametrize("pattern", ["fc1.weight", "fc1", "fc1.*"])
def test_patterns_speak_of_the_original_names(pattern: str) -> None:
    compiled = graphshrink.compile(LENET, "strip, weight-sharing", calibration=DIGITS, exclude=[pattern])
    encodings = {layer["label"]: layer["encoding"] for layer in compiled.report["layers"]}
    assert encodings["fc1.weight"] == "plain"
    assert encodings["conv2.weight"] != "plain"


def test_a_model_with_nothing_to_strip_says_so_in_the_report() -> None:
    first = graphshrink.compile(two_layers(), "strip").model
    (entry,) = graphshrink.compile(first, "strip").report["passes"]
    assert entry["graph"] == [] and len(entry["kept"]) == 1 and entry["error"] is None
