"""What pyproject.toml says against what is there."""

import tomllib
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).parent.parent


@pytest.fixture(scope="module")
def project() -> dict[str, Any]:
    return tomllib.loads((ROOT / "pyproject.toml").read_text())


def test_every_package_is_listed(project: dict[str, Any]) -> None:
    packages = {
        str(path.parent.relative_to(ROOT)).replace("/", ".") for path in (ROOT / "graphshrink").rglob("__init__.py")
    }
    assert {*packages, "graphshrink.passes"} == set(project["tool"]["setuptools"]["packages"])


def test_the_oldest_versions_tested_are_the_ones_claimed(project: dict[str, Any]) -> None:
    claimed = dict(dependency.split(">=") for dependency in project["project"]["dependencies"])
    tested = dict(
        line.split("==") for line in (ROOT / "scripts/oldest.txt").read_text().splitlines() if line and line[0] != "#"
    )
    assert claimed.keys() == tested.keys()
    assert all(tested[name].startswith(version) for name, version in claimed.items())


def test_passes_is_a_link_into_the_package() -> None:
    link = ROOT / "graphshrink" / "passes"
    assert link.is_symlink() and link.resolve() == ROOT / "passes"


def test_command_line_needs_little_to_start() -> None:
    """--help must answer at once, so nothing heavy may be imported for it."""
    import subprocess
    import sys

    heavy = {"onnx", "onnxruntime", "networkx", "cvxpy", "scipy", "numpy"}
    code = f"import graphshrink.cli, sys; print(*sorted({heavy} & sys.modules.keys()))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=ROOT, check=True)
    assert done.stdout.strip() == ""
