"""Where the runtimes are: each gets what it needs from PyPI or npm, in a folder of the cache; versions are pinned."""

import os
import shutil
import sys
from pathlib import Path
from typing import Final

from testmodels.fetching import FetchError, cache_folder, find_client, run_client

OPENVINO: Final = "openvino==2026.4.1"
WEB: Final = "onnxruntime-web@1.30.0"
PLAYWRIGHT: Final = "playwright-core@1.64.1"


def openvino_python() -> Path:
    """The interpreter of an environment that has OpenVINO.

    Raises:
        FetchError: there is none, and why.
    """
    folder = cache_folder() / "runtimes" / OPENVINO
    python = folder / "bin" / "python"
    if not _ready(folder):
        shutil.rmtree(folder, ignore_errors=True)
        run_client([sys.executable, "-m", "venv", str(folder)], what=OPENVINO, client="venv")
        pip = [str(python), "-m", "pip", "install", "--quiet", "--disable-pip-version-check"]
        run_client([*pip, OPENVINO], what=OPENVINO, client="pip")
        _mark_ready(folder)
    return python


def node() -> str:
    """Raises: FetchError, if it is not installed."""
    return find_client("node", needed_for=WEB)


def node_package(package: str) -> Path:
    """The folder of an npm package, NAME@VERSION; no install scripts are run.

    Raises:
        FetchError: it could not be had, and why.
    """
    folder = cache_folder() / "runtimes" / package
    if not _ready(folder):
        npm = find_client("npm", needed_for=package)
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir(parents=True)
        quiet = ["--ignore-scripts", "--no-audit", "--no-fund", "--loglevel", "error"]
        run_client([npm, "install", "--prefix", str(folder), *quiet, package], what=package)
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
        run_client([apt, "update", "-qq"], what="chromium")
        packages = ["chromium", "fonts-dejavu-core"]
        run_client([apt, "install", "-y", "-qq", "--no-install-recommends", *packages], what="chromium")
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
