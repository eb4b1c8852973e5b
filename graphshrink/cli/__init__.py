"""The command line: arguments, exit codes, printing; nothing else."""

import sys
import traceback
import warnings
from collections.abc import Sequence
from typing import Final

from cyclopts import CycloptsError

from graphshrink.cli.commands import app, with_configuration
from graphshrink.cli.output import close_stdout, open_closed_streams, say
from graphshrink.errors import GraphshrinkError, InternalError, UsageError

# What is heavy (onnx, onnxruntime, networkx) is imported where it is used, so that --help answers at once.

_INTERRUPTED: Final = 130
_BUG: Final = InternalError.exit_code


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the command line and exit."""
    open_closed_streams()
    sys.exit(run(sys.argv[1:] if arguments is None else arguments))


def run(arguments: Sequence[str]) -> int:
    """Run the command line; every error becomes one line on stderr and an exit code."""
    debug = "--debug" in arguments
    if not debug:
        warnings.simplefilter("ignore")  # of libraries, to developers
    try:
        app.config = with_configuration(arguments)
        code: int | None = app(arguments, exit_on_error=False, print_error=False)
    except BrokenPipeError:  # whoever read our output has seen enough
        close_stdout()
        return 0
    except KeyboardInterrupt:
        say("interrupted")
        return _INTERRUPTED
    except GraphshrinkError as e:
        return _fail(str(e), e.exit_code, debug)
    except CycloptsError as e:
        return _fail(str(e), UsageError.exit_code, debug)
    except MemoryError:
        return _fail("not enough memory; give the machine more, or --jobs 1", GraphshrinkError.exit_code, debug)
    except Exception as e:
        return _fail(f"{type(e).__name__}: {e}; please report it, with --debug", _BUG, debug)
    return code or 0


def _fail(message: str, code: int, debug: bool) -> int:
    if debug:
        traceback.print_exc()
    prefix = "bug in graphshrink: " if code == _BUG else ""
    say(f"error: {prefix}{' '.join(message.split())}")
    return code
