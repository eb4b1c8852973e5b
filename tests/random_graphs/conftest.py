"""Random models are for a runtime that gets valid models right.

ONNX Runtime 1.22, the oldest supported, does not: it takes every Transpose before a Gemm for a swap of two axes, gives
garbage for products over no channels, and fuses casts into ones it lacks.
"""

from pathlib import Path
from typing import Final

import onnxruntime as ort
import pytest

_FOLDER: Final = Path(__file__).parent
_TRUSTED: Final = tuple(map(int, ort.__version__.split(".")[:2])) > (1, 22)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    if not _TRUSTED:
        for item in items:
            if _FOLDER in item.path.parents:
                item.add_marker(pytest.mark.skip(reason=f"ONNX Runtime {ort.__version__} gets valid models wrong"))
