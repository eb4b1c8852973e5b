"""NNCF's ONNX backend: static 8-bit quantization, and weights alone in 8 or 4 bits.

Models get the opset that a scheme needs. Weight compression of Conv makes scales that ONNX Runtime rejects, so one
setting leaves Conv out.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final

import onnx

from benchmarks.tools.base import Setting, Tool, at_opset, library, lifted
from graphshrink.ir.types import Feeds

_PER_CHANNEL: Final = 13
_FOUR_BITS: Final = 21
_PACKAGES: Final = ("nncf",)


def quantize(model: Path, out: Path, feeds: Sequence[Feeds], setting: Setting) -> None:
    """Static quantization after training."""
    nncf = library("nncf")
    quantized = nncf.quantize(
        at_opset(lifted(onnx.load(model)), _PER_CHANNEL),
        nncf.Dataset(feeds),
        preset=nncf.QuantizationPreset(setting["preset"]),
        subset_size=len(feeds),
        fast_bias_correction=setting["fast_bias_correction"],
        model_type=nncf.ModelType.TRANSFORMER if setting["transformer"] else None,
    )
    onnx.save(quantized, out)


def weights(model: Path, out: Path, _: Sequence[Feeds], setting: Setting) -> None:
    """Weight compression without data."""
    nncf = library("nncf")
    four = str(setting["mode"]).startswith("int4")
    for_four: dict[str, Any] = {
        "group_size": setting.get("group_size"),
        "ratio": 1.0,
        "all_layers": True,
        # Where a layer's size is no multiple of the group, the next smaller group that fits, instead of an error.
        "advanced_parameters": nncf.AdvancedCompressionParameters(
            group_size_fallback_mode=nncf.GroupSizeFallbackMode.ADJUST
        ),
    }
    compressed = nncf.compress_weights(
        at_opset(lifted(onnx.load(model)), _FOUR_BITS if four else _PER_CHANNEL),
        mode=nncf.CompressWeightsMode(setting["mode"]),
        ignored_scope=None if setting["conv"] else nncf.IgnoredScope(types=["Conv"], validate=False),
        **(for_four if four else {}),
    )
    onnx.save(compressed, out)


TOOLS: Final = (
    Tool(
        "nncf-int8",
        "NNCF, static 8-bit quantization",
        quantize,
        (
            {"preset": "mixed", "fast_bias_correction": False, "transformer": False},
            {"preset": "mixed", "fast_bias_correction": True, "transformer": False},
            {"preset": "mixed", "fast_bias_correction": True, "transformer": True},
            {"preset": "performance", "fast_bias_correction": True, "transformer": False},
        ),
        calibrated=True,
        packages=_PACKAGES,
    ),
    Tool(
        "nncf-weights",
        "NNCF, weights alone in 8 or 4 bits",
        weights,
        (
            {"mode": "int8_asym", "conv": True},
            {"mode": "int8_asym", "conv": False},
            {"mode": "int4_asym", "conv": False, "group_size": 16},
            {"mode": "int4_sym", "conv": False, "group_size": 64},
            {"mode": "int4_sym", "conv": False, "group_size": -1},
        ),
        packages=_PACKAGES,
    ),
)
