"""Marks of tests that need what some versions do not have."""

from typing import Final

import onnxruntime as ort
import pytest

_VERSION: Final = tuple(map(int, ort.__version__.split(".")[:2]))

few_bit_kernels = pytest.mark.skipif(_VERSION < (1, 23), reason="ONNX Runtime 1.22 refuses what `quantised` writes")
