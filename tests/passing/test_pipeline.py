"""The manager, with passes that misbehave."""

from collections.abc import Generator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import ClassVar, Self

import numpy as np
import pytest

from graphshrink.calibration.samples import held
from graphshrink.errors import InternalError
from graphshrink.ir import edit
from graphshrink.ir.compare import difference
from graphshrink.ir.graph import Graph
from graphshrink.ir.tensor import tensor_of
from graphshrink.ir.weight import weights
from graphshrink.onnx_io.load import load
from graphshrink.onnx_io.runtime import Runtime
from graphshrink.passing.base import Changed, Context, Pass, PassResult, Selection, Skipped
from graphshrink.passing.judge import Judge
from graphshrink.passing.pipeline import missed, run_passes
from graphshrink.verify import Original
from tests.models import normal, saved, two_layers


@dataclass(frozen=True)
class Scale(Pass):
    """Multiply every weight by 1 + amount."""

    name: ClassVar[str] = "scale"
    buys: ClassVar[str] = "nothing"
    amount: float = 0.5

    def gentler(self) -> Self | None:
        return replace(self, amount=self.amount / 4) if self.amount > 0.01 else None

    def run(self, graph: Graph, context: Context) -> PassResult:
        layers, result = context.layers(graph, self)
        for weight, settings in layers:
            scaled = (weight.array * (1 + settings.amount)).astype(np.float32)
            edit.set_constant(weight.graph, weight.name, weight.tensor.with_array(scaled))
            result.layers[weight.label] = Changed(f"by {settings.amount}", settings.amount)
        return result


@dataclass(frozen=True)
class Spoil(Pass):
    """Give the second layer a shape that cannot run."""

    name: ClassVar[str] = "spoil"
    buys: ClassVar[str] = "nothing"

    def run(self, graph: Graph, context: Context) -> PassResult:
        edit.set_constant(graph, "W2", tensor_of(normal(3, 5)))
        return PassResult({"W2": Changed("spoiled", 1.0)})


@dataclass(frozen=True)
class Break(Pass):
    """Leave a value without a producer."""

    name: ClassVar[str] = "break"
    buys: ClassVar[str] = "nothing"

    def run(self, graph: Graph, context: Context) -> PassResult:
        edit.remove_operators(graph, [graph.order[0]])
        return PassResult()


@dataclass(frozen=True)
class Nothing(Pass):
    """Find nothing to do."""

    name: ClassVar[str] = "nothing"
    buys: ClassVar[str] = "nothing"

    def run(self, graph: Graph, context: Context) -> PassResult:
        return PassResult({"W1": Skipped("too round")})


@pytest.fixture
def original(tmp_path: Path) -> Generator[Original]:
    with Runtime() as runtime, Original(runtime, saved(two_layers(), tmp_path)) as opened:
        yield opened


def judge_of(original: Original, bound: float | None) -> Judge:
    samples = held([{"x": normal(2, 32, seed=seed)} for seed in range(4)], "four")
    return Judge(original, samples, samples, bound)


def arrays(graph: Graph) -> dict[str, np.ndarray]:
    return {weight.label: weight.array for weight in weights(graph)}


def test_a_pass_within_the_bound_stays_and_the_input_graph_is_not_changed(original: Original) -> None:
    graph = load(original.path)
    after, (record,) = run_passes(graph, [Scale(0.01)], Context(), judge_of(original, 0.1))
    assert record.error == pytest.approx(0.0201, rel=1e-3)  # 1.01 ** 2 - 1: both layers scale the output
    assert not record.backed_off and record.rolled_back is None
    np.testing.assert_array_equal(arrays(graph)["W1"], normal(32, 64))
    np.testing.assert_array_equal(arrays(after)["W1"], normal(32, 64) * np.float32(1.01))


def test_backing_off_gives_milder_settings_until_the_bound_holds(original: Original) -> None:
    _, (record,) = run_passes(load(original.path), [Scale(0.5)], Context(), judge_of(original, 0.1))
    assert record.backed_off and record.rolled_back is None
    assert record.error is not None and 0 < record.error <= 0.1
    assert all(isinstance(outcome, Changed) and outcome.weight_error < 0.5 for outcome in record.result.layers.values())


def test_what_cannot_be_made_mild_enough_is_rolled_back(original: Original) -> None:
    graph = load(original.path)
    after, records = run_passes(graph, [Scale(0.5)], Context(), judge_of(original, 1e-6))
    assert records[0].rolled_back is not None
    assert missed(records) == [f"scale was rolled back: {records[0].rolled_back}"]
    assert all(isinstance(outcome, Skipped) for outcome in records[0].result.layers.values())
    for label, array in arrays(after).items():
        np.testing.assert_array_equal(array, arrays(graph)[label])


def test_without_a_bound_errors_are_measured_and_nothing_is_undone(original: Original) -> None:
    _, (record,) = run_passes(load(original.path), [Scale(0.5)], Context(), judge_of(original, None))
    assert record.error == pytest.approx(1.25, rel=1e-3)
    assert record.rolled_back is None


def test_a_result_that_does_not_run_is_rolled_back_and_the_next_pass_starts_from_before(original: Original) -> None:
    after, (spoiled, scaled) = run_passes(
        load(original.path), [Spoil(), Scale(0.01)], Context(), judge_of(original, 0.1)
    )
    assert spoiled.rolled_back is not None and "does not run" in spoiled.rolled_back
    assert scaled.rolled_back is None
    np.testing.assert_array_equal(arrays(after)["W2"], normal(64, 10, seed=1) * np.float32(1.01))


def test_a_pass_that_breaks_the_graph_is_our_bug(original: Original) -> None:
    with pytest.raises(InternalError, match="break"):
        run_passes(load(original.path), [Break()], Context(), judge_of(original, 0.1))


def test_a_pass_that_does_nothing_says_why_and_is_not_judged(original: Original) -> None:
    _, (record,) = run_passes(load(original.path), [Nothing()], Context(), judge_of(original, 0.1))
    assert record.error is None
    assert record.result.layers == {"W1": Skipped("too round")}


def test_without_a_judge_passes_are_trusted(original: Original) -> None:
    _, (record,) = run_passes(load(original.path), [Scale(0.5)], Context(), None)
    assert record.error is None and record.rolled_back is None


def test_milder_settings_reach_single_layers(original: Original) -> None:
    graph = load(original.path)
    result = Scale(0.5).run(graph, Context(milder={"W1": Scale(0.125), "W2": None}))
    assert result.layers == {"W1": Changed("by 0.125", 0.125), "W2": Skipped("changed the outputs too much")}


@pytest.mark.parametrize(
    ("selection", "chosen"),
    [
        (Selection(), {"W1", "W2"}),
        (Selection(include=("W1",)), {"W1"}),
        (Selection(include=("first",)), {"W1"}),
        (Selection(include=("MatMul",), exclude=("sec*",)), {"W1"}),
        (Selection(exclude=("W[12]",)), set()),
    ],
)
def test_selection_by_weight_operator_name_and_type(original: Original, selection: Selection, chosen: set[str]) -> None:
    layers, result = Context(selection=selection).layers(load(original.path), Scale())
    assert {layer.weight.label for layer in layers} == chosen
    assert result.layers.keys() == {"W1", "W2"} - chosen


def test_random_numbers_depend_on_seed_and_layer_alone() -> None:
    draws = [Context(seed=seed).generator(label).random() for seed in (0, 1) for label in ("a", "b")]
    assert len(set(draws)) == 4
    assert Context(seed=0).generator("a").random() == draws[0]


@dataclass(frozen=True)
class Ruin(Scale):
    """Scale, but the second layer becomes NaN whatever the setting."""

    name: ClassVar[str] = "ruin"

    def run(self, graph: Graph, context: Context) -> PassResult:
        result = super().run(graph, context)
        if "W2" in result.changed:
            edit.set_constant(graph, "W2", tensor_of(np.full((64, 10), np.nan, np.float32)))
        return result


@pytest.mark.parametrize("bound", [0.1, None])
def test_a_layer_that_breaks_the_outputs_is_left_alone_and_the_others_stay(
    original: Original, bound: float | None
) -> None:
    after, (record,) = run_passes(load(original.path), [Ruin(0.05)], Context(), judge_of(original, bound))
    assert record.rolled_back is None and record.backed_off
    assert isinstance(record.result.layers["W2"], Skipped)
    assert record.result.layers["W1"] == Changed("by 0.05", 0.05)
    np.testing.assert_array_equal(arrays(after)["W2"], normal(64, 10, seed=1))


def test_harm_that_a_few_samples_do_not_show_is_found_all_the_same(original: Original) -> None:
    """Only the last of many samples is not zero, so that single layers seem harmless."""
    silent = [{"x": np.zeros((1, 32), np.float32)}] * 19
    samples = held([*silent, {"x": normal(1, 32)}], "twenty")
    judge = Judge(original, samples, samples, 0.1)
    _, (record,) = run_passes(load(original.path), [Scale(0.5)], Context(), judge)
    assert record.rolled_back is None and record.error is not None and record.error <= 0.1


def test_the_original_is_opened_again_when_a_candidate_takes_the_worker_down(original: Original) -> None:
    judge = judge_of(original, 0.1)
    graph = load(original.path)
    assert judge.measure(graph).error == 0.0
    original.runtime._discard()  # pyright: ignore[reportPrivateUsage]
    other = held([{"x": normal(2, 32, seed=9)}], "other")
    assert replace(judge, held_out=other).measure(graph).error == 0.0


@dataclass(frozen=True)
class Hidden(Pass):
    """Change a weight and say nothing of it."""

    name: ClassVar[str] = "hidden"
    buys: ClassVar[str] = "nothing"

    def run(self, graph: Graph, context: Context) -> PassResult:
        edit.set_constant(graph, "W1", tensor_of(normal(32, 64, seed=5)))
        return PassResult({"W1": Skipped("nothing to see here")})


@dataclass(frozen=True)
class Meddle(Pass):
    """Change what is seen from outside, and own up to it."""

    name: ClassVar[str] = "meddle"
    buys: ClassVar[str] = "nothing"

    def run(self, graph: Graph, context: Context) -> PassResult:
        edit.set_doc(graph, "improved")
        return PassResult(graph=["improved the documentation"])


@dataclass(frozen=True)
class Turn(Scale):
    """Put another operator in the place of the Relu: a change of the graph as a whole, beside those of Scale."""

    name: ClassVar[str] = "turn"
    op_type: str = "Relu"
    scales: bool = False

    def run(self, graph: Graph, context: Context) -> PassResult:
        result = super().run(graph, context) if self.scales else PassResult()
        edit.replace_operator(graph, graph.order[1], replace(graph.operator(graph.order[1]), op_type=self.op_type))
        return replace(result, graph=[f"Relu became {self.op_type}"], kept=["the rest"])


@pytest.mark.parametrize("step", [Hidden(), Meddle()])
@pytest.mark.parametrize("judged", [True, False])
def test_a_pass_that_breaks_its_promises_is_our_bug(original: Original, step: Pass, judged: bool) -> None:
    judge = judge_of(original, None) if judged else None
    with pytest.raises(InternalError, match=step.name):
        run_passes(load(original.path), [step], Context(), judge)


def test_changes_of_the_graph_as_a_whole_are_judged(original: Original) -> None:
    after, (record,) = run_passes(load(original.path), [Turn(op_type="LeakyRelu")], Context(), judge_of(original, 0.1))
    assert record.error is not None and 0 < record.error < 0.1
    assert record.rolled_back is None and not record.backed_off
    assert record.result == PassResult(graph=["Relu became LeakyRelu"], kept=["the rest"])
    assert after.operator(after.order[1]).op_type == "LeakyRelu"


@pytest.mark.parametrize("scales", [False, True])
def test_harm_to_the_graph_as_a_whole_cannot_be_softened(original: Original, scales: bool) -> None:
    harmful = Turn(amount=0.02, op_type="Neg", scales=scales)
    after, (record,) = run_passes(load(original.path), [harmful], Context(), judge_of(original, 0.1))
    assert record.rolled_back is not None
    assert record.result.graph == [] and not record.result.did_anything
    assert difference(after, load(original.path)) is None


def test_what_is_done_to_the_graph_stays_when_the_layers_are_given_up(original: Original) -> None:
    graph = load(original.path)
    _, (alone,) = run_passes(graph, [Turn(op_type="LeakyRelu")], Context(), judge_of(original, None))
    assert alone.error is not None
    both = Turn(op_type="LeakyRelu", scales=True)
    after, (record,) = run_passes(graph, [both], Context(), judge_of(original, alone.error * 1.001))
    assert record.rolled_back is None and record.backed_off
    assert record.error == pytest.approx(alone.error, rel=1e-6)
    assert record.result.changed == []
    assert record.result.graph == ["Relu became LeakyRelu"]
    assert after.operator(after.order[1]).op_type == "LeakyRelu"


@dataclass(frozen=True)
class Exchange(Scale):
    """Double the first layer, and make up for it in the second, up to an amount."""

    name: ClassVar[str] = "exchange"

    def run(self, graph: Graph, context: Context) -> PassResult:
        assert context.milder.keys() <= {"W1"}  # the second has no settings of its own
        found = {weight.name: weight for weight in weights(graph)}
        own = context.settings(self, found["W1"])
        if own is None:
            return PassResult({"W1": Skipped("no"), "W2": Skipped("no")})
        for name, factor in (("W1", 2.0), ("W2", 0.5 * (1 + own.amount))):
            tensor = found[name].tensor
            edit.set_constant(graph, name, tensor.with_array((tensor.array * factor).astype(np.float32)))
        return PassResult({"W1": Changed(f"by {own.amount}", 1.0), "W2": Changed("with it", 0.5, part_of="W1")})


def test_what_is_changed_together_is_measured_and_softened_together(original: Original) -> None:
    """Each half alone is off by 100 %, so that by themselves both would be given up."""
    after, (record,) = run_passes(load(original.path), [Exchange(0.08)], Context(), judge_of(original, 0.05))
    assert record.backed_off and record.rolled_back is None
    assert record.result.units == {"W1": ["W1", "W2"]}
    assert record.result.layers["W1"] == Changed("by 0.02", 1.0)
    np.testing.assert_allclose(arrays(after)["W1"], 2 * normal(32, 64), rtol=1e-6)
