"""Small graphs whose channels are looked at, and the proof that removing them is the same as setting them to zero."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
import onnx
from onnx import helper, numpy_helper

from graphshrink.calibration.observing import Observed, observe
from graphshrink.ir.check import check
from graphshrink.ir.compare import interface_difference
from graphshrink.ir.graph import Graph
from graphshrink.ir.types import Array
from graphshrink.onnx_io.emit import emit
from graphshrink.onnx_io.load import load
from graphshrink.onnx_io.runtime import Runtime
from graphshrink.ops.coupling.analysis import Couplings, Group, analyse
from graphshrink.ops.coupling.cutting import Gone, cut_of, remove
from graphshrink.ops.coupling.masking import masked
from graphshrink.ops.coupling.surgery import Cut
from tests.models import normal
from tests.runners import OPTIMISED, run

node = helper.make_node
Shape = tuple[int, ...]

ANYTHING: Final[Mapping[str, int]] = {"anything": 0}
"""Which channels can be removed does not matter, as long as some can, and the proof holds."""

TOLERANCE: Final = 1e-4
"""||narrow - masked|| / ||masked||: float32 sums in another order, in graphs of few layers."""


def made(
    nodes: Sequence[onnx.NodeProto],
    constants: Mapping[str, Array | Shape] | None = None,
    x: Shape | Mapping[str, Shape | Array] = (2, 8),
    y: str | Sequence[str] = "y",
    *,
    opset: int = 13,
    ir_version: int = 8,
    listed: Sequence[str] = (),
    **more: Any,
) -> tuple[onnx.ModelProto, dict[str, Array]]:
    """A model, and what to feed it.

    Args:
        nodes: its operators.
        constants: initializers, or their shapes, which are then filled with normal numbers.
        x: the shape of its input, or shapes or values of several; those are given as they are when the model runs.
        y: names of its outputs, whose shapes are found out.
        opset, ir_version: of the model; below IR version 4 initializers are listed as inputs.
        listed: initializers that are inputs as well.
        more: of `onnx.helper.make_model`.
    """
    seeds = iter(range(1, 1000))
    given = constants or {}
    arrays = {n: a if isinstance(a, np.ndarray) else _scaled(a, next(seeds)) for n, a in given.items()}
    wanted = x if isinstance(x, Mapping) else {"x": x}
    feeds = {n: a if isinstance(a, np.ndarray) else normal(*a, seed=next(seeds)) for n, a in wanted.items()}
    inputs = [_info(name, array) for name, array in feeds.items()]
    inputs += [_info(n, a) for n, a in arrays.items() if ir_version < 4 or n in listed]
    outputs = [onnx.ValueInfoProto(name=name) for name in ([y] if isinstance(y, str) else y)]
    initializers = [numpy_helper.from_array(array, name) for name, array in arrays.items()]
    graph = helper.make_graph(list(nodes), "g", inputs, outputs, initializers)
    opsets = [helper.make_opsetid("", opset), helper.make_opsetid("com.microsoft", 1)]
    model = helper.make_model(graph, opset_imports=opsets, ir_version=ir_version, **more)
    found = run(model, feeds, optimised=False)
    del model.graph.output[:]
    model.graph.output.extend(_info(name, array) for name, array in found.items())
    onnx.checker.check_model(model, full_check=True)
    return model, feeds


def _scaled(shape: Shape, seed: int) -> Array:
    """Numbers that let values stay about as large as they are."""
    scale = np.float32(1 / np.sqrt(max(1, int(np.prod(shape[1:])))))
    array: Array = normal(*shape, seed=seed) * scale
    return array


def _info(name: str, array: Array) -> onnx.ValueInfoProto:
    return helper.make_tensor_value_info(name, helper.np_dtype_to_tensor_dtype(array.dtype), array.shape)


@dataclass(frozen=True, slots=True)
class Look:
    """A graph and its channels."""

    graph: Graph
    couplings: Couplings
    observed: Observed
    feeds: Mapping[str, Array]

    @property
    def free(self) -> list[Group]:
        """The groups of which channels can be removed."""
        return [group for group in self.couplings.groups if group.reason is None and group.size > 1]

    @property
    def sizes(self) -> dict[str, int]:
        """How many channels can be removed, by where they lie in floating constants: "W1.1 b1.0 W2.0"."""
        return {self._where(group): group.size for group in self.free}

    @property
    def held(self) -> dict[str, str]:
        """Why channels stay, likewise."""
        return {self._where(group): group.reason for group in self.couplings.groups if group.reason is not None}

    def _where(self, group: Group) -> str:
        constants = [(name, axis) for name, axis in group.blocks if self.graph.constant(name) is not None]
        return " ".join(f"{name}.{axis}" for name, axis in constants if self.observed.dtypes[name].kind in "fV")


def look(model: onnx.ModelProto, feeds: Mapping[str, Array], runtime: Runtime, **rest: Any) -> Look:
    """The channels of a model."""
    graph = load(model)
    observed = observe(graph, dict(feeds), runtime)
    return Look(graph, analyse(graph, observed.shapes, observed.known, **rest), observed, feeds)


def some(groups: Sequence[Group], seed: int, *, most: bool = False) -> dict[Group, Array]:
    """Random channels of each group, or all but one."""
    rng = np.random.default_rng(seed)
    counts = {group: group.size - 1 if most else int(rng.integers(1, group.size)) for group in groups}
    return {group: np.sort(rng.permutation(group.size)[:count]) for group, count in counts.items()}


def narrow_of(seen: Look, gone: Gone) -> tuple[Graph, Cut]:
    """The graph without channels, which is valid, and looks from outside as it did."""
    graph = seen.graph.copy()
    cut = remove(seen.couplings, gone, graph)
    check(graph)
    assert interface_difference(seen.graph, graph) is None
    onnx.checker.check_model(emit(graph), full_check=True)
    return graph, cut


def distance(seen: Look, gone: Gone) -> float:
    """How far the graph without channels is from the one with zeros in their place, in the worst output."""
    wide = masked(seen.couplings, cut_of(seen.couplings, gone), seen.observed.dtypes)
    check(wide)
    expected = run(emit(wide), seen.feeds, optimised=False)
    narrow, _ = narrow_of(seen, gone)
    return max(apart(run(emit(narrow), seen.feeds, optimised=way), expected) for way in OPTIMISED)


def apart(found: Mapping[str, Array], expected: Mapping[str, Array]) -> float:
    assert found.keys() == expected.keys()
    worst = 0.0
    for name, array in expected.items():
        assert (found[name].shape, found[name].dtype) == (array.shape, array.dtype)
        a, b = array.astype(np.float64), found[name].astype(np.float64)
        worst = max(worst, float(np.linalg.norm(a - b)) / max(float(np.linalg.norm(a)), 1e-6))
    return worst


def proven(seen: Look, within: float = TOLERANCE) -> None:
    """Channels of every group can go, alone and together, all but one of them too."""
    assert seen.free
    trials: list[dict[Group, Array]] = [some(seen.free, seed) for seed in range(2)]
    trials.append(some(seen.free, 2, most=True))
    if len(seen.free) > 1:
        trials += [some([group], 3 + number) for number, group in enumerate(seen.free)]
    for gone in trials:
        assert distance(seen, gone) <= within
        _is_smaller(seen, gone)


def _is_smaller(seen: Look, gone: Gone) -> None:
    """All that a group is about has lost the channels, and nothing else has."""
    graph, cut = narrow_of(seen, gone)
    for name, shape in seen.observed.shapes.items():
        constant = graph.constant(name) if name in graph else None
        if constant is not None:
            axes = cut.axes(name)
            assert constant.dims == tuple(len(axes[a]) if a in axes else size for a, size in enumerate(shape))


# ---- tables of cases


@dataclass(frozen=True, slots=True)
class Case:
    """A graph, and what of it can be removed.

    Attributes:
        name: of the case.
        nodes, constants, rest: what `made` is given.
        free: how many channels can be removed, by where they lie in constants.
        held: why others stay: a part of the reason, by where they lie.
    """

    name: str
    nodes: Sequence[onnx.NodeProto]
    constants: Mapping[str, Array | Shape]
    free: Mapping[str, int]
    held: Mapping[str, str]
    rest: Mapping[str, Any]

    def holds(self, runtime: Runtime) -> None:
        """Judge it."""
        seen = look(*made(self.nodes, self.constants, **self.rest), runtime)
        if self.free is not ANYTHING:
            assert seen.sizes == self.free, (seen.sizes, seen.held)
        for where, reason in self.held.items():
            assert reason in seen.held[where]
        if self.free != {}:
            proven(seen)


def case(
    name: str,
    nodes: Sequence[onnx.NodeProto],
    constants: Mapping[str, Array | Shape],
    free: Mapping[str, int],
    held: Mapping[str, str] | None = None,
    **rest: Any,
) -> Case:
    return Case(name, nodes, constants, free, held or {}, rest)


def dense(
    name: str,
    between: Sequence[onnx.NodeProto],
    constants: Mapping[str, Array | Shape] | None = None,
    free: Mapping[str, int] | None = None,
    held: Mapping[str, str] | None = None,
    *,
    x: Any = (3, 5),
    width: int = 8,
    taken: int | None = None,
    **rest: Any,
) -> Case:
    """x -> MatMul W1 -> h -> what is `between` -> a -> MatMul W2 -> y; all of h can go if nothing else is said."""
    last = next(iter(x.values())) if isinstance(x, dict) else x
    nodes = [node("MatMul", ["x", "W1"], ["h"]), *between, node("MatMul", ["a", "W2"], ["y"])]
    weights = {"W1": (last[-1], width), **(constants or {}), "W2": (taken or width, 4)}
    wanted = {"W1.1 W2.0": width} if free is None and held is None else free or {}
    return Case(name, nodes, weights, wanted, held or {}, {"x": x, **rest})


def images(
    name: str,
    between: Sequence[onnx.NodeProto],
    constants: Mapping[str, Array | Shape] | None = None,
    free: Mapping[str, int] | None = None,
    held: Mapping[str, str] | None = None,
    *,
    x: Any = (2, 3, 6, 4),
    width: int = 8,
    taken: int | None = None,
    **rest: Any,
) -> Case:
    """x -> Conv W1 -> h -> what is `between` -> a -> Conv W2 (1x1) -> y."""
    last = next(iter(x.values())) if isinstance(x, dict) else x
    spatial = len(last) - 2
    kernel = (3,) * spatial
    nodes = [
        node("Conv", ["x", "W1"], ["h"], pads=[1] * (2 * spatial)),
        *between,
        node("Conv", ["a", "W2"], ["y"]),
    ]
    weights = {"W1": (width, last[1], *kernel), **(constants or {}), "W2": (4, taken or width, *(1,) * spatial)}
    wanted = {"W1.0 W2.1": width} if free is None and held is None else free or {}
    return Case(name, nodes, weights, wanted, held or {}, {"x": x, **rest})
