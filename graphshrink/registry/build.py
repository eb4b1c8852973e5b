"""What is asked for, as objects: passes in order, and rules for single layers.

--passes "weight-sharing{bits=4}"            options in the text win over those of the section

[weight-sharing]                             a section: options for all layers,
granularity = "channel"
[weight-sharing.operators.Conv]              for those of a type of operator,
bits = 6
[weight-sharing.layers."head.*"]             and for those of a name
skip = true
"""

import dataclasses
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final, TypeAlias, cast

from graphshrink.errors import UsageError
from graphshrink.passing.base import Pass
from graphshrink.passing.rules import By, LayerRule
from graphshrink.passing.spec import parse_spec
from graphshrink.registry.known import BUILT_IN, Catalogue, catalogue
from graphshrink.registry.options import values_of

Sections: TypeAlias = Mapping[str, Mapping[str, Any]]
"""Options by name of pass, as in a configuration file."""

_TABLES: Final[Mapping[str, By]] = {"operators": By.OPERATOR, "layers": By.NAME}


@dataclass(frozen=True, slots=True)
class Plan:
    """What is to be run.

    Attributes:
        passes: in order.
        rules: other settings for some layers.
        origins: who brings the passes that are not built in, by name of the pass.
    """

    passes: tuple[Pass, ...]
    rules: tuple[LayerRule, ...] = ()
    origins: Mapping[str, str] = dataclasses.field(default_factory=lambda: dict[str, str]())


def plan_from(spec: str, sections: Sections, known: Catalogue, defaults: Sections | None = None) -> Plan:
    """The passes that a specification such as `weight-sharing{bits=4}` asks for, in order; `none` asks for none.

    Args:
        spec: the text.
        sections: further options, and rules for single layers; options in the text win.
        known: what there is.
        defaults: options that everything else wins over.

    Raises:
        UsageError: the text is malformed, or a pass or an option does not exist or has a value it cannot have.
    """
    classes = {name: _load(known, name, "configuration") for name in sections}
    calls = parse_spec(spec)
    if any(call.name == "none" for call in calls):
        if len(calls) > 1 or calls[0].options:
            raise UsageError(f"--passes: {spec!r}: none stands alone")
        return Plan(())
    passes: list[Pass] = []
    for call in calls:
        cls = _load(known, call.name, "--passes")
        general = {key: value for key, value in sections.get(call.name, {}).items() if key not in _TABLES}
        values = values_of(cls, (defaults or {}).get(call.name, {}), "default")
        values |= values_of(cls, general, f"[{call.name}]") | values_of(cls, dict(call.options), "--passes")
        passes.append(cls(**values))
    each = {step.name: step for step in passes}.values()
    rules = tuple(rule for step in each for rule in _rules(step, classes, sections))
    origins = {call.name: known.find(call.name).origin for call in calls}
    return Plan(tuple(passes), rules, {name: origin for name, origin in origins.items() if origin != BUILT_IN})


def passes_from(spec: str, sections: Sections | None = None) -> list[Pass]:
    """`plan_from` for what is installed, the passes alone."""
    return list(plan_from(spec, sections or {}, catalogue()).passes)


def spec_of(passes: Sequence[Pass]) -> str:
    """The specification that gives these passes, every option written out."""
    return ", ".join(map(_call, passes)) if passes else "none"


def _call(step: Pass) -> str:
    fields = dataclasses.fields(cast("Any", step))
    options = ", ".join(f"{field.name}={_quoted(getattr(step, field.name))}" for field in fields)
    return f"{step.name}{{{options}}}" if options else step.name


def _quoted(value: object) -> str:
    text = str(value).lower() if isinstance(value, bool) else str(value)
    plain = text and not any(c in text for c in "\"', {}=") and text == text.strip()
    return text if plain else (f'"{text}"' if '"' not in text else f"'{text}'")


def _load(known: Catalogue, name: str, place: str) -> type[Pass]:
    try:
        return known.find(name).load()
    except UsageError as e:
        raise UsageError(f"{place}: {e}") from e


def _rules(step: Pass, classes: Mapping[str, type[Pass]], sections: Sections) -> Iterator[LayerRule]:
    """The rules of a pass's section, each tried on the pass as it is for all layers."""
    for table, by in _TABLES.items():
        for pattern, given in _table(sections.get(step.name, {}), step.name, table).items():
            place = f"[{step.name}.{table}.{pattern}]"
            if not isinstance(given, Mapping):
                raise UsageError(f"{place}: give a table of options, or skip = true")
            options = dict(cast("Mapping[str, Any]", given))
            skip = options.pop("skip", False)
            if not isinstance(skip, bool) or (skip and options):
                raise UsageError(f"{place}: skip is true or false, and stands alone when it is true")
            values = values_of(classes[step.name], options, place)
            dataclasses.replace(cast("Any", step), **values)
            yield LayerRule(step.name, by, pattern, None if skip else values)


def _table(section: Mapping[str, Any], name: str, table: str) -> Mapping[str, Any]:
    found = section.get(table, {})
    if not isinstance(found, Mapping):
        raise UsageError(f"[{name}]: {table} is a table of patterns, each with options")
    return cast("Mapping[str, Any]", found)
