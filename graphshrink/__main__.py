"""The command: `graphshrink`, and `python -m graphshrink`."""

import os
import sys
from contextlib import suppress


def main() -> None:
    """Run the command line, with nothing from the working directory on the path of modules.

    Python puts it there for `-m`, and a relative PYTHONPATH does; a stranger's rich.py would be taken for ours.
    """
    with suppress(OSError):  # it may have been removed
        here = os.getcwd()  # noqa: PTH109 the text that Python puts there
        sys.path[:] = [folder for folder in sys.path if folder not in ("", ".", here)]
    from graphshrink.cli import main as run

    run()


if __name__ == "__main__":
    main()
