"""The accuracy part as a picture: points lost or won against the MACs that are gone, one small chart a model."""

import importlib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Final

from benchmarks.channels.accuracy import METHODS

_COLUMNS: Final = 4
_SIZE: Final = (3.0, 2.4)  # inches of one chart
_LINEAR: Final = 1.0  # points around zero that are shown to scale; beyond, the axis is logarithmic
_TICKS: Final = (-100, -30, -10, -3, -1, 0, 1, 3)  # points
_LOOKS: Final = dict(zip(METHODS, (("tab:blue", "o"), ("tab:orange", "s")), strict=True))


def drawable(rows: Sequence[Mapping[str, Any]]) -> list[Mapping[str, Any]]:
    """Rows of models that were scored."""
    return [row for row in rows if any("difference" in setting for setting in row.get("settings", ()))]


def places(row: Mapping[str, Any], method: str) -> list[tuple[float, float, float, float]]:
    """Per cent of MACs gone, points, and the ends of their interval, of one method's settings."""
    done = [each for each in row["settings"] if each["method"] == method and "difference" in each]
    ends = ("value", "low", "high")
    return sorted((100 * each["macs"], *(100 * each["difference"][end] for end in ends)) for each in done)


def draw(rows: Sequence[Mapping[str, Any]], path: Path) -> None:
    """Write the picture as SVG; the same rows give the same bytes."""
    matplotlib: Any = importlib.import_module("matplotlib")
    figure_module: Any = importlib.import_module("matplotlib.figure")
    shown = drawable(rows)
    lines = -(-len(shown) // _COLUMNS)
    # Text stays text, and nothing random or dated goes into the file.
    with matplotlib.rc_context({"svg.fonttype": "none", "svg.hashsalt": "channels", "font.size": 8}):
        figure = figure_module.Figure(figsize=(_COLUMNS * _SIZE[0], lines * _SIZE[1]), layout="constrained")
        charts = figure.subplots(lines, _COLUMNS, squeeze=False).flat
        for axes, row in zip(charts, shown, strict=False):
            for method in METHODS:
                _draw_method(axes, places(row, method), method)
            _describe(axes, row)
        for axes in list(charts):
            axes.set_axis_off()
        figure.legend(*figure.axes[0].get_legend_handles_labels(), loc="outside upper center", ncols=2, frameon=False)
        figure.supxlabel("% of MACs removed")
        figure.supylabel("points above the original, on test items, without training")
        figure.savefig(path, format="svg", metadata={"Date": None})


def _draw_method(axes: Any, found: Sequence[tuple[float, float, float, float]], method: str) -> None:
    colour, mark = _LOOKS[method]
    macs = [0.0, *(place[0] for place in found)]
    points = [0.0, *(place[1] for place in found)]
    down = [0.0, *(place[1] - place[2] for place in found)]
    up = [0.0, *(place[3] - place[1] for place in found)]
    axes.errorbar(macs, points, yerr=[down, up], color=colour, marker=mark, markersize=4, capsize=2, label=method)


def _as_points(points: float, _: int) -> str:
    return f"{points:+g}" if points else "0"


def _describe(axes: Any, row: Mapping[str, Any]) -> None:
    ticker: Any = importlib.import_module("matplotlib.ticker")
    axes.set_yscale("symlog", linthresh=_LINEAR)
    low, high = axes.get_ylim()
    axes.set_ylim(min(low, -_LINEAR), max(high, _LINEAR))
    axes.yaxis.set_major_locator(ticker.FixedLocator(_TICKS))
    axes.yaxis.set_major_formatter(_as_points)
    axes.yaxis.set_minor_locator(ticker.NullLocator())
    axes.axhline(0, color="black", linewidth=0.8)
    axes.set_title(f"{row['model']}: {row['metric']} {row['score']:.3f}")
    axes.grid(visible=True, which="major", linewidth=0.3)
