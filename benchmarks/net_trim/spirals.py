"""The network of nested spirals, 2-200-200-2, in the cascade: weights left against the discrepancy of its logits.

Inputs need no labels, so that a network of two inputs is fitted to points drawn all over the disc that the spirals lie
in. Settings are chosen on other such points: the fewest weights of those whose discrepancy there is within the bar's.
What is reported is the discrepancy on a grid over the disc, of which no point was seen before. Fitted to the training
points alone, as one line is for comparison, nothing is known of what lies between the arms.
"""

from collections.abc import Iterable, Iterator, Mapping
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from benchmarks.measuring import ROOT, Request, table
from benchmarks.net_trim.trimming import Bench, Own, nonzeros, one_each
from graphshrink.calibration.samples import Samples, held
from graphshrink.passes.net_trim import NetTrim
from testmodels.spirals import NOISE

_MODEL: Final = ROOT / "testmodels" / "spirals.onnx"
_POINTS: Final = ROOT / "testmodels" / "spirals.npz"
_WEIGHTS: Final = ("fc1.weight", "fc2.weight", "fc3.weight")
_GRID: Final = 51  # points along each axis
_PAPER: Final[tuple[int, int, int]] = (362, 2663, 131)
_BAR_LEFT, _BAR_DISCREPANCY = 3156, 0.046

_FIRST: Final = 0.002  # epsilon of the first layer: it has 400 weights, and all later ones pay for its error
_LAST: Final = 0.02  # of the last, whose bound is kappa times what it inherits
_SETTINGS: Final[tuple[tuple[float, float], ...]] = ((0.05, 0.25), (0.045, 0.25), (0.0425, 0.25), (0.04, 0.3))
"""epsilon of the second layer, and kappa."""
_AT_ARMS: Final = (0.04, 0.3)  # where only the training points are fitted to
_DRAWN: Final = 5000  # points to fit to, and as many to choose on
_SEED: Final = 7


_HEADER: Final = (
    *("fitted to", "epsilon, kappa", "first", "second", "third", "weights left"),
    *("fitted points", "chosen on", "grid", "grid near the arms", "test points", "s"),
)


def grid() -> NDArray[np.float32]:
    """Points (n, 2) of a square grid within the unit disc."""
    line = np.linspace(-1, 1, _GRID, dtype=np.float32)
    points: NDArray[np.float32] = np.stack(np.meshgrid(line, line), axis=-1).reshape(-1, 2)
    within: NDArray[np.float32] = points[np.hypot(*points.T) <= 1]
    return within


def near_the_arms(points: NDArray[np.float32]) -> NDArray[np.float32]:
    """Those of some points where there may be data: within three times its noise of the spirals."""
    radius = np.linspace(0.1, 1, 2000)
    angle = np.pi * (4 * radius + np.array([[0], [1]]))
    arms = (radius * np.stack([np.cos(angle), np.sin(angle)])).reshape(2, -1).T
    away = np.array([np.min(np.hypot(*(arms - point).T)) for point in points])
    near: NDArray[np.float32] = points[away <= 3 * NOISE]
    return near


def drawn(seed: int, count: int) -> NDArray[np.float32]:
    """Points (count, 2) that lie evenly over the unit disc, by chance."""
    random = np.random.default_rng(seed)
    radius, angle = np.sqrt(random.random(count)), 2 * np.pi * random.random(count)
    points: NDArray[np.float32] = (radius * np.stack([np.cos(angle), np.sin(angle)])).T.astype(np.float32)
    return points


def spirals(asked: Request) -> dict[str, Any]:
    """The curve, and the chosen point of it."""
    with np.load(_POINTS) as file:
        train, test = file["train_points"], file["test_points"]
    rows = list(_over("the disc", drawn(_SEED, _DRAWN), test, _SETTINGS[-1:] if asked.short else _SETTINGS, asked))
    rows += _over("training points", train, test, (_AT_ARMS,), asked)
    chosen = _chosen(rows)
    lines = [_line(row, chosen) for row in rows]
    paper = ("-", "the paper", *_PAPER, sum(_PAPER), "-", "-", _BAR_DISCREPANCY, "-", "-", "-")
    print("\nNested spirals, 2-200-200-2, cascade")
    print(table(_HEADER, [*lines, paper]))
    met = chosen is not None and chosen["left"] <= _BAR_LEFT and chosen["grid"] <= _BAR_DISCREPANCY
    bar = f"bar {_BAR_LEFT:,} weights at {_BAR_DISCREPANCY} on the grid"
    print(f"{bar}, by the setting marked `*`: {asked.verdict(0 if met else 1, 0.5)}")
    paper_says = {"by_layer": _PAPER, "discrepancy": _BAR_DISCREPANCY}
    return {"rows": rows, "chosen": None if chosen is None else rows.index(chosen), "paper": paper_says}


def _over(
    where: str,
    points: NDArray[np.float32],
    test: NDArray[np.float32],
    settings: Iterable[tuple[float, float]],
    asked: Request,
) -> Iterator[dict[str, Any]]:
    """A row for each setting, fitted to some points."""
    samples = {
        "choice": held([{"input": drawn(_SEED + 1, _DRAWN)}], "to choose on"),
        "grid": held([{"input": grid()}], "the grid"),
        "near": held([{"input": near_the_arms(grid())}], "near the arms"),
        "test": held([{"input": test}], "test points"),
    }
    with Bench(_MODEL, one_each("input", points), [{"input": test}]) as bench:
        for setting in settings:
            asked.note(f"spirals: fitted to {where}, epsilon and kappa {setting}")
            yield {"fitted_to": where} | _tried(bench, setting, samples)


def _tried(bench: Bench, setting: tuple[float, float], samples: Mapping[str, Samples]) -> dict[str, Any]:
    """Weights left and discrepancies of one setting."""
    second, kappa = setting
    own: Own = {
        "fc1.weight": {"epsilon": str(_FIRST), "thin": False},
        "fc3.weight": {"epsilon": str(_LAST), "gamma": 1.0, "thin": False},
    }
    trimmed = bench.trim(NetTrim(epsilon=str(second), kappa=kappa, thin=True), layers=own)
    left = [nonzeros(trimmed.graph, [name])[name][0] for name in _WEIGHTS]
    seen = {"fitted": bench.on_fitted(trimmed.graph)}
    seen |= {name: bench.compare(trimmed.graph, held) for name, held in samples.items()}
    discrepancies = {name: verdict.outputs["logits"].relative_l2 for name, verdict in seen.items()}
    return {
        "epsilon": [_FIRST, second, _LAST],
        "kappa": kappa,
        "by_layer": left,
        "left": sum(left),
        **discrepancies,
        "seconds": trimmed.seconds,
        "skipped": trimmed.skipped,
    }


def _chosen(rows: list[dict[str, Any]]) -> dict[str, Any] | None:
    """By the points that settings are chosen on."""
    good = [row for row in rows if row["choice"] <= _BAR_DISCREPANCY]
    return min(good, key=lambda row: int(row["left"]), default=None)


def _line(row: Mapping[str, Any], chosen: Mapping[str, Any] | None) -> tuple[object, ...]:
    settings = ", ".join(f"{value:g}" for value in (*row["epsilon"], row["kappa"])) + (" *" if row is chosen else "")
    found = (f"{row[name]:.4f}" for name in ("fitted", "choice", "grid", "near", "test"))
    return (row["fitted_to"], settings, *row["by_layer"], row["left"], *found, f"{row['seconds']:.0f}")
