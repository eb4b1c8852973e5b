"""Dropping weights as long as a bound holds."""

import numpy as np

from graphshrink.solvers.net_trim import AT_MOST, EQUAL, Problem, solve
from graphshrink.solvers.net_trim_refit import refit
from graphshrink.solvers.net_trim_thin import thin


def _problem() -> Problem:
    rng = np.random.default_rng(3)
    inputs = np.maximum(rng.standard_normal((200, 12)) @ rng.standard_normal((12, 20)), 0).astype(np.float32)
    outputs = inputs @ (rng.standard_normal((20, 4)) * (rng.random((20, 4)) < 0.6)) + rng.standard_normal((200, 4))
    kind = np.where(outputs <= 0, AT_MOST, EQUAL).astype(np.uint8)
    problem = Problem(inputs, np.maximum(outputs, 0).astype(np.float32), kind, 0.0, bias=True)
    return Problem(problem.inputs, problem.target, kind, 0.2 * problem.norm(), bias=True)


def test_fewer_weights_keep_to_the_same_bound() -> None:
    problem = _problem()
    solution = solve(problem, "cvxpy")
    fitted = refit(problem, solution.weights, solution.bias)

    thinner = thin(problem, fitted, problem.epsilon)

    assert fitted.residual < thinner.residual <= problem.epsilon
    assert np.count_nonzero(thinner.weights) < np.count_nonzero(fitted.weights)
    assert not thinner.weights[fitted.weights == 0].any()


def test_nothing_is_dropped_where_the_bound_is_reached_already() -> None:
    problem = _problem()
    solution = solve(problem, "cvxpy")
    fitted = refit(problem, solution.weights, solution.bias)

    assert thin(problem, fitted, fitted.residual * 0.9) is fitted


def test_everything_goes_where_the_bound_allows_it() -> None:
    problem = _problem()
    fitted = refit(problem, np.ones((20, 4)), np.zeros(4))

    assert not thin(problem, fitted, np.inf).weights.any()
