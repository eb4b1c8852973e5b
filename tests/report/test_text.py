import pytest
from hypothesis import given
from hypothesis import strategies as st

from graphshrink.report.text import bar, columns, fit, size


@pytest.mark.parametrize(
    ("count", "text"),
    [
        (0, "0 B"),
        (999, "999 B"),
        (1000, "1.00 kB"),
        (12_345, "12.3 kB"),
        (999_499, "999 kB"),
        (999_600, "1.00 MB"),
        (2 * 10**9, "2.00 GB"),
    ],
)
def test_sizes(count: int, text: str) -> None:
    assert size(count) == text


@given(st.text(max_size=60), st.integers(min_value=4, max_value=40))
def test_fit_never_takes_more_columns(text: str, width: int) -> None:
    assert columns(fit(text, width)) <= width
    assert "\n" not in fit(text, width)


def test_fit_keeps_both_ends() -> None:
    assert fit("encoder.layer.11.attention.weight", 15) == "encoder….weight"


@pytest.mark.parametrize(("share", "text"), [(0, "····"), (0.5, "██··"), (1, "████"), (0.28, "█▏··"), (7, "████")])
def test_bars(share: float, text: str) -> None:
    assert bar(share, 4) == text
