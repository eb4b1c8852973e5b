"""Seeds for the fuzzer: `python -m tests.fuzz.corpus FOLDER` writes some hundred small models there.

Random models with weights and what graphshrink makes of them, random messy ones, and ONNX's own of single operators.
"""

import hashlib
import sys
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Final

import onnx
from onnx.backend.test.case.node import collect_testcases

from tests.random_graphs.examples import examples
from tests.random_graphs.models import random_models
from tests.random_graphs.results import compressed
from tests.random_graphs.steps import Steps
from tests.strategies import models

_LARGEST: Final = 16_384
_DRAWN: Final = 150
_EVERY: Final = 12  # of ONNX's operator cases


def seeds() -> Iterator[onnx.ModelProto]:
    """Models of all kinds."""
    for drawn in examples(random_models(), _DRAWN):
        yield drawn.model
        yield compressed(drawn.model, Steps("weight-sharing{bits=2}").passes, "small").encoded
    yield from examples(models(), _DRAWN)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # NumPy's, about the reference implementations
        cases = collect_testcases(None)
    yield from (case.model for case in cases[::_EVERY] if case.model is not None)


def write(folder: Path) -> int:
    """Write the small ones, each under a name of its content; returns how many there are."""
    folder.mkdir(parents=True, exist_ok=True)
    count = 0
    for model in seeds():
        content = model.SerializeToString(deterministic=True)
        if len(content) <= _LARGEST:
            (folder / hashlib.sha1(content).hexdigest()).write_bytes(content)
            count += 1
    return count


if __name__ == "__main__":
    print(f"{write(Path(sys.argv[1]))} seeds in {sys.argv[1]}")
