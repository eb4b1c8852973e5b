"""Every hostile case against the checkout, or against the graphshrink that GRAPHSHRINK_COMMAND names."""

import os
from pathlib import Path

import pytest

from tests.hostile.cases import Case
from tests.hostile.families import FAMILIES
from tests.hostile.judging import complaints
from tests.hostile.running import program_from

_CASES = [
    pytest.param(case, id=f"{family}: {case.name}".replace(" ", "-")) for family, of in FAMILIES.items() for case in of
]


@pytest.mark.parametrize("case", _CASES)
def test_case(case: Case, tmp_path: Path) -> None:
    assert complaints(case, program_from(os.environ.get("GRAPHSHRINK_COMMAND")), tmp_path)[0] == []


def test_there_are_enough_cases_and_each_has_a_name() -> None:
    for family, cases in FAMILIES.items():
        assert len({case.name for case in cases}) == len(cases), family
    assert sum(map(len, FAMILIES.values())) >= 170
