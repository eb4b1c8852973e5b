"""Latency, as far as a shared and noisy machine lets anybody know it: interleaved runs, medians of ratios, and noise.

What is compared runs turn by turn in one process, so that a disturbance meets both. The original also runs against
itself, which shows how far a ratio is from 1 for no reason.
"""

import statistics
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Final

_ROUNDS: Final = 21
_ROUND_SECONDS: Final = 0.03  # of one model in one round: long beside the clock's steps
_MOST_RUNS: Final = 200

Timer = Callable[[int], Sequence[float]]
"""Runs a model so many times, and gives the seconds of each run."""


@dataclass(frozen=True, slots=True)
class Latency:
    """How fast a result runs beside its original.

    Attributes:
        before, after: median seconds of one run.
        ratio: median ratio of the result to the original, within a round.
        plain: the same for the original against itself.
        spread: between which the middle 80 % of the original's ratios to itself lie.
    """

    before: float
    after: float
    ratio: float
    plain: float
    spread: tuple[float, float]

    @property
    def slower(self) -> bool:
        """Whether the result is slower than noise explains."""
        return self.ratio > max(1.0, self.spread[1])


def compare_latency(original: Timer, again: Timer, result: Timer) -> Latency:
    """Time a result against its original.

    Args:
        original: the original.
        again: another session of it.
        result: what came of it.
    """
    once = statistics.median(original(3))
    runs = max(3, min(_MOST_RUNS, round(_ROUND_SECONDS / max(once, 1e-7))))
    rounds = _ROUNDS if once < 1 else 5
    jobs = {"original": original, "again": again, "result": result}
    seconds = interleaved({name: _median_of(timer, runs) for name, timer in jobs.items()}, rounds)
    noise = sorted(a / b for a, b in zip(seconds["again"], seconds["original"], strict=True))
    tenth = rounds // 10
    return Latency(
        statistics.median(seconds["original"]),
        statistics.median(seconds["result"]),
        median_ratio(seconds["result"], seconds["original"]),
        statistics.median(noise),
        (noise[tenth], noise[-1 - tenth]),
    )


def _median_of(timer: Timer, runs: int) -> Callable[[], float]:
    return lambda: statistics.median(timer(runs))


def interleaved(jobs: Mapping[str, Callable[[], float]], rounds: int) -> dict[str, list[float]]:
    """Seconds that each job reports, round by round.

    Every other round goes backwards, so that no job always profits from the one before.
    """
    seconds: dict[str, list[float]] = {name: [] for name in jobs}
    for index in range(rounds):
        for name in list(jobs)[:: -1 if index % 2 else 1]:
            seconds[name].append(jobs[name]())
    return seconds


def median_ratio(values: Sequence[float], baseline: Sequence[float]) -> float:
    """Median of the ratios of figures from the same rounds."""
    return statistics.median(value / base for value, base in zip(values, baseline, strict=True))
