"""Lines about a run, with an estimate of what is left."""

import statistics
import time
from collections import Counter, defaultdict
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

from benchmarks.frontier.store import Outcome, Step


@dataclass(slots=True)
class Progress:
    """Counts steps.

    Attributes:
        left: how many steps of each kind are to come.
        say: gets each line.
    """

    left: Counter[str]
    say: Callable[[str], None] = print
    _seconds: defaultdict[str, list[float]] = field(default_factory=lambda: defaultdict(list))
    _total: int = 0
    _started: float = field(default_factory=time.perf_counter)

    def __post_init__(self) -> None:
        self._total = self.left.total()

    def done(self, step: Step, outcome: Outcome, *, was_known: bool) -> None:
        """Tell of a step."""
        self.left[step.name] -= 1
        self._seconds[step.name].append(outcome.seconds)
        number = self._total - self.left.total()
        what = "FAILED: " + outcome.failure if outcome.failure is not None else "done"
        how = "from before" if was_known else f"{outcome.seconds:.1f} s"
        self.say(f"[{number}/{self._total}] {step.label}: {what} ({how}; {self.estimate()})")

    def skip(self, steps: Mapping[str, int]) -> None:
        """Steps that will not be needed."""
        self.left.subtract(steps)

    def estimate(self) -> str:
        """How long the rest will take if its steps are like those before; steps that are already known take none."""
        known = [seconds for kind in self._seconds.values() for seconds in kind]
        usual = {kind: statistics.mean(self._seconds[kind] or known) for kind in self.left}
        seconds = sum(max(count, 0) * usual[kind] for kind, count in self.left.items())
        return f"about {seconds / 60:.0f} min left at most"
