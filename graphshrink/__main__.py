"""python -m graphshrink."""

import os
import sys
from contextlib import suppress

# Python puts the working directory first on the path, where a stranger's rich.py would be taken for ours.
with suppress(OSError):  # it may have been removed
    here = os.getcwd()  # noqa: PTH109 the text that Python puts there
    sys.path[:] = [folder for folder in sys.path if folder not in ("", here)]

from graphshrink.cli import main

main()
