"""ONNX Runtime's 8-bit quantization: dynamic, which needs no data, and static with QuantizeLinear/DequantizeLinear.

Both get a model through `quant_pre_process`, as ONNX Runtime's documents ask; with sympy also its symbolic shapes.
Static quantization widens scales of weights so that biases fit 32 bits (`adjust`), which fails on some models.
"""

import importlib.util
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Final

import onnx

from benchmarks.tools.base import Setting, Tool, at_opset, library
from graphshrink.ir.types import Feeds

_PER_CHANNEL: Final = 13  # the first opset whose DequantizeLinear has an axis
_DENSE: Final = ["Gemm", "MatMul"]
_HEAVY: Final = ["Conv", "ConvTranspose", "Gemm", "MatMul"]


class _Reader:
    """A CalibrationDataReader."""

    def __init__(self, feeds: Sequence[Feeds]) -> None:
        self._left: Iterator[Feeds] = iter(feeds)

    def get_next(self) -> Feeds | None:
        return next(self._left, None)


def dynamic(model: Path, out: Path, _: Sequence[Feeds], setting: Setting) -> None:
    """Weights and, while running, activations in 8 bits."""
    quantization = library("onnxruntime.quantization")
    quantization.quantize_dynamic(
        _prepared(model),
        out,
        op_types_to_quantize=_DENSE if setting["dense_only"] else None,
        per_channel=setting["per_channel"],
        weight_type=quantization.QuantType[setting["weights"]],
    )


def static(model: Path, out: Path, feeds: Sequence[Feeds], setting: Setting) -> None:
    """Weights per channel and activations in 8 bits, with ranges from calibration."""
    quantization = library("onnxruntime.quantization")
    quantization.quantize_static(
        _prepared(model),
        out,
        _Reader(feeds),
        quant_format=quantization.QuantFormat.QDQ,
        op_types_to_quantize=_HEAVY if setting["heavy_only"] else None,
        per_channel=True,
        reduce_range=setting["reduce_range"],
        activation_type=quantization.QuantType.QUInt8,
        weight_type=quantization.QuantType.QInt8,
        calibrate_method=quantization.CalibrationMethod[setting["ranges"]],
        extra_options={"QDQDisableWeightAdjustForInt32Bias": not setting["adjust"]},
    )


def _prepared(model: Path) -> onnx.ModelProto:
    """The model after shape inference and ONNX Runtime's basic optimisations, in an opset that knows channels."""
    source = at_opset(onnx.load(model), _PER_CHANNEL)
    if importlib.util.find_spec("sympy") is None:
        return _preprocessed(source, skip_symbolic_shape=True)
    try:
        return _preprocessed(source, skip_symbolic_shape=False)
    except Exception:  # symbolic shapes are best effort: they fail on some models, which can be quantized all the same
        return _preprocessed(source, skip_symbolic_shape=True)


def _preprocessed(model: onnx.ModelProto, *, skip_symbolic_shape: bool) -> onnx.ModelProto:
    with tempfile.TemporaryDirectory() as folder:
        # By way of a file: of a model in memory without initializers it skips the optimisations, and only logs so.
        source, prepared = Path(folder, "source.onnx"), Path(folder, "prepared.onnx")
        onnx.save(model, source)
        library("onnxruntime.quantization.shape_inference").quant_pre_process(
            source, prepared, skip_symbolic_shape=skip_symbolic_shape, auto_merge=True
        )
        return onnx.load(prepared)


TOOLS: Final = (
    Tool(
        "ort-dynamic",
        "ONNX Runtime, dynamic 8-bit quantization",
        dynamic,
        (
            {"weights": "QInt8", "per_channel": True, "dense_only": True},
            {"weights": "QInt8", "per_channel": False, "dense_only": True},
            {"weights": "QUInt8", "per_channel": True, "dense_only": False},
            {"weights": "QUInt8", "per_channel": False, "dense_only": False},
        ),
        optional=("sympy",),
    ),
    Tool(
        "ort-static",
        "ONNX Runtime, static 8-bit quantization per channel",
        static,
        (
            {"ranges": "MinMax", "reduce_range": True, "heavy_only": True, "adjust": True},
            {"ranges": "MinMax", "reduce_range": False, "heavy_only": True, "adjust": True},
            {"ranges": "MinMax", "reduce_range": False, "heavy_only": True, "adjust": False},
            {"ranges": "Percentile", "reduce_range": False, "heavy_only": True, "adjust": True},
            {"ranges": "MinMax", "reduce_range": False, "heavy_only": False, "adjust": True},
            {"ranges": "Entropy", "reduce_range": False, "heavy_only": False, "adjust": True},
        ),
        calibrated=True,
        optional=("sympy",),
    ),
)
