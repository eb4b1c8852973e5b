"""Python files that the user names: `--calibration` and `--metric` with file.py:function, and `--plugin file.py`.

Only files that were named are ever run. What goes wrong in them is the user's to mend, so it is told in one line as an
error of the kind that fits the option.
"""

import importlib.util
import os
import re
import sys
from collections.abc import Callable, Generator
from contextlib import contextmanager
from hashlib import sha256
from pathlib import Path
from types import ModuleType
from typing import Any, Final, NamedTuple

from graphshrink.errors import GraphshrinkError
from graphshrink.escaping import safe

_FUNCTION: Final = re.compile(r"(.+\.py):([^\W\d]\w*)", re.DOTALL)


class FunctionName(NamedTuple):
    """`file.py:function`, taken apart."""

    path: Path
    function: str

    @property
    def place(self) -> str:
        """For messages."""
        return f"{safe(self.path)}:{safe(self.function)}"


def function_name(text: str) -> FunctionName | None:
    """What `file.py:function` names; None for a text of another form."""
    match = _FUNCTION.fullmatch(text)
    return None if match is None else FunctionName(Path(match[1]), match[2])


@contextmanager
def guarded(place: str, cure: str, error: type[GraphshrinkError]) -> Generator[None]:
    """Turn whatever foreign code or data raises into an error of one line.

    Keep what it encloses small: a bug of ours in there would be told as the user's mistake.
    """
    try:
        with _same_folder():
            yield
    except GraphshrinkError:
        raise
    except SystemExit as e:  # a script that ends itself must not end us with its exit code, which might be 0
        raise error(f"{place}: calls sys.exit; guard it with `if __name__ == '__main__'`") from e
    except Exception as e:
        raise error(f"{place}: {type(e).__name__}: {_told(e)}; {cure}") from e


def _told(error: Exception) -> str:
    try:
        return safe(error)
    except Exception:  # its own __str__ fails
        return "it cannot say what is wrong"


@contextmanager
def imported(path: Path, cure: str, error: type[GraphshrinkError]) -> Generator[ModuleType]:
    """Run a Python file as a module; it stays imported when the block succeeds and leaves nothing when it fails."""
    place = safe(path)
    if not path.is_file():
        raise error(f"{place}: {'is no regular file' if path.exists() else 'no such file'}; name a Python file")
    name = f"_graphshrink_user_{sha256(os.fsencode(path.absolute())).hexdigest()[:16]}"
    spec = importlib.util.spec_from_file_location(name, path)
    if spec is None or spec.loader is None:
        raise error(f"{place}: is no Python file; name a .py file")
    module = importlib.util.module_from_spec(spec)
    before = sys.modules.get(name)
    sys.modules[name] = module  # dataclasses and pickle look a class's module up
    try:
        with guarded(place, cure, error), _no_bytecode():
            spec.loader.exec_module(module)
        yield module
    except BaseException:
        if before is None:
            sys.modules.pop(name, None)
        else:
            sys.modules[name] = before
        raise


def function_of(module: ModuleType, name: FunctionName, error: type[GraphshrinkError]) -> Callable[..., Any]:
    """The named function of an imported file.

    Raises:
        error: there is none.
    """
    found: object = getattr(module, name.function, None)
    if not callable(found):
        raise error(f"{name.place}: the file has no such function; define it there")
    return found


@contextmanager
def _same_folder() -> Generator[None]:
    """Come back from wherever foreign code changes the working directory to: relative paths were given from here."""
    try:
        here = Path.cwd()
    except OSError:  # it has been removed
        yield
        return
    try:
        yield
    finally:
        os.chdir(here)


@contextmanager
def _no_bytecode() -> Generator[None]:
    """Write no `__pycache__` beside the user's file."""
    before = sys.dont_write_bytecode
    sys.dont_write_bytecode = True
    try:
        yield
    finally:
        sys.dont_write_bytecode = before
