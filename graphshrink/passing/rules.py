"""Settings for some layers only: for all < by type of operator < by name; of several by one, the last that matches."""

import dataclasses
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from enum import IntEnum
from fnmatch import fnmatchcase
from typing import TYPE_CHECKING, Any, TypeVar, cast

from graphshrink.ir.weight import Weight

if TYPE_CHECKING:  # passes are given contexts, which hold rules
    from graphshrink.passing.base import Pass

P = TypeVar("P", bound="Pass")


class By(IntEnum):
    """What a rule goes by; the larger one wins."""

    OPERATOR = 1
    NAME = 2


@dataclass(frozen=True, slots=True)
class LayerRule:
    """Other settings of one pass for some layers.

    Attributes:
        step: name of the pass.
        by: whether `pattern` is over types of operators or over names.
        pattern: a glob pattern.
        options: what is different; None to leave the layers alone.
    """

    step: str
    by: By
    pattern: str
    options: Mapping[str, Any] | None

    def matches(self, weight: Weight) -> bool:
        """Whether the rule is about this weight."""
        names = weight.operator_types if self.by is By.OPERATOR else weight.names
        return any(fnmatchcase(name, self.pattern) for name in names)


def settings_for(step: P, weight: Weight, rules: Iterable[LayerRule]) -> P | None:
    """The pass with the settings that a layer is to get; None if it is to be left alone.

    Raises:
        UsageError: the options of several rules together make no pass.
    """
    own: P | None = step
    for rule in sorted((r for r in rules if r.step == step.name and r.matches(weight)), key=lambda rule: rule.by):
        own = None if rule.options is None else _with_options(own or step, rule.options)
    return own


def _with_options(step: P, options: Mapping[str, Any]) -> P:
    changed: P = dataclasses.replace(cast("Any", step), **options)
    return changed
