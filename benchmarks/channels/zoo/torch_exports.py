"""The networks of `torch_networks`, exported by torch's own two exporters.

Optional: needs `pip install torch==2.13.0 onnxscript torchvision transformers`; all else works without. What exporters
write changes with their versions, so these models are not the same every time, as those of `ZOO` are.

    for name, build in available().items():  # bilstm.traced, bilstm.dynamo, ...
        model = build()
"""

import copy
import importlib.util
import io
import sys
import warnings
from collections.abc import Callable, Mapping
from functools import partial
from types import ModuleType
from typing import Any, Final, TypeAlias

import onnx
from onnx import helper

from benchmarks.channels.zoo.maker import BATCH
from benchmarks.channels.zoo.torch_networks import NETWORKS
from benchmarks.tools.base import library

Change: TypeAlias = Callable[[Any, Any], None]
"""Changes a network in place; gets an example of what it reads."""

_EXAMPLE: Final = 2  # rows that exporters see; one would become a constant
_LENGTH: Final = 12
_TRACED_OPSET: Final = 17


def available() -> dict[str, Callable[[], onnx.ModelProto]]:
    """What exports each network that can be exported here, by its name and the exporter's."""
    return {
        f"{name}.{'dynamo' if dynamo else 'traced'}": partial(export, name, dynamo=dynamo)
        for name, network in NETWORKS.items()
        for dynamo in (False, True)
        if network.missing() is None and (dynamo or network.traced)
    }


def export(name: str, *, dynamo: bool, change: Change | None = None) -> onnx.ModelProto:
    """The network of `NETWORKS` as an ONNX model whose batch is open; it tells the bounds that `feeds` needs.

    `dynamo`: by torch.export, the only one from torch 2.9 on unless asked; otherwise by tracing. `change` is done to
    the network before.

    Raises:
        ModuleNotFoundError: if `NETWORKS[name].missing()`.
    """
    torch, network = library("torch"), NETWORKS[name]
    _without_torchvision_operators()
    torch.manual_seed(0)
    torch.backends.mha.set_fastpath_enabled(False)  # its fused operators cannot be exported
    module = network.build().eval()
    shape = (_EXAMPLE, *(size if isinstance(size, int) else _LENGTH for size in network.shape))
    example = torch.randn(shape) if network.words is None else torch.randint(network.words, shape)
    _settle(module, torch.randn((16, *shape[1:])) if network.words is None else example)
    if change is not None:
        change(module, example)
    axes = {0: BATCH} | {index: size for index, size in enumerate(network.shape, 1) if isinstance(size, str)}
    with warnings.catch_warnings(), torch.no_grad():
        warnings.simplefilter("ignore")
        write = _by_torch_export if dynamo else _by_tracing
        model = write(torch, module, network.input, example, axes)
    metadata = {f"size:{axis}": str(_LENGTH) for axis in axes.values() if axis != BATCH}
    bounds = {} if network.words is None else {f"below:{network.input}": str(network.words)}
    helper.set_model_props(model, metadata | bounds)
    return model


def _without_torchvision_operators() -> None:
    """Beside a torch without CUDA, torchvision's compiled operators do not load, and it fails as it describes them.

    No network here uses one, so it is kept from describing them.
    """
    name = "torchvision._meta_registrations"
    if importlib.util.find_spec("torchvision") is not None:
        sys.modules.setdefault(name, ModuleType(name))


def _settle(module: Any, rows: Any) -> None:
    """Parameters that are not all zero, and statistics of batch normalisation that are those of some rows."""
    torch = library("torch")
    norms = [part for part in module.modules() if isinstance(part, torch.nn.BatchNorm2d)]
    with torch.no_grad():
        for parameter in module.parameters():
            if parameter.ndim == 1:
                parameter += 0.1 * torch.randn_like(parameter)
            elif not parameter.any():  # torchvision's heads, to be trained
                parameter += parameter.shape[-1] ** -0.5 * torch.randn_like(parameter)
        for norm in norms:
            norm.momentum = 1.0
            norm.train()
        module(rows)
    module.eval()


def _by_tracing(torch: Any, module: Any, name: str, example: Any, axes: Mapping[int, str]) -> onnx.ModelProto:
    file = io.BytesIO()
    torch.onnx.export(
        module,
        (example,),
        file,
        input_names=[name],
        output_names=["output"],
        dynamic_axes={name: dict(axes), "output": {0: BATCH}},
        opset_version=_TRACED_OPSET,
        dynamo=False,
    )
    return onnx.load_from_string(file.getvalue())


def _by_torch_export(torch: Any, module: Any, name: str, example: Any, axes: Mapping[int, str]) -> onnx.ModelProto:
    program = torch.onnx.export(
        module,
        (example,),
        input_names=[name],
        output_names=["output"],
        dynamic_shapes=({index: torch.export.Dim(axis) for index, axis in axes.items()},),
        dynamo=True,
        verbose=False,
    )
    model: onnx.ModelProto = copy.deepcopy(program.model_proto)
    return model
