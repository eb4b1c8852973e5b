"""All hostile cases as a table.

python -m tests.hostile [--command /venv/bin/graphshrink] [--family file] [--jobs 2]
"""

import argparse
import sys

from tests.hostile.families import FAMILIES
from tests.hostile.table import rows

_LAYOUT = "{:<26}{:>6}{:>13}{:>9}"


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.hostile", description="All hostile cases as a table.")
    parser.add_argument("--command", help="the graphshrink to test; that of the checkout by default")
    parser.add_argument("--family", choices=FAMILIES, action="append", help="only this one; may be given several times")
    parser.add_argument("--jobs", type=int, default=1, help="how many cases run at once")
    given = parser.parse_args()
    print(_LAYOUT.format("family", "cases", "as expected", "seconds"))
    cases, good, seconds = 0, 0, 0.0
    for row in rows(given.family or [*FAMILIES], given.command, given.jobs):
        for line in row.wrong:
            print(f"  {row.family}: {line}")
        print(_LAYOUT.format(row.family, row.cases, row.good, f"{row.seconds:.1f}"), flush=True)
        cases, good, seconds = cases + row.cases, good + row.good, seconds + row.seconds
    print(_LAYOUT.format("all", cases, good, f"{seconds:.1f}"))
    return 0 if cases == good else 1


if __name__ == "__main__":
    sys.exit(main())
