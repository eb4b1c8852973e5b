"""Plug-ins: files that are named, distributions that are installed, and the examples in docs/."""

import importlib.metadata
import os
import re
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
import yaml

import graphshrink
from graphshrink.cli.config import read_config
from graphshrink.errors import UsageError
from graphshrink.registry import catalogue, list_of, passes_from, spec_of
from tests import commands
from tests.models import DIGITS, LENET, ROOT, normal, saved, two_layers
from tests.runners import OPTIMISED, run

DOCS = ROOT / "docs"
HEAD = """
from dataclasses import dataclass
from typing import ClassVar
from graphshrink import Pass, PassResult
"""
GOOD = """
@dataclass(frozen=True)
class Idle(Pass):
    "Do nothing."
    name: ClassVar[str] = "idle"
    buys: ClassVar[str] = "nothing"
    def run(self, graph, context):
        return PassResult()
"""


def block(document: str, language: str = "python") -> str:
    (found,) = re.findall(rf"```{language}\n(.*?)```", (DOCS / document).read_text(), flags=re.DOTALL)
    return str(found)


def plugin(folder: Path, text: str, name: str = "plugin.py") -> Path:
    path = folder / name
    path.write_text(text)
    return path


# ---- files


def test_the_pass_in_the_docs_is_a_plugin(tmp_path: Path) -> None:
    path = plugin(tmp_path, block("passes.md"))
    asked = ("-p", "round{step=0.001}, weight-sharing{bits=4}", "--plugin", path)
    done = commands.graphshrink(LENET, tmp_path / "out.onnx", *asked, "--calibration", DIGITS)
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "out.onnx").stat().st_size * 5 < LENET.stat().st_size
    shown = commands.graphshrink("--list-passes", "--plugin", path).stdout
    assert "round" in shown and "step: float = 0.01" in shown and "the distance between two values" in shown


def test_the_encoding_in_the_docs_stores_repeated_rows_once(tmp_path: Path) -> None:
    path = plugin(tmp_path, block("encodings.md"))
    model = two_layers(width=64)
    rows = np.random.default_rng(0).integers(0, 8, 32)
    model.graph.initializer[0].raw_data = normal(8, 64)[rows].tobytes()
    source, out = saved(model, tmp_path), tmp_path / "out.onnx"
    done = commands.graphshrink(source, out, "-p", "none", "--plugin", path, "--report", tmp_path / "r.json")
    assert done.returncode == 0, done.stderr
    assert source.stat().st_size - out.stat().st_size > 5500  # 24 of 32 rows of 256 bytes, and some to decode
    small = onnx.load(out)
    assert any(node.name.startswith("gs:unique-rows/") for node in small.graph.node)
    for optimised in OPTIMISED:
        x = normal(3, 32)
        np.testing.assert_array_equal(
            run(small, {"x": x}, optimised=optimised)["y"], run(model, {"x": x}, optimised=optimised)["y"]
        )
    again = graphshrink.emit(graphshrink.load(out))  # without the plug-in
    assert again.graph.initializer[0].raw_data == model.graph.initializer[0].raw_data
    assert commands.graphshrink("expand", out, tmp_path / "plain.onnx").returncode == 0


def test_the_configurations_in_the_docs_say_the_same(tmp_path: Path) -> None:
    in_toml, in_yaml = tomllib.loads(block("config.md", "toml")), yaml.safe_load(block("config.md", "yaml"))
    assert in_toml == in_yaml
    assert set(read_config(plugin(tmp_path, block("config.md", "toml"), "c.toml")).sections) == {"weight-sharing"}


@pytest.mark.parametrize(
    "text",
    [
        "",
        "raise ValueError('broken')",
        "import sys; sys.exit(0)",
        "import no_such_module",
        "def",
        HEAD + GOOD.replace("(frozen=True)", ""),
        HEAD + GOOD.replace("@dataclass(frozen=True)", ""),
        HEAD + GOOD.replace('    name: ClassVar[str] = "idle"\n', ""),
        HEAD + GOOD.replace("    def run", "    layers: int = 1\n    def run"),
        HEAD + GOOD.replace("    def run", "    sizes: list = None\n    def run"),
        HEAD + GOOD.replace('"idle"', '"weight-sharing"'),
    ],
)
def test_a_broken_file_is_a_usage_error(tmp_path: Path, text: str) -> None:
    with pytest.raises(UsageError) as error:
        graphshrink.compile(two_layers(), "weight-sharing", plugins=[plugin(tmp_path, text)])
    assert "\n" not in str(error.value)


def test_a_file_that_fails_leaves_no_module_behind(tmp_path: Path) -> None:
    before = set(sys.modules)
    with pytest.raises(UsageError):
        catalogue([plugin(tmp_path, HEAD + GOOD + "\nraise ValueError")])
    assert set(sys.modules) == before


def test_a_missing_file_is_a_usage_error(tmp_path: Path) -> None:
    with pytest.raises(UsageError):
        catalogue([tmp_path / "missing.py"])
    assert commands.graphshrink("--list-passes", "--plugin", tmp_path).returncode == 2


def test_an_abstract_class_is_a_helper_and_no_pass(tmp_path: Path) -> None:
    base = HEAD + GOOD.replace("    def run(self, graph, context):\n        return PassResult()\n", "").replace(
        "Idle", "Base"
    )
    found = catalogue([plugin(tmp_path, base + GOOD)])
    assert [known.name for known in found.passes].count("idle") == 1


# ---- distributions


@pytest.fixture(scope="module")
def installed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the example's distribution installed into it."""
    folder = tmp_path_factory.mktemp("installed")
    source = shutil.copytree(DOCS / "example-plugin", folder / "source")
    options = ("--quiet", "--no-deps", "--no-index", "--no-build-isolation", "--disable-pip-version-check")
    command = [sys.executable, "-m", "pip", "install", *options, "--target", str(folder / "site"), str(source)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return folder / "site"


def with_installed(*arguments: object, site: Path) -> subprocess.CompletedProcess[str]:
    return commands.graphshrink(*arguments, environment={"PYTHONPATH": f"{ROOT}{os.pathsep}{site}"})


def test_an_installed_pass_is_listed_and_runs(installed: Path, tmp_path: Path) -> None:
    listed = with_installed("--list-passes", site=installed).stdout
    assert "flush-small" in listed and "graphshrink-example 1.0" in listed and "below: float = 0.01" in listed
    report = tmp_path / "r.json"
    asked = ("-p", "flush-small{below=0.02}", "--calibration", DIGITS, "--report", report)
    done = with_installed(LENET, tmp_path / "out.onnx", *asked, site=installed)
    assert done.returncode == 0, done.stderr
    assert '"flush-small": "graphshrink-example 1.0"' in report.read_text()
    assert "flush-small: 4 layers" in done.stdout


def test_a_configuration_may_set_its_options(installed: Path, tmp_path: Path) -> None:
    config = plugin(tmp_path, "[flush-small]\nbelow = 2.0\n", "c.toml")
    done = with_installed(LENET, tmp_path / "o.onnx", "-p", "flush-small", "--config", config, site=installed)
    assert done.returncode == 2 and "outside 0 to 1" in done.stderr


def broken(site: Path, folder: Path, module: str, entry: str = "flush-small = graphshrink_example:FlushSmall") -> Path:
    """A copy of the installed distribution with another module and another entry."""
    copy = shutil.copytree(site, folder / "site")
    (copy / "graphshrink_example.py").write_text(module)
    (metadata,) = copy.glob("*.dist-info")
    (metadata / "entry_points.txt").write_text(f"[graphshrink.passes]\n{entry}\n")
    return copy


IDLE = HEAD + GOOD.replace('"idle"', '"flush-small"').replace("Idle", "FlushSmall")
BROKEN = {
    "fails to import": ("import no_such_module", "flush-small = graphshrink_example:FlushSmall"),
    "has no such class": (IDLE, "flush-small = graphshrink_example:Missing"),
    "is no pass": ("class FlushSmall: pass", "flush-small = graphshrink_example:FlushSmall"),
    "has another name": (IDLE, "other-name = graphshrink_example:FlushSmall"),
    "has the name of a built-in one": (IDLE, "weight-sharing = graphshrink_example:FlushSmall"),
}


@pytest.mark.parametrize("case", BROKEN)
def test_a_broken_distribution_is_one_line_in_the_list_and_an_error_when_asked_for(
    installed: Path, tmp_path: Path, case: str
) -> None:
    module, entry = BROKEN[case]
    site = broken(installed, tmp_path, module, entry)
    listed = with_installed("--list-passes", site=site)
    assert listed.returncode == 0, listed.stderr
    assert any("graphshrink-example 1.0" in line for line in listed.stdout.splitlines())
    name = entry.partition(" ")[0]
    done = with_installed(LENET, tmp_path / "o.onnx", "-p", name, "--quiet", site=site)
    assert (done.returncode, len(done.stderr.splitlines())) == (2, 1), done.stderr
    assert "graphshrink-example 1.0" in done.stderr


def test_a_distribution_that_is_not_asked_for_is_not_imported(installed: Path, tmp_path: Path) -> None:
    site = broken(installed, tmp_path, "raise SystemExit('imported')")
    done = with_installed(LENET, tmp_path / "o.onnx", "-p", "none", site=site)
    assert done.returncode == 0, done.stderr


# ---- specifications


def test_every_pass_of_this_environment_can_be_listed() -> None:
    assert {known.name for known, cls in list_of(catalogue()) if isinstance(cls, type)} >= {"weight-sharing"}


@pytest.mark.parametrize(
    "spec", ["weight-sharing{bits=4, granularity=channel}", "none", "weight-sharing, weight-sharing{bits=2}"]
)
def test_a_specification_can_be_written_out(spec: str) -> None:
    passes = passes_from(spec)
    assert passes_from(spec_of(passes)) == passes


def test_entry_points_of_graphshrink_itself_name_no_pass() -> None:
    own: Any = importlib.metadata.distribution("graphshrink").entry_points
    assert [entry.group for entry in own] == ["console_scripts"]
