"""Where heavy work is done: in threads of this process, or by the workers of a Dask cluster.

What is to be done are functions and values that pickle; the answers come in order and do not depend on who gave them.
"""

import importlib
import logging
from collections.abc import Callable, Generator, Sequence
from concurrent.futures import CancelledError, ThreadPoolExecutor
from contextlib import AbstractContextManager, contextmanager, nullcontext, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, Protocol, TypeVar

from graphshrink.errors import GraphshrinkError, UsageError
from graphshrink.escaping import safe

A = TypeVar("A")
B = TypeVar("B")

_PATIENCE: Final = 10  # seconds to wait for a scheduler
_RETRIES: Final = 3  # of a task whose worker is lost; Dask then blames the task


class Workers(Protocol):
    """Those who do it."""

    def compute(self, function: Callable[[A], B], items: Sequence[A]) -> list[B]:
        """What a function makes of all items, in their order."""
        ...


@dataclass(frozen=True, slots=True)
class Threads:
    """Threads of this process.

    Attributes:
        count: how many at once.
    """

    count: int = 1

    def compute(self, function: Callable[[A], B], items: Sequence[A]) -> list[B]:
        """See `Workers`."""
        if self.count == 1 or len(items) < 2:
            return list(map(function, items))
        with ThreadPoolExecutor(max_workers=self.count) as pool:
            return list(pool.map(function, items))


@dataclass(frozen=True, slots=True)
class Cluster:
    """The workers of a Dask cluster, on which graphshrink is installed in the same version.

    Attributes:
        client: a `distributed.Client`.
        address: of its scheduler.
    """

    client: Any
    address: str

    def compute(self, function: Callable[[A], B], items: Sequence[A]) -> list[B]:
        """See `Workers`; work of a worker that is lost is done by another.

        Raises:
            GraphshrinkError: the cluster is gone, or lost a worker for each time that it tried.
        """
        lost: Any = (importlib.import_module("distributed").KilledWorker, OSError)
        futures: list[Any] = [self.client.submit(function, item, pure=False, retries=_RETRIES) for item in items]
        try:
            answers: list[B] = self.client.gather(futures)
        except lost as e:
            raise _failed(self.address, e, "see the logs of its workers") from e
        except CancelledError as e:  # Dask's own is one of these
            raise _failed(self.address, e, "the scheduler has gone") from e
        finally:
            with suppress(Exception):  # the scheduler may be gone
                self.client.cancel(futures)
        return answers


def one_thread_each() -> AbstractContextManager[object]:
    """While it lasts, each matrix product in this process uses one thread, whatever the libraries would choose."""
    try:
        Path.cwd()
    except OSError:  # deleted; the libraries are looked for by paths that may start there
        return nullcontext()
    control: Any = importlib.import_module("threadpoolctl")  # it ships no types
    limits: AbstractContextManager[object] = control.threadpool_limits(limits=1, user_api="blas")
    return limits


@contextmanager
def workers(jobs: int, cluster: str | None = None) -> Generator[Workers]:
    """Those of a cluster, or threads where none is named.

    Args:
        jobs: threads.
        cluster: address of a Dask scheduler, such as tcp://10.0.0.5:8786; its machines are trusted like this one.

    Raises:
        UsageError: the address is none, or the package distributed is not installed.
        GraphshrinkError: nobody answers there.
    """
    if cluster is None:
        yield Threads(jobs)
        return
    if not cluster.startswith("tcp://"):
        raise UsageError(f"--cluster {cluster!r}: write it like tcp://10.0.0.5:8786")
    try:
        distributed: Any = importlib.import_module("distributed")
    except ModuleNotFoundError as e:
        raise UsageError("--cluster needs the package distributed: pip install 'graphshrink[cluster]'") from e
    try:
        logging.getLogger("distributed").setLevel(logging.CRITICAL)  # it says at length what we say in a line
        client = distributed.Client(cluster, timeout=_PATIENCE, set_as_default=False)
    except (OSError, ValueError) as e:
        raise _failed(cluster, e, "is a Dask scheduler running there?") from e
    with client:
        yield Cluster(client, cluster)


def _failed(address: str, error: BaseException, cure: str) -> GraphshrinkError:
    said = " ".join(str(error).split()) or type(error).__name__
    return GraphshrinkError(f"--cluster {safe(address)}: {safe(said, 200)}; {cure}")
