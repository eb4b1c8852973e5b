"""Running many cases at once, for the table that `python -m tests.hostile` prints."""

import multiprocessing
import tempfile
from collections.abc import Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from pathlib import Path

from tests.hostile.families import FAMILIES
from tests.hostile.judging import complaints
from tests.hostile.running import program_from


@dataclass(frozen=True, slots=True)
class Row:
    """What came of a family.

    Attributes:
        wrong: a line for each thing that is wrong, with the name of the case.
    """

    family: str
    cases: int
    good: int
    seconds: float
    wrong: list[str]


def rows(families: Sequence[str], command: str | None, jobs: int) -> Iterator[Row]:
    """Run all cases of these families, `jobs` of them at once."""
    # Processes rather than threads, and fresh ones: between fork and exec, the cases set limits.
    with ProcessPoolExecutor(jobs, multiprocessing.get_context("spawn")) as pool:
        pending = [
            (family, [pool.submit(_judged, family, index, command) for index in range(len(FAMILIES[family]))])
            for family in families
        ]
        for family, futures in pending:
            results = [future.result() for future in futures]
            named = zip(FAMILIES[family], results, strict=True)
            wrong = [f"{case.name}: {line}" for case, (found, _) in named for line in found]
            good = sum(not found for found, _ in results)
            yield Row(family, len(results), good, sum(seconds for _, seconds in results), wrong)


def _judged(family: str, index: int, command: str | None) -> tuple[list[str], float]:
    """Run one case in a folder of its own."""
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as room:
        return complaints(FAMILIES[family][index], program_from(command), Path(room).resolve())
