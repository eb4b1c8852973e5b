"""Tables and pictures of the frontier, made from its results: `python -m benchmarks.frontier.report [FILE.json]`.

Beside the JSON file come a Markdown file of the same name, and one picture per model, `frontier-MODEL.svg` (with
matplotlib, which the extra `peers` has). With the results of the repository, the README's table is written anew too.
"""

import argparse
import importlib.util
import json
import sys
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Final, TypeAlias

from benchmarks.frontier.picture import draw
from benchmarks.measuring import RESULTS, ROOT, table

Row: TypeAlias = Mapping[str, Any]

OURS: Final = "graphshrink"
START: Final = "<!-- table: frontier -->\n"
END: Final = "<!-- end -->"

_NOTES: Final = """\
Settings were chosen on development items: the smallest file whose score is at most one point below the original's;
`no` at *in bar* means that none was, and the best-scoring one stands there. *score* and *difference* (points, with the
95 % interval) are on test items, which no choice saw. *latency* and *load* are ratios to the original on one thread,
and in brackets, between which the middle 80 % of the original's latency ratios to itself lie. *compressing* is the
time that the tool took, its imports included, and *peak* the memory of its process."""


# ---- one model


def model_table(row: Row) -> str:
    """What each tool reached on a model."""
    title = f"### {row['model']}: {row['about']}"
    if "failure" in row:
        return f"{title}\n\nNot measured: {row['failure']}."
    header = (
        *("tool", "setting", "in bar", "bytes", row.get("packer", "packed"), f"{row['metric']}, n={row['test']['n']}"),
        *("difference", "latency", "load", "compressing", "peak"),
    )
    lines = [_original_line(row), *(_line(tool) for tool in row["tools"] if "failure" not in tool)]
    failed = [f"- {tool['tool']}: {tool['failure']}" for tool in row["tools"] if "failure" in tool]
    return "\n".join([title, "", table(header, lines), *(["", *failed] if failed else [])])


def _original_line(row: Row) -> Sequence[object]:
    return ("original", "", "", f"{row['bytes']:,}", _packed(row), _score(row), "", *_times(row), "", "")


def _line(tool: Row) -> Sequence[object]:
    chosen = tool["settings"][tool["chosen"]]
    return (
        tool["tool"],
        _setting(chosen["setting"]),
        "yes" if tool["meets_bar"] else "no",
        f"{tool['bytes']:,}",
        _packed(tool),
        _score(tool),
        _difference(tool["difference"]),
        *_times(tool),
        f"{chosen['seconds']:.1f} s",
        f"{chosen['peak_bytes'] / 1e6:.0f} MB",
    )


def settings_table(row: Row) -> str:
    """Every setting of every tool, on development items."""
    lines = [
        (tool["tool"], _setting(entry["setting"]), *_tried(entry))
        for tool in row["tools"]
        for entry in tool["settings"]
    ]
    metric = f"{row['metric']}, n={row['development']['n']}"
    return table(("tool", "setting", "bytes", metric, "difference"), lines)


def _tried(entry: Row) -> Sequence[object]:
    if "failure" in entry:
        return ("-", "-", _cell(entry["failure"]))
    return (f"{entry['bytes']:,}", f"{entry['development']['score']:.4f}", _difference(entry["difference"]))


def _setting(setting: Row) -> str:
    return _cell(", ".join(f"{name} {value}" for name, value in setting.items()))


def _cell(text: str) -> str:
    return text.replace("|", "\\|")


def _packed(row: Row) -> str:
    return f"{row['packed_bytes']:,}" if "packed_bytes" in row else "-"


def _score(row: Row) -> str:
    return f"{row['test']['score']:.4f}"


def _difference(difference: Row) -> str:
    value, low, high = (100 * difference[key] for key in ("value", "low", "high"))
    return f"{value:+.2f} [{low:+.2f}, {high:+.2f}]"


def _times(row: Row) -> Iterator[str]:
    if "latency" not in row:
        yield from ("-", "-")
        return
    low, high = row["latency"]["plain_spread"]
    yield f"{row['latency']['ratio']:.2f} ({low:.2f}-{high:.2f})"
    yield f"{row['load']['ratio']:.2f}"


# ---- all models


def overall_table(models: Sequence[Row]) -> str:
    """Bytes of each tool's result in percent of the original; the smallest within the bar stands out."""
    measured = [row for row in models if "failure" not in row]
    tools = list(dict.fromkeys(tool["tool"] for row in measured for tool in row["tools"]))
    return table(("model", "original", *tools), (_overall_line(row, tools) for row in measured))


def _overall_line(row: Row, tools: Iterable[str]) -> Sequence[object]:
    best = smallest(row["tools"])
    by_name = {tool["tool"]: tool for tool in row["tools"]}
    return (row["model"], f"{row['bytes']:,}", *(_share(by_name.get(name), row, best) for name in tools))


def _share(tool: Row | None, row: Row, best: Row | None) -> str:
    if tool is None or "failure" in tool:
        return "failed" if tool is not None else ""
    share = f"{100 * tool['bytes'] / row['bytes']:.1f} %"
    if not tool["meets_bar"]:
        return f"{share} !"
    return f"**{share}**" if tool is best else share


def is_ours(tool: str) -> bool:
    """Whether a tool is graphshrink, with whatever passes."""
    return tool.startswith(OURS)


def smallest(tools: Iterable[Row]) -> Row | None:
    """The tool with the smallest file within the bar."""
    return min(
        (tool for tool in tools if "failure" not in tool and tool["meets_bar"]), key=lambda t: t["bytes"], default=None
    )


def readme_table(results: Row) -> str:
    """graphshrink beside the best of all other tools; bytes, and points of the score lost or won on test items."""
    header = ("model", "bytes", "score (n)", "graphshrink", "points", "best other tool", "bytes", "points")
    lines = [_readme_line(row) for row in results["models"] if "failure" not in row]
    return table(header, lines)


def _readme_line(row: Row) -> Sequence[object]:
    ours = smallest(tool for tool in row["tools"] if is_ours(tool["tool"]))
    other = smallest(tool for tool in row["tools"] if not is_ours(tool["tool"]))
    score = f"{row['test']['score']:.4f} ({row['test']['n']:,})"
    return (
        *(row["model"], f"{row['bytes']:,}", score, *_bytes_and_points(ours)),
        *("none" if other is None else other["tool"], *_bytes_and_points(other)),
    )


def _bytes_and_points(tool: Row | None) -> Sequence[str]:
    return ("-", "-") if tool is None else (f"{tool['bytes']:,}", f"{100 * tool['difference']['value']:+.2f}")


# ---- documents


def markdown(results: Row) -> str:
    """The whole document."""
    models = results["models"]
    versions = ", ".join(f"{name} {version}" for name, version in results["tool_versions"].items() if version)
    parts = [
        "# The frontier",
        f"{results['date']}, {results['machine']['processor']}, {results['machine']['cpus']} CPUs; {versions}.",
        _NOTES,
        "## All models",
        "Bytes in percent of the original; `!` misses the bar.",
        overall_table(models),
        "## Each model",
    ]
    for row in models:
        parts.append(model_table(row))
        if "failure" not in row:
            parts += [f"![score against bytes]({picture_name(row)})", f"All settings:\n\n{settings_table(row)}"]
    return "\n\n".join(parts) + "\n"


def picture_name(row: Row) -> str:
    """The file of a model's picture."""
    return f"frontier-{row['model']}.svg"


def with_table(text: str, content: str) -> str:
    """The text with another table between the marks; without marks as it is."""
    before, start, rest = text.partition(START)
    _, end, after = rest.partition(END)
    return f"{before}{start}{content}\n{end}{after}" if start and end else text


def main() -> int:
    """Write the Markdown file, the pictures, and the README's table."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.frontier.report", description="Tables and pictures.")
    parser.add_argument("file", nargs="?", type=Path, default=RESULTS / "frontier.json", metavar="FILE.json")
    path: Path = parser.parse_args().file
    results = json.loads(path.read_text(encoding="utf-8"))
    path.with_suffix(".md").write_text(markdown(results), encoding="utf-8")
    if importlib.util.find_spec("matplotlib") is None:
        print("no pictures: matplotlib is not installed (the extra `peers`)", file=sys.stderr)
    else:
        for row in results["models"]:
            if "failure" not in row:
                draw(row, path.with_name(picture_name(row)))
    if path.resolve() == (RESULTS / "frontier.json").resolve():
        readme = ROOT / "README.md"
        readme.write_text(with_table(readme.read_text(encoding="utf-8"), readme_table(results)), encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
