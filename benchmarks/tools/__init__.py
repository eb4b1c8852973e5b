"""Compression tools, graphshrink among them, behind one interface: one file a family, each with a table `TOOLS`."""

from typing import Final

from benchmarks.tools import half, intel_nncf, onnx_simplifier, ort_int8, ort_nbits, ours
from benchmarks.tools.base import Tool

TOOLS: Final[tuple[Tool, ...]] = (
    *ours.TOOLS,
    *ort_int8.TOOLS,
    *ort_nbits.TOOLS,
    *half.TOOLS,
    *intel_nncf.TOOLS,
    *onnx_simplifier.TOOLS,
)


def tool_named(name: str) -> Tool:
    """The tool of this name; another name is a KeyError."""
    return {tool.name: tool for tool in TOOLS}[name]
