"""Operators and their attributes: immutable payloads of the graph."""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from enum import IntEnum
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, TypeAlias, cast

from graphshrink.ir.tensor import SparseTensor, Tensor
from graphshrink.ir.types import Array, Metadata, Type

if TYPE_CHECKING:  # graphs hold operators, and operators graphs
    from graphshrink.ir.graph import Graph


class AttributeType(IntEnum):
    """`onnx.AttributeProto.AttributeType`."""

    UNDEFINED = 0
    FLOAT = 1
    INT = 2
    STRING = 3
    TENSOR = 4
    GRAPH = 5
    FLOATS = 6
    INTS = 7
    STRINGS = 8
    TENSORS = 9
    GRAPHS = 10
    SPARSE_TENSOR = 11
    SPARSE_TENSORS = 12
    TYPE_PROTO = 13
    TYPE_PROTOS = 14


_One: TypeAlias = float | int | bytes | Tensor | SparseTensor | Type
_Many: TypeAlias = (
    tuple[float, ...]
    | tuple[int, ...]
    | tuple[bytes, ...]
    | tuple[Tensor, ...]
    | tuple[SparseTensor, ...]
    | tuple[Type, ...]
)
AttributeValue: TypeAlias = "_One | _Many | Graph | tuple[Graph, ...] | None"


@dataclass(frozen=True, slots=True)
class Attribute:
    """One attribute; `value` is None when it refers to an attribute of the enclosing function (`reference`)."""

    name: str
    type: AttributeType
    value: AttributeValue
    reference: str | None = None
    doc: str | None = None
    states_type: bool = True  # files of IR version 1 need not


@dataclass(frozen=True, slots=True)
class Record:
    """A rarely used part of the file that nothing here interprets (such as device placement), as plain data.

    `fields` holds the fields that are set, by name; repeated ones are tuples, messages are Records.
    """

    kind: str
    fields: tuple[tuple[str, Any], ...]


_NO_ATTRIBUTES: Mapping[str, Attribute] = MappingProxyType({})


@dataclass(frozen=True, slots=True, eq=False)
class Operator:
    """One node of the graph.

    An empty string among `inputs` or `outputs` is an optional one left out.
    """

    op_type: str
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    attributes: Mapping[str, Attribute] = field(default_factory=lambda: _NO_ATTRIBUTES)
    domain: str | None = None
    name: str | None = None
    overload: str | None = None
    doc: str | None = None
    metadata: Metadata = ()
    devices: tuple[Record, ...] = ()

    @property
    def kind(self) -> tuple[str, str]:
        """(domain, type), with the standard domain as the empty string."""
        return ("" if self.domain in (None, "ai.onnx") else self.domain, self.op_type)

    def is_a(self, *op_types: str) -> bool:
        """Whether this is one of the named operators of the standard domain."""
        return self.op_type in op_types and self.kind[0] == ""

    def subgraphs(self) -> Iterator["tuple[str, Graph]"]:
        """Nested graphs with a label for each, such as `then_branch` or `branches[1]`."""
        for attribute in self.attributes.values():
            value: Any = attribute.value
            if attribute.type is AttributeType.GRAPH and value is not None:
                yield attribute.name, value
            elif attribute.type is AttributeType.GRAPHS and value is not None:
                for index, graph in enumerate(value):
                    yield f"{attribute.name}[{index}]", graph

    def with_bodies(self, change: "Callable[[Graph], Graph]") -> "Operator":
        """The same operator with other nested graphs, which nobody owns yet unless `change` says so."""
        changed: dict[str, Attribute] = dict(self.attributes)
        for name, attribute in self.attributes.items():
            value: Any = attribute.value
            if attribute.type is AttributeType.GRAPH and value is not None:
                changed[name] = replace(attribute, value=change(value))
            elif attribute.type is AttributeType.GRAPHS and value is not None:
                changed[name] = replace(attribute, value=tuple(map(change, value)))
        return replace(self, attributes=MappingProxyType(changed))

    def integer(self, name: str, default: int) -> int:
        """An integer attribute, or its default."""
        value = self.attributes[name].value if name in self.attributes else None
        return value if isinstance(value, int) else default

    def real(self, name: str, default: float) -> float:
        """A float attribute, or its default."""
        value = self.attributes[name].value if name in self.attributes else None
        return value if isinstance(value, float) else default

    def integers(self, name: str) -> tuple[int, ...] | None:
        """A list of integers, or None where it is not given."""
        attribute = self.attributes.get(name)
        if attribute is None or attribute.type is not AttributeType.INTS:
            return None
        return cast("tuple[int, ...] | None", attribute.value)  # None: an attribute of the function around it

    def integers_or(self, name: str, given: Array | None) -> tuple[int, ...] | None:
        """Numbers that older operators have as an attribute and newer ones as an input, whose value is `given`."""
        found = self.integers(name)
        return found if found is not None or given is None else tuple(int(number) for number in given.reshape(-1))

    def with_attribute(self, attribute: Attribute) -> "Operator":
        """The same operator with one attribute set; the order of the others stays."""
        return replace(self, attributes=MappingProxyType({**self.attributes, attribute.name: attribute}))


def attributes_of(**values: int | float | bytes | tuple[int, ...] | Tensor) -> Mapping[str, Attribute]:
    """Attributes from keyword arguments."""
    kinds = {
        int: AttributeType.INT,
        float: AttributeType.FLOAT,
        bytes: AttributeType.STRING,
        tuple: AttributeType.INTS,
        Tensor: AttributeType.TENSOR,
    }
    return MappingProxyType({name: Attribute(name, kinds[type(value)], value) for name, value in values.items()})
