"""Net-Trim's solvers against the full program in cvxpy, and their promises on doubtful problems."""

import pickle
import subprocess
import sys
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from benchmarks.net_trim.full_program import full_program
from graphshrink.errors import CalibrationError, InternalError
from graphshrink.ir.types import Array
from graphshrink.solvers import _net_trim_problem, _net_trim_repair
from graphshrink.solvers._net_trim_admm import Admm, Residuals
from graphshrink.solvers._net_trim_bound import lower_bound
from graphshrink.solvers._net_trim_problem import breach_of
from graphshrink.solvers._net_trim_repair import repaired
from graphshrink.solvers.net_trim import (
    AT_LEAST,
    AT_MOST,
    BREACH,
    EQUAL,
    Problem,
    Solution,
    Solver,
    solve,
    solve_density,
)

NEAR = 1e-3  # the promise: the relative distance to the optimum
SOLVERS: list[Solver] = ["cvxpy", "admm"]


def layer(seed: int, limit: bool = False, bias: bool = True, dtype: type = np.float32) -> Problem:
    """A small layer with ReLU whose inputs hang together; its own weights keep all constraints."""
    rng = np.random.default_rng(seed)
    samples, inputs, neurons = int(rng.integers(90, 300)), int(rng.integers(8, 30)), int(rng.integers(1, 7))
    mixed = rng.standard_normal((samples, inputs - 3)) @ rng.standard_normal((inputs - 3, inputs))
    x: Array = np.maximum(mixed + 0.3 * rng.standard_normal(mixed.shape), 0).astype(dtype)
    weights = rng.standard_normal((inputs, neurons)) * (rng.random((inputs, neurons)) < 0.5)
    outputs = x @ weights + (rng.standard_normal(neurons) if bias else 0.0)
    top = np.quantile(outputs, 0.9) if limit else np.inf
    kind = np.where(outputs <= 0, AT_MOST, np.where(outputs >= top, AT_LEAST, EQUAL)).astype(np.uint8)
    problem = Problem(x, np.clip(outputs, 0, top).astype(dtype), kind, 0.0, bias)
    return replace(problem, epsilon=float(rng.choice([0.03, 0.1, 0.3])) * problem.norm())


def check(problem: Problem, found: Solution) -> None:
    """What holds for every solution that converged, measured without the solver's own functions."""
    assert found.converged, found.reason
    assert found.reason is None
    outputs = problem.inputs.astype(np.float64) @ found.weights + (0.0 if found.bias is None else found.bias)
    residual = outputs - problem.target
    equal = problem.target[problem.kind == EQUAL].astype(np.float64)
    scale = float(np.sqrt(np.mean(equal**2)))
    # Half as much again as is promised of what the solver measures in float32.
    assert max(residual[problem.kind == AT_MOST].max(initial=0.0), 0.0) <= 1.5 * BREACH * scale
    assert max(-residual[problem.kind == AT_LEAST].min(initial=0.0), 0.0) <= 1.5 * BREACH * scale
    assert np.linalg.norm(residual[problem.kind == EQUAL]) <= problem.epsilon * (1 + 1.5 * BREACH) + 1e-5 * scale
    assert found.objective == pytest.approx(np.abs(found.weights).sum())
    assert (found.bias is not None) == problem.bias


@pytest.mark.parametrize("solver", SOLVERS)
@pytest.mark.parametrize(
    ("seed", "limit", "bias"),
    [(1, False, True), (2, True, True), (3, False, False), (4, True, False), (6, False, True)],
)
def test_the_optimum_of_the_full_program(solver: Solver, seed: int, limit: bool, bias: bool) -> None:
    problem = layer(seed, limit, bias)
    status, optimum, _ = full_program(problem)
    assert status == "optimal"
    found = solve(problem, solver)
    check(problem, found)
    assert found.objective == pytest.approx(optimum, rel=NEAR)
    assert found.bound <= optimum * (1 + 1e-6)  # certified, up to float32
    assert abs(found.gap) <= NEAR


@pytest.mark.parametrize("solver", SOLVERS)
def test_one_orthogonal_layer_by_hand(solver: Solver) -> None:
    # min ||w||_1 with ||w - t|| <= epsilon: all entries above the threshold shrink by the same amount.
    target = np.array([[3.0], [-2.0], [0.1]])
    epsilon = float(np.sqrt(0.1**2 + 2 * 0.5**2))  # the last one to 0, the others by 0.5
    found = solve(Problem(np.eye(3), target, np.zeros((3, 1), np.uint8), epsilon), solver)
    np.testing.assert_allclose(found.weights, [[2.5], [-1.5], [0.0]], atol=3e-3)
    assert found.weights[2, 0] == 0.0
    assert found.converged


@pytest.mark.parametrize("solver", SOLVERS)
@pytest.mark.parametrize("share", [1.0, 1e6, np.inf])
def test_zeros_where_epsilon_allows_them(solver: Solver, share: float) -> None:
    problem = layer(1)
    found = solve(replace(problem, epsilon=share * problem.norm()), solver)
    assert found.converged
    assert not found.weights.any()
    assert found.objective == 0.0


@pytest.mark.parametrize("solver", SOLVERS)
def test_a_bias_costs_nothing(solver: Solver) -> None:
    rng = np.random.default_rng(0)
    problem = Problem(rng.random((50, 4)), np.full((50, 2), 7.0), np.zeros((50, 2), np.uint8), 1e-3, bias=True)
    found = solve(problem, solver)
    assert not found.weights.any()
    assert found.bias is not None
    np.testing.assert_allclose(found.bias, [7.0, 7.0], atol=1e-3)


@pytest.mark.parametrize("solver", SOLVERS)
def test_dead_and_constant_inputs_get_no_weights(solver: Solver) -> None:
    problem = layer(1)
    constant = np.full((len(problem.inputs), 1), 3.0, np.float32)
    wider = replace(problem, inputs=np.hstack([0 * constant, problem.inputs, constant]))
    found = solve(wider, solver, start=np.ones((wider.shape[1], wider.shape[2])))
    check(wider, found)
    assert not found.weights[[0, -1]].any()
    assert found.objective == pytest.approx(solve(problem, solver).objective, rel=2 * NEAR)


@pytest.mark.parametrize("solver", SOLVERS)
def test_epsilon_zero_keeps_the_outputs(solver: Solver) -> None:
    rng = np.random.default_rng(5)
    x = rng.standard_normal((60, 6))
    weights = np.where(rng.random((6, 3)) < 0.5, rng.standard_normal((6, 3)), 0.0)
    found = solve(Problem(x, x @ weights, np.zeros((60, 3), np.uint8), 0.0), solver)
    assert found.converged, found.reason
    np.testing.assert_allclose(found.weights, weights, atol=1e-4)


@pytest.mark.parametrize("solver", [*SOLVERS, "auto"])
def test_what_cannot_be_is_said(solver: Solver) -> None:
    contradiction = Problem(np.ones((2, 1)), np.array([[1.0], [2.0]]), np.array([[1], [2]], np.uint8), 1.0)
    found = solve(contradiction, solver, iterations=200)
    assert not found.converged
    assert found.reason
    dead = Problem(np.zeros((9, 3)), np.ones((9, 2)), np.zeros((9, 2), np.uint8), 0.1)
    assert not solve(dead, solver, iterations=200).converged


@pytest.mark.parametrize("solver", SOLVERS)
def test_fewer_samples_than_inputs(solver: Solver) -> None:
    rng = np.random.default_rng(3)
    x = rng.standard_normal((20, 50)).astype(np.float32)
    outputs = (x @ rng.standard_normal((50, 3))).astype(np.float32)
    kind = np.where(outputs <= 0, AT_MOST, EQUAL).astype(np.uint8)
    problem = Problem(x, np.maximum(outputs, 0), kind, 2.0)
    found = solve(problem, solver)
    check(problem, found)
    (warning,) = found.warnings
    assert "20" in warning
    assert "50" in warning
    assert layer(1).shape[0] > 50
    assert solve(layer(1), solver).warnings == ()


@pytest.mark.parametrize("where", ["inputs", "target"])
@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_values_that_are_not_finite(where: str, value: float) -> None:
    arrays = {"inputs": np.ones((4, 2)), "target": np.ones((4, 1))}
    arrays[where][2, 0] = value
    with pytest.raises(CalibrationError):
        Problem(arrays["inputs"], arrays["target"], np.zeros((4, 1), np.uint8), 1.0)


@pytest.mark.parametrize(
    ("target", "kind", "epsilon"),
    [
        (np.ones((3, 1)), np.zeros((3, 1), np.uint8), 1.0),
        (np.ones((4, 1)), np.zeros((4, 2), np.uint8), 1.0),
        (np.ones((4, 1)), np.zeros((4, 1), np.int64), 1.0),
        (np.ones((4, 1)), np.full((4, 1), 3, np.uint8), 1.0),
        (np.ones((4, 1)), np.zeros((4, 1), np.uint8), -1.0),
        (np.ones((4, 1)), np.zeros((4, 1), np.uint8), np.nan),
    ],
)
def test_problems_that_are_none(target: Array, kind: Array, epsilon: float) -> None:
    with pytest.raises(InternalError):
        Problem(np.ones((4, 2)), target, kind, epsilon)


def test_a_start_goes_on_from_there() -> None:
    problem = layer(6)
    cold = solve(problem, "admm")
    warm = solve(problem, "admm", start=cold)
    check(problem, warm)
    assert warm.objective == pytest.approx(cold.objective, rel=2 * NEAR)
    with pytest.raises(InternalError):
        solve(problem, "admm", start=np.zeros((1, 1)))


def test_a_run_that_is_cut_short_says_so() -> None:
    found = solve(layer(1), "admm", iterations=1)
    assert not found.converged
    assert found.reason
    assert found.iterations == 1


def test_the_size_of_blocks_does_not_matter(monkeypatch: pytest.MonkeyPatch) -> None:
    problem = next(one for one in map(layer, range(100)) if one.shape[0] > 256)
    whole = solve(problem, "admm")
    monkeypatch.setattr(_net_trim_problem, "_BLOCK", 1)
    assert len(list(problem.blocks())) == 2
    cut = solve(problem, "admm")
    check(problem, cut)
    assert cut.objective == pytest.approx(whole.objective, rel=NEAR)


def test_a_repair_that_takes_inputs_as_uncorrelated(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_net_trim_repair, "_WORTH", 0.0)
    problem = layer(2, limit=True)
    admm = Admm(problem)
    admm.run(problem.epsilon, 60, Residuals(0.0, 0.0))
    weights, bias = repaired(problem, admm.weights, admm.bias, admm.gram)
    assert breach_of(problem, admm.weights, admm.bias).violation > 10 * BREACH
    assert breach_of(problem, weights, bias).violation <= BREACH
    np.testing.assert_array_equal(weights == 0, admm.weights == 0)
    check(problem, solve(problem, "admm"))


def test_the_same_twice_and_through_pickle() -> None:
    problem = layer(2, limit=True, dtype=np.float64)
    for solver in SOLVERS:
        once = solve(problem, solver)
        again: Solution = pickle.loads(pickle.dumps(solve(pickle.loads(pickle.dumps(problem)), solver)))
        np.testing.assert_array_equal(once.weights, again.weights)
        assert once.objective == again.objective


@pytest.mark.parametrize("density", [0.15, 0.4])
def test_density(density: float) -> None:
    rng = np.random.default_rng(8)
    mixed = rng.standard_normal((600, 40)) @ rng.standard_normal((40, 60))
    x = np.maximum(mixed, 0).astype(np.float32)
    outputs = (x @ rng.standard_normal((60, 20)) / 8).astype(np.float32)
    kind = np.where(outputs <= 0, AT_MOST, EQUAL).astype(np.uint8)
    free = Problem(x, np.maximum(outputs, 0), kind, 0.0, bias=True)
    found = solve_density(free, density)
    check(replace(free, epsilon=found.epsilon), found)
    # 3 %: the search stops at 2 %, and a weight more or less is 0.6 % of the sparser one.
    assert np.mean(found.weights != 0) == pytest.approx(density, rel=0.03)


def test_density_where_less_is_enough() -> None:
    problem = layer(1)
    assert solve_density(problem, 0.0).objective == 0.0
    all_of_them = solve_density(problem, 1.0)
    assert all_of_them.epsilon < 0.01 * problem.norm()
    with pytest.raises(InternalError):
        solve_density(problem, 1.5)


@given(seed=st.integers(0, 2**32 - 1), size=st.floats(1e-3, 1e3))
@settings(deadline=None, max_examples=50)
def test_no_multipliers_claim_more_than_the_optimum(seed: int, size: float) -> None:
    problem = layer(2, limit=True)
    values = size * np.abs(np.random.default_rng(seed).standard_normal(problem.target.shape))
    values = np.where(problem.kind == AT_LEAST, -values, values)
    values = np.where(problem.kind == EQUAL, values * np.sign(problem.target - problem.target.mean()), values)
    best = solve(problem, "cvxpy").objective
    assert lower_bound(problem, lambda rows: values[rows]) <= best * (1 + NEAR)


def test_cvxpy_is_loaded_by_those_who_solve() -> None:
    code = "import sys, graphshrink.solvers.net_trim; sys.exit('cvxpy' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


@pytest.mark.parametrize("density", [0.05, 0.3])
def test_many_inputs_that_say_the_same_few_things(density: float) -> None:
    """X^T X has three dimensions and hundreds of rows: rounded to float32 it would not be positive."""
    rng = np.random.default_rng(0)
    inputs = np.maximum(rng.standard_normal((400, 3)) @ rng.standard_normal((3, 90)), 0).astype(np.float32)
    inputs[:, 60:] = inputs[:, :30] * np.float32(1.25)
    made = inputs @ rng.standard_normal((90, 40)).astype(np.float32)
    kind = np.where(made > 0, EQUAL, AT_MOST).astype(np.uint8)
    problem = Problem(inputs, np.maximum(made, 0), kind, np.inf, True)
    gram = Admm(problem).gram
    assert np.linalg.eigvalsh(gram).min() > -1e-12 * np.trace(gram)
    found = solve_density(problem, density, 1e-2)
    assert np.count_nonzero(found.weights) <= 1.3 * density * found.weights.size
