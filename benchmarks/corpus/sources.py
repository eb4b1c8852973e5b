"""Models of the corpus that lie in the repository; `benchmarks.fetch_models` has the others."""

from pathlib import Path

from benchmarks.measuring import ROOT
from testmodels.fetching import FetchError


def shipped(name: str) -> Path:
    """A model of testmodels/."""
    path = ROOT / "testmodels" / f"{name}.onnx"
    if not path.exists():
        raise FetchError(f"{name}: the repository has no {path.relative_to(ROOT)}")
    return path
