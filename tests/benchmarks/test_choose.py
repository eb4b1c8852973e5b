import pytest

from benchmarks.frontier.choose import Choice, Tried, choose


@pytest.mark.parametrize(
    ("tried", "expected"),
    [
        pytest.param([Tried(900, 0.9), Tried(500, 0.9), Tried(700, 0.9)], Choice(1, True), id="the smallest"),
        pytest.param([Tried(900, 0.9), Tried(500, 0.885)], Choice(0, True), id="not below the bar"),
        pytest.param([Tried(900, 0.9), Tried(500, 0.89)], Choice(1, True), id="one point is within the bar"),
        pytest.param([Tried(500, 0.895), Tried(500, 0.9)], Choice(1, True), id="of one size, the better"),
        pytest.param([Tried(500, 0.9), Tried(500, 0.9)], Choice(0, True), id="of equals, the first"),
        pytest.param([Tried(500, 0.2), Tried(900, 0.8), Tried(700, 0.8)], Choice(2, False), id="all miss: the best"),
        pytest.param([None, Tried(900, 0.9), None], Choice(1, True), id="failures are left out"),
        pytest.param([None, None], None, id="all failed"),
        pytest.param([], None, id="none tried"),
    ],
)
def test_what_is_chosen(tried: list[Tried | None], expected: Choice | None) -> None:
    assert choose(tried, 0.9) == expected
