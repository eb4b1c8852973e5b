"""Hostile cases against the checkout, or against the graphshrink that GRAPHSHRINK_COMMAND names.

Every third case of each family; all of them with GRAPHSHRINK_HOSTILE=all, as `python -m tests.hostile` runs them.
"""

import os
from pathlib import Path
from typing import Final

import pytest

from tests.hostile.cases import Case
from tests.hostile.families import FAMILIES
from tests.hostile.judging import complaints
from tests.hostile.running import program_from

_EVERY: Final = 1 if os.environ.get("GRAPHSHRINK_HOSTILE") == "all" else 3
_CASES: Final = [
    pytest.param(case, id=f"{family}: {case.name}".replace(" ", "-"))
    for family, cases in FAMILIES.items()
    for case in cases[::_EVERY]
]


@pytest.mark.parametrize("case", _CASES)
def test_case(case: Case, tmp_path: Path) -> None:
    assert complaints(case, program_from(os.environ.get("GRAPHSHRINK_COMMAND")), tmp_path)[0] == []


def test_the_cases_are_many_and_each_has_a_name_of_its_own() -> None:
    for family, cases in FAMILIES.items():
        assert len({case.name for case in cases}) == len(cases), family
        assert len(cases) >= 20, family
    assert len(_CASES) >= 170
