"""Half precision, by the two converters that are maintained; inputs and outputs stay float32."""

from collections.abc import Sequence
from pathlib import Path
from typing import Final

import onnx

from benchmarks.tools.base import Setting, Tool, library
from graphshrink.ir.types import Feeds


def half(model: Path, out: Path, _: Sequence[Feeds], setting: Setting) -> None:
    """Convert weights and operators to float16."""
    converter = library(f"{setting['by']}.float16")
    onnx.save(converter.convert_float_to_float16(onnx.load(model), keep_io_types=True), out)


TOOLS: Final = (
    Tool("fp16-ort", "half precision by onnxruntime.transformers", half, ({"by": "onnxruntime.transformers"},)),
    Tool(
        "fp16-converter",
        "half precision by onnxconverter-common",
        half,
        ({"by": "onnxconverter_common"},),
        packages=("onnxconverter-common",),
    ),
)
