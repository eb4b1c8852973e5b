"""half on small graphs: what is rounded and stored in two bytes, what stays, and why."""

import numpy as np
import onnx
import pytest
from onnx import helper

from graphshrink.encodings import Policy, Storage, encode_graph
from graphshrink.errors import UsageError
from graphshrink.ir.graph import Graph
from graphshrink.ir.types import Array
from graphshrink.ir.weight import weights
from graphshrink.onnx_io.emit import emit
from graphshrink.onnx_io.load import load
from graphshrink.ops import why_not_a_parameter
from graphshrink.passes.half import Half
from graphshrink.passing.base import Changed, Context, PassResult, Skipped
from tests.models import model_of, normal
from tests.runners import OPTIMISED, run

node = helper.make_node


def normalised(bias: Array, gain: Array, opset: int = 13) -> onnx.ModelProto:
    """x (n, 64) -> Gemm (W, bias) -> Mul gain -> y."""
    nodes = [node("Gemm", ["x", "W", "bias"], ["g"]), node("Mul", ["g", "gain"], ["y"])]
    held = {"W": normal(64, 64), "bias": bias, "gain": gain}
    return model_of(nodes, held, {"x": ["n", 64]}, {"y": ["n", 64]}, opset=opset)


def halved(model: onnx.ModelProto, step: Half | None = None, policy: Policy = "fast") -> tuple[Graph, PassResult]:
    graph = load(model)
    return graph, (step or Half()).run(graph, Context(Storage(policy)))


def constants(graph: Graph) -> dict[str, Array]:
    return {weight.name: weight.array for weight in weights(graph)}


def said(result: PassResult) -> dict[str, str]:
    return {
        label: outcome.reason if isinstance(outcome, Skipped) else outcome.detail
        for label, outcome in result.layers.items()
    }


def test_each_tensor_takes_the_type_that_is_closer() -> None:
    bias, gain = normal(64, seed=1), normal(64, seed=2) * np.float32(1e9)
    graph, result = halved(normalised(bias, gain))
    assert said(result) == {"W": "float16", "bias": "float16", "gain": "bfloat16"}
    held = constants(graph)
    np.testing.assert_array_equal(held["bias"], bias.astype(np.float16).astype(np.float32))
    np.testing.assert_allclose(held["gain"], gain, rtol=2**-8)
    errors = {label: outcome.weight_error for label, outcome in result.layers.items() if isinstance(outcome, Changed)}
    assert errors["bias"] < 2**-11 < errors["gain"] < 2**-8


@pytest.mark.parametrize("policy", ["fast", "small"])
def test_it_is_stored_in_two_bytes_and_decoded_by_the_runtime(policy: Policy) -> None:
    model = normalised(normal(64, seed=1), normal(64, seed=2))
    graph, _ = halved(model)
    coded = graph.copy()
    chosen = [weight for weight in weights(coded) if why_not_a_parameter(weight) is None]
    stored = {one.label: one.encoding for one in encode_graph(coded, chosen, Storage(policy))}
    assert stored == {"W": "half", "bias": "half", "gain": "half"}
    assert emit(coded).ByteSize() < 0.6 * emit(graph).ByteSize()
    for optimised in OPTIMISED:
        feeds = {"x": normal(3, 64, seed=3)}
        plain, now = (run(emit(one), feeds, optimised=optimised)["y"] for one in (graph, coded))
        np.testing.assert_array_equal(now, plain)


def test_a_second_time_there_is_nothing_to_do() -> None:
    graph, _ = halved(normalised(normal(64, seed=1), normal(64, seed=2)))
    again = Half().run(graph, Context())
    assert set(said(again).values()) == {"two bytes hold it exactly"}


def test_what_stays() -> None:
    few = np.resize(np.array([0.1, -0.3], np.float32), 64)
    _, result = halved(normalised(few, normal(64, seed=2)), Half(most=64))
    assert said(result) == {"W": "more than most=64 elements", "bias": "few distinct values already", "gain": "float16"}
    _, result = halved(normalised(normal(1), np.full(64, np.nan, np.float32)))
    assert said(result)["bias"] == "too small to gain"
    assert said(result)["gain"] == "holds NaN or infinity, which is stored exactly"


def test_without_bfloat16_large_values_stay() -> None:
    _, result = halved(normalised(normal(64), normal(64, seed=2) * np.float32(1e9), opset=11))
    assert said(result)["gain"] == "out of float16's range, and bfloat16 needs opset 13"


def test_everything_stays_where_it_is_to_be_stored_plainly() -> None:
    _, result = halved(normalised(normal(64), normal(64, seed=2)), policy="plain")
    assert set(said(result).values()) == {"everything is to be stored plainly"}


def test_shapes_and_other_types_stay() -> None:
    nodes = [node("Reshape", ["x", "shape"], ["r"]), node("Clip", ["r", "least"], ["y"])]
    held = {"shape": np.array([-1]), "least": np.full((), 0.1, np.float32)}
    model = model_of(nodes, held, {"x": ["n", 64]}, {"y": ["m"]})
    _, result = halved(model)
    assert said(result) == {"shape": "not of a floating type", "least": "input 1 of Clip is no weight matrix"}


def test_options_that_cannot_be_meant() -> None:
    with pytest.raises(UsageError, match="half: most=-1 is below 0"):
        Half(most=-1)
