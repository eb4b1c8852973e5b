"""A model's picture: what each tool loses or wins in score, against the bytes of its file.

Small marks are settings on development items; large ones, with their 95 % interval, are the chosen settings on test
items. Both are differences to the original on the same items, so that they can share an axis.
"""

import importlib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Final

from benchmarks.frontier.choose import BAR

_MARKS: Final = "osD^v<>phX*P"
_SIZE: Final = (8.0, 5.0)  # inches
_LINEAR: Final = 2.0  # points around zero that are shown to scale; beyond, the axis is logarithmic
_TICKS: Final = (-100, -50, -20, -10, -5, -2, -1, -0.5, 0, 0.5, 1, 2, 5, 10, 20)  # points
_PALETTE: Final = "tab20"


def draw(row: Mapping[str, Any], path: Path) -> None:
    """Write the picture as SVG; the same row gives the same bytes."""
    matplotlib: Any = importlib.import_module("matplotlib")
    figure_module: Any = importlib.import_module("matplotlib.figure")
    # Text stays text, and nothing random or dated goes into the file.
    with matplotlib.rc_context({"svg.fonttype": "none", "svg.hashsalt": "frontier"}):
        figure = figure_module.Figure(figsize=_SIZE, layout="constrained")
        axes = figure.add_subplot()
        colours = matplotlib.colormaps[_PALETTE].colors
        for index, tool in enumerate(row["tools"]):
            _draw_tool(axes, tool, colour=colours[2 * index % 20 + index // 10], mark=_MARKS[index % len(_MARKS)])
        _describe(axes, row)
        figure.savefig(path, format="svg", metadata={"Date": None})


def _draw_tool(axes: Any, tool: Mapping[str, Any], *, colour: Any, mark: str) -> None:
    tried = [entry for entry in tool["settings"] if "failure" not in entry]
    if tried:
        sizes, points = _places(tried)
        axes.plot(sizes, points, mark, color=colour, markersize=4, alpha=0.6, label=None, linestyle="none")
    if "failure" in tool:
        return
    ((size,), (point,)) = _places([tool])
    low, high = (100 * tool["difference"][end] for end in ("low", "high"))
    axes.errorbar(
        size,
        point,
        yerr=[[point - low], [high - point]],
        fmt=mark,
        color=colour,
        markersize=9,
        markerfacecolor=colour if tool["meets_bar"] else "white",
        capsize=3,
        label=tool["tool"],
    )


def _places(entries: Sequence[Mapping[str, Any]]) -> tuple[list[int], list[float]]:
    return [entry["bytes"] for entry in entries], [100 * entry["difference"]["value"] for entry in entries]


def _as_bytes(size: float, _: int) -> str:
    return f"{size / 1e6:g} MB" if size >= 1e6 else f"{size / 1e3:g} kB"


def _as_points(points: float, _: int) -> str:
    return f"{points:+g}" if points else "0"


def _describe(axes: Any, row: Mapping[str, Any]) -> None:
    ticker: Any = importlib.import_module("matplotlib.ticker")
    axes.set_xscale("log")
    axes.xaxis.set_major_locator(ticker.LogLocator(subs=(1, 2, 5)))
    axes.xaxis.set_major_formatter(_as_bytes)
    axes.xaxis.set_minor_locator(ticker.NullLocator())
    axes.set_yscale("symlog", linthresh=_LINEAR)
    low, high = axes.get_ylim()
    axes.set_ylim(min(low, -_LINEAR), max(high, _LINEAR / 2))
    axes.yaxis.set_major_locator(ticker.FixedLocator(_TICKS))
    axes.yaxis.set_major_formatter(_as_points)
    axes.yaxis.set_minor_locator(ticker.NullLocator())
    axes.axhline(0, color="black", linewidth=0.8)
    axes.axhline(-100 * BAR, color="grey", linewidth=0.8, linestyle="--")
    axes.axvline(row["bytes"], color="black", linewidth=0.8)
    axes.set_xlabel("bytes of the file (vertical line: the original)")
    axes.set_ylabel(f"{row['metric']}: points above the original")
    test = row["test"]
    axes.set_title(f"{row['model']}: {row['metric']} {test['score']:.4f} on {test['n']:,} test items")
    axes.grid(visible=True, which="major", linewidth=0.3)
    axes.legend(fontsize="small", loc="center left", bbox_to_anchor=(1.0, 0.5), frameon=False)
