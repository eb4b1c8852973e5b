"""A Dask cluster of two processes for tests: prints its address and their numbers, and lives until stdin ends."""

import os
import sys
import time
from importlib import import_module
from typing import Any


def slowly(number: int) -> tuple[int, int]:
    """A number and the process that took its time over it."""
    time.sleep(0.2)
    return number, os.getpid()


def refusing(number: int) -> int:
    """What fails on every worker alike."""
    raise ArithmeticError(f"{number} is not to its liking")


def deadly(number: int) -> int:
    """What takes its worker along."""
    os._exit(number)


def main() -> None:
    """Start it, and wait."""
    distributed: Any = import_module("distributed")
    options = {"n_workers": 2, "threads_per_worker": 1, "processes": True, "dashboard_address": None}
    with distributed.LocalCluster(**options, host="127.0.0.1", silence_logs=50) as cluster:
        with distributed.Client(cluster) as client:
            pids = client.run(os.getpid).values()
        print(cluster.scheduler_address, *pids, flush=True)
        sys.stdin.read()


if __name__ == "__main__":
    main()
