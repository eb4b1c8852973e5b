"""Examples of a strategy as a list, always the same."""

from typing import Any, TypeVar

from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

T = TypeVar("T")
_CHECKS: Any = HealthCheck


def examples(strategy: st.SearchStrategy[T], count: int) -> list[T]:
    """Up to so many examples."""
    found: list[T] = []

    @settings(
        max_examples=count,
        phases=[Phase.generate],
        derandomize=True,
        database=None,
        deadline=None,
        suppress_health_check=list(_CHECKS),
    )
    @given(strategy)
    def collect(example: T) -> None:
        found.append(example)

    collect()
    return found
