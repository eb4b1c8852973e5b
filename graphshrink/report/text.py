"""Numbers and names as people read them in a terminal."""

import unicodedata
from typing import Final

from graphshrink.escaping import safe

_UNITS: Final = ("B", "kB", "MB", "GB", "TB")


def size(count: int) -> str:
    """Bytes in the unit that leaves one to three digits before the point (1 kB is 1,000 B)."""
    value, unit = float(count), 0
    while value >= 999.5 and unit < len(_UNITS) - 1:
        value, unit = value / 1000, unit + 1
    digits = 0 if unit == 0 or value >= 99.95 else 1 if value >= 9.995 else 2
    return f"{value:.{digits}f} {_UNITS[unit]}"


def fit(text: str, width: int) -> str:
    """Text in `width` columns, cut in the middle where it is too long: the ends of layer names tell them apart."""
    text = safe(text)
    if columns(text) <= width:
        return text + " " * (width - columns(text))
    keep = (width - 1) // 2
    cut = f"{text[:keep]}…{text[len(text) - (width - 1 - keep) :]}"
    return cut if columns(cut) <= width else cut[:keep] + "…"


def columns(text: str) -> int:
    """How many columns a terminal gives a text."""
    return sum(2 if unicodedata.east_asian_width(c) in "WF" else 1 for c in text)


def bar(share: float, width: int) -> str:
    """A bar for a share of 1, in eighths of a column."""
    eighths = round(max(0.0, min(1.0, share)) * width * 8)
    whole, rest = divmod(eighths, 8)
    return ("█" * whole + (" ▏▎▍▌▋▊▉"[rest] if rest else "")).ljust(width, "·")
