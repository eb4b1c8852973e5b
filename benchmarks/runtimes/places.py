"""Where the runtimes are: each gets what it needs from PyPI or npm, in a folder of the cache; versions are pinned."""

import os
import shutil
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Final

from testmodels.fetching import FetchError, cache_folder

OPENVINO: Final = "openvino==2026.4.1"
WEB: Final = "onnxruntime-web@1.30.0"
PLAYWRIGHT: Final = "playwright-core@1.64.1"

_SECONDS: Final = 600


def openvino_python() -> Path:
    """The interpreter of an environment that has OpenVINO.

    Raises:
        FetchError: there is none, and why.
    """
    folder = cache_folder() / "runtimes" / OPENVINO
    python = folder / "bin" / "python"
    if not _ready(folder):
        shutil.rmtree(folder, ignore_errors=True)
        _do([sys.executable, "-m", "venv", str(folder)])
        _do([str(python), "-m", "pip", "install", "--quiet", "--disable-pip-version-check", OPENVINO])
        _mark_ready(folder)
    return python


def node() -> str:
    """Raises: FetchError, if it is not installed."""
    found = shutil.which("node")
    if found is None:
        raise FetchError("the command node is not installed")
    return found


def node_package(package: str) -> Path:
    """The folder of an npm package, NAME@VERSION; no install scripts are run.

    Raises:
        FetchError: it could not be had, and why.
    """
    folder = cache_folder() / "runtimes" / package
    if not _ready(folder):
        npm = shutil.which("npm")
        if npm is None:
            raise FetchError("the command npm is not installed")
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir(parents=True)
        quiet = ["--ignore-scripts", "--no-audit", "--no-fund", "--loglevel", "error"]
        _do([npm, "install", "--prefix", str(folder), *quiet, package])
        _mark_ready(folder)
    return folder / "node_modules" / package.rpartition("@")[0]


def chromium(*, install: bool) -> str:
    """Chromium's path; where it is missing, and that is wished for, apt installs it.

    Raises:
        FetchError: there is none, and why.
    """
    found = _chromium()
    if found is None and install:
        apt = shutil.which("apt-get")
        if apt is None or os.geteuid() != 0:
            raise FetchError("Chromium is not installed, and installing it takes root and apt-get")
        _do([apt, "update", "-qq"])
        _do([apt, "install", "-y", "-qq", "--no-install-recommends", "chromium", "fonts-dejavu-core"])
        found = _chromium()
    if found is None:
        raise FetchError("Chromium is not installed (Debian's package chromium)")
    return found


def _chromium() -> str | None:
    return shutil.which("chromium") or shutil.which("chromium-browser")


def _ready(folder: Path) -> bool:
    return (folder / ".ready").exists()


def _mark_ready(folder: Path) -> None:
    (folder / ".ready").touch()


def _do(command: Sequence[str]) -> None:
    what = " ".join(command[-3:])
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=_SECONDS, check=False)
    except (OSError, subprocess.TimeoutExpired) as e:
        raise FetchError(f"{what}: {e}") from e
    if done.returncode != 0:
        lines = [line.strip() for line in done.stderr.splitlines() if line.strip()]
        raise FetchError(f"{what}: ended with {done.returncode}: {lines[-1] if lines else 'it said nothing'}")
