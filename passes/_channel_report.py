"""What channel-removal says of a model's weights and channels."""

from collections.abc import Mapping, Sequence

import numpy as np

from graphshrink.ir.graph import Graph
from graphshrink.ir.tensor import FLOATING, Tensor
from graphshrink.ir.weight import weights
from graphshrink.ops.coupling.analysis import Couplings, Group
from graphshrink.ops.coupling.cutting import Gone
from graphshrink.passing.base import Changed, PassResult, Skipped

_SHOWN = 20  # lines about groups that stay


def report(
    result: PassResult,
    before: Graph,
    after: Graph,
    couplings: Couplings,
    gone: Gone,
    broken: Sequence[Group],
    said: Mapping[str, str],
) -> None:
    """Say of every weight what became of it, and of every group that stays why.

    Args:
        result: where to.
        before: the graph as it was.
        after: the graph as it is.
        couplings: of it.
        gone: what was removed.
        broken: groups whose removal could not be proven.
        said: of weights that were fitted, by name.
    """
    old = {weight.label: weight.tensor for weight in weights(before)}
    reasons = _reasons(couplings)
    for weight in weights(after):
        was, now = old.get(weight.label), weight.tensor
        if was is None or was is now or now.elem_type not in FLOATING:
            known = weight.graph is after and weight.name in reasons and len(now.dims) > 1
            if known and not isinstance(result.layers.get(weight.label), Skipped):
                result.layers[weight.label] = Skipped(reasons[weight.name])
            continue
        parts = [f"{list(was.dims)} -> {list(now.dims)}"] if was.dims != now.dims else []
        parts += [said[weight.name]] if weight.name in said else []
        result.layers[weight.label] = Changed(", ".join(parts) or "fitted", _lost(was, now))
    for group in broken:
        result.kept.append(f"{_title(couplings, group)} stay: without them the model is not what it should be (a bug)")
    held = [group for group in couplings.groups if group.reason is not None]
    result.kept += [f"{_title(couplings, group)} stay: {group.reason}" for group in held[:_SHOWN]]
    if len(held) > _SHOWN:
        result.kept.append(f"and {len(held) - _SHOWN} more groups")
    for group, channels in gone.items():
        result.graph.append(f"{_title(couplings, group)}: {group.size - len(channels)} left")


def _title(couplings: Couplings, group: Group) -> str:
    name = couplings.graph.original_name(group.title)
    return f"{group.size} channels of '{name}'"


def _reasons(couplings: Couplings) -> dict[str, str]:
    """Why weights did not lose channels, by name."""
    found: dict[str, str] = {}
    for group in couplings.groups:
        for name, _ in group.blocks:
            found.setdefault(name, group.reason or "all of its channels are needed")
    return found


def _lost(was: Tensor, now: Tensor) -> float:
    """The relative change of a weight; of one that was cut, the share of its norm that went."""
    a, b = was.array.astype(np.float64), now.array.astype(np.float64)
    norm = float(np.linalg.norm(a))
    if norm == 0:
        return 0.0
    if a.shape == b.shape:
        return float(np.linalg.norm(a - b)) / norm
    return float(np.sqrt(max(0.0, 1 - float(np.square(b).sum()) / norm**2)))
