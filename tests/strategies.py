"""Hypothesis strategies: random models with weights, as messy as files in the wild.

`models()` yields well-formed models that need not run; `models(runnable=True)` only such as ONNX Runtime can run, with
a float32 input `x` of shape (n, WIDTH), a bool input `flag`, and a float32 output `y`.
"""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Final

import ml_dtypes
import numpy as np
import onnx
from hypothesis import strategies as st
from onnx import TensorProto, helper, numpy_helper

from graphshrink.ir.types import Array

WIDTH: Final = 8
OLDEST_OPSET: Final = 9
NEWEST_OPSET: Final = onnx.defs.onnx_opset_version()
RUNNABLE_OPSET: Final = 21  # what the oldest supported ONNX Runtime knows
LOCAL: Final = "graphshrink.test"

Draw = Callable[[st.SearchStrategy[Any]], Any]

_TEXTS = st.sampled_from([None, "", "plain", "two\nlines", "ünïcode ✓"])
_FLOAT32: Final = np.dtype(np.float32)
_EXOTIC: Final = (
    np.dtype(np.float16),
    np.dtype(np.float64),
    np.dtype(np.int8),
    np.dtype(np.uint8),
    np.dtype(np.int64),
    np.dtype(np.uint32),
    np.dtype(np.uint64),
    np.dtype(np.bool_),
    np.dtype(np.complex64),
    np.dtype(ml_dtypes.bfloat16),
    np.dtype(ml_dtypes.float8_e4m3fn),
    np.dtype(ml_dtypes.int4),
    np.dtype(ml_dtypes.uint4),
    np.dtype(ml_dtypes.float4_e2m1fn),
)


def numbers(dtype: np.dtype[Any], shape: tuple[int, ...], seed: int) -> Array:
    """Random values of any element type."""
    drawn = np.random.default_rng(seed).standard_normal(shape) * 3
    if dtype.kind in "ub" or "uint" in dtype.name:
        drawn = np.abs(drawn)
    return drawn.astype(np.int8).astype(dtype) if "int" in dtype.name else drawn.astype(dtype)


@dataclass(slots=True)
class _Scope:
    """A graph that is being made; `values` are names of (n, WIDTH) float32 values, `weights` of (WIDTH, WIDTH) ones."""

    values: list[str]
    weights: list[str]
    only_nodes: bool = False  # below IR version 4, bodies cannot have initializers
    nodes: list[onnx.NodeProto] = field(default_factory=lambda: list[onnx.NodeProto]())
    initializers: list[onnx.TensorProto] = field(default_factory=lambda: list[onnx.TensorProto]())
    sparse: list[onnx.SparseTensorProto] = field(default_factory=lambda: list[onnx.SparseTensorProto]())


@dataclass(slots=True)
class _Maker:
    draw: Draw
    opset: int
    ir_version: int
    runnable: bool
    count: int = 0
    calls_function: bool = False

    def fresh(self, stem: str) -> str:
        self.count += 1
        return f"{stem}{self.count}"

    def chance(self) -> bool:
        return bool(self.draw(st.booleans()))

    # ---- constants

    def array(self, shape: tuple[int, ...] = (WIDTH, WIDTH), dtype: np.dtype[Any] = _FLOAT32) -> Array:
        array = numbers(dtype, shape, self.draw(st.integers(0, 999)))
        if not self.runnable and array.size and dtype.kind == "f" and self.chance():
            array.flat[0] = self.draw(st.sampled_from([np.nan, np.inf, -np.inf, -0.0]))
        return array

    def tensor(self, array: Array, name: str = "") -> onnx.TensorProto:
        """Raw or typed storage; a doc string or not."""
        tensor = numpy_helper.from_array(array, name)
        if self.chance():
            values = array.reshape(-1) if array.dtype.kind == "c" else array.reshape(-1).astype(np.float64)
            tensor = helper.make_tensor(name, tensor.data_type, array.shape, values.tolist())
        if not name:
            tensor.ClearField("name")
        self.describe(tensor)
        if self.chance():
            tensor.data_location = TensorProto.DEFAULT
        return tensor

    def weight(self, scope: _Scope) -> str:
        """An old weight (tied) or a new one, in any of the ways to have a constant."""
        if scope.weights and self.draw(st.integers(0, 2)) == 0:
            return str(self.draw(st.sampled_from(scope.weights)))
        name, array = self.fresh("W"), self.array()
        kind = self.draw(st.sampled_from(["initializer", "constant", "double", "sparse"]))
        if kind == "constant":
            self.node(scope, "Constant", [], name, value=self.tensor(array))
        elif kind == "double":
            inner = self.initializer(scope, array.astype(np.float64), self.fresh("D"))
            self.node(scope, "Cast", [inner], name, to=TensorProto.FLOAT)
        elif kind == "sparse" and self.opset >= 11 and not self.runnable:
            scope.sparse.append(self.sparse(name, array))
        else:
            self.initializer(scope, array, name)
        scope.weights.append(name)
        return name

    def initializer(self, scope: _Scope, array: Array, name: str) -> str:
        if scope.only_nodes:
            return self.node(scope, "Constant", [], name, value=self.tensor(array))
        scope.initializers.append(self.tensor(array, name))
        return name

    def sparse(self, name: str, array: Array) -> onnx.SparseTensorProto:
        where = np.flatnonzero(array.reshape(-1) > 0).astype(np.int64)
        return helper.make_sparse_tensor(
            self.tensor(array.reshape(-1)[where], name), self.tensor(where), list(array.shape)
        )

    # ---- operators

    def node(self, scope: _Scope, op_type: str, inputs: list[str], output: str, **attributes: Any) -> str:
        node = helper.make_node(op_type, inputs, [output], **attributes)
        if self.chance():
            repeated = [] if self.runnable else ["layer", "layer"]  # the format allows it, ONNX Runtime does not
            node.name = self.draw(st.sampled_from(["", self.fresh("layer"), *repeated]))
        self.describe(node)
        scope.nodes.append(node)
        return output

    def step(self, scope: _Scope, depth: int) -> None:
        """Add one layer of some kind, with a new (n, WIDTH) value as its result."""
        kinds = ["linear", "linear", "transposed", "residual", "concat", "clip"]
        kinds += ["if"] if depth < 2 else []
        kinds += ["function"] if self.ir_version >= 8 and depth == 0 else []
        kinds += [] if self.runnable else ["custom"]
        kind, x, out = self.draw(st.sampled_from(kinds)), self.value(scope), self.fresh("v")
        if kind == "linear":
            self.node(scope, "MatMul", [x, self.weight(scope)], out)
        elif kind == "transposed":
            flipped = self.node(scope, "Transpose", [self.weight(scope)], self.fresh("T"), perm=[1, 0])
            self.node(scope, "MatMul", [x, flipped], out)
        elif kind == "residual":
            self.node(scope, "Add", [x, self.value(scope)], out)
        elif kind == "concat":
            wide = self.node(scope, "Concat", [x, self.value(scope)], self.fresh("c"), axis=1)
            tall = self.initializer(scope, self.array((2 * WIDTH, WIDTH)), self.fresh("W"))
            self.node(scope, "MatMul", [wide, tall], out)
        elif kind == "clip":
            self.clip(scope, x, out)
        elif kind == "if":
            self.branch(scope, x, out, depth)
        elif kind == "function":
            self.calls_function = True
            self.node(scope, "Layer", [x, self.weight(scope)], out, domain=LOCAL)
        else:
            self.node(scope, "Mystery", [x, "", self.weight(scope)], out, domain="com.example", level=0.5)
        scope.values.append(out)

    def value(self, scope: _Scope) -> str:
        return str(self.draw(st.sampled_from(scope.values)))

    def clip(self, scope: _Scope, x: str, out: str) -> None:
        """With an optional input left out, once the operator has such."""
        if self.opset < 11:
            self.node(scope, "Clip", [x], out, max=4.0)
            return
        bound = self.initializer(scope, np.array(4, np.float32), self.fresh("b"))
        self.node(scope, "Clip", [x, "", bound], out)

    def branch(self, scope: _Scope, x: str, out: str, depth: int) -> None:
        """An If whose bodies capture values and weights from outside, possibly from two levels up."""
        self.node(
            scope,
            "If",
            ["flag"],
            out,
            then_branch=self.body(scope, x, depth),
            else_branch=self.body(scope, x, depth),
        )

    def body(self, outer: _Scope, x: str, depth: int) -> onnx.GraphProto:
        inner = _Scope([x, *outer.values], list(outer.weights), only_nodes=self.ir_version < 4)
        for _ in range(self.draw(st.integers(1, 2))):
            self.step(inner, depth + 1)
        return self.graph(inner, [], [_matrix(inner.values[-1])])

    # ---- the model

    def graph(
        self, scope: _Scope, inputs: list[onnx.ValueInfoProto], outputs: list[onnx.ValueInfoProto]
    ) -> onnx.GraphProto:
        declared = [_matrix(node.output[0]) for node in scope.nodes if node.op_type == "Add" and self.chance()]
        given = {info.name for info in outputs}
        graph = helper.make_graph(
            scope.nodes,
            self.fresh("graph"),
            inputs,
            outputs,
            scope.initializers,
            value_info=[info for info in declared if info.name not in given],
            sparse_initializer=scope.sparse,
        )
        self.describe(graph)
        return graph

    def describe(self, proto: Any) -> None:
        """A doc string and metadata, which may be absent, present but empty, or something."""
        text = self.draw(_TEXTS)
        if text is not None:
            proto.doc_string = text
        if self.draw(st.integers(0, 5)) == 0:
            proto.metadata_props.add(key="", value="")
            for _ in range(1 if self.runnable else 2):  # keys may not repeat, but do
                proto.metadata_props.add(key="k", value="v")

    def model(self) -> onnx.ModelProto:
        scope = _Scope(["x"], [])
        for _ in range(self.draw(st.integers(1, 6))):
            self.step(scope, 0)
        self.node(scope, "Relu", [scope.values[-1]], "y")
        if not self.runnable:
            for dtype in self.draw(st.lists(st.sampled_from(_EXOTIC), max_size=3)):
                shape = self.draw(st.sampled_from([(), (0,), (3,), (2, 5)]))
                scope.initializers.append(self.tensor(self.array(shape, dtype), self.fresh("E")))
        inputs = [_matrix("x"), helper.make_tensor_value_info("flag", TensorProto.BOOL, [])]
        # Below IR version 4 all initializers are inputs, later those that a caller may override.
        listed = [t for t in scope.initializers if self.ir_version < 4 or self.draw(st.integers(0, 4)) == 0]
        inputs += [helper.make_tensor_value_info(t.name, t.data_type, list(t.dims)) for t in listed]
        graph = self.graph(scope, inputs, [_matrix("y")])
        opsets = [helper.make_opsetid("", self.opset)]
        if self.calls_function:
            opsets.append(helper.make_opsetid(LOCAL, 1))
        if not self.runnable:
            opsets.append(helper.make_opsetid("com.example", 1))
        functions = [self.function()] if self.calls_function else []
        model = helper.make_model(graph, opset_imports=opsets, functions=functions, ir_version=self.ir_version)
        self.describe(model)
        return model

    def function(self) -> onnx.FunctionProto:
        nodes = [helper.make_node("MatMul", ["a", "b"], ["c"]), helper.make_node("Relu", ["c"], ["d"])]
        function = helper.make_function(LOCAL, "Layer", ["a", "b"], ["d"], nodes, [helper.make_opsetid("", self.opset)])
        self.describe(function)
        return function


def _matrix(name: str) -> onnx.ValueInfoProto:
    return helper.make_tensor_value_info(name, TensorProto.FLOAT, ["n", WIDTH])


@st.composite
def models(draw: Draw, *, runnable: bool = False) -> onnx.ModelProto:
    """A model with residuals, concatenations, bodies with captures, tied and overridable weights, local functions."""
    opset = draw(st.integers(OLDEST_OPSET, RUNNABLE_OPSET if runnable else NEWEST_OPSET))
    least = 8 if opset > 14 else 3
    return _Maker(draw, opset, draw(st.sampled_from([v for v in (3, 4, 8, 10) if v >= least])), runnable).model()
