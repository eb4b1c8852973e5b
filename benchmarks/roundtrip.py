"""Does every model survive? Loading and emission, `--passes none`, and weight-sharing, over all models at hand.

1. All models of `onnx.backend.test` (operator cases and model folders): `emit(load(m))` equals m; and where ONNX
   Runtime runs the case, `graphshrink.compile(m, "none")` with the case's own inputs gives equal outputs, bit for bit.
2. All corpus models (`benchmarks.fetch_models`) and testmodels: the same, and `weight-sharing{bits=4}` compiles,
   verifies on random inputs, and gives the same bytes when it is run on its own output.

Every failure is printed and stored with its message. `--short` takes every 40th case and the committed models, offline.
"""

import re
import tempfile
import time
import warnings
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import numpy as np
import onnx
from onnx.backend.test import loader

import graphshrink
from benchmarks.fetch_models import fetch
from benchmarks.measuring import ROOT, request, table
from graphshrink.calibration.random_inputs import random_samples
from graphshrink.errors import CalibrationError, JudgeError
from graphshrink.ir.types import Feeds
from graphshrink.onnx_io.runtime import Runtime

_FOLDERS: Final = ("simple", "pytorch-converted", "pytorch-operator")
_DATA: Final = Path(loader.DATA_DIR)
_SHORT_STEP: Final = 40

_STATUS: Final = re.compile(
    r"NotImplemented|InvalidGraph|InvalidArgument|RuntimeException|Fail\b|cannot be exchanged|ran out of \w+|crashed"
)

# Random inputs have 16 elements along open axes, which these networks refuse or answer with constants.
_SHAPES: Final[Mapping[str, dict[str, tuple[int, ...]]]] = {
    "ppocr_det": {"x": (1, 3, 96, 96)},
    "silero_vad_if": {"input": (1, 576), "state": (2, 1, 128)},
    "silero_vad_16k_op15": {"input": (1, 576)},
    "silero_vad_half": {"input": (1, 576)},
    "silero_vad_op18_ifless": {"input": (1, 576)},
    "swift_f0": {"audio": (1, 16_000)},
}

# Settings that are inputs. At random they choose the branch for 8 kHz, or a range of pitches that is empty.
_SETTINGS: Final[Mapping[str, Feeds]] = {
    "silero_vad_if": {"sr": np.array(16_000)},
    "swift_f0": {"fmin": np.array(46.875, np.float32), "fmax": np.array(2093.75, np.float32)},
}
_NO_BOUND: Final = 1e9


# ---- equality


_UNORDERED: Final = frozenset(
    {
        "attribute",
        "external_data",
        "functions",
        "initializer",
        "metadata_props",
        "opset_import",
        "quantization_annotation",
    }
    | {"sparse_initializer", "value_info"}
)


def canonical(model: onnx.ModelProto) -> bytes:
    """The model's bytes after sorting what ONNX leaves unordered."""
    copy = onnx.ModelProto()
    copy.CopyFrom(model)
    _sort(copy)
    return copy.SerializeToString(deterministic=True)


def _sort(message: Any) -> None:
    for descriptor, value in message.ListFields():
        if descriptor.message_type is None:
            continue
        items = list(value) if hasattr(value, "extend") else [value]
        for item in items:
            _sort(item)
        if descriptor.name in _UNORDERED and len(items) > 1:
            value.sort(key=_bytes)


def _bytes(message: Any) -> bytes:
    return bytes(message.SerializeToString(deterministic=True))


def survives(model: onnx.ModelProto, again: onnx.ModelProto) -> bool:
    """Whether two models are equal up to order."""
    same = model.SerializeToString(deterministic=True) == again.SerializeToString(deterministic=True)
    return same or canonical(model) == canonical(again)


def equal(a: Any, b: Any) -> bool:
    """Whether two outputs have the same type, shape and bits; lists and sequences element by element."""
    if isinstance(a, Mapping) and isinstance(b, Mapping):
        return a.keys() == b.keys() and all(equal(a[key], b[key]) for key in a)
    if isinstance(a, list | tuple) and isinstance(b, list | tuple):
        return len(a) == len(b) and all(map(equal, a, b))
    if not isinstance(a, np.ndarray) or not isinstance(b, np.ndarray):
        return bool(a == b)
    if a.dtype != b.dtype or a.shape != b.shape:
        return False
    return equal(a.tolist(), b.tolist()) if a.dtype == object else a.tobytes() == b.tobytes()


# ---- the cases of onnx.backend.test


@dataclass(frozen=True, slots=True)
class Case:
    """A model of onnx.backend.test, with its inputs by name; None where it comes without."""

    name: str
    model: onnx.ModelProto
    feeds: dict[str, Any] | None


@dataclass(slots=True)
class Tally:
    """What became of the cases."""

    counts: Counter[str] = field(default_factory=lambda: Counter[str]())
    failures: list[dict[str, str]] = field(default_factory=lambda: list[dict[str, str]]())
    unverified: dict[str, list[str]] = field(default_factory=lambda: dict[str, list[str]]())

    def fail(self, case: str, stage: str, message: str) -> None:
        """Note a failure."""
        self.failures.append({"model": case, "stage": stage, "message": message})
        print(f"FAILED {case}: {stage}: {message}", flush=True)


def cases(short: bool) -> Iterator[Case]:
    """All cases: operators first, then the model folders, then the light models (which have no data and no weights)."""
    step = _SHORT_STEP if short else 1
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # cases that overflow on purpose
        operators = loader.load_model_tests(kind="node")
    for test in operators[::step]:
        if test.model is not None:
            data = test.data_sets[0][0] if test.data_sets else None
            yield Case(test.name, test.model, _named(test.model, data))
    for folder in [
        folder for kind in _FOLDERS for folder in sorted((_DATA / kind).iterdir()) if (folder / "model.onnx").exists()
    ][::step]:
        model = onnx.load(folder / "model.onnx")
        yield Case(f"{folder.parent.name}/{folder.name}", model, _stored_feeds(model, folder / "test_data_set_0"))
    for path in sorted((_DATA / "light").glob("*.onnx"))[::step]:
        yield Case(f"light/{path.stem}", onnx.load(path), None)


def _named(model: onnx.ModelProto, values: Sequence[Any] | None) -> dict[str, Any] | None:
    """Inputs by name: values come in the order of the inputs, without initializers if there are fewer."""
    if values is None:
        return None
    constants = {tensor.name for tensor in model.graph.initializer}
    names = [info.name for info in model.graph.input]
    if len(values) < len(names):
        names = [name for name in names if name not in constants]
    return {name: _array(value) for name, value in zip(names, values, strict=False)}


def _array(value: Any) -> Any:
    """Types that NumPy lacks come as protobuf messages."""
    if isinstance(value, onnx.TensorProto):
        return onnx.numpy_helper.to_array(value)
    return [_array(item) for item in value] if isinstance(value, list) else value


def _stored_feeds(model: onnx.ModelProto, folder: Path) -> dict[str, Any] | None:
    files = [folder / f"input_{index}.pb" for index in range(len(list(folder.glob("input_*.pb"))))]
    tensors: list[Any] = []
    for file in files:
        tensor = onnx.TensorProto()
        tensor.ParseFromString(file.read_bytes())
        tensors.append(onnx.numpy_helper.to_array(tensor))
    return _named(model, tensors) if folder.is_dir() else None


def run_cases(short: bool) -> Tally:
    """Take every case through loading, emission and `--passes none`."""
    tally = Tally()
    with Runtime() as runtime, tempfile.TemporaryDirectory() as folder:
        for case in cases(short):
            tally.counts["models"] += 1
            try:
                _round_trip(case, tally)
                _pass_through(case, tally, runtime, Path(folder))
            except Exception as e:  # a bug, and the other cases are to be seen too
                tally.fail(case.name, "benchmark", f"{type(e).__name__}: {e}")
    return tally


def _round_trip(case: Case, tally: Tally) -> None:
    try:
        again = graphshrink.emit(graphshrink.load(case.model))
    except Exception as e:
        tally.fail(case.name, "load and emit", f"{type(e).__name__}: {e}")
        return
    if survives(case.model, again):
        tally.counts["emit(load(m)) equals m"] += 1
    else:
        tally.fail(case.name, "load and emit", "the model differs")


def _pass_through(case: Case, tally: Tally, runtime: Runtime, folder: Path) -> None:
    before, after = folder / "before.onnx", folder / "after.onnx"
    before.write_bytes(case.model.SerializeToString())
    if case.feeds is None:
        tally.counts["without data"] += 1
        return
    run = _runner(runtime, case.feeds)
    try:
        expected = run(before)
        repeatable = equal(expected, run(before))
    except Exception as e:
        tally.counts["refused by ONNX Runtime itself"] += 1
        tally.unverified.setdefault(f"ONNX Runtime: {_kind(e)}", []).append(case.name)
        return
    tally.counts["run by ONNX Runtime"] += 1
    if not repeatable:
        tally.counts["random by design, not comparable"] += 1
        tally.unverified.setdefault("not repeatable", []).append(case.name)
        return
    try:
        compiled = _compiled(case, tally)
        compiled.save(after)
    except Exception as e:
        tally.fail(case.name, "--passes none", f"{type(e).__name__}: {e}")
        return
    try:
        same = equal(expected, run(after))
    except Exception as e:
        tally.fail(case.name, "--passes none", f"the result does not run: {e}")
        return
    if same:
        tally.counts["--passes none gives equal outputs"] += 1
    else:
        tally.fail(case.name, "--passes none", "the outputs differ")


def _compiled(case: Case, tally: Tally) -> graphshrink.Compiled:
    """Compile with the case's own inputs; where graphshrink cannot take them, unverified, and the reason is noted."""
    try:
        compiled = graphshrink.compile(case.model, "none", calibration=[case.feeds or {}], max_error=0.0)
    except (CalibrationError, JudgeError) as e:
        tally.unverified.setdefault(f"{type(e).__name__}: {_reason(e)}", []).append(case.name)
        return graphshrink.compile(case.model, "none", verify=False)
    tally.counts["verified by graphshrink on the case's inputs"] += 1
    return compiled


def _reason(error: Exception) -> str:
    """A message without the names and numbers of the case."""
    return str(error).rpartition("': ")[2] if "': " in str(error) else str(error).partition(": ")[2]


def _kind(error: Exception) -> str:
    """What kind of refusal it is."""
    found = _STATUS.search(f"{type(error).__name__} {error}")
    return found[0] if found else f"{type(error).__name__}: {str(error)[:80]}"


class _Plain:
    """Runs a model with feeds that graphshrink's worker does not take (sequences, empty optionals), in this process."""

    def __init__(self, feeds: Mapping[str, Any]) -> None:
        self._feeds = dict(feeds)

    def __call__(self, path: Path) -> Any:
        import onnxruntime as ort

        options: Any = ort.SessionOptions()  # pyright: ignore[reportUnknownMemberType, reportUnknownVariableType]
        options.log_severity_level = 4
        options.intra_op_num_threads = 1
        session: Any = ort.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
        return session.run(None, self._feeds)


class _InWorker:
    """Runs a model in graphshrink's worker."""

    def __init__(self, runtime: Runtime, feeds: Mapping[str, Any]) -> None:
        self._runtime, self._feeds = runtime, feeds

    def __call__(self, path: Path) -> Any:
        with self._runtime.open(path) as session:
            return session.run(self._feeds)


def _runner(runtime: Runtime, feeds: Mapping[str, Any]) -> _Plain | _InWorker:
    tensors = all(isinstance(value, np.ndarray | np.generic) for value in feeds.values())
    return _InWorker(runtime, feeds) if tensors else _Plain(feeds)


# ---- real models


def real_models(short: bool) -> dict[str, Path]:
    """The committed models, and the corpus unless it is to be short."""
    committed = {path.stem: path for path in sorted((ROOT / "testmodels").glob("*.onnx"))}
    return committed if short else committed | fetch()


def examine(name: str, path: Path, tally: Tally) -> dict[str, Any]:
    """One real model through all three questions."""
    row: dict[str, Any] = {"model": name, "bytes": path.stat().st_size, "shapes": _SHAPES.get(name)}
    model = onnx.load(path)
    row["round_trip"] = survives(model, graphshrink.emit(graphshrink.load(path)))
    if not row["round_trip"]:
        tally.fail(name, "load and emit", "the model differs")
    options = _inputs(name, path)
    exactly: dict[str, Any] = {**options, "max_error": 0.0}
    with tempfile.TemporaryDirectory() as folder:
        once, twice = Path(folder, "once.onnx"), Path(folder, "twice.onnx")
        try:
            unchanged = graphshrink.compile(path, "none", **exactly)
            row["none_error"] = unchanged.report["verification"]["held_out"]["error"]
        except Exception as e:  # a bug too: the other models are to be seen
            tally.fail(name, "--passes none", f"{type(e).__name__}: {e}")
        try:
            started = time.perf_counter()
            shared = graphshrink.compile(path, "weight-sharing{bits=4}", **options)
            row["seconds"] = round(time.perf_counter() - started, 2)
            shared.save(once)
        except Exception as e:  # a bug too: the other models are to be seen
            tally.fail(name, "weight-sharing", f"{type(e).__name__}: {e}")
            return row
        row |= _figures(shared.report)
        try:
            graphshrink.compile(once, "weight-sharing{bits=4}", **options).save(twice)
            row["same_bytes_again"] = once.read_bytes() == twice.read_bytes()
        except Exception as e:  # a bug too: the other models are to be seen
            tally.fail(name, "weight-sharing again", f"{type(e).__name__}: {e}")
        else:
            if not row["same_bytes_again"]:
                tally.fail(
                    name,
                    "weight-sharing again",
                    f"{once.stat().st_size} bytes became {twice.stat().st_size}, or others",
                )
    return row


def _inputs(name: str, path: Path) -> dict[str, Any]:
    """Options of `compile` that give the model inputs on which it can be judged."""
    shapes, settings = _SHAPES.get(name), _SETTINGS.get(name)
    if settings is None:
        return {"input_shapes": shapes}
    with Runtime() as runtime, runtime.open(path) as session:
        samples = random_samples(session.inputs, count=10, shapes=shapes)
    return {"calibration": [{**feeds, **settings} for feeds in samples], "max_error": _NO_BOUND}


def _figures(report: Mapping[str, Any]) -> dict[str, Any]:
    before, after, (step,) = report["input"], report["output"], report["passes"]
    sizes = {layer["label"]: layer["plain_bytes"] for layer in report["layers"]}
    skipped: Counter[str] = Counter()
    for label, outcome in step["layers"].items():
        if "reason" in outcome:
            skipped[outcome["reason"]] += sizes.get(label, 0)
    total = sum(sizes.values())
    return {
        "bytes_after": after["bytes"],
        "ratio": round(before["bytes"] / after["bytes"], 3),
        "gzip_bytes": before["gzip_bytes"],
        "gzip_bytes_after": after["gzip_bytes"],
        "gzip_ratio": round(before["gzip_bytes"] / after["gzip_bytes"], 3),
        "error": report["verification"]["held_out"]["error"],
        "weight_bytes": total,
        "skipped_share": round(sum(skipped.values()) / total, 4) if total else 0.0,
        "skipped_bytes": dict(skipped.most_common()),
        "missed": report["missed"],
    }


def _real_rows(rows: Sequence[Mapping[str, Any]]) -> Iterator[tuple[object, ...]]:
    for row in rows:
        reasons = "; ".join(f"{reason} {size}" for reason, size in list(row.get("skipped_bytes", {}).items())[:2])
        keys = (
            "bytes",
            "bytes_after",
            "ratio",
            "gzip_ratio",
            "seconds",
            "error",
            "none_error",
            "same_bytes_again",
            "skipped_share",
        )
        yield (row["model"], row["round_trip"], *(_shown(row.get(key)) for key in keys), reasons)


def _shown(value: object) -> object:
    if value is None:
        return "-"
    return f"{value:.3g}" if isinstance(value, float) else value


def main() -> None:
    """Run, print and store."""
    asked = request("roundtrip", __doc__)
    started = time.perf_counter()
    tally = run_cases(asked.short)
    print(table(("cases of onnx.backend.test", "count"), tally.counts.items()))
    reasons = {
        reason: sorted(names) for reason, names in sorted(tally.unverified.items(), key=lambda item: -len(item[1]))
    }
    if reasons:
        print(
            table(
                ("not verified by graphshrink, because", "cases", "for example"),
                ((r[:90], len(n), n[0]) for r, n in reasons.items()),
            )
        )
    rows = [examine(name, path, tally) for name, path in real_models(asked.short).items()]
    header = (
        "model",
        "round trip",
        "bytes",
        "after",
        "ratio",
        "gzip ratio",
        "s",
        "error",
        "none",
        "again",
        "skipped",
        "skipped weights, bytes",
    )
    print(table(header, _real_rows(rows)))
    print(f"{len(tally.failures)} failures; {time.perf_counter() - started:.0f} s")
    asked.save({"cases": dict(tally.counts), "unverified": reasons, "models": rows, "failures": tally.failures})


if __name__ == "__main__":
    main()
