"""Text of strangers, made fit for where it is shown: a terminal, the log of a CI system, JSON.

Names in a model are anybody's. Raw, they could move the cursor, hide what follows, or speak to the CI system that
collects the log: GitHub obeys lines that begin with `::`, Azure and TeamCity what follows `##vso[` or `##teamcity[`
anywhere in a line.
"""

import json
import re
from typing import Any, Final

LONGEST: Final = 200
"""Characters that a name or a message is cut to."""

_ORDER: Final = re.compile(r"##(?=\w*\[)")  # to Azure, TeamCity, and older GitHub runners
_COMMAND: Final = re.compile(r"^(\s*):(?=:)")  # to GitHub's runners


def safe(text: object, longest: int = LONGEST) -> str:
    """The text in one line, with what is invisible escaped, and cut in the middle: both ends say where and what."""
    shown = "".join(c if c.isprintable() else _escaped(c) for c in _cut(str(text), longest))
    return _cut(_COMMAND.sub(r"\1\\x3a", _ORDER.sub(r"#\\x23", shown)), longest)


def as_json(value: Any) -> str:
    """JSON in ASCII, indented, in which no text is an order to a CI system."""
    return json.dumps(value, indent=2).replace("##", "#\\u0023")  # "##" can stand in strings alone


def _escaped(character: str) -> str:
    return character.encode("unicode_escape", "backslashreplace").decode("ascii")


def _cut(text: str, longest: int) -> str:
    tail = (longest - 1) // 2
    return text if len(text) <= longest else f"{text[: longest - 1 - tail]}…{text[len(text) - tail :]}"
