"""The compressor in onnxsim: weights alone in 8 or 4 bits, and structured pruning with its closed-form recovery.

Models are simplified before and after, as its documents advise: before, to the opset that the 4-bit types need; after,
to drop the float weights that it leaves behind, without folding the small ones into floats again.
"""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, Final

import onnx

from benchmarks.tools.base import Setting, Tool, library
from graphshrink.ir.types import Feeds

_OPSET: Final = 21
_PACKAGES: Final = ("onnxsim",)


def weights(model: Path, out: Path, feeds: Sequence[Feeds], setting: Setting) -> None:
    """Weight-only quantization of MatMul, Gemm and Conv."""
    onnxsim = library("onnxsim")
    simplified = _simplified(onnxsim, onnx.load(model), target_opset_version=_OPSET)
    quantized = _SCHEMES[str(setting["scheme"])](onnxsim, simplified, feeds)
    onnx.save(_simplified(onnxsim, quantized, skip_constant_folding=True), out)


def pruning(model: Path, out: Path, feeds: Sequence[Feeds], setting: Setting) -> None:
    """Remove channels and refit what is left."""
    onnxsim = library("onnxsim")
    simplified = _simplified(onnxsim, onnx.load(model))
    if setting["calibrated"]:
        pruned = onnxsim.apply_structured_wanda_pruning(simplified, list(feeds), sparsity=setting["sparsity"])
    else:
        pruned = onnxsim.apply_structured_pruning(simplified, sparsity=setting["sparsity"])
    if setting["recovery"]:
        pruned = onnxsim.apply_pruning_finetune(simplified, pruned, list(feeds))
    onnx.save(_simplified(onnxsim, pruned, skip_constant_folding=True), out)


def _simplified(onnxsim: Any, model: onnx.ModelProto, **options: Any) -> onnx.ModelProto:
    simplified: onnx.ModelProto = onnxsim.simplify(model, **options)[0]
    return simplified


def _int4_gptq(onnxsim: Any, model: onnx.ModelProto, feeds: Sequence[Feeds]) -> onnx.ModelProto:
    quantized: onnx.ModelProto = onnxsim.apply_gptq(model, onnxsim.quantize_weight_only_int4(model), list(feeds))
    return quantized


_SCHEMES: Final[Mapping[str, Callable[[Any, onnx.ModelProto, Sequence[Feeds]], onnx.ModelProto]]] = {
    "int8 per block": lambda onnxsim, model, _: onnxsim.quantize_weight_only_int8_block(model),
    "int8 per channel": lambda onnxsim, model, _: onnxsim.quantize_weight_only(model),
    "int4": lambda onnxsim, model, _: onnxsim.quantize_weight_only_int4(model),
    "int4 with GPTQ": _int4_gptq,
    # 4 bits where the size of a layer allows blocks of 32, 8 bits in the rest.
    "int4, int8": lambda onnxsim, model, _: onnxsim.quantize_weight_only(onnxsim.quantize_weight_only_int4(model)),
}

TOOLS: Final = (
    Tool(
        "onnxsim-weights",
        "onnxsim, weights alone in 8 or 4 bits",
        weights,
        tuple({"scheme": scheme} for scheme in _SCHEMES),
        calibrated=True,
        packages=_PACKAGES,
    ),
    Tool(
        "onnxsim-pruning",
        "onnxsim, structured pruning",
        pruning,
        (
            {"sparsity": 0.05, "calibrated": True, "recovery": True},
            {"sparsity": 0.1, "calibrated": True, "recovery": True},
            {"sparsity": 0.1, "calibrated": False, "recovery": False},
            {"sparsity": 0.25, "calibrated": True, "recovery": True},
            {"sparsity": 0.5, "calibrated": True, "recovery": True},
        ),
        calibrated=True,
        packages=_PACKAGES,
    ),
)
