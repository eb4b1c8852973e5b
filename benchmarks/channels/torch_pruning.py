"""Torch-Pruning on networks of torch, exported afterwards.

As its documents advise: norms over groups, the layers that give outputs left alone, heads named where torch has them.
"""

from typing import Any

import onnx

from benchmarks.channels.zoo.torch_exports import export
from benchmarks.tools.base import library


def pruned(name: str, ratio: float, *, dynamo: bool) -> onnx.ModelProto:
    """A network of `zoo.torch_networks` without this share of the channels of each layer.

    Raises:
        Exception: whatever it, torch, or the exporter does where they cannot.
    """

    def change(module: Any, example: Any) -> None:
        tool, nn = library("torch_pruning"), library("torch").nn
        attention = [part for part in module.modules() if isinstance(part, nn.MultiheadAttention)]
        pruner = tool.pruner.MetaPruner(
            module,
            example,
            importance=tool.importance.GroupMagnitudeImportance(p=2),
            pruning_ratio=ratio,
            ignored_layers=[_last(module, example)],
            num_heads={part: part.num_heads for part in attention},
        )
        pruner.step()

    return export(name, dynamo=dynamo, change=change)


def _last(module: Any, example: Any) -> Any:
    """The layer that runs last."""
    torch = library("torch")
    seen: list[Any] = []
    kinds = (torch.nn.Linear, torch.nn.modules.conv._ConvNd)

    def note(part: Any, *_: Any) -> None:
        seen.append(part)

    hooks = [part.register_forward_hook(note) for part in module.modules() if isinstance(part, kinds)]
    with torch.no_grad():
        module(example)
    for hook in hooks:
        hook.remove()
    return seen[-1]
