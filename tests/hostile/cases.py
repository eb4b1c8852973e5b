"""What a hostile case is: files in a folder, a command line, and what has to come of it, as data."""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Final, TypeAlias

import onnx

SHARING: Final = "weight-sharing{bits=4}"
GIB: Final = 1 << 30

Argument: TypeAlias = str | bytes | Path
Model: TypeAlias = onnx.ModelProto | bytes


@dataclass(frozen=True, slots=True)
class Outcome:
    """What has to come of a case.

    Attributes:
        codes: the exit codes that are right; more than one only where either is.
        tolerance: with exit code 0, how far outputs may be from the original's (`||Y' - Y|| / ||Y||`): four bits a
            weight cost 0.1 to 0.15 in two layers of random weights, another model would be 1.4 away; None to compare
            nothing.
        seconds: how long it may take.
        memory: how much may be resident at once, in the process or in one of its children.
        holds: a further look at the folder after exit code 0; a complaint, or None.
    """

    codes: frozenset[int]
    tolerance: float | None = 0.25
    seconds: float = 30.0
    memory: int = 3 * GIB
    holds: Callable[[Path], str | None] = lambda _: None


DONE: Final = Outcome(frozenset({0}))
REFUSED: Final = Outcome(frozenset({1}))
USAGE: Final = Outcome(frozenset({2}))
DONE_OR_REFUSED: Final = Outcome(frozenset({0, 1}))
UNVERIFIED: Final = Outcome(frozenset({0}), tolerance=None)


@dataclass(frozen=True, slots=True)
class Command:
    """A command line and its surroundings.

    Attributes:
        arguments: what follows the program's name.
        output: the file that exit code 0 leaves; None if the command writes none.
        source: the model that the output is compared with.
        also_writes: other files that may be there after exit code 0.
        names: one of these stands in the error line of exit code 1; nothing to look for if empty.
        cwd: the working directory; by default an empty one.
        environment: variables that differ; None takes one out.
        limits: of `resource.setrlimit`.
        closed: standard streams that are closed, by number.
        stdout: a file or device that stdout goes to.
        delete_cwd: whether the working directory is gone when the program starts.
    """

    arguments: tuple[Argument, ...]
    output: Path | None = None
    source: Path | None = None
    also_writes: tuple[Path, ...] = ()
    names: tuple[str, ...] = ()
    cwd: Path | None = None
    environment: Mapping[str, str | None] = field(default_factory=lambda: dict[str, str | None]())
    limits: Mapping[int, int] = field(default_factory=lambda: dict[int, int]())
    closed: tuple[int, ...] = ()
    stdout: Path | None = None
    delete_cwd: bool = False


@dataclass(frozen=True, slots=True)
class Case:
    """One case: `prepare` writes its files into a fresh folder and gives the command."""

    name: str
    prepare: Callable[[Path], Command]
    expected: Outcome


def compress(
    folder: Path, *options: Argument, source: str = "model.onnx", out: str = "out.onnx", **more: Any
) -> Command:
    """The ordinary command line: IN OUT --passes ... --quiet; `more` are fields of Command."""
    given, output = folder / source, folder / out
    passes = () if "--passes" in options else ("--passes", SHARING)
    command = Command((given, output, *passes, "--quiet", *options), output, given, names=(given.name,))
    return replace(command, **more)


def model_case(name: str, make: Callable[[], Model], expected: Outcome = REFUSED, *options: Argument) -> Case:
    """A case that is one model file, compressed in the ordinary way."""

    def prepare(folder: Path) -> Command:
        write_model(folder, make())
        return compress(folder, *options)

    return Case(name, prepare, expected)


def model_cases(makers: Iterable[tuple[str, Callable[[], Model]]], expected: Outcome = REFUSED) -> tuple[Case, ...]:
    """Many of them with one outcome."""
    return tuple(model_case(name, make, expected) for name, make in makers)


def write_model(folder: Path, model: Model, name: str = "model.onnx") -> Path:
    """A model file; unlike `onnx.save` this takes whatever it is given."""
    path = folder / name
    path.write_bytes(model if isinstance(model, bytes) else model.SerializeToString())
    return path
