"""All hostile cases as a table: python -m tests.hostile [--command /venv/bin/graphshrink] [--family file]."""

import argparse
import sys
import tempfile
from pathlib import Path

from tests.hostile.families import FAMILIES
from tests.hostile.judging import complaints
from tests.hostile.running import program_from


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.hostile", description=__doc__)
    parser.add_argument("--command", help="the graphshrink to test; that of the checkout by default")
    parser.add_argument("--family", choices=FAMILIES, action="append", help="only this one; may be given several times")
    given = parser.parse_args()
    program = program_from(given.command)
    print(f"{'family':<26}{'cases':>6}{'as expected':>13}{'seconds':>9}")
    total = [0, 0, 0.0]
    for family in given.family or FAMILIES:
        good, seconds = 0, 0.0
        for case in FAMILIES[family]:
            with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as room:
                found, took = complaints(case, program, Path(room).resolve())
            good, seconds = good + (not found), seconds + took
            for line in found:
                print(f"  {family}: {case.name}: {line}")
        count = len(FAMILIES[family])
        print(f"{family:<26}{count:>6}{good:>13}{seconds:>9.1f}", flush=True)
        total = [total[0] + count, total[1] + good, total[2] + seconds]
    print(f"{'all':<26}{total[0]:>6}{total[1]:>13}{total[2]:>9.1f}")
    return 0 if total[0] == total[1] else 1


if __name__ == "__main__":
    sys.exit(main())
