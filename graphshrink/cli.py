"""The command line: arguments, exit codes, printing; nothing else."""

import json
import os
import sys
import tempfile
import textwrap
import traceback
from collections.abc import Sequence
from contextlib import AbstractContextManager
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Annotated, Any

from cyclopts import App, CycloptsError, Parameter

from graphshrink.errors import GraphshrinkError, InternalError, UsageError, VerificationError
from graphshrink.report.text import safe, size

# What is heavy (onnx, onnxruntime, networkx) is imported where it is used, so that --help answers at once.

_INTERRUPTED, _BUG, _MISSED = 130, 70, 4
_EXIT_CODES = """
Exit codes: 0 done, 1 error, 2 usage, 3 verification failed (nothing written), 4 something asked for was missed (the
best verified result is written), 70 a bug in graphshrink, 130 interrupted.
"""

app = App(
    name="graphshrink",
    help="Compress an ONNX model; the result is plain ONNX, compared with the original in ONNX Runtime." + _EXIT_CODES,
    usage="Usage: graphshrink IN OUT [OPTIONS]\n       graphshrink verify|inspect|expand ...",
    version=lambda: _version(),
    help_format="plaintext",
    result_action="return_value",
)

Calibration = Annotated[str | None, Parameter(help="Sample inputs: .npz, .npy, a folder, or file.py:function.")]
Samples = Annotated[int, Parameter(help="Samples to use at most; 80 % to fit, 20 % to judge.")]
Seed = Annotated[int, Parameter(help="Seed of every random choice.")]
_LIST: dict[str, Any] = {"negative": "", "show_default": False}  # may be given several times
Shapes = Annotated[
    tuple[str, ...],
    Parameter(name="--input-shape", help="NAME:1,3,224,224 to run an input of unknown size with.", **_LIST),
]
Providers = Annotated[tuple[str, ...], Parameter(help="ONNX Runtime execution providers. [default: CPU]", **_LIST)]
Quiet = Annotated[bool, Parameter(negative="", help="No summary and no progress.")]
Debug = Annotated[bool, Parameter(negative="", help="Show tracebacks.")]
_CPU = ("CPUExecutionProvider",)


@app.default
def shrink(
    source: Annotated[Path | None, Parameter(name="IN", help="The model to compress.")] = None,
    destination: Annotated[Path | None, Parameter(name="OUT", help="Where the result goes; may be IN.")] = None,
    /,
    *,
    passes: Annotated[str, Parameter(name=["--passes", "-p"], help="What to do, or none.")] = "weight-sharing{bits=8}",
    calibration: Calibration = None,
    samples: Samples = 128,
    max_error: Annotated[
        float | None,
        Parameter(help="Bound on every output's error ||Y'-Y|| / ||Y||. 0.1 with --calibration, else no bound."),
    ] = None,
    encoding: Annotated[str, Parameter(help="How weights are stored: plain, fast or small (today as fast).")] = "fast",
    include: Annotated[
        tuple[str, ...], Parameter(help="Only weights, operators or types that match this pattern.", **_LIST)
    ] = (),
    exclude: Annotated[tuple[str, ...], Parameter(help="Nothing that matches this pattern.", **_LIST)] = (),
    report: Annotated[Path | None, Parameter(help="Write the ledger as JSON (docs/report.md).")] = None,
    seed: Seed = 0,
    jobs: Annotated[int | None, Parameter(help="Threads; the result does not depend on it. [default: all]")] = None,
    input_shape: Shapes = (),
    providers: Providers = _CPU,
    save_as_external_data: Annotated[
        bool, Parameter(negative="", help="Weights into a file of their own. Automatic above 1.5 GB.")
    ] = False,
    dry_run: Annotated[bool, Parameter(negative="", help="Do everything, write no model.")] = False,
    verify: Annotated[bool, Parameter(help="Compare outputs with the original's in ONNX Runtime.")] = True,
    list_passes: Annotated[bool, Parameter(negative="", help="Show all passes with their options.")] = False,
    quiet: Quiet = False,
    debug: Debug = False,
) -> int:
    """Compress IN and write OUT."""
    if list_passes:
        _print_passes()
        return 0
    if source is None or (destination is None and not dry_run):
        raise UsageError("graphshrink needs IN and OUT (or IN and --dry-run); see graphshrink --help")
    from graphshrink.compiler import Options, compile_with
    from graphshrink.encodings import policy_named
    from graphshrink.passing.base import Selection
    from graphshrink.registry import passes_from
    from graphshrink.report.table import summary
    from graphshrink.verify import SampleRequest

    options = Options(
        tuple(passes_from(passes)),
        SampleRequest(calibration, samples, seed, _shapes(input_shape)),
        max_error,
        policy_named(encoding),
        Selection(include, exclude),
        jobs if jobs is not None else os.cpu_count() or 1,
        providers,
        True if save_as_external_data else None,
        verify,
        destination.name if destination is not None else "model.onnx",
    )
    if max_error is not None and not verify:
        raise UsageError("--max-error bounds what --no-verify does not measure; leave one of them out")
    for path in (destination, report):
        _expect_writable(path)
    _expect_distinct(report, {"IN": source, "OUT": destination, "--calibration": calibration})
    with _progress(quiet) as progress:
        compiled = compile_with(source, options, progress)
    if destination is not None and not dry_run:
        compiled.save(destination)
    if report is not None:
        _write_json(report, {**compiled.report, "paths": {"input": str(source), "output": str(destination)}})
    if not quiet:
        last = f"would write {destination or 'nothing'} (dry run)" if dry_run else f"wrote {destination}"
        _print_lines([*summary(compiled.report, source.name), safe(last)])
    for note in compiled.report["notes"]:
        _say(f"warning: {note}")
    for line in compiled.missed:
        _say(f"missed: {line}")
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
    providers: Providers = _CPU,
    json_output: Annotated[bool, Parameter(name="--json", negative="")] = False,
    debug: Debug = False,
) -> int:
    """Compare the outputs of model B with those of model A in ONNX Runtime; exit with 0 or 3."""
    from graphshrink.onnx_io.runtime import Runtime
    from graphshrink.report.verdict import comparison_dict, comparison_lines
    from graphshrink.verify import SampleRequest, compare_models

    request = SampleRequest(calibration, samples, seed, _shapes(input_shape))
    with Runtime(providers=providers) as runtime:
        comparison = compare_models(original, result, request, max_error, runtime)
    if json_output:
        _print_lines([json.dumps(comparison_dict(comparison), indent=2)])
    else:
        _print_lines(comparison_lines(comparison))
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
        _print_lines([json.dumps(found, indent=2)])
    else:
        _print_lines(inspection_lines(found))
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

    _expect_writable(destination)
    expanded = expand_model(source, destination, external=True if save_as_external_data else None)
    if not quiet:
        sizes = f"{size(expanded.bytes_before)} -> {size(expanded.bytes_after)}"
        _print_lines([f"{sizes}; {expanded.decoded} weights decoded; wrote {safe(str(destination))}"])
    return 0


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the command line and exit."""
    sys.exit(run(sys.argv[1:] if arguments is None else arguments))


def run(arguments: Sequence[str]) -> int:
    """Run the command line; every error becomes one line on stderr and an exit code."""
    debug = "--debug" in arguments
    try:
        code: int | None = app(arguments, exit_on_error=False, print_error=False)
    except BrokenPipeError:  # whoever read our output has seen enough
        _close_stdout()
        return 0
    except KeyboardInterrupt:
        _say("interrupted")
        return _INTERRUPTED
    except GraphshrinkError as e:
        return _fail(str(e), e.exit_code, debug)
    except CycloptsError as e:
        return _fail(str(e), UsageError.exit_code, debug)
    except Exception as e:
        return _fail(f"bug in graphshrink: {type(e).__name__}: {e}; please report it, with --debug", _BUG, debug)
    return code or 0


def _fail(message: str, code: int, debug: bool) -> int:
    if debug:
        traceback.print_exc()
    prefix = "bug in graphshrink: " if code == InternalError.exit_code and not message.startswith("bug") else ""
    _say(f"error: {prefix}{' '.join(message.split())}")
    return code


def _say(line: str) -> None:
    print(f"graphshrink: {safe(line, 500)}", file=sys.stderr)


def _print_lines(lines: Any) -> None:
    """Print to stdout, in ASCII where the terminal knows no more."""
    encoding = sys.stdout.encoding or "ascii"
    try:
        for line in lines:
            print(line.encode(encoding, "replace").decode(encoding))
        sys.stdout.flush()
    except BrokenPipeError:
        _close_stdout()


def _close_stdout() -> None:
    """Nobody reads any more; without this, Python would complain once more when it exits."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def _version() -> str:
    try:
        return version("graphshrink")
    except PackageNotFoundError:
        return "unknown (not installed)"


def _shapes(given: Sequence[str]) -> dict[str, tuple[int, ...]]:
    """`NAME:1,3,224,224` -> shapes by name."""
    shapes: dict[str, tuple[int, ...]] = {}
    for text in given:
        name, separator, dims = text.rpartition(":")
        try:
            shapes[name] = tuple(int(dim) for dim in dims.split(",") if dim)
        except ValueError:
            separator = ""
        if not separator or not name or any(dim < 0 for dim in shapes.get(name, ())):
            raise UsageError(f"--input-shape {text!r}: write it like NAME:1,3,224,224")
    return shapes


def _expect_writable(path: Path | None) -> None:
    """Say early, not after an hour of work, that a result could not be written."""
    if path is None:
        return
    if path.exists() and not path.is_file():
        raise UsageError(f"{path}: is a folder or a device; give the path of a file")
    folder = path.resolve().parent
    if not folder.is_dir():
        raise UsageError(f"{path.parent}: no such folder")
    if not os.access(folder, os.W_OK):
        raise UsageError(f"{path.parent}: no permission to write here")


def _expect_distinct(report: Path | None, others: dict[str, Path | str | None]) -> None:
    """A report must not take the place of a model or of its data."""
    for name, other in others.items():
        if report is not None and other is not None and report.resolve() == Path(other).resolve():
            raise UsageError(f"--report {report}: is {name} as well; give the report a name of its own")


def _progress(quiet: bool) -> "AbstractContextManager[Any]":
    from graphshrink.report.progress import LineProgress, NoProgress, TerminalProgress

    if quiet:
        return NoProgress()
    return TerminalProgress() if sys.stderr.isatty() else LineProgress()


def _write_json(path: Path, content: Any) -> None:
    """Whole or not at all, through a link if the path is one."""
    target = path.resolve()
    try:
        with tempfile.TemporaryDirectory(prefix=f".{target.name}.", dir=target.parent) as folder:
            written = Path(folder) / target.name
            written.write_text(json.dumps(content, indent=2) + "\n", encoding="utf-8")
            written.replace(target)
    except OSError as e:
        raise GraphshrinkError(f"{path}: cannot be written: {e.strerror or e}") from e


def _print_passes() -> None:
    from graphshrink.registry import PASSES, options_of

    for cls in PASSES:
        print(f"{cls.name}  (buys {cls.buys})")
        _print_wrapped((cls.__doc__ or "").strip().splitlines()[0], 4)
        for option in options_of(cls):
            print(f"    {option.name}: {option.type} = {option.default}")
            _print_wrapped(option.help, 8)


def _print_wrapped(text: str, indent: int) -> None:
    print(textwrap.fill(text, 80, initial_indent=" " * indent, subsequent_indent=" " * indent))
