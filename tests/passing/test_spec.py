"""Specifications taken apart."""

import contextlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from graphshrink.errors import UsageError
from graphshrink.passing.spec import Call, parse_spec


@pytest.mark.parametrize(
    ("spec", "calls"),
    [
        ("strip", [("strip", {})]),
        ("weight-sharing{bits=4}", [("weight-sharing", {"bits": "4"})]),
        ("weight-sharing{bits=4, granularity=channel}", [("weight-sharing", {"bits": "4", "granularity": "channel"})]),
        (" a { b = c } , d ", [("a", {"b": "c"}), ("d", {})]),
        ("a,b,a", [("a", {}), ("b", {}), ("a", {})]),
        ("a{}", [("a", {})]),
        ("a{ }", [("a", {})]),
        ("a{b=1,}", [("a", {"b": "1"})]),
        ("a{b=1e-3,c=-2}", [("a", {"b": "1e-3", "c": "-2"})]),
        ("a{b=two words}", [("a", {"b": "two words"})]),
        ('a{b="x, {y}",c=\'"\'}', [("a", {"b": "x, {y}", "c": '"'})]),
        ("a{b=''}", [("a", {"b": ""})]),
        ("a{b=x=y}", [("a", {"b": "x=y"})]),
        ("a\n{b=1}\n", [("a", {"b": "1"})]),
    ],
)
def test_reading(spec: str, calls: list[tuple[str, dict[str, str]]]) -> None:
    assert parse_spec(spec) == [Call(name, tuple(options.items())) for name, options in calls]


@pytest.mark.parametrize(
    ("spec", "message"),
    [
        ("", "cannot read ''"),
        ("  ", "cannot read '  '"),
        (",", "cannot read ','"),
        ("a,", "'a,' ends with a comma"),
        ("a, ", "'a, ' ends with a comma"),
        ("a,,b", "cannot read ',b'"),
        ("a b", "cannot read 'a b'"),
        ("4a", "cannot read '4a'"),
        ("a{b=1", "cannot read 'a{b=1'"),
        ("a}", "cannot read 'a}'"),
        ("a{b=1}}", "cannot read 'a{b=1}}'"),
        ("a{b=1}c", "cannot read 'a{b=1}c'"),
        ("a{{b=1}}", "cannot read"),
        ("a{b='1}", "cannot read"),
        ("a{b}", "a: cannot read 'b'; options are written key=value"),
        ("a{b=}", "a: cannot read 'b='"),
        ("a{=1}", "a: cannot read '=1'"),
        ("a{,b=1}", "a: cannot read ',b=1'"),
        ("a{b=1,,c=2}", "a: cannot read ',c=2'"),
        ("a{b='1'2}", "a: cannot read"),
        ("a{b=1,b=2}", "a: option 'b' is given twice"),
    ],
)
def test_refusing(spec: str, message: str) -> None:
    with pytest.raises(UsageError) as error:
        parse_spec(spec)
    assert message in str(error.value)
    assert str(error.value).startswith("--passes: ")


NAMES = st.from_regex(r"[A-Za-z][A-Za-z0-9_-]{0,8}", fullmatch=True)
KEYS = st.from_regex(r"[A-Za-z_][A-Za-z0-9_]{0,8}", fullmatch=True)
VALUES = st.text(st.characters(exclude_characters='"'), max_size=10)


@given(st.lists(st.tuples(NAMES, st.dictionaries(KEYS, VALUES, max_size=3)), min_size=1, max_size=4))
def test_what_is_written_is_read(calls: list[tuple[str, dict[str, str]]]) -> None:
    texts = [name + "{" + ", ".join(f'{key}="{value}"' for key, value in o.items()) + "}" for name, o in calls]
    assert parse_spec(" , ".join(texts)) == [Call(name, tuple(options.items())) for name, options in calls]


@given(st.text(alphabet="ab{}=,'\" -4", max_size=40))
def test_any_text_is_read_or_refused(text: str) -> None:
    with contextlib.suppress(UsageError):
        assert parse_spec(text)


def test_long_texts_end_soon() -> None:
    for text in [
        " " * 20_000,
        "a" * 20_000 + "!",
        "a{" + "b=1," * 5000 + "!}",
        "a{" + " " * 20_000 + "!}",
        "a{b=" + " " * 5000,
    ]:
        with pytest.raises(UsageError):
            parse_spec(text)
