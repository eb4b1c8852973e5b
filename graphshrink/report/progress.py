"""Progress of long work, on stderr: a bar with an estimate on a terminal, plain lines elsewhere."""

import sys
import time
from contextlib import suppress
from types import TracebackType
from typing import Final, Self

_QUIET_SECONDS: Final = 5.0  # between two lines of the same stage


def to_stderr(line: str) -> None:
    """One line on stderr, if there is one and somebody takes it: nothing else depends on that."""
    if sys.stderr is not None:  # closed before we started
        with suppress(OSError):
            print(line, file=sys.stderr, flush=True)


class NoProgress:
    """Says nothing."""

    def __call__(self, stage: str, done: int, total: int) -> None:
        """Take note."""

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        return None


class LineProgress(NoProgress):
    """One line for each stage, and every few seconds within it, with the time it may still take."""

    def __init__(self) -> None:
        self._stage = ""
        self._started = self._said = 0.0

    def __call__(self, stage: str, done: int, total: int) -> None:
        """Print a line where it is due."""
        now = time.monotonic()
        if stage != self._stage:
            self._stage, self._started, self._said = stage, now, now
            to_stderr(f"graphshrink: {stage}")
        elif now - self._said > _QUIET_SECONDS and 0 < done < total:
            self._said = now
            left = (now - self._started) / done * (total - done)
            to_stderr(f"graphshrink: {stage} {done}/{total}, about {left:.0f} s left")


class TerminalProgress(NoProgress):
    """A bar for the present stage."""

    def __init__(self) -> None:
        from rich.console import Console
        from rich.progress import (
            BarColumn,
            MofNCompleteColumn,
            Progress,
            TextColumn,
            TimeElapsedColumn,
            TimeRemainingColumn,
        )

        columns = (
            TextColumn("{task.description}", markup=False),
            BarColumn(bar_width=24),
            MofNCompleteColumn(),
            TimeElapsedColumn(),
            TimeRemainingColumn(),
        )
        self._bars = Progress(*columns, console=Console(stderr=True), transient=True)
        self._task = self._bars.add_task("starting", total=1)
        self._stage = ""

    def __call__(self, stage: str, done: int, total: int) -> None:
        """Move the bar."""
        if stage != self._stage:
            self._stage = stage
            self._bars.reset(self._task, description=stage, total=total)
        self._bars.update(self._task, completed=done, total=total)

    def __enter__(self) -> Self:
        self._bars.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._bars.stop()
