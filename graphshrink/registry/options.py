"""The options of a pass, derived from the fields of its class, and the values that texts stand for."""

import dataclasses
import inspect
import math
from collections.abc import Callable, Iterator, Mapping
from typing import Any, Final, NamedTuple, get_type_hints

from graphshrink.errors import UsageError
from graphshrink.passing.base import Pass


class Option(NamedTuple):
    """One option of a pass, derived from its dataclass field."""

    name: str
    type: str
    default: str
    help: str


def options_of(cls: type[Pass]) -> Iterator[Option]:
    """The options of a pass, from its fields and the Attributes section of its docstring."""
    helps = _attribute_help(cls.__doc__ or "")
    hints = get_type_hints(cls)
    for field in dataclasses.fields(cls):  # type: ignore[arg-type]
        yield Option(field.name, _type(hints[field.name]), str(field.default), helps.get(field.name, ""))


def values_of(cls: type[Pass], given: Mapping[str, object], place: str) -> dict[str, Any]:
    """The values of options, given as texts or as what a configuration file holds.

    Args:
        cls: the pass.
        given: options by name.
        place: where they were given, for messages.

    Raises:
        UsageError: the pass has no such option, or the value is of another type.
    """
    options = {option.name: option for option in options_of(cls)}
    for key in given:
        if key not in options:
            raise UsageError(f"{place}: {cls.name} has no option {key!r}; it has {', '.join(options) or 'none'}")
    return {key: _convert(f"{place}: {cls.name}", options[key], str(value)) for key, value in given.items()}


def _attribute_help(doc: str) -> dict[str, str]:
    """What the section says of each name; a text goes on where lines are indented further."""
    _, _, section = inspect.cleandoc(doc).partition("Attributes:\n")
    found: dict[str, str] = {}
    name = ""
    for line in section.splitlines():
        if not line.startswith("    "):  # the section ends
            break
        if line.startswith("        "):
            found[name] += " " + line.strip()
        else:
            name, _, found_text = line.strip().partition(": ")
            found[name] = found_text
    return found


def _type(hint: Any) -> str:
    """The name of a type, as a pass has it behind the name of an option."""
    return hint.__name__ if isinstance(hint, type) else str(hint)


def _int_or_text(text: str) -> int | str:
    try:
        return int(text)
    except ValueError:
        return text


def _boolean(text: str) -> bool:
    return {"true": True, "false": False}[text.lower()]


def _number(text: str) -> float:
    number = float(text)
    if not math.isfinite(number):
        raise ValueError(text)
    return number


_CONVERT: Final[Mapping[str, Callable[[str], Any]]] = {
    "int": int,
    "int | str": _int_or_text,
    "float": _number,
    "str": str,
    "bool": _boolean,
}
TYPES: Final = frozenset(_CONVERT)
"""The types that options may have."""


def _convert(place: str, option: Option, text: str) -> Any:
    try:
        return _CONVERT[option.type](text)
    except (ValueError, KeyError) as e:
        raise UsageError(f"{place}: {option.name}={text!r} is no {option.type}") from e
