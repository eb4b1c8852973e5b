"""How long ONNX Runtime takes to load encoded weights, how much memory, and what it has left to run."""

import statistics
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import asdict
from functools import partial
from itertools import product
from pathlib import Path
from typing import Any, Final

import numpy as np
import onnx

from benchmarks.encodings.samples import Setting, draw, encoded, matmul, reference
from benchmarks.encodings.session import open_session
from benchmarks.measuring import Request, in_fresh_process, spread, table
from graphshrink.encodings import Policy
from graphshrink.metrics.latency import Latency, Timer, compare_latency, interleaved, median_ratio
from graphshrink.onnx_io.runtime import Runtime, Session

_SIZES: Final = (4_000_000, 32_000_000)
_SETTINGS: Final = tuple(
    Setting(n, density, values) for n, (density, values) in product(_SIZES, ((1, 16), (0.1, 16), (1, 64), (0.1, 64)))
)
_SETTINGS_SHORT: Final = (Setting(65_536, 1, 16),)
_ROUNDS, _ROUNDS_SHORT = 7, 1

_POLICIES: Final[tuple[Policy, ...]] = ("fast", "small")
# What each may take: time at load against the reference, and bytes a weight beyond plain.
_BARS: Final[Mapping[str, tuple[float, float]]] = {"fast": (1.0, 8), "small": (3.0, 16)}


def write_models(setting: Setting, folder: Path) -> dict[str, Path]:
    """The same MatMul with its weight stored in each way."""
    weight = draw(setting).weight
    plain = matmul(weight)
    made: dict[str, onnx.ModelProto] = {"plain": plain, "reference": reference(weight)}
    made |= {policy: encoded(plain, policy)[0] for policy in _POLICIES}
    paths: dict[str, Path] = {}
    for name, model in made.items():
        paths[name] = folder / f"{name}.onnx"
        paths[name].write_bytes(model.SerializeToString())
    return paths


def examine(setting: Setting, folder: Path, rounds: int) -> dict[str, Any]:
    """All ways to store one weight."""
    paths = write_models(setting, folder)
    first = folder / "first.onnx"
    first.write_bytes(matmul(np.ones((2, 2), np.float32)).SerializeToString())
    peaks: dict[str, list[float]] = {name: [] for name in paths}

    def load(name: str) -> float:
        found, _ = in_fresh_process(open_session, path=str(paths[name]), first=str(first))
        peaks[name].append(found["resident_bytes"])
        return float(found["seconds"])

    seconds = interleaved({name: partial(load, name) for name in paths}, rounds)
    resident = {name: statistics.median(peak) for name, peak in peaks.items()}
    return {
        **setting._asdict(),
        "bytes": {name: path.stat().st_size for name, path in paths.items()},
        "seconds": seconds,
        "to_reference": {name: median_ratio(each, seconds["reference"]) for name, each in seconds.items()},
        "resident_bytes": resident,
        "bytes_a_weight_beyond_plain": {
            name: (size - resident["plain"]) / setting.n for name, size in resident.items()
        },
        "loaded": after_loading(paths),
    }


def after_loading(paths: Mapping[str, Path]) -> dict[str, Any]:
    """Operators left, outputs and latency of each policy beside the plain model's, one thread."""
    with Runtime(threads=1) as runtime, ExitStack() as stack:
        plain, again = (stack.enter_context(runtime.open(paths["plain"])) for _ in range(2))
        feeds = {"x": np.random.default_rng(0).standard_normal((1, _channels(plain)), np.float32)}
        expected = plain.run(feeds)
        found: dict[str, Any] = {}
        for policy in _POLICIES:
            with runtime.open(paths[policy]) as session:
                latency = compare_latency(*(_timer(each, feeds) for each in (plain, again, session)))
                found[policy] = {
                    "same_operators": session.operator_counts() == plain.operator_counts(),
                    "same_outputs": np.array_equal(session.run(feeds)["y"], expected["y"]),
                    "latency": asdict(latency),
                    "slower": latency.slower,
                }
        return found


def _channels(session: Session) -> int:
    shape = session.inputs[0].shape
    assert shape is not None
    assert isinstance(shape[-1], int)
    return shape[-1]


def _timer(session: Session, feeds: Mapping[str, Any]) -> Timer:
    return lambda runs: session.time(feeds, runs)


def loading(asked: Request) -> list[dict[str, Any]]:
    """All settings."""
    rows: list[dict[str, Any]] = []
    for setting in _SETTINGS_SHORT if asked.short else _SETTINGS:
        asked.note(f"loading {setting.text}")
        with tempfile.TemporaryDirectory(prefix="graphshrink-encodings-") as folder:
            rows.append(examine(setting, Path(folder), _ROUNDS_SHORT if asked.short else _ROUNDS))
    print("\nCreating a session, one thread, a process each; the reference is Cast + Gather of one index a weight")
    header = ["weights", "stored", "MB", "seconds", "to reference", "bar", ""]
    header += ["peak MB", "bytes a weight beyond plain", "bar", ""]
    print(table(header, [line for row in rows for line in _loads(asked, row)]))
    print("\nOnce loaded, beside the plain model")
    header = ["weights", "stored", "operators", "outputs", "latency", "plain to itself", ""]
    print(table(header, [line for row in rows for line in _loaded(asked, row)]))
    return rows


def _setting(row: Mapping[str, Any]) -> str:
    return Setting(row["n"], row["density"], row["values"]).text


def _loads(asked: Request, row: Mapping[str, Any]) -> Iterator[Sequence[object]]:
    for name, seconds in row["seconds"].items():
        ratio, beyond = row["to_reference"][name], row["bytes_a_weight_beyond_plain"][name]
        judged = [("", "")] * 2
        if name in _BARS:
            bars = zip((ratio, beyond), _BARS[name], strict=True)
            judged = [(f"{bar:g}", asked.verdict(value, bar)) for value, bar in bars]
        yield (
            *(_setting(row), name, f"{row['bytes'][name] / 1e6:.3f}", spread(seconds), f"{ratio:.2f}", *judged[0]),
            *(f"{row['resident_bytes'][name] / 1e6:.0f}", f"{beyond:.2f}", *judged[1]),
        )


def _loaded(asked: Request, row: Mapping[str, Any]) -> Iterator[Sequence[object]]:
    for policy, found in row["loaded"].items():
        latency = Latency(**found["latency"])
        low, high = latency.spread
        yield (
            *(_setting(row), policy),
            "same" if found["same_operators"] else "OTHER",
            "same" if found["same_outputs"] else "OTHER",
            *(f"{latency.ratio:.3f}", f"{latency.plain:.3f} ({low:.3f}-{high:.3f})"),
            asked.verdict(latency.ratio, max(1.0, high)),
        )
