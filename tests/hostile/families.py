"""All families of cases, by name."""

from typing import Final

from tests.hostile import (
    calibration,
    environment,
    external_data,
    file,
    graph,
    names,
    settings,
    size_bombs,
    subgraphs,
    tensor,
    types,
)
from tests.hostile.cases import Case

FAMILIES: Final[dict[str, tuple[Case, ...]]] = {
    "file": file.CASES,
    "graph": graph.CASES,
    "tensor": tensor.CASES,
    "external data": external_data.CASES,
    "types": types.CASES,
    "subgraphs and functions": subgraphs.CASES,
    "size bombs": size_bombs.CASES,
    "names": names.CASES,
    "calibration": calibration.CASES,
    "settings": settings.CASES,
    "environment": environment.CASES,
}
