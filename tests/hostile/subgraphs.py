"""Graphs within graphs, and local functions."""

from collections.abc import Callable, Sequence
from typing import Any, Final

import numpy as np
import onnx
from onnx import TensorProto, helper

from graphshrink.ir.types import Array
from tests.hostile.cases import DONE, DONE_OR_REFUSED, REFUSED, Case, Model, model_cases
from tests.hostile.file import field
from tests.hostile.graph import changed, constant, node, with_nodes
from tests.hostile.tensor import tensor
from tests.models import normal

_LOCAL: Final = "local"
_FLOAT: Final = TensorProto.FLOAT


def info(name: str, sizes: Sequence[int | str] | None = None, kind: int = _FLOAT) -> onnx.ValueInfoProto:
    """A declaration."""
    return helper.make_tensor_value_info(name, kind, sizes)


def body(
    nodes: Sequence[onnx.NodeProto],
    output: str = "b",
    *,
    inputs: Sequence[onnx.ValueInfoProto] = (),
    outputs: Sequence[onnx.ValueInfoProto] | None = None,
    initializers: Sequence[onnx.TensorProto] = (),
) -> onnx.GraphProto:
    """A body of If, Loop or Scan."""
    return helper.make_graph(nodes, "body", inputs, outputs or [info(output)], initializers)


def _relu(given: str = "h", made: str = "b") -> onnx.GraphProto:
    return body([node("Relu", [given], [made])], made)


def branched(then: onnx.GraphProto | None, other: onnx.GraphProto | None, *more: onnx.NodeProto) -> onnx.ModelProto:
    """y is that of one of two bodies, by the sum over h."""
    given = {"then_branch": then, "else_branch": other}
    bodies: dict[str, Any] = {name: graph for name, graph in given.items() if graph is not None}
    test = [node("ReduceSum", ["h"], ["sum"], keepdims=0), node("Less", ["sum", "sum2"], ["cond"])]
    made = with_nodes(*test, node("If", ["cond"], ["y"], **bodies), *more)
    made.graph.initializer.append(constant(np.array(0, np.float32), "sum2"))
    return made


def looped(trips: int, loop: onnx.GraphProto, outputs: Sequence[str] = ("y",)) -> onnx.ModelProto:
    """h goes through a body `trips` times; the first output is y."""
    made = with_nodes(node("Loop", ["trips", "", "h"], outputs, body=loop))
    made.graph.initializer.append(constant(np.array(trips, np.int64), "trips"))
    return made


def loop_body(nodes: Sequence[onnx.NodeProto], *, scanned: Sequence[str] = (), **more: Any) -> onnx.GraphProto:
    """A body that makes `next` out of `state`, and values to be collected."""
    inputs = [info("i", [], TensorProto.INT64), info("go", [], TensorProto.BOOL), info("state")]
    outputs = [info("go_on", [], TensorProto.BOOL), info("next"), *map(info, scanned)]
    return body([node("Identity", ["go"], ["go_on"]), *nodes], inputs=inputs, outputs=outputs, **more)


def _nested(depth: int) -> Model:
    """If within If."""
    inner = _relu()
    for _ in range(depth - 1):
        inner = body([node("If", ["cond"], ["b"], then_branch=inner, else_branch=_relu())])
    return branched(inner, _relu())


def _deeper_than_protobuf(depth: int) -> bytes:
    """The same by hand: a field for the graph in an attribute in a node in a graph."""
    graph = b""
    for _ in range(depth):
        attribute = field(1, b"then_branch") + field(6, graph) + b"\xa0\x01\x05"
        graph = field(1, field(1, b"cond") + field(2, b"b") + field(4, b"If") + field(5, attribute))
    return branched(_relu(), _relu()).SerializeToString() + field(7, graph)


def function(
    name: str,
    nodes: Sequence[onnx.NodeProto],
    *,
    attributes: Sequence[str] = (),
    defaults: Sequence[onnx.AttributeProto] = (),
    opset: int | None = 13,
    outputs: Sequence[str] = ("b",),
) -> onnx.FunctionProto:
    """A function of `a`."""
    imports = [helper.make_opsetid("", opset)] if opset is not None else []
    imports.append(helper.make_opsetid(_LOCAL, 1))
    return helper.make_function(_LOCAL, name, ["a"], outputs, nodes, imports, attributes, defaults)


def call(name: str, given: str = "h", made: str = "y", **attributes: Any) -> onnx.NodeProto:
    """A call of a local function."""
    return node(name, [given], [made], domain=_LOCAL, **attributes)


def calling(*functions: onnx.FunctionProto, node: onnx.NodeProto | None = None) -> onnx.ModelProto:
    """y is what the first function makes of h."""
    made = with_nodes(node if node is not None else call(functions[0].name))
    made.functions.extend(functions)
    made.opset_import.append(helper.make_opsetid(_LOCAL, 1))
    return made


def laughs(depth: int, width: int) -> Model:
    """Functions that each call the next `width` times: width^depth operators."""
    functions: list[onnx.FunctionProto] = []
    for level in range(depth):
        names = ["a", *(f"v{i}" for i in range(width - 1)), "b"]
        functions.append(function(f"f{level}", [call(f"f{level + 1}", names[i], names[i + 1]) for i in range(width)]))
    return calling(*functions, function(f"f{depth}", [node("Relu", ["a"], ["b"])]))


def _ring(length: int) -> Model:
    """Functions that each call the next, and the last one the first."""
    return calling(*(function(f"f{i}", [call(f"f{(i + 1) % length}", "a", "b")]) for i in range(length)))


def _one_function() -> onnx.ModelProto:
    return calling(_PLAIN)


def _recursive_through_body() -> Model:
    inner = body([call("f", "a", "c")], "c")
    nodes = [node("ReduceMax", ["a"], ["m"], keepdims=0), node("Cast", ["m"], ["t"], to=TensorProto.BOOL)]
    return calling(function("f", [*nodes, node("If", ["t"], ["b"], then_branch=inner, else_branch=_relu("a", "e"))]))


def _default(**fields: Any) -> Model:
    """A function whose attribute has a tensor for its default."""
    default = onnx.AttributeProto(name="value", type=onnx.AttributeProto.TENSOR, t=tensor("", **fields))
    held = node("Constant", [], ["c"])
    held.attribute.append(onnx.AttributeProto(name="value", ref_attr_name="value", type=onnx.AttributeProto.TENSOR))
    return calling(function("f", [held, node("Relu", ["a"], ["b"])], defaults=[default]))


def _overloads() -> Model:
    """Two functions of one name that call each other by their overloads."""
    first, second = function("f", [call("f", "a", "b")]), function("f", [call("f", "a", "b")])
    second.overload = first.node[0].overload = "second"
    return changed(lambda model: setattr(model, "ir_version", 10), lambda: calling(first, second))


def _own_relu() -> Model:
    """A function that takes the place of a standard operator."""
    made = helper.make_function("", "Relu", ["a"], ["b"], [node("Neg", ["a"], ["b"])], [helper.make_opsetid("", 13)])
    return calling(made, node=node("Relu", ["h"], ["y"]))


def _square(seed: int) -> Array:
    """A weight that keeps the size of what goes through it."""
    array: Array = normal(64, 64, seed=seed) / np.float32(8)
    return array


def _weights_inside() -> Model:
    """Weights in the branches of If and the body of Loop, of the same names as outside."""
    weight = constant(_square(2), "W")
    branch = body([node("MatMul", ["h", "W2"], ["b"])], initializers=[constant(_square(3), "W2")])
    step = [node("MatMul", ["state", "W3"], ["s"]), node("Tanh", ["s"], ["next"])]
    loop = loop_body(step, initializers=[constant(_square(4), "W3")])
    made = branched(branch, _relu())
    made.graph.node[-1].output[0] = "z"
    made.graph.node.append(node("Loop", ["trips", "", "z"], ["y"], body=loop))
    made.graph.initializer.append(constant(np.array(1, np.int64), "trips"))
    made.graph.initializer.append(changed_name(weight, "unused"))
    return made


def changed_name(given: onnx.TensorProto, name: str) -> onnx.TensorProto:
    """The same tensor under another name."""
    made = onnx.TensorProto()
    made.CopyFrom(given)
    made.name = name
    return made


def _function_weights() -> Model:
    weight = node("Constant", [], ["W"], value=constant(_square(2), ""))
    return calling(function("f", [weight, node("MatMul", ["a", "W"], ["b"])]))


def _if(then: onnx.GraphProto | None, other: onnx.GraphProto | None) -> Callable[[], Model]:
    return lambda: branched(then, other)


def _called(nodes: Sequence[onnx.NodeProto], **more: Any) -> Callable[[], Model]:
    return lambda: calling(function("f", nodes, **more))


_RELU: Final = node("Relu", ["a"], ["b"])
_PLAIN: Final = function("g", [_RELU])
_B: Final = node("Relu", ["h"], ["b"])
_SHORT: Final = tensor("s", raw_data=b"123")
_TWO_OUT: Final = body([node("Relu", ["h"], ["b"]), node("Neg", ["h"], ["c"])], outputs=[info("b"), info("c")])
_STEP: Final = node("Relu", ["state"], ["next"])

_BROKEN: Final[tuple[tuple[str, Callable[[], Model]], ...]] = (
    ("If without one branch", _if(_relu(), None)),
    ("If without branches", _if(None, None)),
    ("branches of different outputs", _if(_TWO_OUT, _relu())),
    ("a branch with inputs", _if(body([node("Relu", ["i"], ["b"])], inputs=[info("i")]), _relu())),
    ("a branch that uses what is nowhere", _if(_relu("nowhere"), _relu())),
    ("a branch that uses what comes of it", _if(_relu("y"), _relu())),
    ("a branch whose output nothing makes", _if(body([node("Relu", ["h"], ["c"])]), _relu())),
    ("a ring in a branch", _if(body([node("Add", ["h", "b"], ["c"]), node("Relu", ["c"], ["b"])]), _relu())),
    ("an initializer twice in a branch", _if(body([_B], initializers=[_SHORT, _SHORT]), _relu())),
    ("a broken tensor in a branch", _if(body([_B], initializers=[_SHORT]), _relu())),
    ("what one branch makes is used outside", lambda: branched(_relu(), _relu(), node("Neg", ["b"], ["z"]))),
    ("60 nested bodies", lambda: _deeper_than_protobuf(60)),
    ("20,000 nested bodies", lambda: _deeper_than_protobuf(20_000)),
    ("Loop with a body of too few inputs", lambda: looped(3, body([_STEP], "next", inputs=[info("state")]))),
    ("Loop whose body makes too little", lambda: looped(3, body([_STEP], "next"))),
    ("Loop without body", lambda: with_nodes(node("Loop", ["", "", "h"], ["y"]))),
    ("a function that calls itself", _called([call("f", "a", "b")])),
    ("functions that call each other", lambda: _ring(2)),
    ("a ring of 1,000 functions", lambda: _ring(1000)),
    ("functions that call each other by overloads", _overloads),
    ("a function that calls itself in a branch", _recursive_through_body),
    ("a recursive function that nobody calls", lambda: calling(_PLAIN, function("f", [call("f", "a", "b")]))),
    ("a function that is not there", lambda: calling(_PLAIN, node=call("f"))),
    ("a function in a domain without functions", lambda: changed(lambda m: m.ClearField("functions"), _one_function)),
    ("a function that calls one that is not there", _called([call("g", "a", "b")])),
    ("a function twice", lambda: calling(_PLAIN, function("g", [node("Neg", ["a"], ["b"])]))),
    ("a function without opset", _called([_RELU], opset=None)),
    ("a function that uses what is nowhere", _called([node("Add", ["a", "h"], ["b"])])),
    ("a function whose output nothing makes", _called([node("Relu", ["a"], ["c"])])),
    ("a function with a ring", _called([node("Add", ["a", "b"], ["c"]), node("Relu", ["c"], ["b"])])),
    ("a function that makes a value twice", _called([_RELU, _RELU])),
    (
        "a function called with too many inputs",
        lambda: calling(_PLAIN, node=node("g", ["h", "h"], ["y"], domain=_LOCAL)),
    ),
    (
        "a function called for too many outputs",
        lambda: calling(_PLAIN, node=node("g", ["h"], ["y", "z"], domain=_LOCAL)),
    ),
    ("a broken tensor in a function", _called([node("Constant", [], ["c"], value=tensor("", raw_data=b"1")), _RELU])),
    ("a broken tensor in an attribute's default", lambda: _default(raw_data=b"123")),
    ("2^62 x 2^62 in an attribute's default", lambda: _default(dims=[1 << 62, 1 << 62])),
    ("2^30 operators", lambda: laughs(30, 2)),
    ("2^64 operators", lambda: laughs(64, 2)),
    ("10^18 operators", lambda: laughs(18, 10)),
    ("2^1000 operators", lambda: laughs(1000, 2)),
)

_SOUND: Final[tuple[tuple[str, Callable[[], Model]], ...]] = (
    ("weights in bodies", _weights_inside),
    ("weights in a function", _function_weights),
    ("equal names in both branches", _if(_relu(), _relu())),
    ("Loop of no trips", lambda: looped(0, loop_body([_STEP]))),
    ("2^6 operators", lambda: laughs(6, 2)),
)

_DOUBTFUL: Final[tuple[tuple[str, Callable[[], Model]], ...]] = (
    ("a branch that shadows an outer name", _if(body([node("Neg", ["h"], ["sum"])], "sum"), _relu())),
    ("25 nested bodies", lambda: _nested(25)),
    ("a body where none belongs", lambda: with_nodes(node("Relu", ["h"], ["y"], body=_relu()))),
    ("a function in the place of an operator", _own_relu),
    ("a chain of 1,000 functions", lambda: laughs(1000, 1)),
    ("2^10 operators", lambda: laughs(10, 2)),
    ("a function of another opset", _called([_RELU], opset=7)),
)

CASES: Final[tuple[Case, ...]] = (
    *model_cases(_BROKEN, REFUSED),
    *model_cases(_SOUND, DONE),
    *model_cases(_DOUBTFUL, DONE_OR_REFUSED),
)
