"""Parts of the Net-Trim benchmark that judge whole models."""

from pathlib import Path

import numpy as np

from benchmarks.measuring import Request
from benchmarks.net_trim.inputs import SOURCES
from benchmarks.net_trim.magnitude import verdict
from benchmarks.net_trim.magnitude_pruning import largest, prune
from benchmarks.net_trim.trimming import Bench, nonzeros
from graphshrink.onnx_io.load import load
from graphshrink.passes.net_trim import NetTrim
from testmodels.spirals import make_spirals

_MODEL = Path(SOURCES["spirals"].model())


def test_the_largest_elements_stay_and_of_equal_ones_the_first() -> None:
    array = np.array([[1.0, -3.0], [0.5, 1.0], [-1.0, 0.0]], np.float32)

    assert largest(array, 2).tolist() == [[1.0, -3.0], [0.0, 0.0], [0.0, 0.0]]
    assert largest(array, 0).tolist() == [[0.0, 0.0], [0.0, 0.0], [0.0, 0.0]]


def test_pruning_leaves_the_model_and_its_other_layers_alone() -> None:
    graph = load(_MODEL)

    pruned = prune(graph, {"fc2.weight": 123})

    labels = ["fc1.weight", "fc2.weight", "fc3.weight"]
    assert [nonzeros(pruned, [label])[label] for label in labels] == [(400, 400), (123, 40_000), (400, 400)]
    assert nonzeros(graph, ["fc2.weight"]) == {"fc2.weight": (40_000, 40_000)}


def test_one_layer_is_trimmed_and_compared_with_the_original() -> None:
    points = make_spirals().train_points[:100]
    feeds = [{"input": points[i : i + 1]} for i in range(len(points))]
    with Bench(_MODEL, feeds, feeds[:3]) as bench:
        trimmed = bench.trim(NetTrim(epsilon="0.2"), ("fc1.weight", "fc3.weight"), {"fc1.weight": {"epsilon": "0.9"}})

        assert set(trimmed.solved) <= {"fc1.weight", "fc3.weight"}
        assert "fc3.weight" in trimmed.solved
        assert trimmed.skipped["fc2.weight"] == "not included"
        assert 0 < bench.compare(trimmed.graph).worst < 1
        assert bench.compare(bench.graph).worst == 0


def test_held_out_inputs_are_none_that_are_fitted_to() -> None:
    source = SOURCES["transformer"]

    fit, held_out = ({feeds["letters"].tobytes() for feeds in inputs(50)} for inputs in (source.fit, source.held_out))

    assert len(fit) == len(held_out) == 50
    assert not fit & held_out


def test_a_failure_meets_no_bar() -> None:
    asked = Request("net_trim", short=False, into=None)
    good = {"net_trim": 0.1, "magnitude": 0.2, "skipped": 0.05}

    assert verdict(asked, [good]).count("met") == 2
    assert verdict(asked, [good, {"failure": "no"}]).count("MISSED") == 2
    assert verdict(asked, [good, good | {"skipped": 0.06}]).count("MISSED") == 1
