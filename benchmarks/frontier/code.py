"""Which code a result depends on: a module, and every module of this repository that it imports, in turn.

Comments and layout do not count, nor does a table `TOOLS`: a setting in it is part of a step's own arguments.
"""

import ast
import hashlib
import sys
from collections.abc import Iterable
from functools import cache
from pathlib import Path
from typing import Final

from benchmarks.corpus.base import Task
from benchmarks.measuring import ROOT

_TABLES: Final = frozenset({"TOOLS"})


def digest_of_modules(*names: str) -> str:
    """SHA-256 of modules and all that they import from this repository."""
    found: dict[str, str] = {}
    waiting = list(names)
    while waiting:
        name = waiting.pop()
        path = _file_of(name)
        if name in found or path is None:
            continue
        found[name], imports = _read(path)
        waiting += imports
    return _digest(f"{name} {found[name]}" for name in sorted(found))


@cache
def digest_of_sources(*places: str) -> str:
    """SHA-256 of Python files, and of all of them in folders, relative to the top folder."""
    paths = (path for place in places for path in (sorted((ROOT / place).rglob("*.py")) or [ROOT / place]))
    return _digest(f"{path.relative_to(ROOT)} {_read(path)[0]}" for path in paths)


def digest_of_task(task: Task, tasks: str) -> str:
    """SHA-256 of the code that makes a task.

    That is the module in whose table `TASKS` it stands, other than `tasks`, which has them all from the others.
    """
    families = [
        name
        for name, module in sys.modules.items()
        if name != tasks and any(known is task for known in getattr(module, "TASKS", ()))
    ]
    return digest_of_modules(*(families or [tasks]))


def _file_of(module: str) -> Path | None:
    """The file of a module of this repository; None for all others."""
    path = ROOT.joinpath(*module.split("."))
    return next((file for file in (path.with_suffix(".py"), path / "__init__.py") if file.is_file()), None)


@cache
def _read(path: Path) -> tuple[str, list[str]]:
    """The SHA-256 of a file's code, and what it imports."""
    tree = ast.parse(path.read_bytes())
    imports: list[str] = []
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            imports += [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom) and node.module is not None:
            imports += [node.module, *(f"{node.module}.{alias.name}" for alias in node.names)]
    tree.body = [node for node in tree.body if not _is_table(node)]
    return hashlib.sha256(ast.dump(tree).encode()).hexdigest(), imports


def _is_table(node: ast.stmt) -> bool:
    return isinstance(node, ast.AnnAssign) and isinstance(node.target, ast.Name) and node.target.id in _TABLES


def _digest(lines: Iterable[str]) -> str:
    return hashlib.sha256("\n".join(lines).encode()).hexdigest()
