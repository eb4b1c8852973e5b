"""Passes with drawn options, for every pass of the registry: a new one is covered once it is listed there."""

import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, Final, TypeAlias

from hypothesis import strategies as st

from graphshrink.errors import UsageError
from graphshrink.passing.base import Pass
from graphshrink.registry import PASSES, Option, options_of, passes_from

_Draw: TypeAlias = Callable[[st.SearchStrategy[Any]], Any]
_RANGE: Final = re.compile(r"(-?\d+(?:\.\d+)?) to (-?\d+(?:\.\d+)?)")
_QUOTED: Final = re.compile(r'"([^"]*)"')


@dataclass(frozen=True, slots=True)
class Steps:
    """What the command line calls --passes, and the passes it stands for."""

    spec: str

    @property
    def passes(self) -> list[Pass]:
        return passes_from(self.spec)

    @property
    def shares_out(self) -> bool:
        """Whether a bound is shared out over all layers: then every run does so anew, with what the last one left."""
        return any(str(getattr(step, "bits", "")).startswith("auto") for step in self.passes)

    @property
    def names(self) -> set[str]:
        return {step.name for step in self.passes}


@st.composite
def some_steps(draw: _Draw) -> Steps:
    """One to three passes in a row; seldom none."""
    if draw(st.integers(1, 10)) == 10:
        return Steps("none")
    classes = draw(st.lists(st.sampled_from(PASSES), min_size=1, max_size=min(3, len(PASSES)), unique=True))
    return Steps(", ".join(_call(draw, cls) for cls in classes))


def _call(draw: _Draw, cls: type[Pass]) -> str:
    """A pass with options that it accepts."""
    chosen = {option.name: draw(st.sampled_from(list(_values(cls, option)))) for option in options_of(cls)}
    spec = _spelled(cls, chosen)
    return spec if _accepted(spec) else cls.name  # not every combination may make sense


def _values(cls: type[Pass], option: Option) -> Iterator[str]:
    """The default, and what the help of an option names: a range, quoted words, or a number that is small."""
    yield option.default
    tried = [*_QUOTED.findall(option.help), "2"]
    for least, most in _RANGE.findall(option.help):
        middle = (float(least) + float(most)) / 2
        tried += [least, most, f"{middle:g}", f"{middle:.0f}"]
    if option.type == "bool":
        tried += ["true", "false"]
    for value in dict.fromkeys(tried):
        if value != option.default and _accepted(_spelled(cls, {option.name: value})):
            yield value


def _spelled(cls: type[Pass], options: dict[str, str]) -> str:
    given = ", ".join(f'{name}="{value}"' for name, value in options.items())
    return f"{cls.name}{{{given}}}" if given else cls.name


def _accepted(spec: str) -> bool:
    try:
        passes_from(spec)
    except UsageError:
        return False
    return True
