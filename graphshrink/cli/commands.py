"""The commands and what they print."""

import textwrap
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Final

from cyclopts import App, Parameter
from cyclopts.config import Dict

from graphshrink.cli.config import read_config, save_config
from graphshrink.cli.flags import (
    CPU,
    Calibration,
    Debug,
    Flags,
    Providers,
    Quiet,
    Samples,
    Seed,
    Shapes,
    TimeLimit,
    WorkerMemory,
    shapes_of,
)
from graphshrink.cli.output import expect_distinct, expect_writable, print_lines, say, write_text
from graphshrink.errors import GraphshrinkError, UsageError, VerificationError
from graphshrink.escaping import as_json, safe
from graphshrink.passing.sizes import bytes_of
from graphshrink.report.text import size

if TYPE_CHECKING:
    from graphshrink.compiler import Compiled

_MISSED: Final = 4
_EXIT_CODES: Final = """
Exit codes: 0 done, 1 error, 2 usage, 3 verification failed (nothing written), 4 something asked for was missed (the
best verified result is written), 70 a bug in graphshrink, 130 interrupted.
"""
_SUB_COMMANDS: Final = ("verify", "inspect", "expand")

app = App(
    name="graphshrink",
    help="Compress an ONNX model; the result is plain ONNX, compared with the original in ONNX Runtime." + _EXIT_CODES,
    usage="Usage: graphshrink IN OUT [OPTIONS]\n       graphshrink verify|inspect|expand ...",
    version=lambda: _version(),
    help_format="plaintext",
    result_action="return_value",
)


def with_configuration(arguments: Sequence[str]) -> list[Callable[..., Any]]:
    """What the parser is to ask for flags that are not among the arguments: the file that --config names, if any."""
    path = _config_path(arguments)
    if path is None or (arguments and arguments[0] in _SUB_COMMANDS):
        return []
    return [Dict(read_config(path).flags, source=str(path), use_commands_as_keys=False)]


def _config_path(arguments: Sequence[str]) -> Path | None:
    for index, argument in enumerate(arguments):
        if argument.startswith("--config="):
            return Path(argument.partition("=")[2])
        if argument == "--config" and index + 1 < len(arguments):
            return Path(arguments[index + 1])
    return None


@app.default
def shrink(
    source: Annotated[Path | None, Parameter(name="IN", help="The model to compress.")] = None,
    destination: Annotated[Path | None, Parameter(name="OUT", help="Where the result goes; may be IN.")] = None,
    /,
    *,
    flags: Annotated[Flags, Parameter(name="*")] = Flags(),  # noqa: B008 it is frozen
    config: Annotated[Path | None, Parameter(help="Flags and options of passes from a TOML or YAML file.")] = None,
    save_config_to: Annotated[
        Path | None, Parameter(name="--save-config", help="Write a file that repeats this run with --config.")
    ] = None,
    list_passes: Annotated[bool, Parameter(negative="", help="Show all passes with their options.")] = False,
) -> int:
    """Compress IN and write OUT."""
    if list_passes:
        print_lines(_list_of_passes(flags.plugin))
        return 0
    if source is None or (destination is None and not flags.dry_run):
        raise UsageError("graphshrink needs IN and OUT (or IN and --dry-run); see graphshrink --help")
    read = {"--calibration": flags.calibration, "--config": config}
    written = {"OUT": destination, "--report": flags.report, "--save-config": save_config_to}
    for option, path in written.items():
        expect_writable(path)
        others = {"IN": source, **written} if option != "OUT" else {}
        expect_distinct(option, path, {name: other for name, other in (read | others).items() if name != option})
    sections = {} if config is None else read_config(config).sections
    compiled = _compiled(source, destination, flags, sections)
    for path in written.values():
        _expect_no_data(path, compiled)
    if destination is not None and not flags.dry_run:
        compiled.save(destination)
    if flags.report is not None:
        shown = {"input": str(source), "output": None if destination is None else str(destination)}
        write_text(flags.report, as_json({**compiled.report, "paths": shown}) + "\n")
    if save_config_to is not None:
        save_config(save_config_to, flags, sections)
    return _tell(compiled, source, destination, flags)


def _compiled(source: Path, destination: Path | None, flags: Flags, sections: dict[str, Any]) -> "Compiled":
    from graphshrink.compiler import compile
    from graphshrink.onnx_io.runtime import Limits

    with _progress(flags.quiet) as progress:
        return compile(
            source,
            flags.passes,
            settings=sections,
            calibration=flags.calibration,
            samples=flags.samples,
            max_error=flags.max_error,
            metric=flags.metric,
            max_drop=flags.max_drop,
            require_faster=flags.require_faster,
            encoding=flags.encoding,
            portable=flags.portable,
            load_memory=None if flags.load_memory is None else bytes_of("--load-memory", flags.load_memory),
            include=flags.include,
            exclude=flags.exclude,
            seed=flags.seed,
            jobs=flags.threads,
            cluster=flags.cluster,
            input_shapes=shapes_of(flags.input_shape),
            providers=flags.providers,
            save_as_external_data=True if flags.save_as_external_data else None,
            verify=flags.verify,
            plugins=flags.plugin,
            limits=Limits(flags.time_limit, bytes_of("--worker-memory", flags.worker_memory)),
            max_memory=None if flags.max_memory is None else bytes_of("--max-memory", flags.max_memory),
            file_name="model.onnx" if destination is None else destination.name,
            progress=progress,
        )


def _expect_no_data(path: Path | None, compiled: "Compiled") -> None:
    from graphshrink.onnx_io.external import expect_no_data

    if path is not None:
        expect_no_data(path, compiled.data)


def _tell(compiled: "Compiled", source: Path, destination: Path | None, flags: Flags) -> int:
    """Say what was done; returns the exit code."""
    from graphshrink.report.table import summary

    if not flags.quiet:
        last = f"would write {destination or 'nothing'} (dry run)" if flags.dry_run else f"wrote {destination}"
        print_lines([*summary(compiled.report, source.name), safe(last)])
    for note in compiled.report["notes"]:
        say(f"warning: {note}")
    for line in compiled.missed:
        say(f"missed: {line}")
    return _MISSED if compiled.missed else 0


@app.command
def verify(
    original: Annotated[Path, Parameter(name="A")],
    result: Annotated[Path, Parameter(name="B")],
    /,
    *,
    calibration: Calibration = None,
    samples: Samples = 128,
    max_error: Annotated[float, Parameter(help="Exit with 3 when an output's error is larger.")] = 0.1,
    seed: Seed = 0,
    input_shape: Shapes = (),
    providers: Providers = CPU,
    worker_memory: WorkerMemory = "8GiB",
    time_limit: TimeLimit = 300.0,
    json_output: Annotated[bool, Parameter(name="--json", negative="")] = False,
    debug: Debug = False,
) -> int:
    """Compare the outputs of model B with those of model A in ONNX Runtime; exit with 0 or 3."""
    from graphshrink.onnx_io.runtime import Limits
    from graphshrink.report.verdict import comparison_dict, comparison_lines
    from graphshrink.verify import SampleRequest, compare_models

    request = SampleRequest(calibration, samples, seed, shapes_of(input_shape))
    limits = Limits(time_limit, bytes_of("--worker-memory", worker_memory))
    comparison = compare_models(original, result, request, max_error, limits, providers)
    if json_output:
        print_lines([as_json(comparison_dict(comparison))])
    else:
        print_lines(comparison_lines(comparison))
    return 0 if comparison.passed else VerificationError.exit_code


@app.command
def inspect(
    model: Annotated[Path, Parameter(name="IN")],
    /,
    *,
    json_output: Annotated[bool, Parameter(name="--json", negative="")] = False,
    debug: Debug = False,
) -> int:
    """Show layers, bytes, types, MACs, and what passes could do."""
    from graphshrink.registry import PASSES
    from graphshrink.report.inspection import inspect_model, inspection_lines

    found = inspect_model(model, [cls() for cls in PASSES if cls.on_weights])
    if json_output:
        print_lines([as_json(found)])
    else:
        print_lines(inspection_lines(found))
    return 0


@app.command
def expand(
    source: Annotated[Path, Parameter(name="IN")],
    destination: Annotated[Path, Parameter(name="OUT")],
    /,
    *,
    save_as_external_data: Annotated[bool, Parameter(negative="")] = False,
    quiet: Quiet = False,
    debug: Debug = False,
) -> int:
    """Turn encoded weights back into ordinary initializers."""
    from graphshrink.onnx_io.expand import expand_model

    expect_writable(destination)
    expanded = expand_model(source, destination, external=True if save_as_external_data else None)
    if not quiet:
        sizes = f"{size(expanded.bytes_before)} -> {size(expanded.bytes_after)}"
        print_lines([f"{sizes}; {expanded.decoded} weights decoded; wrote {safe(destination)}"])
    return 0


def _version() -> str:
    try:
        return version("graphshrink")
    except PackageNotFoundError:
        return "unknown (not installed)"


def _progress(quiet: bool) -> "AbstractContextManager[Any]":
    import sys

    from graphshrink.report.progress import LineProgress, NoProgress, TerminalProgress

    if quiet:
        return NoProgress()
    on_terminal = sys.stderr is not None and sys.stderr.isatty()
    return TerminalProgress() if on_terminal else LineProgress()


def _list_of_passes(plugins: Sequence[Path]) -> list[str]:
    from graphshrink.registry import BUILT_IN, catalogue, list_of, options_of

    lines: list[str] = []
    for known, cls in list_of(catalogue(plugins)):
        origin = "" if known.origin == BUILT_IN else f"  from {known.origin}"
        if isinstance(cls, GraphshrinkError):
            lines.append(safe(f"{known.name}{origin}  cannot be used: {cls}"))
            continue
        lines.append(safe(f"{known.name}  (buys {cls.buys}){origin}"))
        lines += _wrapped(((cls.__doc__ or "").strip().splitlines() or [""])[0], 4)
        for option in options_of(cls):
            lines.append(safe(f"    {option.name}: {option.type} = {option.default}"))
            lines += _wrapped(option.help, 8)
    return lines


def _wrapped(text: str, indent: int) -> list[str]:
    return textwrap.wrap(safe(text, 1000), 80, initial_indent=" " * indent, subsequent_indent=" " * indent)
