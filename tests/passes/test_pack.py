"""pack: nothing changes, and for every weight it is told what the encodings find in it."""

from collections.abc import Mapping
from typing import ClassVar

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper

from graphshrink.encodings import Builder, Encoded, Policy, Storage, encode_graph
from graphshrink.ir.compare import difference
from graphshrink.ir.graph import Graph
from graphshrink.ir.types import Array
from graphshrink.ir.weight import weights
from graphshrink.onnx_io.load import load
from graphshrink.ops import why_not_a_weight
from graphshrink.passes.pack import Pack
from graphshrink.passing.base import Context, Found, Outcome, PassResult, Selection, Skipped
from graphshrink.passing.rules import By, LayerRule
from tests.models import model_of, normal

NOTHING = Skipped("no structure that would save bytes")


def few(*shape: int, seed: int = 0) -> Array:
    """Sixteen distinct values."""
    rng = np.random.default_rng(seed)
    array: Array = rng.standard_normal(16).astype(np.float32)[rng.integers(0, 16, shape)]
    return array


def product(**held: Array) -> onnx.ModelProto:
    """x -> MatMul with each of some matrices, one after the other -> y."""
    names = ["x", *(f"times_{name}" for name in held)]
    nodes = [helper.make_node("MatMul", [names[i], name], [names[i + 1]], name) for i, name in enumerate(held)]
    shapes = [array.shape for array in held.values()]
    return model_of(nodes, dict(held), {"x": [1, shapes[0][0]]}, {names[-1]: [1, shapes[-1][-1]]})


def packed(model: onnx.ModelProto, context: Context | None = None) -> tuple[Graph, PassResult]:
    graph = load(model)
    result = Pack().run(graph, context or Context())
    assert difference(load(model), graph) is None
    assert not result.did_anything
    return graph, result


def kinds(layers: Mapping[str, Outcome]) -> dict[str, str]:
    """What was found in each weight, without the sizes; or why it was left alone."""
    return {
        label: outcome.reason if isinstance(outcome, Skipped) else outcome.detail.partition(",")[0]
        for label, outcome in layers.items()
    }


def test_what_is_found() -> None:
    dense = normal(64, 64)
    half = normal(64, 64, seed=1).astype(np.float16).astype(np.float32)
    wide = (half * np.float32(2.0**40)).view(np.uint32) & np.uint32(0xFFFF0000)
    zeros = np.where(normal(64, 64, seed=2) > 2, np.float32(1.5), np.float32(0))
    held = {"a": few(64, 64), "b": dense, "c": half, "d": wide.view(np.float32), "e": dense, "f": zeros}
    _, result = packed(product(**held))
    assert kinds(result.layers) == {
        "a": "codebook",
        "b": NOTHING.reason,
        "c": "half",
        "d": "half-bfloat16",
        "e": "shared",
        "f": "codebook",
    }


@pytest.mark.parametrize("policy", ["fast", "small"])
def test_it_tells_what_is_written(policy: Policy) -> None:
    graph, result = packed(
        product(a=few(64, 64), b=normal(64, 64), c=few(64, 64), d=few(64, 9)), Context(Storage(policy))
    )
    chosen = [weight for weight in weights(graph) if why_not_a_weight(weight) is None]
    for stored in encode_graph(graph, chosen, Storage(policy)):
        sizes = f"{stored.encoding}, {stored.plain_bytes:,} -> {stored.stored_bytes:,} bytes"
        assert result.layers[stored.label] == (NOTHING if stored.encoding == "plain" else Found(sizes))


def test_what_it_must_leave_alone() -> None:
    nodes = [
        helper.make_node("Gemm", ["x", "w", "bias"], ["h"]),
        helper.make_node("MatMul", ["h", "out"], ["i"]),
        helper.make_node("MatMul", ["i", "free"], ["j"]),
        helper.make_node("MatMulInteger", ["q", "whole"], ["z"]),
    ]
    constants: dict[str, Array] = {
        "w": few(64, 64),
        "bias": few(64),
        "out": few(64, 64),
        "free": few(64, 64),
        "whole": np.zeros((64, 64), np.uint8),
    }
    inputs: dict[str, list[int | str]] = {"x": [1, 64], "q": [1, 64], "free": [64, 64]}
    _, result = packed(model_of(nodes, constants, inputs, {"j": [1, 64], "z": [1, 64], "out": [64, 64]}))
    assert kinds(result.layers) == {
        "w": "codebook",
        "bias": NOTHING.reason,
        "out": "it is an output of its graph",
        "free": "the caller may override it (it is also an input)",
        "whole": "not of a floating type",
    }


def test_what_it_refuses() -> None:
    filled = helper.make_node(
        "ConstantOfShape", ["shape"], ["w"], value=helper.make_tensor("", TensorProto.FLOAT, [1], [2.0])
    )
    nodes = [filled, helper.make_node("MatMul", ["x", "w"], ["h"]), helper.make_node("MatMul", ["h", "v"], ["y"])]
    held: dict[str, Array] = {"shape": np.array([64, 64]), "v": np.zeros((64, 0), np.float32)}
    model = model_of(nodes, held, {"x": [1, 64]}, {"y": [1, 0]})
    _, result = packed(model)
    assert result.layers["w"] == Skipped("one value, which ConstantOfShape fills it with")
    assert result.layers["v"] == Skipped("empty")
    _, result = packed(product(a=few(64, 64)), Context(Storage("plain")))
    assert result.layers == {"a": Skipped("everything is to be stored plainly")}


def test_selection_and_rules() -> None:
    model = product(**{name: few(64, 64, seed=seed) for seed, name in enumerate("abcd")})
    selection = Selection(include=("a", "b", "c"), exclude=("b",))
    _, result = packed(model, Context(selection=selection, rules=(LayerRule("pack", By.NAME, "c", None),)))
    assert kinds(result.layers) == {
        "a": "codebook",
        "b": "excluded",
        "c": "a layer rule says so",
        "d": "not included",
    }


class Ones:
    """An encoding of somebody else's: tensors of ones."""

    name: ClassVar[str] = "ones"
    min_opset: ClassVar[int] = 9

    def encode(self, array: Array) -> Encoded | None:
        return _Ones(array) if bool((array == 1).all()) else None


class _Ones:
    encoding: ClassVar[str] = "ones"

    def __init__(self, array: Array) -> None:
        self.array = array

    @property
    def tables(self) -> tuple[()]:
        return ()

    def decode(self) -> Array:
        return self.array

    def emit(self, builder: Builder, output: str) -> None:
        builder.reshape(builder.constant(np.ones(1, np.float32)), self.array.shape, output=output, mark=self.encoding)


def test_encodings_of_plug_ins_are_asked() -> None:
    model = product(a=np.ones((64, 64), np.float32))
    assert kinds(packed(model)[1].layers) == {"a": "codebook"}
    assert kinds(packed(model, Context(storage=Storage(extra=(Ones(),))))[1].layers) == {"a": "ones"}
