"""Bounds on what a model may ask for, held before a graph is built and before shape inference or ONNX Runtime sees it.

1. Operators: at most `MAX_OPERATORS` in the file, and as many once every local function is expanded where it is called.
2. Graphs nest at most `MAX_NESTING` deep.
3. Each operator set is imported once, with a version of at least 1.
4. Local functions are defined once, call neither themselves nor, in a domain of their own, one that does not exist.

The walks keep their own stacks, so that no depth is a problem, and count with Python's integers, which do not overflow.
"""

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from typing import Final, NamedTuple, TypeAlias

import onnx

from graphshrink.errors import ModelError

MAX_OPERATORS: Final = 1_000_000
MAX_NESTING: Final = 32

# Domains in which operators are known without a function in the file.
_PUBLIC: Final = ("", "ai.onnx", "com.microsoft", "com.ms", "org.pytorch")

_Key: TypeAlias = tuple[str, str, str]  # domain, name, overload


class _Content(NamedTuple):
    """What a graph or the body of a function holds, nested graphs included: operators, and calls by what they call."""

    operators: int
    calls: Counter[_Key]


def expect_bounded(proto: onnx.ModelProto) -> None:
    """Hold a model to the rules of this module.

    Raises:
        ModelError: it breaks one of them.
    """
    _expect_opsets(proto.opset_import, "the model")
    bodies: dict[_Key, _Content] = {}
    left = MAX_OPERATORS
    for function in proto.functions:
        key = _key(function.domain, function.name, getattr(function, "overload", ""))
        where = f"function {function.name!r}"
        if key in bodies:
            raise ModelError(f"{where} is defined twice")
        _expect_opsets(function.opset_import, where)
        bodies[key] = _content(function.node, where, left)
        left -= bodies[key].operators
    main = _content(proto.graph.node, "the model", left)
    for training in proto.training_info:
        for graph in (training.initialization, training.algorithm):
            _content(graph.node, "training information", left)
    _expect_defined(bodies, main)
    _expect_expandable(bodies, main)


def _key(domain: str, name: str, overload: str) -> _Key:
    return ("" if domain == "ai.onnx" else domain, name, overload)


def _expect_opsets(imports: Iterable[onnx.OperatorSetIdProto], where: str) -> None:
    versions: dict[str, int] = {}
    for entry in imports:
        domain = "" if entry.domain == "ai.onnx" else entry.domain
        if domain in versions:
            said = f"versions {versions[domain]} and {entry.version}"
            raise ModelError(f"{where} imports operator set {domain or 'ai.onnx'!r} twice, in {said}; export it again")
        if entry.version < 1:
            raise ModelError(f"{where} imports version {entry.version} of operator set {domain or 'ai.onnx'!r}")
        versions[domain] = entry.version


def _content(nodes: Iterable[onnx.NodeProto], where: str, left: int) -> _Content:
    """Count what is in a graph and in those nested in it; `left` is how many operators it may hold."""
    calls: Counter[_Key] = Counter()
    operators = 0
    pending = [(nodes, 1)]
    while pending:
        scope, depth = pending.pop()
        if depth > MAX_NESTING:
            raise ModelError(f"{where} nests graphs more than {MAX_NESTING} deep")
        for node in scope:
            operators += 1
            if operators > left:
                raise ModelError(f"{where} has more than {MAX_OPERATORS:,} operators")
            calls[_key(node.domain, node.op_type, getattr(node, "overload", ""))] += 1
            pending.extend((graph.node, depth + 1) for graph in _bodies(node))
    return _Content(operators, calls)


def _bodies(node: onnx.NodeProto) -> Iterator[onnx.GraphProto]:
    for attribute in node.attribute:
        if attribute.HasField("g"):
            yield attribute.g
        yield from attribute.graphs


def _expect_defined(bodies: Mapping[_Key, _Content], main: _Content) -> None:
    """In a domain that local functions make up, what is called has to be there."""
    own = {domain for domain, _, _ in bodies}.difference(_PUBLIC)
    for content in (main, *bodies.values()):
        for domain, name, overload in content.calls:
            if domain in own and (domain, name, overload) not in bodies:
                raise ModelError(f"function {name!r} of domain {domain!r} is called but not defined")


def _expect_expandable(bodies: Mapping[_Key, _Content], main: _Content) -> None:
    """Expanding every call must end, and give a model that is not too large."""
    sizes: dict[_Key, int] = {}
    for start in bodies:
        _expand(start, bodies, sizes)
    total = main.operators + sum((sizes[key] - 1) * count for key, count in main.calls.items() if key in sizes)
    if total > MAX_OPERATORS:
        raise ModelError(f"its functions expand to more than {MAX_OPERATORS:,} operators")


def _expand(start: _Key, bodies: Mapping[_Key, _Content], sizes: dict[_Key, int]) -> None:
    """Fill in how many operators a function has once those it calls are expanded; theirs first."""
    stack, entered = [start], set[_Key]()
    while stack:
        key = stack[-1]
        if key in sizes:
            stack.pop()
            continue
        called = {callee: count for callee, count in bodies[key].calls.items() if callee in bodies}
        missing = [callee for callee in called if callee not in sizes]
        if missing and key in entered:
            raise ModelError(f"function {key[1]!r} calls itself")
        if missing:
            entered.add(key)
            stack.extend(missing)
            continue
        size = bodies[key].operators + sum((sizes[callee] - 1) * n for callee, n in called.items())
        sizes[key] = min(size, MAX_OPERATORS + 1)  # 2**30 is too many as well, and 2**30000 takes long to add
        stack.pop()
