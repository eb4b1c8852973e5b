"""Problems without inequalities, with fewer rows: the same weights are as good, and the answer is the same."""

import numpy as np
import pytest

from graphshrink.ir.types import Array
from graphshrink.solvers._net_trim_iterate import by_admm
from graphshrink.solvers._net_trim_path import by_density
from graphshrink.solvers._net_trim_problem import AT_MOST, EQUAL, Problem, breach_of
from graphshrink.solvers._net_trim_reduced import Reduced, reduced
from graphshrink.solvers.net_trim import solve, solve_density

TOLERANCE = 1e-3


def problem(
    samples: int = 300,
    inputs: int = 12,
    *,
    bias: bool = True,
    rank: int = 12,
    noise: float = 0.05,
    epsilon: float = 0.1,
) -> Problem:
    random = np.random.default_rng(samples + inputs + rank)
    x = random.standard_normal((samples, rank)) @ random.standard_normal((rank, inputs)) + 0.5
    w = random.standard_normal((inputs, 5)) * (random.random((inputs, 5)) < 0.4)
    t = x @ w + 2.0 + noise * random.standard_normal((samples, 5))
    kind = np.full(t.shape, EQUAL, np.uint8)
    return Problem(x, t, kind, epsilon * float(np.linalg.norm(t)), bias)


def made(whole: Problem) -> Reduced:
    found = reduced(whole)
    assert found is not None
    return found


@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize("rank", [12, 5])
def test_any_weights_have_the_same_residual(bias: bool, rank: int) -> None:
    whole = problem(bias=bias, rank=rank)
    fewer = made(whole)
    assert fewer.problem.shape == (rank + (rank < 12 and not bias), 12, 5)
    for seed in range(3):
        weights = np.random.default_rng(seed).standard_normal((12, 5))
        best: Array | None = fewer.means[1] - fewer.means[0] @ weights if bias else None
        small, large = breach_of(fewer.problem, weights, None), breach_of(whole, weights, best)
        assert np.isclose(np.hypot(small.residual, fewer.rest), large.residual, rtol=1e-9)


@pytest.mark.parametrize("bias", [True, False])
def test_solutions_are_those_of_all_rows(bias: bool) -> None:
    whole = problem(bias=bias)
    found, expected = solve(whole, "admm", tolerance=TOLERANCE), by_admm(whole, None, TOLERANCE, 5000)
    assert found.converged and expected.converged
    assert np.isclose(found.objective, expected.objective, rtol=2 * TOLERANCE)
    breach = breach_of(whole, found.weights, found.bias)
    assert breach.keeps_ball(whole)
    assert np.isclose(breach.residual, found.residual, rtol=1e-6)
    assert np.isclose(found.epsilon, whole.epsilon)


def test_densities_are_those_of_all_rows() -> None:
    whole = problem()
    found, expected = solve_density(whole, 0.3), by_density(whole, 0.3, TOLERANCE, 5000)
    assert abs(np.count_nonzero(found.weights) - np.count_nonzero(expected.weights)) <= 2
    assert np.isclose(found.residual, breach_of(whole, found.weights, found.bias).residual, rtol=1e-6)


def test_a_bound_that_no_weights_keep_is_reported() -> None:
    whole = problem(noise=1.0, epsilon=0.01)
    found = solve(whole, "admm")
    assert not found.converged and found.reason
    assert found.residual > whole.epsilon


def test_inequalities_and_few_rows_stay_as_they_are() -> None:
    whole = problem()
    kind = whole.kind.copy()
    kind[0, 0] = AT_MOST
    assert reduced(Problem(whole.inputs, whole.target, kind, 1.0)) is None
    assert reduced(problem(samples=14)) is None
    assert reduced(Problem(np.zeros((50, 3)), np.ones((50, 2)), np.zeros((50, 2), np.uint8), 1.0)) is None
