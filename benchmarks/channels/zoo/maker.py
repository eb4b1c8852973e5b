"""Write a model operator by operator, with seeded random weights."""

import zlib
from collections import Counter
from collections.abc import Generator
from contextlib import contextmanager
from typing import Any, Final

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from graphshrink.ir.types import Array

BATCH: Final = "batch"
"""The name of the open axis of samples."""

FLOAT: Final = TensorProto.FLOAT
INT64: Final = TensorProto.INT64
BOOL: Final = TensorProto.BOOL

_IR_VERSIONS: Final = {17: 8, 18: 8, 21: 10}


class Maker:
    """A graph in the making; operators are named by scope and kind, as exporters do: `/layer1/0/Conv_1`.

    Args:
        name: of the graph; also seeds the weights.
        opset: of the standard domain.
        constant_nodes: whether shapes, axes, and scalars are Constant nodes, as torch's tracing exporter writes them,
            or initializers.
        weight_nodes: the same for weights.
    """

    def __init__(self, name: str, *, opset: int = 17, constant_nodes: bool = False, weight_nodes: bool = False) -> None:
        self.name = name
        self.rng = np.random.default_rng(zlib.crc32(name.encode()))
        self._opset = opset
        self._constant_nodes = constant_nodes
        self._weight_nodes = weight_nodes
        self._scopes: list[str] = []
        self._used: Counter[str] = Counter()
        self._shared: dict[tuple[str, tuple[int, ...], bytes], str] = {}
        self._nodes: list[onnx.NodeProto] = []
        self._initializers: list[onnx.TensorProto] = []
        self._inputs: list[onnx.ValueInfoProto] = []
        self._outputs: list[onnx.ValueInfoProto] = []
        self._metadata: dict[str, str] = {}

    # ---- names

    @contextmanager
    def scope(self, *names: str | int) -> Generator[None]:
        """What is added within gets these names in front."""
        self._scopes.extend(map(str, names))
        yield
        del self._scopes[-len(names) :]

    def _fresh(self, name: str) -> str:
        count = self._used[name]
        self._used[name] += 1
        return f"{name}_{count}" if count else name

    # ---- operators

    def op(self, kind: str, *operands: str, **attributes: Any) -> str:
        """An operator with one output, which it gives."""
        return self.several(kind, 1, *operands, **attributes)[0]

    def several(self, kind: str, count: int, *operands: str, **attributes: Any) -> list[str]:
        """An operator with that many outputs."""
        name = self._fresh("/".join(["", *self._scopes, kind]))
        outputs = [f"{name}_output_{index}" for index in range(count)]
        self._nodes.append(helper.make_node(kind, list(operands), outputs, name, **attributes))
        return outputs

    # ---- weights and constants

    def weight(self, label: str, array: Array) -> str:
        """A tensor of the model, in float32 unless it holds integers; named by scope and label."""
        name = self._fresh(".".join([*self._scopes, label]))
        array = array.astype(np.float32) if array.dtype == np.float64 else array
        self._place(name, array, self._weight_nodes)
        return name

    def normal(self, label: str, *shape: int, scale: float = 1.0, mean: float = 0.0) -> str:
        """A weight of independent normal numbers."""
        return self.weight(label, mean + scale * self.rng.standard_normal(shape, dtype=np.float32))

    def uniform(self, label: str, *shape: int, low: float, high: float) -> str:
        """A weight of independent numbers between two."""
        return self.weight(label, self.rng.uniform(low, high, shape))

    def ints(self, *values: int) -> str:
        """A list of integers: a shape, axes, bounds of a slice."""
        return self._constant(np.array(values, np.int64))

    def index(self, value: int) -> str:
        """A single integer."""
        return self._constant(np.array(value, np.int64))

    def scalar(self, value: float) -> str:
        """A single float."""
        return self._constant(np.array(value, np.float32))

    def _constant(self, array: Array) -> str:
        """Written once if it is an initializer, and for each use if it is a node, as exporters do."""
        key = (str(array.dtype), array.shape, array.tobytes())
        if not self._constant_nodes and key in self._shared:
            return self._shared[key]
        name = self._fresh("/".join(["", *self._scopes, "Constant"]))
        self._shared[key] = name = f"{name}_output_0"
        self._place(name, array, self._constant_nodes)
        return name

    def _place(self, name: str, array: Array, in_node: bool) -> None:
        tensor = numpy_helper.from_array(np.array(array, order="C"), name)
        if in_node:
            self._nodes.append(helper.make_node("Constant", [], [name], name.removesuffix("_output_0"), value=tensor))
        else:
            self._initializers.append(tensor)

    # ---- shapes that the graph computes

    def size(self, source: str, axis: int) -> str:
        """The size of an axis, as a scalar: Shape, Gather."""
        return self.op("Gather", self.op("Shape", source), self.index(axis), axis=0)

    def shape(self, *sizes: int | str) -> str:
        """A shape of numbers and scalars: Unsqueeze, Concat."""
        parts = [
            self.ints(size) if isinstance(size, int) else self.op("Unsqueeze", size, self.ints(0)) for size in sizes
        ]
        return self.op("Concat", *parts, axis=0)

    def reshape(self, source: str, *sizes: int | str) -> str:
        """Reshape to numbers, or to a shape computed in the graph if scalars are among them."""
        numbers = [size for size in sizes if isinstance(size, int)]
        return self.op("Reshape", source, self.ints(*numbers) if len(numbers) == len(sizes) else self.shape(*sizes))

    def filled(self, shape: str, value: float) -> str:
        """A tensor of that shape, int64 or float32 as the value is: ConstantOfShape."""
        kind = np.int64 if isinstance(value, int) else np.float32
        return self.op("ConstantOfShape", shape, value=numpy_helper.from_array(np.array([value], kind)))

    def slice(self, source: str, axis: int, start: int | str, end: int | str, step: int = 1) -> str:
        """A range of an axis; a bound that the graph computes is a scalar."""
        bounds = [self.ints(b) if isinstance(b, int) else self.op("Unsqueeze", b, self.ints(0)) for b in (start, end)]
        return self.op("Slice", source, *bounds, self.ints(axis), self.ints(step))

    # ---- the ends

    def input(self, name: str, *shape: int | str, kind: int = FLOAT, below: int | None = None) -> str:
        """An input of the graph; integers are `below` a bound, which the model's metadata tell."""
        self._inputs.append(helper.make_tensor_value_info(name, kind, shape))
        if below is not None:
            self._metadata[f"below:{name}"] = str(below)
        return name

    def typical(self, axis: str, size: int) -> None:
        """Say in the metadata which size an open axis has, if it is not that of samples."""
        self._metadata[f"size:{axis}"] = str(size)

    def output(self, source: str, name: str, *shape: int | str, kind: int = FLOAT) -> None:
        """Make a value an output: it takes the name."""
        for node in self._nodes:
            for index, operand in enumerate(node.input):
                if operand == source:
                    node.input[index] = name
            for index, made in enumerate(node.output):
                if made == source:
                    node.output[index] = name
        self._outputs.append(helper.make_tensor_value_info(name, kind, shape))

    def body(self, name: str) -> "Maker":
        """The maker of a graph inside this one, for If; it may use any value that this one has by now."""
        inner = Maker(
            f"{self.name}.{name}",
            opset=self._opset,
            constant_nodes=self._constant_nodes,
            weight_nodes=self._weight_nodes,
        )
        inner._scopes = [*self._scopes, name]
        return inner

    def graph(self) -> onnx.GraphProto:
        """The graph as it is now."""
        return helper.make_graph(self._nodes, self.name, self._inputs, self._outputs, self._initializers)

    def model(self, *, producer: str = "graphshrink-benchmarks") -> onnx.ModelProto:
        """The finished model."""
        opset = helper.make_opsetid("", self._opset)
        ir_version = _IR_VERSIONS[self._opset]
        model = helper.make_model(self.graph(), opset_imports=[opset], ir_version=ir_version, producer_name=producer)
        helper.set_model_props(model, self._metadata)
        return model
