"""compile: load -> run passes -> encode -> write -> verify -> report."""

from graphshrink.compiler.api import compile
from graphshrink.compiler.options import DEFAULTS, Options
from graphshrink.compiler.result import Compiled
from graphshrink.compiler.run import ModelLike, compile_with

__all__ = ["DEFAULTS", "Compiled", "ModelLike", "Options", "compile", "compile_with"]
