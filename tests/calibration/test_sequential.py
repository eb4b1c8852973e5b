"""Two models beside each other, layer by layer."""

from collections.abc import Generator, Iterable, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from hypothesis import given, settings
from onnx import TensorProto, helper, numpy_helper

from graphshrink.calibration import frontier
from graphshrink.calibration.batches import Batches, batches_of
from graphshrink.calibration.kept import Column
from graphshrink.calibration.rows import Wanted
from graphshrink.calibration.samples import Indexed, held
from graphshrink.calibration.sequential import Asked, Sequential
from graphshrink.errors import CalibrationError, JudgeError
from graphshrink.ir import edit
from graphshrink.ir.extract import dynamic_operators
from graphshrink.ir.graph import Graph
from graphshrink.ir.operator import attributes_of
from graphshrink.ir.tensor import tensor_of
from graphshrink.ir.types import Array, Feeds
from graphshrink.onnx_io.emit import emit
from graphshrink.onnx_io.load import load
from graphshrink.onnx_io.runtime import Runtime
from graphshrink.onnx_io.temporary import written
from tests.models import TESTMODELS, model_of, normal, two_layers
from tests.runners import inner_values
from tests.strategies import WIDTH, models


def feeds_of(count: int, width: int = 32) -> list[Feeds]:
    return [{"x": normal(1, width, seed=seed)} for seed in range(count)]


@contextmanager
def sequence(
    graph: Graph, feeds: Sequence[Feeds], runtime: Runtime, most: int = 2, coming: Iterable[Asked] = ()
) -> Generator[Sequential]:
    stacked = frozenset(name for name, array in feeds[0].items() if array.ndim > 0)
    batches = Batches(held(feeds, "made"), most, stacked)
    with Sequential(graph, batches, runtime, memory=1 << 20, coming=coming) as sequential:
        yield sequential


def joined(
    sequential: Sequential, reference: list[str], current: list[str]
) -> tuple[dict[str, Array], dict[str, Array]]:
    batches = list(sequential.batches(reference, current))
    return (
        {name: np.concatenate([both.reference[name] for both in batches]) for name in reference},
        {name: np.concatenate([both.current[name] for both in batches]) for name in current},
    )


def whole(graph: Graph, feeds: Sequence[Feeds], names: list[str]) -> dict[str, Array]:
    """The same values in one run from the start, one sample after the other."""
    inner = [name for name in names if name not in feeds[0]]
    runs = [{**sample, **(inner_values(emit(graph), sample, inner) if inner else {})} for sample in feeds]
    return {name: np.concatenate([values[name] for values in runs]) for name in names}


def expect_close(found: dict[str, Array], expected: dict[str, Array]) -> None:
    assert found.keys() == expected.keys()
    for name, array in expected.items():
        scale = max(1.0, float(abs(array).max(initial=0)))  # kernels for more rows add in another order
        np.testing.assert_allclose(found[name], array, rtol=1e-4, atol=1e-4 * scale, err_msg=name)


def shrink(graph: Graph, name: str, factor: float = 0.5) -> None:
    tensor = graph.constant(name)
    assert tensor is not None
    edit.set_constant(graph, name, tensor.with_array(tensor.array * np.float32(factor)))


def test_each_layer_sees_the_changed_ones_before_it(runtime: Runtime) -> None:
    graph, feeds = load(two_layers()), feeds_of(5)
    original = graph.copy()
    with sequence(graph, feeds, runtime) as sequential:
        first = joined(sequential, ["x", "h"], ["x"])
        expect_close(first[0], whole(original, feeds, ["x", "h"]))
        shrink(graph, "W1")
        reference, current = joined(sequential, ["a", "y"], ["a"])
        expect_close(reference, whole(original, feeds, ["a", "y"]))
        expect_close(current, whole(graph, feeds, ["a"]))
        assert not np.allclose(reference["a"], current["a"])
        shrink(graph, "W2")
        expect_close(joined(sequential, [], ["y"])[1], whole(graph, feeds, ["y"]))
        assert sequential.forward_passes == 2.0


@given(models(runnable=True))
@settings(max_examples=25)
def test_any_model_changed_as_it_runs(runtime: Runtime, model: onnx.ModelProto) -> None:
    """Every value in turn, while weights change behind it, before it, and in bodies and functions."""
    graph = load(model)
    original = graph.copy()
    feeds: list[Feeds] = [{"x": normal(2, WIDTH, seed=seed), "flag": np.array(seed == 2)} for seed in range(4)]
    numbers = dynamic_operators(graph)
    names = [name for number, operator in graph.operators() if number in numbers for name in operator.outputs]
    initializers = [v.name for v in graph.initializers() if len(getattr(v.constant, "dims", ())) == 2]
    with sequence(graph, feeds, runtime) as sequential:
        for step, name in enumerate(names):
            reference, current = joined(sequential, [name], [name])
            expect_close(reference, whole(original, feeds, [name]))
            expect_close(current, whole(graph, feeds, [name]))
            if initializers and graph.constant(initializers[step % len(initializers)]) is not None:
                shrink(graph, initializers[step % len(initializers)], 0.9)


def residual() -> onnx.ModelProto:
    """Conv -> Conv -> Conv -> Add(Conv of c0) -> Relu, as where a ResNet halves its images; the skip comes last."""
    nodes = [
        helper.make_node("Conv", ["x", "K0"], ["c0"]),
        helper.make_node("Conv", ["c0", "K1"], ["c1"]),
        helper.make_node("Conv", ["c1", "K2"], ["c2"]),
        helper.make_node("Conv", ["c0", "K3"], ["skip"]),
        helper.make_node("Add", ["c2", "skip"], ["sum"]),
        helper.make_node("Relu", ["sum"], ["y"]),
    ]
    constants = {f"K{seed}": normal(4, 4, 1, 1, seed=seed) for seed in range(4)}
    return model_of(nodes, constants, {"x": ["n", 4, 5, 5]}, {"y": ["n", 4, 5, 5]})


LOOKING_AHEAD = {
    "K0": (["c0"], ["x"]),
    "K1": (["c1"], ["c0"]),
    "K2": (["sum"], ["c1", "skip"]),
    "K3": (["c0", "skip"], ["c0"]),
}


@pytest.mark.parametrize(("announced", "cost"), [(True, 2 + 1 / 6), (False, 2 + 4 / 6)])
def test_a_skip_that_ran_too_early_runs_again(announced: bool, cost: float, runtime: Runtime) -> None:
    """The second layer looks at the skip before the third has changed it; what comes after sees the change."""
    graph = load(residual())
    original = graph.copy()
    feeds: list[Feeds] = [{"x": normal(1, 4, 5, 5, seed=seed)} for seed in range(3)]
    coming = LOOKING_AHEAD.values() if announced else ()
    with sequence(graph, feeds, runtime, coming=coming) as sequential:
        for weight, (reference, current) in LOOKING_AHEAD.items():
            found = joined(sequential, reference, current)
            expect_close(found[0], whole(original, feeds, reference))
            expect_close(found[1], whole(graph, feeds, current))
            shrink(graph, weight)
        expect_close(joined(sequential, ["y"], ["y"])[1], whole(graph, feeds, ["y"]))
        assert sequential.forward_passes == pytest.approx(cost)


def test_operators_may_be_replaced_on_the_way(runtime: Runtime) -> None:
    graph, feeds = load(two_layers()), feeds_of(3)
    with sequence(graph, feeds, runtime) as sequential:
        joined(sequential, ["a"], ["a"])
        relu = graph.operator(1)
        edit.remove_operators(graph, [1])
        edit.add_operator(graph, type(relu)("LeakyRelu", relu.inputs, relu.outputs, attributes_of(alpha=0.5)), 1)
        expect_close(joined(sequential, [], ["a"])[1], whole(graph, feeds, ["a"]))
        edit.replace_operator(graph, 0, type(relu)("MatMul", ("x", "W1"), ("other",)))
        edit.add_operator(graph, type(relu)("Neg", ("other",), ("h",)), 1)
        expect_close(joined(sequential, ["y"], ["y"])[1], whole(graph, feeds, ["y"]))


def test_a_weight_in_a_body_counts(runtime: Runtime) -> None:
    inner = helper.make_node("MatMul", ["x", "W"], ["inside"])
    infos = [helper.make_tensor_value_info("inside", TensorProto.FLOAT, None)]
    branch = helper.make_graph([inner], "branch", [], infos, [numpy_helper.from_array(normal(2, 2), "W")])
    other = helper.make_graph([helper.make_node("Neg", ["x"], ["inside"])], "other", [], infos)
    node = helper.make_node("If", ["c"], ["y"], then_branch=branch, else_branch=other)
    graph = load(model_of([node], {"c": np.array(True)}, {"x": ["n", 2]}, {"y": ["n", 2]}))
    feeds = feeds_of(2, 2)
    with sequence(graph, feeds, runtime) as sequential:
        joined(sequential, ["y"], ["y"])
        body = dict(graph.operator(0).subgraphs())["then_branch"]
        shrink(body, "W")
        reference, current = joined(sequential, ["y"], ["y"])
        np.testing.assert_allclose(current["y"], reference["y"] / 2, rtol=1e-6)


def test_values_asked_for_again_are_not_computed_again(runtime: Runtime) -> None:
    graph, feeds = load(two_layers()), feeds_of(3)
    with sequence(graph, feeds, runtime) as sequential:
        first = joined(sequential, ["h", "y"], ["y"])
        assert all(
            np.array_equal(a[n], b[n])
            for a, b in zip(first, joined(sequential, ["h", "y"], ["y"]), strict=True)
            for n in a
        )
        assert sequential.forward_passes == 2.0


def test_samples_are_read_only_where_a_part_needs_them(runtime: Runtime) -> None:
    reads: list[int] = []
    feeds = feeds_of(5)

    def read(index: int) -> Feeds:
        reads.append(index)
        return feeds[index]

    graph = load(two_layers())
    batches = Batches(Indexed(5, read, "counted"), 2, frozenset({"x"}))
    with Sequential(graph, batches, runtime, memory=1 << 20) as sequential:
        for values, count in ((["h"], 5), (["h"], 0), (["a"], 0), (["y", "x"], 5), (["y"], 0)):
            reads.clear()
            expect_close(joined(sequential, values, values)[1], whole(graph, feeds, values))
            assert len(reads) == count


def test_a_value_that_is_gone_is_computed_again(runtime: Runtime) -> None:
    graph, feeds = load(two_layers()), feeds_of(3)
    with sequence(graph, feeds, runtime) as sequential:
        joined(sequential, ["y"], [])
        expect_close(joined(sequential, ["h"], [])[0], whole(graph, feeds, ["h"]))


def test_a_loop_that_is_left_early_leaves_nothing(runtime: Runtime) -> None:
    graph, feeds = load(two_layers()), feeds_of(6)
    with sequence(graph, feeds, runtime) as sequential:
        for _ in sequential.batches(["h"], ["h"]):
            break
        assert sequential.forward_passes == 0
        expect_close(joined(sequential, ["y"], ["a"])[1], whole(graph, feeds, ["a"]))


def test_a_part_that_does_not_run_leaves_the_rest(runtime: Runtime) -> None:
    graph, feeds = load(two_layers()), feeds_of(4)
    with sequence(graph, feeds, runtime) as sequential:
        joined(sequential, ["h"], ["h"])
        expected = whole(graph, feeds, ["a"])
        edit.set_constant(graph, "W2", tensor_of(normal(3, 5)))
        with pytest.raises(JudgeError):
            joined(sequential, ["y"], ["y"])
        expect_close(joined(sequential, ["a"], ["a"])[1], expected)


def test_what_is_kept_is_removed(runtime: Runtime, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    graph, feeds = load(two_layers()), feeds_of(4)
    with sequence(graph, feeds, runtime) as sequential:
        joined(sequential, ["h"], ["h"])
        kept = sum(path.stat().st_size for path in tmp_path.rglob("*") if path.is_file())
        assert kept == 2 * 4 * 64 * 4  # h of 4 samples, of both
        joined(sequential, ["y"], ["y"])
        assert sum(path.stat().st_size for path in tmp_path.rglob("*") if path.is_file()) == 2 * 4 * 10 * 4
    assert not list(tmp_path.iterdir())


def test_a_full_disk_is_said_in_one_line(runtime: Runtime, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: Any) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("pathlib.Path.open", full)
    column = Column(Path("nowhere"))
    with pytest.raises(CalibrationError, match="No space left"):
        column.append(normal(3))


def test_lists_and_text_between_parts(runtime: Runtime) -> None:
    """What cannot be fed to a part is made again from what can."""
    nodes = [
        helper.make_node("Relu", ["x"], ["r"]),
        helper.make_node("SplitToSequence", ["r"], ["list"], axis=1),
        helper.make_node("Cast", ["r"], ["text"], to=TensorProto.STRING),
        helper.make_node("SequenceAt", ["list", "one"], ["h"]),
        helper.make_node("Cast", ["text"], ["back"], to=TensorProto.FLOAT),
        helper.make_node("Add", ["h", "back"], ["y"]),
    ]
    graph = load(model_of(nodes, {"one": np.array(1)}, {"x": ["n", 4]}, {"y": ["n", 4]}))
    feeds = feeds_of(3, 4)
    with sequence(graph, feeds, runtime, most=1) as sequential:
        for name in ("r", "h", "back", "y"):
            expect_close(joined(sequential, [name], [name])[1], whole(graph, feeds, [name]))


def test_one_of_two_results_is_gone(runtime: Runtime) -> None:
    nodes = [
        helper.make_node("Split", ["x"], ["left", "right"], axis=1),
        helper.make_node("Relu", ["left"], ["h"]),
        helper.make_node("Add", ["h", "right"], ["y"]),
    ]
    graph, feeds = load(model_of(nodes, {}, {"x": ["n", 4]}, {"y": ["n", 2]})), feeds_of(3, 4)
    with sequence(graph, feeds, runtime) as sequential:
        for name in ("h", "left", "right", "y", "left"):
            expect_close(joined(sequential, [name], [name])[1], whole(graph, feeds, [name]))


def test_rows_of_both_models_at_the_same_positions(runtime: Runtime) -> None:
    graph, feeds = load(two_layers()), feeds_of(40)
    with sequence(graph, feeds, runtime, most=7) as sequential:
        rows = sequential.rows([Wanted("x", ("x",)), Wanted("target", ("h",))], [Wanted("now", ("x",))], 16)
    assert [rows[key].shape for key in ("x", "target", "now")] == [(16, 32), (16, 64), (16, 32)]
    assert np.array_equal(rows["x"], rows["now"])
    weight = graph.constant("W1")
    assert weight is not None
    np.testing.assert_allclose(rows["x"] @ weight.array, rows["target"], rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("name", ["lenet-5", "resnet-20", "depthwise", "transformer", "lstm"])
def test_all_layers_cost_two_runs(name: str, runtime: Runtime, monkeypatch: pytest.MonkeyPatch) -> None:
    """Operators are counted in the parts that are opened; the bar is 3 for both models together."""
    opened: list[int] = []

    def counted(part: Graph) -> Any:
        opened.append(len(dynamic_operators(part)))
        return written(part)

    monkeypatch.setattr(frontier, "written", counted)
    graph = load(TESTMODELS / f"{name}.onnx")
    [info] = graph.inputs
    random = np.random.default_rng(0)
    shape = [dim if isinstance(dim, int) else 1 for dim in info.dims or ()]
    feeds = [random.integers(0, 27, shape) if info.name == "letters" else normal(*shape, seed=i) for i in range(6)]
    samples = held([{info.name: array} for array in feeds], "made")
    dynamic = dynamic_operators(graph)
    kinds = ("Conv", "Gemm", "MatMul", "LSTM")
    layers = [operator for number, operator in graph.operators() if number in dynamic and operator.is_a(*kinds)]
    with Sequential(graph, batches_of(graph, samples, runtime), runtime, memory=1 << 20) as sequential:
        for layer in layers:
            output = next(filter(None, layer.outputs))
            assert list(sequential.batches([layer.inputs[0], output], [layer.inputs[0]]))
            if graph.constant(layer.inputs[1]) is not None:
                shrink(graph, layer.inputs[1], 0.99)
        assert sum(opened) / len(dynamic) == sequential.forward_passes
        assert 1 < sequential.forward_passes <= 2
