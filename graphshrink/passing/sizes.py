"""Numbers of bytes as people write them."""

import re
from typing import Final

from graphshrink.errors import UsageError

_SIZE: Final = re.compile(r"(\d+(?:\.\d+)?)\s*([kMGT]?)(i?)B?", re.IGNORECASE)
_POWERS: Final = {"": 0, "k": 1, "m": 2, "g": 3, "t": 4}


def bytes_of(option: str, text: str) -> int:
    """`2GB`, `512 MiB` or `1000000` -> bytes; kB is 1,000 and KiB 1,024."""
    match = _SIZE.fullmatch(text.strip())
    if match is None:
        raise UsageError(f"{option} {text!r}: write it like 2GB or 512MiB")
    base = 1024 if match[3] else 1000
    return int(float(match[1]) * base ** _POWERS[match[2].lower()])
