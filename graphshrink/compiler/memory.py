"""A bound on the memory of this process."""

import sys
from collections.abc import Generator
from contextlib import contextmanager
from typing import Final

from graphshrink.errors import GraphshrinkError
from graphshrink.ir.graph import Graph
from graphshrink.ir.weight import weights

_EACH_JOB: Final = 4  # times the bytes of a layer: its values, the new ones, and what a solver keeps of them


@contextmanager
def bounded_memory(limit: int | None) -> Generator[None]:
    """Hold the process to so many bytes of its own memory, which mapped files are no part of, while the block runs.

    Linux holds it (RLIMIT_DATA); elsewhere only `affordable_jobs` keeps to the bound.

    Raises:
        GraphshrinkError: the block needs more.
    """
    if limit is None or sys.platform != "linux":
        yield
        return
    import resource

    before = resource.getrlimit(resource.RLIMIT_DATA)
    hard = before[1]
    resource.setrlimit(resource.RLIMIT_DATA, (limit if hard == resource.RLIM_INFINITY else min(limit, hard), hard))
    try:
        yield
    except (MemoryError, RuntimeError) as e:
        if isinstance(e, RuntimeError) and "new thread" not in str(e):  # how Python says that a stack has no room
            raise
        raise GraphshrinkError(f"--max-memory {limit}: this model needs more; raise it, or ask for fewer jobs") from e
    finally:
        resource.setrlimit(resource.RLIMIT_DATA, before)


def affordable_jobs(graph: Graph, jobs: int, limit: int | None) -> int:
    """How many layers may be worked on at once, so that the largest of them fit the bound together; at least 1."""
    largest = max((weight.tensor.nbytes for weight in weights(graph)), default=0)
    return jobs if limit is None else max(1, min(jobs, limit // max(1, _EACH_JOB * largest)))
