"""Pillow, which only some tasks need: the `corpus` extra has it."""

import importlib
from typing import Any

from testmodels.fetching import FetchError


def pillow(module: str) -> Any:
    """A module of Pillow, such as "Image"."""
    try:
        return importlib.import_module(f"PIL.{module}")
    except ModuleNotFoundError as e:
        raise FetchError("drawn and photographed items need Pillow: pip install graphshrink[corpus]") from e
