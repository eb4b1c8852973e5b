"""Bytes of encoded weights beside their entropy, and what is fixed cost."""

from collections.abc import Iterator, Mapping
from dataclasses import asdict
from itertools import product
from typing import Any, Final

from benchmarks.encodings.account import one_weight, parts_of
from benchmarks.encodings.samples import Setting, draw, encoded, matmul
from benchmarks.measuring import Request, table
from graphshrink.encodings import ENCODINGS

_DENSITIES: Final = (1, 0.5, 0.2, 0.1, 0.05, 0.02)
_VALUES: Final = (4, 16, 64)
_SIZES: Final = (100_000, 1_000_000, 4_000_000)
_LARGEST: Final = Setting(10_000_000, 0.1, 16)

_SETTINGS: Final = (*(Setting(*setting) for setting in product(_SIZES, _DENSITIES, _VALUES)), _LARGEST)
_SETTINGS_SHORT: Final = (Setting(100_000, 1, 16), Setting(100_000, 0.1, 4))

_MANY: Final = 1_000_000  # weights from which the stricter bar holds
_BARS: Final = (1.12, 1.05)
_FILE_BAR: Final = 2500
_TENSOR_BAR, _SYMBOL_BAR = 200, 6


def examine(setting: Setting) -> dict[str, Any]:
    """One row of the tables."""
    weight, entropy = draw(setting)
    model, (stored,) = encoded(matmul(weight), "small")
    encoding = next(encoding for encoding in ENCODINGS if encoding.name == stored.encoding)
    parts = parts_of(encoding.encode(weight))
    bytes_of = one_weight(model, stored, parts)
    return {
        **setting._asdict(),
        "encoding": stored.encoding,
        "bytes": model.ByteSize(),
        "entropy_bytes": entropy,
        **{f"{name}_bytes": size for name, size in asdict(bytes_of).items()},
        "symbols": parts.symbols,
        "phrases": parts.phrases,
        "ratio": (bytes_of.file - bytes_of.beyond_codes - bytes_of.once - bytes_of.host) / entropy,
        "ratio_whole": model.ByteSize() / entropy,
        "once_bytes": bytes_of.once,
        "beyond_codes_bytes": bytes_of.beyond_codes,
    }


def entropy(asked: Request) -> list[dict[str, Any]]:
    """All settings."""
    rows: list[dict[str, Any]] = []
    for setting in _SETTINGS_SHORT if asked.short else _SETTINGS:
        asked.note(setting.text)
        rows.append(examine(setting))
    print("Bytes of a MatMul's file beside the entropy of positions and values; ratio: without tables and fixed cost")
    header = ["weights", "density", "values", "encoding", "file", "entropy", "codes", "tables", "tensor", "functions"]
    header += ["shared", "model", "ratio", "bar", "", "whole file"]
    print(table(header, [tuple(_line(asked, row)) for row in rows]))
    print(
        "\nFixed cost. Once a file: functions and tables that weights share. A tensor: tables and fixed cost of its\n"
        f"own, beside {_TENSOR_BAR} + {_SYMBOL_BAR} for each symbol (value, length of step), and for each code"
    )
    costs = ["weights", "density", "values", "once", f"bar {_FILE_BAR:,}", "a tensor"]
    costs += ["by symbols", "", "by codes", ""]
    print(table(costs, [tuple(_fixed(asked, row)) for row in rows]))
    return rows


def _setting(row: Mapping[str, Any]) -> Iterator[object]:
    yield from (f"{row['n']:,}", f"{row['density']:g}", row["values"])


def _line(asked: Request, row: Mapping[str, Any]) -> Iterator[object]:
    yield from _setting(row)
    yield row["encoding"]
    yield from (f"{row['bytes']:,}", f"{row['entropy_bytes']:,.0f}")
    yield from (row[f"{name}_bytes"] for name in ("codes", "tables", "tensor", "functions", "shared", "host"))
    bar = _BARS[row["n"] >= _MANY]
    yield from (f"{row['ratio']:.4f}", bar, asked.verdict(row["ratio"], bar), f"{row['ratio_whole']:.4f}")


def _fixed(asked: Request, row: Mapping[str, Any]) -> Iterator[object]:
    yield from _setting(row)
    yield from (row["once_bytes"], asked.verdict(row["once_bytes"], _FILE_BAR))
    size = row["beyond_codes_bytes"]
    yield size
    for count in ("symbols", "phrases"):
        bar = _TENSOR_BAR + _SYMBOL_BAR * row[count]
        yield from (bar, asked.verdict(size, bar))
