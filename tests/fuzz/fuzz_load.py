"""Byte fuzzing of `graphshrink.load` with atheris: `scripts/fuzz [SECONDS]`.

`target` says what must hold; time and memory for one input are libFuzzer's to watch.
"""

import sys
import tempfile
from importlib import import_module
from pathlib import Path
from typing import Any

from tests.fuzz.mutator import mutated

atheris: Any = import_module("atheris")  # in the environment of scripts/fuzz alone

with atheris.instrument_imports(include=["graphshrink"]):
    from tests.fuzz.target import one_input


def mutate(data: bytes, largest: int, seed: int) -> bytes:
    """Mostly a damaged message, sometimes damaged bytes."""
    changed = mutated(data, seed, largest) if seed % 4 else None
    return bytes(atheris.Mutate(data, largest)) if changed is None else changed


def main() -> None:
    """Fuzz, with libFuzzer's arguments from the command line."""
    with tempfile.TemporaryDirectory(prefix="graphshrink-fuzz-") as name:
        folder = Path(name)
        (folder / "data").write_bytes(bytes(range(256)))  # what external data may point to

        def one(data: bytes) -> None:
            one_input(data, folder)

        atheris.Setup(sys.argv, one, custom_mutator=mutate)
        atheris.Fuzz()


if __name__ == "__main__":
    main()
