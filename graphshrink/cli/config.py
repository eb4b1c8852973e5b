"""Configuration files, in TOML or YAML: the keys are the flags, and a section holds the options of a pass.

    calibration = "samples.npz"
    max-error = 0.05
    passes = ["strip", "weight-sharing"]

    [weight-sharing]
    bits = 4
    [weight-sharing.operators.Conv]
    bits = 6
    [weight-sharing.layers."head.*"]
    skip = true

Flags win over the file, and options in `--passes` over its sections. No file is looked for: it has to be named. Paths
in it mean what they would mean on the command line.
"""

import dataclasses
import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final, NamedTuple, cast

from graphshrink.cli.flags import Flags
from graphshrink.cli.output import write_text
from graphshrink.errors import UsageError
from graphshrink.escaping import safe

_YAML: Final = (".yaml", ".yml")
_KEYS: Final = {"-".join(field.name.split("_")): field for field in dataclasses.fields(Flags)}
_LARGEST: Final = 1 << 20
_NOT_KEPT: Final = ("debug", "quiet", "dry_run", "report")  # of one run, and not of what is done


class Configuration(NamedTuple):
    """A file taken apart: flags by name, as the command line spells them, and sections by name of pass."""

    flags: dict[str, Any]
    sections: dict[str, Any]


def read_config(path: Path) -> Configuration:
    """Read a configuration file.

    Raises:
        UsageError: it cannot be read, or a key is neither a flag nor could be the name of a pass.
    """
    content = _parsed(path)
    flags: dict[str, Any] = {}
    sections: dict[str, Any] = {}
    for key, value in content.items():
        flag = str(key).replace("_", "-")
        if isinstance(value, Mapping):
            sections[key] = value
        elif flag not in _KEYS:
            raise UsageError(f"{safe(path)}: {safe(key)!r} is no option; see graphshrink --help")
        else:
            flags[flag] = _flag(flag, value, path)
    return Configuration(flags, sections)


def _flag(flag: str, value: object, path: Path) -> object:
    """The value of a flag; a list where it may be repeated, and as another way to write `passes`."""
    if not isinstance(value, list):
        return value
    items = list(map(str, cast("list[object]", value)))
    if flag == "passes":
        return ", ".join(items) or "none"
    if not isinstance(_KEYS[flag].default, tuple):
        raise UsageError(f"{safe(path)}: {flag} is one value, not a list")
    return items


def _parsed(path: Path) -> dict[str, Any]:
    try:
        if not path.is_file() or path.stat().st_size > _LARGEST:  # opening a pipe would hang
            raise UsageError(f"--config {safe(path)}: {'is too large' if path.is_file() else 'no such file'}")
        text = path.read_text(encoding="utf-8")
    except (OSError, ValueError) as e:
        raise UsageError(f"--config {safe(path)}: cannot be read: {safe(e)}") from e
    try:
        content: object = _from_yaml(text) if path.suffix.lower() in _YAML else tomllib.loads(text)
    except (ValueError, RecursionError) as e:
        raise UsageError(f"--config {safe(path)}: {safe(e)}; it has to be TOML, or YAML in a .yaml file") from e
    if not isinstance(content, dict):
        raise UsageError(f"--config {safe(path)}: holds no table of options")
    return cast("dict[str, Any]", content)


def _from_yaml(text: str) -> object:
    import yaml

    try:
        return yaml.safe_load(text) or {}
    except yaml.YAMLError as e:
        raise ValueError(" ".join(str(e).split())) from e


def save_config(path: Path, flags: Flags, sections: Mapping[str, Any]) -> None:
    """Write a configuration file with which the same run can be repeated; only what differs from the defaults.

    Raises:
        GraphshrinkError: it cannot be written.
    """
    content: dict[str, Any] = {}
    for key, field in _KEYS.items():
        value: object = getattr(flags, field.name)
        if value != field.default and field.name not in _NOT_KEPT:
            content[key] = _plain(value)
    content |= sections
    write_text(path, _to_yaml(content) if path.suffix.lower() in _YAML else _to_toml(content))


def _plain(value: object) -> Any:
    if isinstance(value, tuple):
        return list(map(str, cast("tuple[object, ...]", value)))
    return value if isinstance(value, bool | int | float) else str(value)


def _to_yaml(content: dict[str, Any]) -> str:
    import yaml

    return str(yaml.safe_dump(content, sort_keys=False, allow_unicode=True))


def _to_toml(content: dict[str, Any]) -> str:
    import tomli_w

    return tomli_w.dumps(content)
