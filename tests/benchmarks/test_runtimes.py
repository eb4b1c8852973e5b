"""What benchmarks.runtimes does by itself: the exchange with runtimes, and its judgement down to one bit."""

import functools
import itertools
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import onnx
import pytest

from benchmarks.runtimes import plans
from benchmarks.runtimes.__main__ import RUNTIMES, attempt, exit_code
from benchmarks.runtimes.cases import Case, Plan, encoded, marked, never_used, show, shown_plan, write_cases
from benchmarks.runtimes.drive import run_jobs, try_all
from benchmarks.runtimes.jobs import Answer, Array, Job, answer_line, read_answers, read_jobs, write_jobs, write_tensor
from benchmarks.runtimes.verdict import Outcome, Verdict, judge
from graphshrink.encodings import ENCODINGS, Policy
from tests.consumers import CONSUMERS
from tests.few_values import BFLOAT16, alphabet, assert_same_bits
from tests.models import model_of
from tests.runners import OPTIMISED, run

ODD = np.array([0x80000000, 0, 0x7F800005, 0x7FC00000, 0xFF800000, 1], np.uint32).view(np.float32)
ORT = [sys.executable, "-m", "benchmarks.runtimes.run", "onnxruntime-all"]
REFUSED = Answer({}, "no such operator")

Give = Callable[..., Answer]


@pytest.fixture
def give(tmp_path: Path) -> Give:
    """Makes answers: give(y=array, ...)."""
    number = itertools.count()

    def answer(**arrays: Array) -> Answer:
        return Answer({name: write_tensor(name, a, tmp_path / f"{next(number)}.bin") for name, a in arrays.items()})

    return answer


def case_of(weights: Answer) -> Case:
    """A case with the outputs y and w, of which w is a weight whose bits are known."""
    return Case(
        "c", "f", (), "plain", "unfolded", "encoded", "portable", (), tuple(weights.outputs.values()), ("y", "w")
    )


def matmul_cases(folder: Path) -> list[Case]:
    """A MatMul, as it is and with its weight shown."""
    consumer = CONSUMERS["MatMul"](13, 7)
    plan = Plan("MatMul", "operators", consumer.model, functools.partial(encoded, consumer.model), consumer.feeds, {})
    return list(write_cases([plan, shown_plan(plan)], folder))


# ---- what travels


def test_tensors_travel_bit_for_bit(tmp_path: Path) -> None:
    assert_same_bits(write_tensor("w", ODD.reshape(2, 1, 3), tmp_path / "w").read(), ODD.reshape(2, 1, 3))


def test_jobs_travel(tmp_path: Path) -> None:
    job = Job("j", "m.onnx", (write_tensor("x", np.array([[1, 2]]), tmp_path / "x"),), ("y", "z"))
    write_jobs([job], tmp_path / "jobs")
    assert read_jobs(tmp_path / "jobs") == [job]


def test_an_answer_that_a_crash_cut_short_is_none(tmp_path: Path) -> None:
    held = write_tensor("y", ODD, tmp_path / "y")
    (tmp_path / "answers").write_text(answer_line("a", [held]) + answer_line("b", [], "why") + '{"job": "c"')
    assert read_answers(tmp_path / "answers") == {"a": Answer({"y": held}), "b": Answer({}, "why")}


# ---- the judgement


@pytest.mark.parametrize("at", range(len(ODD)))
def test_one_bit_makes_a_weight_unequal(give: Give, at: int) -> None:
    bits = ODD.view(np.uint32).copy()
    bits[at] ^= 1 << 31
    right, wrong, y = give(y=ODD, w=ODD), give(y=ODD, w=bits.view(np.float32)), give(w=ODD)
    assert judge(case_of(y), right, right).outcome == Outcome.EQUAL
    assert judge(case_of(y), right, wrong).outcome == Outcome.UNEQUAL


@pytest.mark.parametrize("wrong", [ODD[:5], ODD.reshape(2, 3), ODD.view(np.int32), ODD[::-1]])
def test_another_type_or_shape_or_order_is_unequal(give: Give, wrong: Array) -> None:
    right = give(y=ODD, w=ODD)
    for answer in (give(y=wrong, w=ODD), give(y=ODD, w=wrong), give(y=ODD), give(w=ODD)):
        assert judge(case_of(give(w=ODD)), right, answer).outcome == Outcome.UNEQUAL


def test_outputs_may_be_those_of_the_unfolded_model_weights_not(give: Give) -> None:
    case, plain, unfolded = case_of(give(w=ODD)), give(y=ODD, w=ODD), give(y=-ODD, w=-ODD)
    assert judge(case, plain, give(y=-ODD, w=ODD)).outcome == Outcome.UNEQUAL
    assert judge(case, plain, give(y=-ODD, w=ODD), unfolded).outcome == Outcome.UNFOLDED
    assert judge(case, plain, give(y=-ODD, w=-ODD), unfolded).outcome == Outcome.UNEQUAL


def test_a_runtime_that_changes_weights_is_to_change_them_alike(give: Give) -> None:
    case, plain = case_of(give(w=ODD)), give(y=ODD, w=np.zeros(6, np.float32))
    assert judge(case, plain, plain).outcome == Outcome.AS_PLAIN
    assert judge(case, plain, give(y=ODD, w=np.ones(6, np.float32))).outcome == Outcome.UNEQUAL


def test_refusals(give: Give) -> None:
    case, right = case_of(give(w=ODD)), give(y=ODD, w=ODD)
    assert judge(case, right, REFUSED) == Verdict(case, Outcome.REFUSED, "no such operator")
    assert judge(case, REFUSED, REFUSED) == Verdict(case, Outcome.BOTH_REFUSED, "no such operator")
    assert judge(case, REFUSED, right).outcome == Outcome.ALONE
    assert judge(case, REFUSED, give(y=ODD, w=-ODD)).outcome == Outcome.UNEQUAL


@pytest.mark.parametrize("outcome", Outcome)
def test_what_must_not_be_ends_with_1(give: Give, outcome: Outcome) -> None:
    case = replace(case_of(give(w=ODD)), encodings=tuple(encoding.name for encoding in ENCODINGS))
    rows: dict[str, list[Verdict] | str] = {"a": "not here", "b": [Verdict(case, outcome)]}
    assert exit_code(rows, [case]) == int(outcome in (Outcome.UNEQUAL, Outcome.REFUSED))


def test_an_encoding_that_no_case_has_ends_with_1(give: Give) -> None:
    assert exit_code({}, [case_of(give(w=ODD))]) == 1


# ---- cases


def test_every_encoding_is_in_some_case(tmp_path: Path) -> None:
    ordinary_and_odd = itertools.islice(plans.weights_alone([13], step=3), 2)
    assert never_used(write_cases(ordinary_and_odd, tmp_path / "cases")) == []


def test_weights_are_shown_with_all_their_bits() -> None:
    model, expected = show(model_of([], {"odd": ODD}, {}, {}), {"odd": ODD})
    for optimised in OPTIMISED:
        assert_same_bits(run(model, {}, optimised=optimised)["shown0"], ODD)
    assert_same_bits(expected["shown0"], ODD)


def test_bfloat16_is_shown_as_the_upper_half_of_float32() -> None:
    narrow = alphabet(BFLOAT16, 8, np.random.default_rng(0))
    shown = show(onnx.ModelProto(), {"w": narrow})[1]["shown0"].view(np.uint32)
    assert_same_bits((shown >> 16).astype(np.uint16), narrow.view(np.uint16))
    assert not np.any(shown & 0xFFFF)


def test_policies_that_store_alike_make_one_case(tmp_path: Path) -> None:
    model = CONSUMERS["MatMul"](13, 7).model

    def alike(policy: Policy, portable: bool) -> onnx.ModelProto:
        return model

    def differently(policy: Policy, portable: bool) -> onnx.ModelProto:
        return encoded(model, "fast" if policy == "small" else "plain", portable)

    made = [Plan("same", "f", model, alike, {}, {}), Plan("other", "f", model, differently, {}, {})]
    cases = list(write_cases(made, tmp_path / "cases"))
    assert [case.name for case in cases] == ["same, fast and small", "other, fast", "other, small"]
    assert [len(marked(onnx.load(case.encoded))) for case in cases] == [0, 0, 1]


# ---- at work


def test_onnx_runtime_says_equal_until_a_byte_of_the_file_is_changed(tmp_path: Path) -> None:
    cases = matmul_cases(tmp_path / "cases")
    found = try_all(cases, ORT, portable=False, folder=tmp_path / "right")
    assert [verdict.outcome for verdict in found] == [Outcome.EQUAL, Outcome.EQUAL]

    for case in cases:
        model = onnx.load(case.encoded)
        codes = next(tensor for tensor in model.graph.initializer if tensor.data_type == onnx.TensorProto.UINT8)
        codes.raw_data = bytes([codes.raw_data[0] ^ 1]) + codes.raw_data[1:]
        onnx.save(model, case.encoded)
    found = try_all(cases, ORT, portable=False, folder=tmp_path / "wrong")
    assert [verdict.outcome for verdict in found] == [Outcome.UNEQUAL, Outcome.UNEQUAL]


def test_a_runtime_that_crashes_costs_one_job(tmp_path: Path) -> None:
    code = f"""
import os, sys
sys.path.insert(0, {str(Path.cwd())!r})
from benchmarks.runtimes.jobs import answer_line, read_jobs
from pathlib import Path
for job in read_jobs(Path(sys.argv[1])):
    with open(sys.argv[2], "a") as file:
        file.write(answer_line(job.name, [])[: None if job.name != "bad" else 9])
    if job.name == "bad":
        os._exit(3)
"""
    jobs = [Job(name, "m", (), ()) for name in ("a", "bad", "b")]
    answers = run_jobs(jobs, [sys.executable, "-c", code], tmp_path / "work")
    assert answers.keys() == {"a", "bad", "b"}
    assert answers["a"] == answers["b"] == Answer({})
    assert (answers["bad"].refused or "").startswith("the process ended with 3")


def test_a_runtime_that_cannot_be_had_is_a_row_with_a_reason(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GRAPHSHRINK_CACHE", str(tmp_path))
    monkeypatch.setenv("PATH", "")
    name = next(name for name in RUNTIMES if name.startswith("onnxruntime-web"))
    reason = attempt(name, [], tmp_path / "work")
    assert isinstance(reason, str)
    case = replace(case_of(Answer({})), encodings=tuple(encoding.name for encoding in ENCODINGS))
    assert exit_code({name: reason}, [case]) == 0
