"""strip: text that running a model does not need is taken out, and value names become short."""

import itertools
import string
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from types import MappingProxyType
from typing import Any, ClassVar, Final

from graphshrink.errors import UsageError
from graphshrink.ir import edit
from graphshrink.ir.graph import Function, Graph
from graphshrink.ir.naming import all_names, fixed_names
from graphshrink.ir.operator import Attribute, Operator
from graphshrink.ir.tensor import SparseTensor, Tensor
from graphshrink.ir.types import ValueInfo
from graphshrink.onnx_io.emit import text_bytes
from graphshrink.passing.base import Context, Pass, PassResult

_KNOWN_DOMAINS: Final = ("", "ai.onnx.ml")
"""Operators of these tell the types of their outputs to every runtime."""

_POSITIONAL: Final = ("If", "Loop", "Scan", "SequenceMap")
"""Operators whose bodies are known by the order of their inputs and outputs; others may ask for certain names."""

_RESERVED: Final = "gs"
"""Names that start so are for decode subgraphs."""


@dataclass(frozen=True)
class Strip(Pass):
    """Remove the text that running the model does not need, and shorten value names.

    Given:  MatMul "/encoder/MatMul" (x, encoder.weight) -> /encoder/MatMul_output_0, declared as float (n, 64)
    Result: MatMul (x, b) -> a

    1. The interface stays: inputs and outputs, header, operator sets, metadata, the model's own doc strings.
    2. Values that are used most get the shortest names, and no name that is in use. A name that would not become
       shorter stays, so the pass may be repeated.
    3. Names stay that something else may speak of: quantisation annotations, training information, device placement,
       and the inputs and outputs of bodies of operators that ONNX does not define.
    4. Declarations stay where operators of unknown domains may need them, and where they carry metadata.

    Attributes:
        value_info: remove the declared types and shapes of inner values, which runtimes infer.
        docs: remove the doc strings of operators, constants, inner values, nested graphs and functions.
        names: remove the names of operators, and shorten those of inner values.
    """

    name: ClassVar[str] = "strip"
    buys: ClassVar[str] = "disk"
    on_weights: ClassVar[bool] = False
    value_info: bool = True
    docs: bool = True
    names: bool = True

    def __post_init__(self) -> None:
        if not (self.value_info or self.docs or self.names):
            raise UsageError("strip: value_info, docs and names are all false, which leaves nothing to do")

    def run(self, graph: Graph, context: Context) -> PassResult:
        """Strip the whole model, nested graphs and functions included."""
        size = text_bytes(graph)
        declared = any(scope.value_info for _, scope in graph.scopes())
        unknown = _unknown_domains(graph) if self.value_info and declared else []
        kept = [f"declarations, since operators of {', '.join(unknown)} may need them"] if unknown else []
        eraser = _Eraser(self.value_info and not unknown, self.docs, self.names)
        for _, scope in graph.scopes():
            eraser.erase(scope, outermost=scope is graph)
        for function in _functions(graph):
            edit.set_doc(function, eraser.doc(function.doc))
        shorter = _shorten(graph) if self.names else 0
        done = [f"removed {', '.join(f'{count} {what}' for what, count in eraser.gone.items())}"] if eraser.gone else []
        done += [f"shortened {shorter} value names"] if shorter else []
        if not done:
            return PassResult(kept=[*kept, "the text, since there is none that could go"])
        return PassResult(graph=[f"{', '.join(done)}: {size - text_bytes(graph):,} bytes"], kept=kept)


def _functions(graph: Graph) -> list[Function]:
    return graph.header.functions if graph.header is not None else []


# ---- what is removed


def _unknown_domains(graph: Graph) -> list[str]:
    called = {function.key for function in _functions(graph)}
    found = {
        operator.kind[0]
        for _, scope in graph.scopes()
        for _, operator in scope.operators()
        if operator.kind[0] not in _KNOWN_DOMAINS and (*operator.kind, operator.overload or "") not in called
    }
    return sorted(found)


@dataclass(slots=True)
class _Eraser:
    """Takes texts out, and counts them in `gone`."""

    declarations: bool
    docs: bool
    names: bool
    gone: Counter[str] = field(default_factory=lambda: Counter[str]())

    def erase(self, scope: Graph, *, outermost: bool) -> None:
        """Everything that may go from one scope; inputs, outputs and documentation of the outermost stay."""
        for number, operator in list(scope.operators()):
            bare = self._operator(operator)
            if bare is not operator:
                edit.describe_operator(scope, number, bare)
        for value in list(scope.initializers()):
            bare_constant = self._initializer(value.constant)
            if bare_constant is not None and bare_constant is not value.constant:
                edit.set_constant(scope, value.name, bare_constant)
        infos = scope.value_info.values()
        stay = [info for info in infos if info.metadata or not self.declarations]
        if len(stay) < len(infos):
            self.gone["declarations"] += len(infos) - len(stay)
        edit.set_value_info(scope, map(self._info, stay))
        if not outermost:
            edit.set_inputs(scope, map(self._info, scope.inputs))
            edit.set_outputs(scope, map(self._info, scope.outputs))
            edit.set_doc(scope, self.doc(scope.doc))

    def doc(self, text: str | None) -> str | None:
        """What is left of a doc string."""
        if text is None or not self.docs:
            return text
        self.gone["doc strings"] += 1
        return None

    def _name(self, text: str | None) -> str | None:
        if text is None or not self.names:
            return text
        self.gone["names"] += 1
        return None

    def _info(self, info: ValueInfo) -> ValueInfo:
        return replace(info, doc=self.doc(info.doc))

    def _operator(self, operator: Operator) -> Operator:
        before = self.gone.total()
        own = operator.kind[0] == ""
        attributes = {name: self._attribute(attribute, own) for name, attribute in operator.attributes.items()}
        name, doc = self._name(operator.name), self.doc(operator.doc)
        if self.gone.total() == before:
            return operator
        return replace(operator, name=name, doc=doc, attributes=MappingProxyType(attributes))

    def _attribute(self, attribute: Attribute, own: bool) -> Attribute:
        value: Any = attribute.value
        if isinstance(value, Tensor):
            # Nothing but a custom operator can see what such a tensor is called.
            value = replace(value, name=self._name(value.name) if own else value.name, doc=self.doc(value.doc))
        return replace(attribute, value=value, doc=self.doc(attribute.doc))

    def _initializer(self, constant: Tensor | SparseTensor | None) -> Tensor | SparseTensor | None:
        if isinstance(constant, Tensor):
            return constant if constant.doc is None else replace(constant, doc=self.doc(constant.doc))
        if constant is None or constant.values.doc is None:
            return constant
        return replace(constant, values=replace(constant.values, doc=self.doc(constant.values.doc)))


# ---- what is shortened


def _shorten(graph: Graph) -> int:
    """Rename what becomes shorter by it; returns how many values that are."""
    fixed = _fixed(graph)
    short = _short_names(_occurrences(graph), fixed, all_names(graph) | fixed)
    edit.rename_values(graph, short)
    for function in _functions(graph):
        edit.rename_values(function, short)
    return len(short)


def _occurrences(graph: Graph) -> Counter[str]:
    """How often each value name stands in the file, in the order of first use."""
    counts: Counter[str] = Counter()
    for _, scope in graph.scopes():
        for _, operator in scope.operators():
            counts.update((*operator.inputs, *operator.outputs))
        counts.update(value.name for value in scope.initializers())
        counts.update(info.name for info in (*scope.inputs, *scope.outputs))
        counts.update(name for name in scope.value_info if name in scope)
    return counts


def _fixed(graph: Graph) -> set[str]:
    """Names that must stay as they are."""
    open_to_all = [graph]
    for _, scope in graph.scopes():
        for _, operator in scope.operators():
            if operator.attributes and not operator.is_a(*_POSITIONAL):
                open_to_all += [body for _, body in operator.subgraphs()]
    fixed = fixed_names(graph) | {""}
    for scope in open_to_all:
        fixed.update(info.name for info in (*scope.inputs, *scope.outputs))
    return fixed


def _short_names(counts: Counter[str], fixed: set[str], taken: set[str]) -> dict[str, str]:
    """New names for the values that get shorter ones.

    What becomes free is given again, round by round, until nothing gets shorter: so a second run finds nothing to do.
    """
    current = {name: name for name, _ in counts.most_common() if name not in fixed}
    freed: set[str] = {""}
    while freed:
        freed = set()
        names = (name for name in _alphabet() if name not in taken)
        offer = next(names)
        for name, now in current.items():
            if len(offer) < len(now.encode()):
                current[name] = offer
                freed.add(now)
                offer = next(names)
        taken = (taken | set(current.values())) - freed
    return {name: short for name, short in current.items() if short != name}


def _alphabet() -> Iterator[str]:
    """a, b, ..., z, A, ..., Z, aa, ab, ..."""
    for length in itertools.count(1):
        for letters in itertools.product(string.ascii_letters, repeat=length):
            name = "".join(letters)
            if not name.startswith(_RESERVED):
                yield name
