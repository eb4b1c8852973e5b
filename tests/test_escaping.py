import json
import re

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from graphshrink.escaping import as_json, safe

ORDERS = ["::error::x", "  ::set-output name=a::b", "##vso[task.setvariable]x", "a ##[error]b", "##teamcity[x]"]
OBEYED = re.compile(r"^\s*::|##\w*\[")


@given(st.text() | st.sampled_from(ORDERS), st.integers(min_value=8, max_value=300))
@example("\x1b[31m\r\n\u202e\u200b\x85\ud800" + "x" * 500, 200)
@example("a" * 99 + "##vso[task]", 100)
def test_nothing_of_a_file_controls_a_terminal_or_a_log(text: str, longest: int) -> None:
    shown = safe(text, longest)
    assert len(shown) <= longest
    assert shown.isprintable()
    assert OBEYED.search(shown) is None


@pytest.mark.parametrize("text", ["encoder.layer.0", "größe/重み:0", "a#b", "## heading", "a::b", "std::vector"])
def test_ordinary_names_stay(text: str) -> None:
    assert safe(text) == text


def test_both_ends_are_kept() -> None:
    assert safe("place: " + "x" * 10**6 + "; cure", 20) == "place: xxx…xxx; cure"


@given(
    st.recursive(st.text() | st.sampled_from(ORDERS) | st.integers(), st.lists) | st.dictionaries(st.text(), st.text())
)
def test_json_gives_no_orders_and_says_the_same(value: object) -> None:
    written = as_json(value)
    assert json.loads(written) == value
    assert written.isascii()
    assert not any(OBEYED.search(line) for line in written.splitlines())
