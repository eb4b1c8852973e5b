"""What passes are given of the sample inputs."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import pytest
from onnx import TensorProto, helper

from graphshrink import Context, Found, Graph, Pass, PassResult
from graphshrink.calibration.engine import Calibration
from graphshrink.calibration.rows import Wanted, along_last_axis
from graphshrink.calibration.samples import held
from graphshrink.compiler import Options, compile_with
from graphshrink.errors import UnfitError
from graphshrink.ir.types import Array, Feeds
from graphshrink.onnx_io.load import load
from graphshrink.onnx_io.runtime import Runtime
from graphshrink.verify import SampleRequest
from tests.models import model_of, normal, saved, two_layers


def feeds_of(count: int, *shape: int) -> list[Feeds]:
    return [{"x": normal(*(shape or (1, 32)), seed=seed)} for seed in range(count)]


def calibration_of(feeds: Sequence[Feeds], runtime: Runtime, memory: int = 1 << 30, seed: int = 0) -> Calibration:
    return Calibration(held(feeds, "made"), runtime, memory=memory, seed=seed)


def test_rows_of_a_layer(runtime: Runtime) -> None:
    graph = load(two_layers())
    wanted = [Wanted("in", ("x",)), Wanted("out", ("h",))]
    rows = calibration_of(feeds_of(20), runtime).rows(graph, wanted, 1000)
    weight = graph.constant("W1")
    assert weight is not None
    assert rows["in"].shape == (20, 32)
    assert np.array_equal(rows["in"], np.concatenate([feeds["x"] for feeds in feeds_of(20)]))
    np.testing.assert_allclose(rows["out"], rows["in"] @ weight.array, rtol=1e-4, atol=1e-4)


def test_rows_are_bounded_by_number_and_memory(runtime: Runtime) -> None:
    graph, feeds = load(two_layers()), feeds_of(50)
    wanted = [Wanted("in", ("x",), group="first"), Wanted("out", ("y",), group="last")]
    few = calibration_of(feeds, runtime).rows(graph, wanted, 12)
    assert (few["in"].shape, few["out"].shape) == ((12, 32), (12, 10))
    # A quarter of the memory is for rows, half of that for each group.
    small = calibration_of(feeds, runtime, memory=8 * 128 * 9).rows(graph, wanted, 1000)
    assert (small["in"].shape, small["out"].shape) == ((9, 32), (28, 10))


def test_groups_of_other_lengths(runtime: Runtime) -> None:
    def pairs(arrays: Sequence[Array]) -> Array:
        return arrays[0].reshape(-1, 2)

    def both(arrays: Sequence[Array]) -> Array:
        return np.concatenate([along_last_axis([array]) for array in arrays], axis=1)

    wanted = [Wanted("pairs", ("x",), pairs, "a"), Wanted("both", ("x", "y"), both, "b")]
    rows = calibration_of(feeds_of(10), runtime).rows(load(two_layers()), wanted, 64)
    assert (rows["pairs"].shape, rows["both"].shape) == ((64, 2), (10, 42))
    with pytest.raises(UnfitError):
        together = [Wanted("pairs", ("x",), pairs), Wanted("both", ("x", "y"), both)]
        calibration_of(feeds_of(10), runtime).rows(load(two_layers()), together, 64)


def test_the_sample_depends_on_the_seed_alone(runtime: Runtime) -> None:
    graph, feeds, wanted = load(two_layers()), feeds_of(60), [Wanted("in", ("x",))]
    first, again, other = (calibration_of(feeds, runtime, seed=s).rows(graph, wanted, 10)["in"] for s in (0, 0, 1))
    assert np.array_equal(first, again)
    assert not np.array_equal(first, other)


def test_inputs_of_a_recurrent_layer(runtime: Runtime) -> None:
    """Sequences of several lengths; the layer takes them as (length, batch, features)."""
    nodes = [
        helper.make_node("Transpose", ["x"], ["steps"], perm=[1, 0, 2]),
        helper.make_node("GRU", ["steps", "W", "R"], ["all", "last"], hidden_size=3),
        helper.make_node("Squeeze", ["last", "axis"], ["y"]),
    ]
    constants = {"W": normal(1, 9, 4), "R": normal(1, 9, 3), "axis": np.array([0])}
    graph = load(model_of(nodes, constants, {"x": ["n", "t", 4]}, {"y": ["n", 3]}))
    feeds: list[Feeds] = [{"x": normal(1, length, 4, seed=length + i)} for i, length in enumerate((5, 5, 5, 7, 2, 2))]
    rows = calibration_of(feeds, runtime).rows(graph, [Wanted("steps", ("steps",)), Wanted("all", ("all",))], 100)
    assert (rows["steps"].shape, rows["all"].shape) == ((26, 4), (26, 3))
    every = np.concatenate([sample["x"][0] for sample in feeds])
    assert np.array_equal(np.sort(rows["steps"], axis=0), np.sort(every, axis=0))  # in the order of steps, not samples


def test_several_inputs(runtime: Runtime) -> None:
    """One is ids, one a scalar that all samples share."""
    nodes = [
        helper.make_node("Gather", ["E", "ids"], ["e"]),
        helper.make_node("Mul", ["e", "scale"], ["h"]),
        helper.make_node("MatMul", ["h", "W"], ["y"]),
    ]
    constants = {"E": normal(9, 4), "W": normal(4, 2)}
    model = model_of(nodes, constants, {"ids": ["n", 3], "scale": []}, {"y": ["n", 3, 2]})
    model.graph.input[0].type.tensor_type.elem_type = TensorProto.INT64
    feeds: list[Feeds] = [{"ids": np.array([[i, 8 - i, i]]), "scale": np.array(2, np.float32)} for i in range(9)]
    found = calibration_of(feeds, runtime).rows(load(model), [Wanted("h", ("h",)), Wanted("ids", ("ids",), ids)], 100)
    assert np.array_equal(found["h"], 2 * constants["E"][found["ids"][:, 0].astype(int)])


def ids(arrays: Sequence[Array]) -> Array:
    return arrays[0].reshape(-1, 1)


def test_a_batch_axis_of_any_size(runtime: Runtime) -> None:
    feeds = [*feeds_of(3, 1, 32), *feeds_of(2, 4, 32), *feeds_of(1, 32, 32)]
    rows = calibration_of(feeds, runtime).rows(load(two_layers()), [Wanted("h", ("h",))], 1000)
    assert rows["h"].shape == (3 + 8 + 32, 64)


def test_a_model_of_one_fixed_batch(runtime: Runtime) -> None:
    model = two_layers()
    for info in (*model.graph.input, *model.graph.output):
        info.type.tensor_type.shape.dim[0].dim_value = 4
    rows = calibration_of(feeds_of(5, 4, 32), runtime).rows(load(model), [Wanted("h", ("h",))], 1000)
    assert rows["h"].shape == (20, 64)


# ---- in a compilation


@dataclass(frozen=True)
class Look(Pass):
    """Notes what it is given."""

    name: ClassVar[str] = "look"
    buys: ClassVar[str] = "nothing"
    calibrations: ClassVar[list[Calibration | None]] = []
    rows: ClassVar[list[Array]] = []

    def run(self, graph: Graph, context: Context) -> PassResult:
        Look.calibrations.append(context.calibration)
        if context.calibration is not None:
            Look.rows.append(context.calibration.rows(graph, [Wanted("x", ("x",))], 10_000)["x"])
        return PassResult({"W1": Found("looked at")})


def looked(path: Path, monkeypatch: pytest.MonkeyPatch, **options: Any) -> tuple[Calibration | None, Array | None]:
    """What a pass finds in a compilation."""
    monkeypatch.setattr(Look, "calibrations", [])
    monkeypatch.setattr(Look, "rows", [])
    compile_with(path, Options(passes=(Look(),), **options), lambda stage, done, total: None)
    [calibration] = Look.calibrations
    return calibration, Look.rows[0] if Look.rows else None


def test_a_pass_sees_the_samples_to_fit(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    samples = np.stack([normal(32, seed=seed) for seed in range(25)])
    request = SampleRequest({"x": samples})
    calibration, rows = looked(saved(two_layers(), tmp_path), monkeypatch, request=request)
    assert calibration is not None
    assert not calibration.random
    assert rows is not None
    assert np.array_equal(rows, np.delete(samples, range(4, 25, 5), axis=0))


def test_random_inputs_are_said_to_be_random(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    calibration, rows = looked(saved(two_layers(), tmp_path), monkeypatch)
    assert calibration is not None and calibration.random
    assert rows is not None and len(rows) == 10


def test_unverified_there_is_nothing_to_fit_to(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert looked(saved(two_layers(), tmp_path), monkeypatch, verify=False) == (None, None)
