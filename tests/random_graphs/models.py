"""Whole random models with weights, which run."""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
import onnx
from hypothesis import strategies as st
from onnx import TensorProto, helper

from graphshrink.ir.types import Array
from tests.random_graphs.functions import DOMAIN
from tests.random_graphs.layers import step
from tests.random_graphs.maker import Draw, Maker, Scope, Shape, Value, declared
from tests.runners import newest_opset

OLDEST_OPSET: Final = 9
_OLD_OPSET: Final = 14  # the last that goes with IR versions below 8
_ELEMENTS: Final = re.compile(r"\{[-+.,\w]{40,}\}")
_LONGEST: Final = 10_000  # characters
_WIDTHS: Final = (1, 2, 3, 5, 8, 16, 24, 33, 24, 33, 40)


@dataclass(frozen=True, repr=False)
class Drawn:
    """A model and what to feed it.

    Attributes:
        model: accepted by the checker, runs in ONNX Runtime.
        features: what is in it, for the test that everything is drawn sooner or later.
        shapes: of its inputs when it runs, initializers that are inputs not included.
        overridable: initializers that a caller may override, with their shapes.
        vocabulary: indices are below it.
    """

    model: onnx.ModelProto
    features: frozenset[str]
    shapes: Mapping[str, Shape]
    overridable: Mapping[str, Shape]
    vocabulary: int

    @property
    def half(self) -> bool:
        """Whether some of it is computed in half precision."""
        return "computed in float16" in self.features

    def feeds(self, seed: int, *, override: bool = False) -> dict[str, Array]:
        """Inputs; on request also in the place of initializers."""
        rng = np.random.default_rng(seed)
        made: dict[str, Array] = {}
        for info in self.model.graph.input:
            kind = info.type.tensor_type.elem_type
            if info.name in self.shapes:
                made[info.name] = self._fed(kind, self.shapes[info.name], rng)
            elif override and info.name in self.overridable and kind != TensorProto.BFLOAT16:  # Python cannot feed it
                made[info.name] = self._fed(kind, self.overridable[info.name], rng)
        return made

    def _fed(self, kind: int, shape: Shape, rng: np.random.Generator) -> Array:
        if kind == TensorProto.BOOL:
            return np.array(rng.random(shape) < 0.5)
        if kind == TensorProto.INT64:
            return rng.integers(0, self.vocabulary, shape)
        return np.asarray(rng.standard_normal(shape)).astype(helper.tensor_dtype_to_np_dtype(kind))

    def __repr__(self) -> str:
        """The model as text, without the elements of larger constants, for a counterexample."""
        text = _ELEMENTS.sub("{...}", onnx.printer.to_text(self.model))
        return f"{text[:_LONGEST]}\n# {sorted(self.features)}"

    def _repr_pretty_(self, printer: Any, cycle: bool) -> None:
        printer.text(repr(self))


@st.composite
def random_models(draw: Draw, *, finite: bool = False) -> Drawn:
    """A model of two to nine layers; `finite` without weights that are NaN or infinite."""
    opset = draw(st.integers(OLDEST_OPSET, draw(st.sampled_from([_OLD_OPSET, newest_opset()]))))
    versions = (8, 3, 4, 6, 10) if opset <= _OLD_OPSET else (8, 10)
    ir_version = draw(st.sampled_from(versions))
    widths = draw(st.lists(st.sampled_from(_WIDTHS), min_size=2, max_size=3))
    maker = Maker(draw, opset, ir_version, finite, widths, draw(st.sampled_from(_WIDTHS[2:])), step)
    scope = Scope("main", [])
    inputs = _inputs(maker, scope)
    for _ in range(maker.integer(2, 9)):
        step(maker, scope)
    outputs = _outputs(maker, scope)
    shapes = {info.name: shape for info, shape in inputs}
    if maker.uses_flag:
        inputs.append((declared("flag", (), TensorProto.BOOL), ()))
        shapes["flag"] = ()
    overridable = {name: tuple(tensor.dims) for name, tensor in maker.overridable.items()}
    listed = [declared(name, tensor.dims, tensor.data_type) for name, tensor in maker.overridable.items()]
    graph = maker.graph(scope, [*(info for info, _ in inputs), *listed], outputs)
    _expose(maker, scope, graph)
    model = _model(maker, graph)
    return Drawn(model, frozenset(maker.features), shapes, overridable if ir_version >= 4 else {}, maker.vocabulary)


def _inputs(maker: Maker, scope: Scope) -> list[tuple[onnx.ValueInfoProto, Shape]]:
    """One or two float inputs, and maybe one of indices; the size of the first axis may be open."""
    n = maker.integer(1, 3)
    rows = "n" if maker.chance() else n
    found: list[tuple[onnx.ValueInfoProto, Shape]] = []
    for _ in range(maker.integer(1, 2)):
        name, width = maker.fresh("x"), maker.width()
        shape: Shape = maker.pick((n, width), (n, maker.integer(1, 4), width), (n, min(width, 8), 5, 4))
        scope.values.append(Value(name, shape))
        found.append((declared(name, (rows, *shape[1:])), shape))
    if maker.chance(3):
        name, shape = maker.fresh("ids"), maker.pick((n,), (n, 3))
        maker.ids[name] = shape
        found.append((declared(name, (rows, *shape[1:]), TensorProto.INT64), shape))
    return found


def _outputs(maker: Maker, scope: Scope) -> list[Value]:
    """The newest value, and sometimes others; what only leads to results too large to go on from is left out."""
    made = {name for node in scope.nodes for name in node.output}
    computed = [value for value in scope.values if value.name in made]
    if not computed:
        x = scope.values[0]
        computed = [Value(maker.node(scope, "Relu", [x.name]), x.shape)]
    others = maker.draw(st.lists(st.sampled_from(computed), max_size=2))
    return list({value.name: value for value in (computed[-1], *others)}.values())


def _expose(maker: Maker, scope: Scope, graph: onnx.GraphProto) -> None:
    """Let a weight be an output of the model."""
    held = {h.name: h for h in scope.held}
    if held and maker.chance(4):
        chosen = held[maker.pick(*held)]
        kind = helper.np_dtype_to_tensor_dtype(chosen.dtype)
        if kind != TensorProto.BFLOAT16:  # ONNX Runtime gives none of these to Python
            graph.output.append(declared(chosen.name, chosen.shape, kind))
            maker.features.add("weight is an output")


def _model(maker: Maker, graph: onnx.GraphProto) -> onnx.ModelProto:
    opsets = [helper.make_opsetid("", maker.opset)]
    if maker.functions:
        opsets.append(helper.make_opsetid(DOMAIN, 1))
    model = helper.make_model(
        graph, opset_imports=opsets, functions=maker.functions, ir_version=maker.ir_version, producer_name="tests"
    )
    if maker.chance(4):
        model.metadata_props.add(key="from", value="a test")
        model.doc_string = "two\nlines"
    return model
