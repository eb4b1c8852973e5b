"""Names on the command line -> passes."""

import dataclasses
import difflib
import inspect
import math
from collections.abc import Callable, Iterator, Mapping
from typing import Any, Final, NamedTuple, get_type_hints

from graphshrink.errors import UsageError
from graphshrink.passes.strip import Strip
from graphshrink.passes.weight_sharing import WeightSharing
from graphshrink.passing.base import Pass
from graphshrink.passing.spec import Call, parse_spec

PASSES: Final[tuple[type[Pass], ...]] = (WeightSharing, Strip)
"""Every built-in pass. A new one is one file in passes/ and one line here."""


class Option(NamedTuple):
    """One option of a pass, derived from its dataclass field."""

    name: str
    type: str
    default: str
    help: str


def pass_named(name: str) -> type[Pass]:
    """Raises: UsageError, with the nearest name, if there is no such pass."""
    known = {cls.name: cls for cls in PASSES}
    if name in known:
        return known[name]
    near = difflib.get_close_matches(name, known, n=1)
    hint = f"did you mean {near[0]!r}?" if near else f"there are {', '.join(sorted(known))}, and none"
    raise UsageError(f"--passes: no pass is called {name!r}; {hint}")


def passes_from(spec: str) -> list[Pass]:
    """The passes that a specification such as `weight-sharing{bits=4}` asks for, in order; `none` asks for none.

    Raises:
        UsageError: the text is malformed, or a pass or an option does not exist or has a value it cannot have.
    """
    calls = parse_spec(spec)
    if any(call.name == "none" for call in calls):
        if len(calls) > 1 or calls[0].options:
            raise UsageError(f"--passes: {spec!r}: none stands alone")
        return []
    return [_build(call) for call in calls]


def options_of(cls: type[Pass]) -> Iterator[Option]:
    """The options of a pass, from its fields and the Attributes section of its docstring."""
    helps = _attribute_help(cls.__doc__ or "")
    hints = get_type_hints(cls)
    for field in dataclasses.fields(cls):  # type: ignore[arg-type]
        yield Option(field.name, hints[field.name].__name__, str(field.default), helps.get(field.name, ""))


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


def _build(call: Call) -> Pass:
    cls = pass_named(call.name)
    options = {option.name: option for option in options_of(cls)}
    values: dict[str, Any] = {}
    for key, text in call.options:
        if key not in options:
            raise UsageError(f"--passes: {call.name} has no option {key!r}; it has {', '.join(options) or 'none'}")
        values[key] = _convert(call.name, options[key], text)
    return cls(**values)


def _boolean(text: str) -> bool:
    return {"true": True, "false": False}[text.lower()]


def _number(text: str) -> float:
    number = float(text)
    if not math.isfinite(number):
        raise ValueError(text)
    return number


_CONVERT: Final[Mapping[str, Callable[[str], Any]]] = {"int": int, "float": _number, "str": str, "bool": _boolean}


def _convert(name: str, option: Option, text: str) -> Any:
    try:
        return _CONVERT[option.type](text)
    except (ValueError, KeyError) as e:
        raise UsageError(f"--passes: {name}: {option.name}={text!r} is no {option.type}") from e
