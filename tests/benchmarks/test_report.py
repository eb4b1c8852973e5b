from pathlib import Path
from typing import Any

import pytest

from benchmarks.frontier.picture import draw
from benchmarks.frontier.report import END, START, markdown, overall_table, readme_table, smallest, with_table

MEASURED = {
    "latency": {"seconds": 0.002, "original_seconds": 0.001, "ratio": 2.0, "plain": 1.0, "plain_spread": [0.98, 1.03]},
    "load": {"seconds": 0.01, "ratio": 1.25, "plain": 1.0},
    "packed_bytes": 800,
    "packer": "zstd -19",
}


def difference(points: float) -> dict[str, float]:
    return {"value": points / 100, "low": points / 100 - 0.01, "high": points / 100 + 0.01}


def tool(name: str, size: int, points: float, *, meets_bar: bool = True) -> dict[str, Any]:
    entry = {
        "setting": {"bits": 4},
        "bytes": size,
        "seconds": 1.25,
        "peak_bytes": 3e8,
        "development": {"score": 0.9 + points / 100, "n": 500},
        "difference": difference(points),
    }
    return {
        "tool": name,
        "settings": [{"setting": {"bits": 2}, "peak_bytes": 1e8, "failure": "running: a|b"}, entry],
        "chosen": 1,
        "meets_bar": meets_bar,
        "bytes": size,
        "test": {"score": 0.9 + points / 100, "n": 2000},
        "difference": difference(points),
        **MEASURED,
    }


MODEL = {
    "model": "tiny",
    "about": "a model",
    "bytes": 1000,
    "metric": "accuracy",
    "development": {"score": 0.9, "n": 500},
    "test": {"score": 0.9, "n": 2000},
    **MEASURED,
    "tools": [
        tool("graphshrink", 250, -0.5),
        tool("peer", 400, 0.2),
        tool("crude", 100, -30, meets_bar=False),
        {"tool": "broken", "settings": [{"setting": {}, "failure": "compressing: no"}], "failure": "crashed"},
    ],
}
RESULTS: dict[str, Any] = {
    "date": "2026-11-24T12:00:00+00:00",
    "machine": {"processor": "a processor", "cpus": 2},
    "tool_versions": {"onnx": "1.2.3", "absent": None},
    "models": [MODEL, {"model": "gone", "about": "not there", "failure": "no network"}],
}


def cells(table: str) -> list[list[str]]:
    return [[cell.strip() for cell in line.strip("|").split(" | ")] for line in table.splitlines()]


def test_the_smallest_file_within_the_bar_stands_out() -> None:
    header, _, line = cells(overall_table(RESULTS["models"]))
    assert header == ["model", "original", "graphshrink", "peer", "crude", "broken"]
    assert line == ["tiny", "1,000", "**25.0 %**", "40.0 %", "10.0 % !", "failed"]


def test_nothing_is_smallest_where_all_miss() -> None:
    assert smallest([tool("crude", 100, -30, meets_bar=False), {"tool": "broken", "failure": "crashed"}]) is None


def test_the_readme_compares_with_the_best_other_tool() -> None:
    _, _, *lines = cells(readme_table(RESULTS))
    assert lines == [["tiny", "1,000", "0.9000 (2,000)", "250", "-0.50", "peer", "400", "+0.20"]]


def test_the_readme_says_where_nobody_is_within_the_bar() -> None:
    model = {**MODEL, "tools": [tool("crude", 100, -30, meets_bar=False)]}
    _, _, line = cells(readme_table({"models": [model]}))
    assert line == ["tiny", "1,000", "0.9000 (2,000)", "-", "-", "none", "-", "-"]


def test_the_document_has_every_row_and_reason() -> None:
    text = markdown(RESULTS)
    rows = {row[0]: row for row in cells(text) if len(row) == 11}
    assert rows["original"][3:] == ["1,000", "800", "0.9000", "", "2.00 (0.98-1.03)", "1.25", "", ""]
    assert rows["graphshrink"] == [
        *("graphshrink", "bits 4", "yes", "250", "800", "0.8950", "-0.50 [-1.50, +0.50]"),
        *("2.00 (0.98-1.03)", "1.25", "1.2 s", "300 MB"),
    ]
    assert rows["crude"][2] == "no"
    assert "- broken: crashed" in text
    assert "Not measured: no network." in text
    assert "running: a\\|b" in text  # in a cell, a bar has to be escaped
    assert "onnx 1.2.3" in text
    assert "absent" not in text


def test_a_table_is_put_between_its_marks() -> None:
    old = f"before\n{START}| old |\n{END}\nafter\n"
    new = with_table(old, "| new |")
    assert new == f"before\n{START}| new |\n{END}\nafter\n"
    assert with_table(new, "| new |") == new
    assert with_table("no marks\n", "| new |") == "no marks\n"


def test_the_picture_shows_every_tool_that_gave_a_model(tmp_path: Path) -> None:
    pytest.importorskip("matplotlib")
    draw(MODEL, tmp_path / "a.svg")
    draw(MODEL, tmp_path / "b.svg")
    picture = (tmp_path / "a.svg").read_text()
    assert picture == (tmp_path / "b.svg").read_text()
    assert [name for name in ("graphshrink", "peer", "crude", "broken") if f">{name}<" in picture] == [
        *("graphshrink", "peer", "crude")
    ]
    assert "tiny" in picture
