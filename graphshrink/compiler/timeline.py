"""Where the time of a compilation goes."""

import time
from collections.abc import Generator
from contextlib import contextmanager
from dataclasses import dataclass, field


@dataclass(slots=True)
class Timeline:
    """Seconds by what was done, in the order in which it began."""

    seconds: dict[str, float] = field(default_factory=lambda: dict[str, float]())

    @contextmanager
    def __call__(self, what: str) -> Generator[None]:
        """Count the time of a block."""
        started = time.perf_counter()
        try:
            yield
        finally:
            self.seconds[what] = self.seconds.get(what, 0.0) + time.perf_counter() - started
