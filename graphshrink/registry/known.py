"""What there is to choose from: the built-in passes, those of installed plug-ins, and those in files that users name.

An installed plug-in is an entry point of the group `graphshrink.passes`, whose name is that of the pass and whose value
is its class (`module:Class`). Only names are read until a pass is asked for; then its distribution is imported. A
plug-in file is run when it is named; every pass class and every encoding that it defines is there to be used.
"""

import dataclasses
import difflib
import importlib.metadata
import inspect
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, Final

from graphshrink.encodings import Encoding
from graphshrink.errors import GraphshrinkError, UsageError
from graphshrink.escaping import safe
from graphshrink.passes.channel_removal import ChannelRemoval
from graphshrink.passes.fold import Fold
from graphshrink.passes.frequency_packing import FrequencyPacking
from graphshrink.passes.half import Half
from graphshrink.passes.net_trim import NetTrim
from graphshrink.passes.pack import Pack
from graphshrink.passes.sparsify import Sparsify
from graphshrink.passes.strip import Strip
from graphshrink.passes.weight_sharing import WeightSharing
from graphshrink.passing.base import Pass
from graphshrink.registry.options import TYPES, options_of
from graphshrink.user_code import guarded, imported

PASSES: Final[tuple[type[Pass], ...]] = (
    WeightSharing,
    NetTrim,
    Sparsify,
    FrequencyPacking,
    ChannelRemoval,
    Strip,
    Fold,
    Half,
    Pack,
)
"""Every built-in pass. A new one is one file in passes/ and one line here."""

BUILT_IN: Final = "graphshrink itself"
GROUP: Final = "graphshrink.passes"
RESERVED: Final = frozenset({"operators", "layers", "skip"})
"""Words that have a meaning of their own where options are given in a configuration file."""

_CURE: Final = "mend the plug-in, or do without it"


def _always(cls: type[Pass]) -> Callable[[], type[Pass]]:
    return lambda: cls


@dataclass(frozen=True, slots=True)
class Known:
    """A pass that can be asked for.

    Attributes:
        name: on the command line.
        origin: who brings it, for people.
        load: gives the class; may raise UsageError.
    """

    name: str
    origin: str
    load: Callable[[], type[Pass]]


@dataclass(frozen=True, slots=True)
class Catalogue:
    """Every pass that can be asked for, and the encodings that plug-in files bring."""

    passes: tuple[Known, ...]
    encodings: tuple[Encoding, ...] = ()

    def find(self, name: str) -> Known:
        """The pass of this name.

        Raises:
            UsageError: there is none (with the nearest name), or there are two.
        """
        found = [known for known in self.passes if known.name == name]
        if len(found) > 1:
            origins = " and ".join(known.origin for known in found)
            raise UsageError(f"pass {name!r} comes from {origins}; remove one of them")
        if found:
            return found[0]
        names = sorted({known.name for known in self.passes})
        near = difflib.get_close_matches(name, names, n=1)
        hint = f"did you mean {near[0]!r}?" if near else f"there are {', '.join(names)}, and none"
        raise UsageError(f"no pass is called {safe(name)!r}; {hint}")


def catalogue(plugins: Iterable[Path] = ()) -> Catalogue:
    """Everything there is.

    Args:
        plugins: Python files with passes and encodings; they are run.

    Raises:
        UsageError: a file cannot be run, or holds neither passes nor encodings, or broken ones.
    """
    known = [Known(cls.name, BUILT_IN, _always(cls)) for cls in PASSES]
    known += _installed()
    encodings: list[Encoding] = []
    for path in plugins:
        passes, more = _from_file(path)
        known += passes
        encodings += more
    return Catalogue(tuple(known), tuple(encodings))


# ---- installed plug-ins


def _installed() -> Iterator[Known]:
    for entry in sorted(importlib.metadata.entry_points(group=GROUP), key=lambda entry: (entry.name, entry.value)):
        yield Known(entry.name, _distribution(entry), partial(_loaded, entry))


def _distribution(entry: importlib.metadata.EntryPoint) -> str:
    if entry.dist is None:
        return f"an unknown distribution ({safe(entry.value)})"
    return safe(f"{entry.dist.name} {entry.dist.version}")


def _loaded(entry: importlib.metadata.EntryPoint) -> type[Pass]:
    place = f"plug-in {safe(entry.name)} of {_distribution(entry)}"
    with guarded(place, _CURE, UsageError):
        found: object = entry.load()
    cls = _expect_pass(found, place)
    if cls.name != entry.name:
        raise UsageError(f"{place}: its class calls itself {safe(cls.name)!r}; {_CURE}")
    return cls


def _expect_pass(found: object, place: str) -> type[Pass]:
    """Raises: UsageError, unless this is a pass: a concrete dataclass with options of types that texts can spell."""
    if not (isinstance(found, type) and issubclass(found, Pass) and not inspect.isabstract(found)):
        raise UsageError(f"{place}: it is no pass: a subclass of graphshrink.Pass with a method run")
    if not isinstance(getattr(found, "name", None), str) or not isinstance(getattr(found, "buys", None), str):
        raise UsageError(f"{place}: {found.__name__} says neither its name nor what it buys")
    frozen: Any = vars(found).get("__dataclass_params__")
    if not dataclasses.is_dataclass(found) or not frozen.frozen:
        raise UsageError(f"{place}: {found.__name__} is no frozen dataclass")
    for option in options_of(found):
        if option.type not in TYPES or option.name in RESERVED:
            raise UsageError(
                f"{place}: {found.__name__} has an option {option.name} ({option.type}) that nobody can give"
            )
    return found


# ---- plug-in files


def _from_file(path: Path) -> tuple[list[Known], list[Encoding]]:
    place = safe(path)
    with imported(path, _CURE, UsageError) as module:
        own = [item for item in vars(module).values() if isinstance(item, type) and item.__module__ == module.__name__]
        passes = [_expect_pass(cls, place) for cls in own if issubclass(cls, Pass) and not inspect.isabstract(cls)]
        encodings = [_made(cls, place) for cls in own if _is_encoding(cls)]
        if not passes and not encodings:
            raise UsageError(f"{place}: defines neither a pass nor an encoding; see docs/plugins.md")
    return [Known(cls.name, place, _always(cls)) for cls in passes], encodings


def _is_encoding(cls: type) -> bool:
    """Whether a class is of the form of `graphshrink.encodings.Encoding`."""
    return isinstance(getattr(cls, "min_opset", None), int) and callable(getattr(cls, "encode", None))


def _made(cls: type, place: str) -> Encoding:
    with guarded(place, _CURE, UsageError):
        made: Encoding = cls()
    if not isinstance(getattr(made, "name", None), str):
        raise UsageError(f"{place}: encoding {cls.__name__} has no name")
    return made


def list_of(found: Catalogue) -> Iterator[tuple[Known, type[Pass] | GraphshrinkError]]:
    """Every pass with its class, or why it cannot be had."""
    for known in found.passes:
        try:
            yield known, found.find(known.name).load()
        except GraphshrinkError as e:
            yield known, e
