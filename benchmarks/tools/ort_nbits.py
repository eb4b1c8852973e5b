"""ONNX Runtime's MatMulNBits: weights of MatMul in blocks of 4 bits. Gemm and Conv are left as they are."""

from collections.abc import Sequence
from pathlib import Path
from typing import Final

import onnx

from benchmarks.tools.base import Setting, Tool, library, lifted
from graphshrink.ir.types import Feeds


def matmul_nbits(model: Path, out: Path, _: Sequence[Feeds], setting: Setting) -> None:
    """Replace MatMul by the contributed operator MatMulNBits."""
    quantizer = library("onnxruntime.quantization.matmul_nbits_quantizer").MatMulNBitsQuantizer(
        lifted(onnx.load(model)), bits=4, block_size=setting["block_size"], is_symmetric=setting["symmetric"]
    )
    quantizer.process()
    quantizer.model.save_model_to_file(str(out))


TOOLS: Final = (
    Tool(
        "ort-matmul-4bit",
        "ONNX Runtime, MatMulNBits with 4 bits",
        matmul_nbits,
        (
            {"block_size": 16, "symmetric": False},
            {"block_size": 32, "symmetric": False},
            {"block_size": 32, "symmetric": True},
            {"block_size": 128, "symmetric": True},
        ),
        packages=("onnx-ir",),  # which its module imports, though onnxruntime does not require it
    ),
)
