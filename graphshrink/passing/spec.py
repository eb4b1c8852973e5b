"""The text that names passes and their options: `weight-sharing{bits=4, granularity=channel}, strip`."""

import re
from typing import Final, NamedTuple

from graphshrink.errors import UsageError

_CALL: Final = re.compile(
    r"\s*(?P<name>[A-Za-z][\w-]*)\s*(?:\{(?P<options>(?:[^{}\"']|\"[^\"]*\"|'[^']*')*)\}\s*)?(?P<end>,|$)"
)
_OPTION: Final = re.compile(
    r"\s*(?P<key>[A-Za-z_]\w*)\s*=\s*(?:\"(?P<double>[^\"]*)\"|'(?P<single>[^']*)'|(?P<bare>[^\"',\s][^\"',]*?))\s*(?P<end>,|$)"
)


class Call(NamedTuple):
    """A pass by name with its options as text."""

    name: str
    options: tuple[tuple[str, str], ...]


def parse_spec(spec: str) -> list[Call]:
    """Take a specification apart.

    1. Passes are separated by commas; options stand in braces as `key=value`, separated by commas.
    2. A value with commas, braces or spaces around it is quoted, with `"` or with `'`.

    Raises:
        UsageError: the text is empty or malformed, or an option is given twice.
    """
    calls: list[Call] = []
    at = 0
    while at < len(spec) or not calls:
        match = _CALL.match(spec, at)
        if match is None:
            raise UsageError(f"--passes: cannot read {spec[at:]!r}; write it like weight-sharing{{bits=4}},other-pass")
        calls.append(Call(match["name"], _options(match["name"], match["options"] or "")))
        at = match.end()
        if match["end"] == "," and not spec[at:].strip():
            raise UsageError(f"--passes: {spec!r} ends with a comma")
    return calls


def _options(name: str, text: str) -> tuple[tuple[str, str], ...]:
    found: dict[str, str] = {}
    at = 0
    while text[at:].strip():
        match = _OPTION.match(text, at)
        if match is None:
            raise UsageError(f"--passes: {name}: cannot read {text[at:].strip()!r}; options are written key=value")
        if match["key"] in found:
            raise UsageError(f"--passes: {name}: option {match['key']!r} is given twice")
        found[match["key"]] = next(value for value in match.group("double", "single", "bare") if value is not None)
        at = match.end()
    return tuple(found.items())
